"""Alignment rules for arithmetic, reductions and products."""

from torch import Tensor

from growmas.importance.alignment_rules import (
    MIXED,
    UNIFORM,
    Aligned,
    Call,
    Independent,
    State,
    axis_of,
    dims_of,
    rule_for,
    tensors_in,
)


@rule_for(
    "__eq__ __ne__ __lt__ __gt__ __le__ __ge__ "
    "add sub rsub mul div true_divide floor_divide pow __pow__ __rpow__ __rsub__ __rdiv__ "
    "__rtruediv__ __rmul__ __radd__ __add__ __sub__ __mul__ __truediv__ __neg__ __and__ __or__ "
    "__xor__ __invert__ add_ sub_ mul_ div_ pow_ __iadd__ __isub__ __imul__ __itruediv__ relu "
    "relu_ relu6 gelu silu mish elu elu_ selu celu leaky_relu leaky_relu_ hardswish hardsigmoid "
    "hardtanh hardtanh_ hardshrink softshrink tanhshrink softplus softsign tanh tanh_ sigmoid "
    "sigmoid_ logsigmoid log_sigmoid threshold exp exp2 log log2 log10 log1p expm1 sqrt rsqrt "
    "square abs neg negative sin cos tan asin acos atan atan2 sinh cosh asinh acosh atanh erf "
    "erfc erfinv expit logit clamp clamp_ clamp_min clamp_max clip clamp_min_ maximum minimum "
    "fmax fmin where sign round floor ceil trunc frac remainder fmod reciprocal nan_to_num lerp "
    "addcmul addcdiv ne eq gt lt ge le logical_and logical_or logical_not logical_xor "
    "bitwise_and bitwise_or bitwise_not isnan isinf isfinite masked_fill masked_fill_ float "
    "double half bfloat16 long int bool to type type_as contiguous clone detach conj polar i0 "
    "positive hypot xlogy fill_ zero_"
)
def pointwise(call: Call) -> State | None:
    """Keep the dimension, counted from the right as broadcasting does."""
    output = call.output
    found: set[tuple[int, int]] = set()
    fixed: list[Tensor] = []
    for tensor in tensors_in((call.args, call.kwargs)):
        state = call.state_of(tensor)
        if isinstance(state, Aligned):
            found.add((tensor.dim() - state.axis, state.each))
        elif state is not UNIFORM:
            fixed.append(tensor)
    if len(found) != 1 or not isinstance(output, Tensor):
        return None
    ((right, each),) = found
    axis = output.dim() - right
    if axis < 0 or output.shape[axis] != call.samples * each:
        return None
    for t in fixed if call.samples > 1 else ():
        own = call.state_of(t) is MIXED or (t.dim() >= right and t.shape[-right] != 1)
        if own and not call.admit(t):
            return None  # a parameter with a row of its own for every sample of the batch
    return Aligned(axis, each)


@rule_for("view_as_real view_as_complex")
def parts(call: Call) -> State | None:
    """Keep a dimension other than that of real and imaginary parts, which is the last."""
    return call.source if call.source.axis < min(call.first.dim(), call.output.dim()) else None


@rule_for("matmul bmm __matmul__ mm")
def matmul(call: Call) -> State | None:
    """Keep the rows of a product with a fixed matrix, or the batch of a batched product."""
    if len(call.args) != 2 or call.kwargs:
        return None
    left, right = call.args
    one, other = call.state_of(left), call.state_of(right)
    rank = call.output.dim()
    if isinstance(one, Aligned) and isinstance(other, Aligned):
        same = one == other and left.dim() == right.dim() == rank
        return one if same and one.axis < rank - 2 else None
    if isinstance(one, Aligned):
        kept = right.dim() <= 2 and one.axis < left.dim() - 1
        return one if kept or _passes(right, left, one) else None
    if isinstance(other, Aligned) and _passes(left, right, other):
        return Aligned(other.axis + rank - right.dim(), other.each)
    return None


