"""Attention with heads of a size of its own computes what `nn.MultiheadAttention` does."""

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from growmas import Plan, Structure
from growmas.structure.layers.multihead import MultiheadAttention

KINDS: dict[str, dict[str, Any]] = {
    "packed": {},
    "without bias": {"bias": False, "batch_first": True},
    "separate": {"kdim": 5, "vdim": 7, "batch_first": True},
    "learnt key": {"add_bias_kv": True},
    "zero key": {"add_zero_attn": True, "kdim": 5, "vdim": 7},
}


def pair(kind: str) -> tuple[nn.MultiheadAttention, nn.MultiheadAttention]:
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(8, 4, **KINDS[kind])
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    ours = copy.deepcopy(theirs)
    ours.__class__ = MultiheadAttention
    return theirs.double().eval(), ours.double().eval()


def inputs(attention: nn.MultiheadAttention, batched: bool = True) -> list[Tensor]:
    widths = (attention.embed_dim, attention.kdim, attention.vdim)
    shapes = [(3, 5, widths[0]), (3, 6, widths[1]), (3, 6, widths[2])]
    made = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    if not batched:
        return [each[0] for each in made]
    return made if attention.batch_first else [each.transpose(0, 1) for each in made]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("weights", "average"), [(True, True), (True, False), (False, True)])
def test_it_computes_the_same(kind: str, weights: bool, average: bool) -> None:
    theirs, ours = pair(kind)
    padding = torch.zeros(3, 6, dtype=torch.bool)
    padding[1, 4:] = True
    for batched, mask in itertools.product((True, False), (None, "bool", "float", "heads")):
        given: dict[str, Any] = {"need_weights": weights, "average_attn_weights": average}
        if mask:
            given["attn_mask"] = (torch.rand(5, 6) < 0.3) & (torch.arange(6) > 0)
        if mask == "float":
            given["attn_mask"] = torch.randn(5, 6, dtype=torch.float64)
        if mask == "heads":
            given["attn_mask"] = torch.randn(12 if batched else 4, 5, 6, dtype=torch.float64)
        if batched:
            added = torch.zeros(3, 6, dtype=torch.float64).masked_fill(padding, -2.0)
            given["key_padding_mask"] = padding if mask in (None, "bool") else added
        three = inputs(theirs, batched)
        (one, first), (other, second) = theirs(*three, **given), ours(*three, **given)
        torch.testing.assert_close(one, other)
        assert (first is None) == (second is None)
        if first is not None:
            torch.testing.assert_close(first, second)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_wider_one_is_no_wider_for_its_layer() -> None:
    """Heads come and go; the width of the input, and the fused path of the others, stay."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 4, 12, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2).eval()
    x, mask = torch.randn(3, 5, 8), torch.arange(5) >= torch.tensor([5, 3, 2])[:, None]
    with torch.no_grad():
        before, padded = encoder(x), encoder(x, src_key_padding_mask=mask)
        structure = Structure(nn.Sequential(encoder, nn.Linear(8, 2)), x)
        edit = structure.apply(Plan(grow={"0.layers.0.self_attn.heads": 3}))
        attention = encoder.layers[0].self_attn
        assert (attention.num_heads, attention.embed_dim, attention.head_dim) == (7, 8, 2)
        assert attention.out_proj.in_features == 14
        assert type(encoder.layers[1].self_attn) is nn.MultiheadAttention
        torch.testing.assert_close(encoder(x), before)
        torch.testing.assert_close(encoder(x, src_key_padding_mask=mask)[~mask], padded[~mask])
        structure.apply(Plan(prune=edit.born))
        torch.testing.assert_close(encoder(x), before)


def test_a_copy_and_a_fresh_model_follow() -> None:
    torch.manual_seed(0)

    def build() -> nn.Module:
        layer = nn.TransformerEncoderLayer(8, 4, 12, batch_first=True, norm_first=True)
        return nn.Sequential(nn.Linear(6, 8), layer, nn.LayerNorm(8), nn.Linear(8, 2))

    model, x = build().eval(), torch.randn(3, 5, 6)
    average = copy.deepcopy(model)
    structure = Structure(model, x)
    structure.apply(Plan(grow={"1.self_attn.heads": 2, "0": 4}), followers=[average])
    torch.testing.assert_close(average(x), model(x))
    fresh = build().eval()
    Structure(fresh, x).load_state_dict(structure.state_dict())
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(fresh(x), model(x))
    view = copy.deepcopy(model)
    assert view[1].self_attn.embed_dim == 12
    model.train()(x).square().mean().backward()


def test_an_edit_that_is_refused_leaves_the_class() -> None:
    model, x = nn.MultiheadAttention(8, 4), torch.randn(3, 5, 8)

    def own_heads(attention: Any, x: Tensor) -> Tensor:
        found: Tensor = attention(x, x, x)[0].view(*x.shape[:2], 8) * attention.num_heads
        return found @ torch.ones(8, 1)

    structure = Structure(nn.Sequential(model), x, forward=lambda m, x: own_heads(m[0], x))
    refused = structure.check() if "0.heads" in structure.groups else None
    assert "0.heads" in structure.fixed, refused
    assert type(model) is nn.MultiheadAttention
    assert model.num_heads == 4
