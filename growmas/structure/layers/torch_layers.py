"""Layer types of torch, whose axes are registered in `axes.LAYERS`."""

from dataclasses import replace
from typing import Any

from torch import nn

from growmas.structure.layers.axes import LayerAxes, Size, TensorAxis, register_layer
from growmas.structure.layers.norms import norm_axes

GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}

_BIAS = TensorAxis("bias", 0, "out")

register_layer(
    nn.Linear,
    LayerAxes(
        out=(TensorAxis("weight", 0, "out"), _BIAS),
        into=(TensorAxis("weight", 1, "in"),),
        out_size=(Size("out_features"),),
        in_size=(Size("in_features"),),
        unit="neurons",
        along=-1,
    ),
)
EMBEDDING = LayerAxes(
    out=(TensorAxis("weight", 1, "out"),),
    out_size=(Size("embedding_dim"),),
    unit="features",
    along=-1,
)
register_layer(nn.Embedding, EMBEDDING)
register_layer(nn.EmbeddingBag, EMBEDDING)


def convolution(module: Any) -> LayerAxes:
    """Return the axes of a convolution; a depthwise one keeps its channels apart."""
    transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)
    out_dim, in_dim = (1, 0) if transposed else (0, 1)
    groups = module.groups
    if (
        groups == module.in_channels
        and groups > 1
        and (not transposed or groups == module.out_channels)
    ):
        times = module.out_channels // groups
        return LayerAxes(
            out=(TensorAxis("weight", 0, "out"), _BIAS),
            out_size=(
                Size("out_channels"),
                Size("in_channels", lambda m, n: n // times),
                Size("groups", lambda m, n: n // times),
            ),
            along=-1 - len(module.kernel_size),
            spread=times,
        )
    # The channels of all groups share the axis of the input (of the output if transposed).
    narrow = {"shared": groups} if groups > 1 else {}
    return LayerAxes(
        out=(TensorAxis("weight", out_dim, "out", **(narrow if transposed else {})), _BIAS),
        into=(TensorAxis("weight", in_dim, "in", **({} if transposed else narrow)),),
        out_size=(Size("out_channels"),),
        in_size=(Size("in_channels"),),
        out_parts=groups,
        in_parts=groups,
        along=-1 - len(module.kernel_size),
    )


for _convolution in (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d
):  # fmt: skip
    register_layer(_convolution, convolution)

_AFFINE = (TensorAxis("weight", 0, "norm", 1.0), TensorAxis("bias", 0, "norm", 0.0))
_NORM = LayerAxes(
    out=(
        *_AFFINE,
        TensorAxis("running_mean", 0, "norm", 0.0),
        TensorAxis("running_var", 0, "norm", 1.0),
    ),
    out_size=(Size("num_features"),),
    along=1,
)
for _norm in (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm,
    nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
):  # fmt: skip
    register_layer(_norm, _NORM)


def group_norm(module: Any) -> LayerAxes:
    """Return the axes of a GroupNorm, whose units are whole norm groups.

    Statistics are shared within a norm group. Where there is only one, channels come and go within.
    """
    if module.num_groups == 1:
        alone = "it is one single norm group, so every channel moves the statistics of all"
        return LayerAxes(
            out=_AFFINE,
            out_size=(Size("num_channels"),),
            along=1,
            no_shrink=alone,
            no_grow=alone,
            approximate=True,
        )
    size = module.num_channels // module.num_groups
    return LayerAxes(
        out=_AFFINE,
        out_size=(Size("num_channels"), Size("num_groups", lambda m, n: n // size)),
        out_tie=size,
        along=1,
    )


register_layer(nn.GroupNorm, group_norm)


def layer_norm(module: Any) -> LayerAxes:
    """Return the axes of a norm over all channels; over other axes too, it cannot grow.

    Over two axes, the channels are taken to be the last, as of tokens; over more, the first, as of
    images.
    """
    shape = tuple(module.normalized_shape)
    place = len(shape) - 1 if len(shape) < 3 else 0
    axes = norm_axes(
        centred=isinstance(module, nn.LayerNorm),
        sizes=(
            Size(
                "normalized_shape",
                lambda m, n: (*m.normalized_shape[:place], n, *m.normalized_shape[place + 1 :]),
            ),
        ),
        length=lambda m: int(m.normalized_shape[place]),
    )
    if len(shape) == 1:
        return axes
    why = f"its statistics run over several axes at once, {shape}, and over all channels"
    return replace(
        axes,
        out=tuple(replace(axis, dim=place) for axis in axes.out),
        along=place - len(shape),
        no_shrink=why,
        no_grow=why,
        norm=None,
    )


register_layer(nn.LayerNorm, layer_norm)
register_layer(nn.RMSNorm, layer_norm)


def prelu(module: Any) -> LayerAxes:
    """Return the axes of a PReLU: one slope for each channel, or one for all, which stays."""
    if module.num_parameters == 1:
        return LayerAxes(out=(), length=lambda m, side: 1)
    return LayerAxes(
        out=(TensorAxis("weight", 0, "norm", 0.25),), out_size=(Size("num_parameters"),), along=1
    )


register_layer(nn.PReLU, prelu)


def recurrent(module: Any) -> LayerAxes:
    """Return the axes of the hidden units of an RNN, GRU or LSTM: one row in every gate.

    Both directions of a bidirectional one have the same number: a unit is one of each. The units
    of an LSTM with projections are the projections, which its hidden units are read through.
    """
    directions = 2 if module.bidirectional else 1
    gates, out = GATES[module.mode], []
    for layer in range(module.num_layers):
        for suffix in ("", "_reverse")[:directions]:
            end = f"_l{layer}{suffix}"
            if module.proj_size:
                out.append(TensorAxis(f"weight_hr{end}", 0, "out", shared=directions))
            else:
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                    out.append(
                        TensorAxis(f"{name}{end}", 0, "out", blocks=gates, shared=directions)
                    )
            out.append(TensorAxis(f"weight_hh{end}", 1, "in", shared=directions))
            if layer:
                out.append(TensorAxis(f"weight_ih{end}", 1, "in"))
    size = "proj_size" if module.proj_size else "hidden_size"
    return LayerAxes(
        out=tuple(out),
        into=tuple(
            TensorAxis(f"weight_ih_l0{suffix}", 1, "in") for suffix in ("", "_reverse")[:directions]
        ),
        out_size=(Size(size, lambda m, n: n // directions),),
        in_size=(Size("input_size"),),
        length=lambda m, side: m.input_size if side == "in" else directions * getattr(m, size),
        out_parts=directions,
        unit="hidden units" if not module.proj_size else "projections",
        along=-1,
    )


for _recurrent in (nn.RNN, nn.GRU, nn.LSTM):
    register_layer(_recurrent, recurrent)


def recurrent_cell(module: Any) -> LayerAxes:
    """Return the axes of one step of an RNN, GRU or LSTM.

    The analysis refuses a cell that is called with a hidden state as well as an input.
    """
    gates = len(module.weight_hh) // module.hidden_size
    rows = [
        TensorAxis(name, 0, "out", blocks=gates)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]
    return LayerAxes(
        out=(*rows, TensorAxis("weight_hh", 1, "in")),
        into=(TensorAxis("weight_ih", 1, "in"),),
        out_size=(Size("hidden_size"),),
        in_size=(Size("input_size"),),
        unit="hidden units",
        along=-1,
    )


for _cell in (nn.RNNCell, nn.GRUCell, nn.LSTMCell):
    register_layer(_cell, recurrent_cell)