def _passes(fixed: Tensor, data: Tensor, state: Aligned) -> bool:
    """Return True if a fixed factor is broadcast over the samples of a batched product."""
    right = data.dim() - state.axis
    return right > 2 and (fixed.dim() < right or fixed.shape[-right] == 1)


@rule_for("einsum")
def einsum(call: Call) -> State | None:
    """Keep a letter that is the samples in every operand that depends on them."""
    equation, *operands = call.args
    operands = (
        list(operands[0])
        if len(operands) == 1 and isinstance(operands[0], list | tuple)
        else operands
    )
    inputs, arrow, result = equation.replace(" ", "").partition("->")
    if not arrow or "." in equation:
        return None
    letters, each = set(), set()
    terms = inputs.split(",")
    for term, operand in zip(terms, operands, strict=True):
        state = call.state_of(operand)
        if isinstance(state, Aligned):
            letters.add(term[state.axis])
            each.add(state.each)
    if len(letters) != 1 or len(each) != 1:
        return None
    (letter,), (count,) = letters, each
    fixed = [
        term
        for term, operand in zip(terms, operands, strict=True)
        if isinstance(call.state_of(operand), Independent)
    ]
    if result.count(letter) != 1 or any(letter in term for term in fixed):
        return None
    return Aligned(result.index(letter), count)


@rule_for("softmax log_softmax softmin cumsum cumprod sort argsort logcumsumexp")
def along(call: Call) -> State | None:
    """Keep a dimension along which the function does not work."""
    dims = dims_of(call.get(1, "dim"), call.first.dim())
    return call.source if call.source.axis not in dims else None


@rule_for("glu")
def glu(call: Call) -> State | None:
    """Keep a dimension that is not halved."""
    dim = axis_of(call.get(1, "dim", -1), call.first.dim())
    return call.source if dim != call.source.axis else None


@rule_for("roll")
def roll(call: Call) -> State | None:
    """Keep a dimension that is not rolled."""
    dims = dims_of(call.get(2, "dims"), call.first.dim())
    return call.source if call.source.axis not in dims else None


@rule_for("normalize")
def normalize(call: Call) -> State | None:
    """Keep a dimension over which no norm is taken."""
    dim = axis_of(call.get(2, "dim", 1), call.first.dim())
    return call.source if dim != call.source.axis else None


@rule_for("flip")
def flip(call: Call) -> State | None:
    """Keep a dimension that is not reversed."""
    dims = call.kwargs.get("dims", call.args[1:])
    dims = dims[0] if len(dims) == 1 and isinstance(dims[0], tuple | list) else dims
    return call.source if call.source.axis not in dims_of(tuple(dims), call.first.dim()) else None


@rule_for(
    "sum mean amax amin prod var std logsumexp argmax argmin all any nansum nanmean max min median "
    "count_nonzero"
)
def reduction(call: Call) -> State | None:
    """Drop the dimensions that are reduced."""
    dim = call.kwargs.get("axis", call.get(1, "dim"))
    return _reduced(call, dims_of(dim, call.first.dim()))


def _reduced(call: Call, dims: set[int]) -> State | None:
    state, result = call.source, tensors_in(call.output)[0]
    if state.axis in dims:
        return None
    if result.dim() == call.first.dim():
        return state
    return Aligned(state.axis - sum(d < state.axis for d in dims), state.each)


@rule_for("baddbmm")
def baddbmm(call: Call) -> State | None:
    """Keep the batch of a batched product, and of what is added to it."""
    added, left, right = (call.get(i, name) for i, name in enumerate(("input", "batch1", "batch2")))
    state = call.state_of(left)
    if not isinstance(state, Aligned) or state.axis != 0 or call.state_of(right) != state:
        return None
    shared = call.independent(added) and (added.dim() < 3 or len(added) == 1)
    return state if shared or call.state_of(added) in (state, UNIFORM) else None


@rule_for("norm vector_norm")
def norm(call: Call) -> State | None:
    """Drop the dimensions over which a norm is taken."""
    return _reduced(call, dims_of(call.get(2, "dim"), call.first.dim()))
