"""The width of pre-norm transformers: wider streams through LayerNorm and RMSNorm."""

import copy
from collections.abc import Callable
from typing import Any

import networks
import pytest
import snapshots
import torch
import torch.nn.functional as F
import transformer_models
from networks import Language, PreNormViT, ViT
from surgery_laws import change, outputs, structure_of
from test_networks import Net
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import growmas
from growmas import (
    MAS,
    ActivationStatistics,
    GradMax,
    GrowPolicy,
    Plan,
    PrunePolicy,
    Split,
    StructuralManager,
    Structure,
    mas_importance,
)
from growmas.errors import GrowmasError, PlanError, SurgeryError

STREAMS = {
    "ViT, separate q k v": "patches",
    "ViT, fused qkv": "patches",
    "ViT, class token": "patches",
    "RMSNorm, tied": "embed",
}
"""Name of the network -> name of its stream."""

HUGGING_FACE = {
    "ViT": "vit.embeddings.patch_embeddings.projection",
    "GPT-2": "transformer.wte",
    "LLaMA": "model.embed_tokens",
    "Mistral": "model.embed_tokens",
    "Qwen2": "model.embed_tokens",
    "OPT": "model.decoder.embed_tokens",
    "Whisper": "model.decoder.embed_tokens",
}
IN_FLOAT32 = {"LLaMA", "Mistral", "Qwen2"}
"""Models whose norms compute in float32 whatever they are given."""

by_stream = pytest.mark.parametrize("name", STREAMS)


def double(model: nn.Module, x: Any) -> tuple[nn.Module, Any]:
    if isinstance(x, dict):
        return model.double(), {key: double(model, value)[1] for key, value in x.items()}
    return model.double(), x.double() if x.is_floating_point() else x


def language() -> tuple[Language, Tensor]:
    model, x = networks.own("RMSNorm, tied")
    assert isinstance(model, Language)
    return model, x


@by_stream
def test_own_networks_keep_their_function_to_rounding(name: str) -> None:
    model, x = double(*networks.own(name))
    structure, expected = structure_of(model, x), outputs(model, x)
    for count in (1, 3, 40):
        structure.apply(Plan(grow={STREAMS[name]: count}))
        assert change(model, x, expected) <= 1e-9
    structure.apply(Plan(grow=dict.fromkeys(structure.groups, 2)))
    assert change(model, x, expected) <= 1e-9
    assert structure.groups[STREAMS[name]].width == 8 + 44 + 2


@pytest.mark.parametrize("name", HUGGING_FACE)
def test_hugging_face_models_keep_their_function_to_rounding(name: str) -> None:
    model, x = double(*transformer_models.example(name))
    structure, expected = structure_of(model, x), outputs(model, x)
    bound = 1e-6 if name in IN_FLOAT32 else 1e-9
    for count in (1, 16):
        structure.apply(Plan(grow={HUGGING_FACE[name]: count}))
        assert change(model, x, expected) <= bound
    others = {n: g.unit_ids[:1] for n, g in structure.groups.items() if g.can_shrink}
    structure.apply(Plan(grow={HUGGING_FACE[name]: 2, **dict.fromkeys(others, 1)}))
    assert change(model, x, expected) <= bound
    structure.apply(Plan(grow={HUGGING_FACE[name]: 1}, prune=others))


def test_t5_grows_through_encoder_and_decoder_at_once() -> None:
    """Its embeddings are shared; as an output the encoder's last state would hold the width."""
    model: Any
    model, x = transformer_models.example("T5")
    structure = Structure(model, x, forward=lambda model, x: model(**x).logits)
    assert structure.groups["shared"].residual == "zero"
    expected = model(**x).logits.detach()
    structure.apply(Plan(grow={"shared": 5}))
    torch.testing.assert_close(
        model(**x).logits, expected, rtol=0, atol=1e-6 * float(expected.max())
    )


def test_fresh_channels_are_the_mean_of_the_others_and_zero_behind_every_norm() -> None:
    model, x = double(*networks.own("ViT, class token"))
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_hook(
                lambda _, given, result, name=name: seen.update({name: (given[0], result)})
            )
    model(x)
    before = dict(seen)
    structure_of(model, x).apply(Plan(grow={"patches": 4}))
    model(x)
    assert len(seen) == 5
    for name, (given, result) in seen.items():
        torch.testing.assert_close(given[..., :8], before[name][0])
        torch.testing.assert_close(
            given[..., 8:], given[..., :8].mean(-1, keepdim=True).expand(-1, -1, 4)
        )
        torch.testing.assert_close(result[..., :8], before[name][1])
        torch.testing.assert_close(result[..., 8:], torch.zeros_like(result[..., 8:]))


def test_fresh_channels_are_zero_before_an_rms_norm() -> None:
    model, x = language()
    Structure(model, x).apply(Plan(grow={"embed": 3}))
    for layer in (model.embed, model.positions, model.down.weight.T, model.attention.out.weight.T):
        weight = layer if isinstance(layer, Tensor) else layer.weight
        assert torch.equal(weight[:, 8:], torch.zeros_like(weight[:, 8:]))
    assert model.head.weight is model.embed.weight
    assert bool((model.gate.weight[:, 8:] != 0).all())


def test_units_that_would_be_dead_are_refused() -> None:
    """Nothing but a tied head reads them: zero rows, zero columns, no gradient."""
    model: Any = Net(
        lambda m, x: m.head(m.norm(m.embed(x))),
        embed=nn.Embedding(20, 8), norm=nn.RMSNorm(8), head=nn.Linear(8, 20, bias=False),
    )  # fmt: skip
    model.head.weight = model.embed.weight
    structure = Structure(model, torch.randint(20, (3, 5)))
    state = snapshots.of_model(model)
    with pytest.raises(SurgeryError, match="fresh units of 'embed' would never learn"):
        structure.apply(Plan(grow={"embed": 1}))
    assert snapshots.of_model(model) == state


def test_gains_and_eps_compose_over_edits() -> None:
    model, x = language()
    gains = {n: p.detach().clone() for n, p in model.named_parameters() if n.startswith("norm")}
    structure = Structure(model, x)
    for count in (3, 5, 1):
        structure.apply(Plan(grow={"embed": count}))
    for name, gain in gains.items():
        grown = model.get_parameter(name)
        torch.testing.assert_close(grown[:8], gain * (8 / 17) ** 0.5)
        torch.testing.assert_close(grown[16:], torch.ones(1))
    # torch's RMSNorm has eps=None for that of the type of its input
    assert model.norm1.eps == pytest.approx(torch.finfo(torch.float32).eps * 8 / 17, rel=1e-12)
    assert model.norm2.small == pytest.approx(1e-2 * 8 / 17, rel=1e-12)
    assert model.norm3.eps == pytest.approx(1e-3 * 8 / 17, rel=1e-12)
    assert model.norm1.normalized_shape == (17,)


def displaced(model: nn.Module, mas: MAS) -> float:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            step = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter += 0.1 * step
    return mas.penalty().item()


@by_stream
def test_the_penalty_charges_what_it_charged(name: str) -> None:
    """For any displacement: θ* moves with the gain, Ω by the inverse square."""
    model, x = double(*networks.own(name))
    mas = MAS(model)
    mas.consolidate([x])
    charged = displaced(model, mas)
    gain = next(n for n in mas.omega if "norm1" in n and not n.endswith("bias"))
    omega, anchor = mas.omega[gain].clone(), mas.anchor[gain].clone()
    structure = structure_of(model, x)
    structure.apply(Plan(grow={STREAMS[name]: 4}), followers=[mas])
    assert charged > 0
    assert mas.penalty().item() == pytest.approx(charged, rel=1e-13)
    torch.testing.assert_close(mas.omega[gain][:8], omega * 12 / 8)
    torch.testing.assert_close(mas.anchor[gain][:8], anchor * (8 / 12) ** 0.5)
    assert not mas.omega[gain][8:].any()
    structure.apply(Plan(grow=dict.fromkeys(structure.groups, 3)), followers=[mas])
    assert mas.penalty().item() == pytest.approx(charged, rel=1e-13)


def survivors(edit: growmas.Edit, name: str, tensor: Tensor) -> Tensor:
    for one in edit.changes.get(name, ()) if tensor.dim() else ():
        tensor = tensor.index_select(one.dim, (one.source >= 0).nonzero().squeeze(1))
    return tensor


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    output = model(x)
    named = dict(model.named_parameters())
    found = torch.autograd.grad((output.square() + output).sum(), list(named.values()))
    return dict(zip(named, found, strict=True))


@by_stream
def test_gradients_of_survivors(name: str) -> None:
    """As they were, but for gains, and for rows, whose mean had moved with each of them.

    A gain's goes by 1/c. A row's was its own and its part of those of the fresh rows.
    """
    model, x = double(*networks.own(name))
    structure, before = structure_of(model, x), gradients(model, x)
    edit = structure.apply(Plan(grow={STREAMS[name]: 4}))
    after = gradients(model, x)
    rounding = 1e-9 * max(float(gradient.abs().max()) for gradient in before.values())
    for parameter, old in before.items():
        new = survivors(edit, parameter, after[parameter])
        for mean in edit.means.get(parameter, ()):
            fresh = after[parameter].index_select(mean.dim, mean.to.flatten())
            others = [c for c in edit.changes[parameter] if c.dim != mean.dim]
            for one in others:
                fresh = fresh.index_select(one.dim, (one.source >= 0).nonzero().squeeze(1))
            if len(mean.of):
                new = new + fresh.sum(mean.dim, keepdim=True) / len(mean.of)
        scale = (12 / 8) ** 0.5 if parameter in edit.transfers else 1.0
        torch.testing.assert_close(new, old * scale, rtol=1e-9, atol=rounding)


@by_stream
def test_importance_measured_anew(name: str) -> None:
    """MAS adds up |gradients|, so that of a gain goes by 1/c where the penalty needs 1/c²."""
    model, x = double(*networks.own(name))
    before = mas_importance(model, [x])
    edit = structure_of(model, x).apply(Plan(grow={STREAMS[name]: 4}))
    after = mas_importance(model, [x])
    rounding = 1e-9 * max(float(omega.max()) for omega in before.values())
    for parameter, omega in before.items():
        now = survivors(edit, parameter, after[parameter])
        if parameter in edit.transfers:
            omega = omega * (12 / 8) ** 0.5
        if parameter not in edit.means or "RMS" in name:
            torch.testing.assert_close(now, omega, rtol=1e-9, atol=rounding)


@by_stream
def test_the_optimizer_follows(name: str) -> None:
    model, x = double(*networks.own(name))
    untouched = copy.deepcopy(model)
    optimizers = [torch.optim.AdamW(net.parameters(), lr=1e-3) for net in (model, untouched)]
    for net, optimizer in zip((model, untouched), optimizers, strict=True):
        step(net, optimizer, x)
    edit = structure_of(model, x).apply(Plan(grow={STREAMS[name]: 3}), followers=optimizers[:1])
    assert set(optimizers[0].state) == set(model.parameters())
    for (parameter, new), old in zip(model.named_parameters(), untouched.parameters(), strict=True):
        for key, value in optimizers[1].state[old].items():
            moved = optimizers[0].state[new][key]
            assert torch.equal(survivors(edit, parameter, moved), value), (parameter, key)
    fresh = {n: p.detach().clone() for n, p in model.named_parameters() if n in edit.means}
    step(model, optimizers[0], x)
    step(model, optimizers[0], x)  # a tied head's fresh columns are rows, and must move first
    for parameter, was in fresh.items():
        moved = model.get_parameter(parameter) - was
        for mean in edit.means[parameter]:
            rows = moved.index_select(mean.dim, mean.to.flatten()).movedim(mean.dim, 0)
            assert all(bool(row.any()) for row in rows), parameter


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor) -> None:
    optimizer.zero_grad()
    (model(x).square().mean() + model(x).mean()).backward()
    optimizer.step()


@by_stream
def test_an_average_of_the_weights_computes_what_it_did(name: str) -> None:
    model, x = double(*networks.own(name))
    average = AveragedModel(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    average.update_parameters(model)
    expected = [net(x).detach() for net in (model, average)]
    structure = structure_of(model, x)
    for count in (3, 2):
        structure.apply(Plan(grow={STREAMS[name]: count}), followers=[average])
    for net, output in zip((model, average), expected, strict=True):
        torch.testing.assert_close(net(x), output, rtol=0, atol=1e-9 * float(output.abs().max()))


@by_stream
@pytest.mark.parametrize("fails", ["follower", "verification"])
def test_a_failed_edit_leaves_no_trace(
    name: str, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = networks.own(name)
    structure, mas = Structure(model, x), MAS(model)
    mas.consolidate([x])
    average = AveragedModel(model)
    held = snapshots.of_model(model), snapshots.of_model(average), snapshots.of_penalty(mas)
    random_state = snapshots.of_random_state()
    followers: list[Any] = [mas, average]
    if fails == "follower":
        structure.subscribe(lambda edit: 1 / 0)
    else:
        monkeypatch.setattr("growmas.structure.surgery.widening._scaled", wrongly_scaled)
    plan = Plan(grow=dict.fromkeys(structure.groups, 2))
    with pytest.raises(ZeroDivisionError if fails == "follower" else SurgeryError):
        structure.apply(plan, followers=followers)
    now = snapshots.of_model(model), snapshots.of_model(average), snapshots.of_penalty(mas)
    assert now == held
    assert snapshots.of_random_state() == random_state


def wrongly_scaled(member: Any, norm: Any, old: list[int], share: float) -> Any:
    where = torch.tensor(old)
    one = torch.ones(len(old))
    return growmas.structure.AxisTransfer(0, where, where, one, one)


def test_explain_and_dry_run_leave_the_network_alone() -> None:
    model, x = language()
    structure = Structure(model, x)
    held, plan = snapshots.of_model(model), structure.plan(grow={"embed": 4, "gate": 2})
    assert structure.explain(plan).parameters[1] > structure.parameters
    assert structure.dry_run(plan).after.relative_change <= 1e-6
    assert snapshots.of_model(model) == held


@by_stream
def test_a_checkpoint_holds_gains_and_eps(name: str, tmp_path: Any) -> None:
    model, x = networks.own(name)
    structure, mas = Structure(model, x), MAS(model)
    mas.consolidate([x])
    for count in (3, 2):
        structure.apply(Plan(grow={STREAMS[name]: count}), followers=[mas])
    growmas.save(tmp_path / "c", structure=structure, mas=mas)
    fresh, _ = networks.own(name)
    restored, held = growmas.load(tmp_path / "c", model=fresh, example_inputs=x)
    assert torch.equal(fresh(x), model(x))
    assert held is not None
    assert torch.equal(held.penalty(), mas.penalty())
    eps = [
        {n: (getattr(m, "eps", 0), getattr(m, "small", 0)) for n, m in net.named_modules()}
        for net in (model, fresh)
    ]
    assert eps[0] == eps[1]
    expected = outputs(fresh, x)
    restored.apply(Plan(grow={STREAMS[name]: 1}))
    assert change(fresh, x, expected) <= 1e-6


def test_views_of_tasks_before_the_growth_are_refused_by_name() -> None:
    model, x = language()
    structure = Structure(model, x)
    structure.begin_task("first")
    structure.apply(Plan(grow={"embed": 2}))
    structure.begin_task("second")
    structure.apply(Plan(grow={"gate": 2}))
    with structure.view("first"):
        expected = outputs(model, x)
    assert change(structure.extract("first"), x, expected) <= 1e-6
    structure.apply(Plan(grow={"embed": 2}))
    message = "no view of task 0 any more: since then 'embed' grew, whose units pass norms"
    with pytest.raises(PlanError, match=message), structure.view("first"):
        pass
    with pytest.raises(PlanError, match=message):
        structure.extract("first")
    with structure.view("second"):
        pass


def test_what_makes_no_sense_for_a_stream_is_refused_by_name() -> None:
    model, x = networks.own("ViT, class token")
    structure = Structure(model, x)
    state = snapshots.of_model(model)
    grow, prune = Plan(grow={"patches": 1}), Plan(prune={"patches": [0]})
    cases: list[tuple[Plan, dict[str, Any], str]] = [
        (prune, {}, "'patches' cannot shrink: it passes 'blocks.0.norm1': its statistics run"),
        (Plan(replace={"patches": [0]}), {}, "'patches' cannot shrink: it passes"),
        (grow, {"init": "split"}, "cannot split: 'patches' passes norms over all channels"),
        (grow, {"init": Split(parents={"patches": [0]})}, "'patches' passes norms"),
        (
            grow, {"init": GradMax([x], lambda model, x: model(x).sum())},
            "GradMax is not defined for 'patches': its units pass norms over all channels",
        ),
        (
            Plan(grow={"patches": 1}, prune={"blocks.0.up": [0]}), {"reconstruct": [x]},
            "reconstruct= cannot be combined with growing 'patches'",
        ),
    ]  # fmt: skip
    for plan, options, message in cases:
        with pytest.raises(PlanError, match=message):
            structure.apply(plan, **options)
    assert snapshots.of_model(model) == state


def test_other_groups_start_their_own_way_beside_a_stream() -> None:
    """Twins of feed-forward units, and units with the largest gradient, behind a wider stream."""
    for init in ("split", "gradmax"):
        model, x = double(*networks.own("ViT, class token"))
        structure, expected = structure_of(model, x), outputs(model, x)
        structure.apply(Plan(grow={"patches": 2}))
        started: Any = "split"
        if init == "gradmax":
            started = GradMax([x], lambda model, x: model(x).square().sum())
        structure.apply(Plan(grow={"blocks.0.up": 2}), init=started)
        structure.apply(Plan(grow={"patches": 2}))
        assert change(model, x, expected) <= 1e-9


def test_policies_leave_streams_alone_unless_they_are_named() -> None:
    model, x = language()
    structure, mas = Structure(model, x), MAS(model)
    manager = StructuralManager(
        structure, mas=mas, grow=GrowPolicy(units=2), prune=PrunePolicy(ratio=0.5, grace=0)
    )
    manager.begin_task("a")
    pruned = manager.end_task([x])
    assert set(structure.saliency(mas.omega)) == {"embed", "attention.heads", "gate"}
    assert {name for edit in pruned for name in edit.died} == {"attention.heads", "gate"}
    grown = manager.begin_task("b")
    assert [dict(edit.plan.grow) for edit in grown] == [{"attention.heads": 2, "gate": 2}]
    assert set(ActivationStatistics(structure).moments) == {"attention.out", "down"}
    named = StructuralManager(structure, mas=mas, grow=GrowPolicy(units={"embed": 3}))
    assert [dict(e.plan.grow) for e in named.begin_task("c")] == [{"embed": 3}]


class Blind(nn.Module):
    """A norm that is not registered, and without a number to keep it from dividing by zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x * x.square().mean(-1, keepdim=True).rsqrt()


class Scaled(nn.Module):
    """Layer scale: a parameter that is multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(8))
        self.a, self.b, self.norm = nn.Linear(6, 8), nn.Linear(6, 8), nn.LayerNorm(8)
        self.c = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.norm(self.a(x) + self.scale * self.b(x)))


class HalfScaled(Scaled):
    """What a layer gives is added with and without a scale."""

    def forward(self, x: Tensor) -> Tensor:
        given = self.a(x)
        return self.c(self.norm(self.scale * given + given + self.b(x)))


class TwoWidths(nn.Module):
    """Parameters of one module in two streams."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.rand(8)), nn.Parameter(torch.rand(7))
        self.a, self.norm, self.b = nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 7)
        self.other, self.c = nn.LayerNorm(7), nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.a(x) + self.first)
        return self.c(self.other(self.b(x) + self.second))


def linear(read: int, give: int) -> nn.Linear:
    return nn.Linear(read, give)


NORM = "its statistics run over all channels, and "
REFUSED: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "nonlinearity before": (
        lambda: nn.Sequential(linear(6, 8), nn.ReLU(), nn.LayerNorm(8), linear(8, 2)),
        "0", f"it passes '2': {NORM}its channels go through 'Relu', which is not linear",
    ),
    "nonlinearity behind": (
        lambda: nn.Sequential(linear(6, 8), nn.LayerNorm(8), nn.ReLU(), linear(8, 2)),
        "0", f"it passes '1': {NORM}its channels go through 'Relu'",
    ),
    "gate": (
        lambda: Net(
            lambda m, x: m.c(m.norm(m.a(x) * m.b(x))),
            a=linear(6, 8), b=linear(6, 8), norm=nn.RMSNorm(8), c=linear(8, 2),
        ), "a", f"it passes 'norm': {NORM}its channels go through 'Mul'",
    ),
    "read without a norm": (
        lambda: Net(
            lambda m, x: m.c(m.norm(m.a(x))) + m.b(m.a(x)),
            a=linear(6, 8), norm=nn.LayerNorm(8), b=linear(8, 2), c=linear(8, 2),
        ), "a", f"it passes 'norm': {NORM}'b' reads it without a norm between",
    ),
    "post-norm": (
        lambda: Net(
            lambda m, x: m.c(m.last((y := m.norm(m.a(x))) + m.b(y))),
            a=linear(6, 8), norm=nn.LayerNorm(8), b=linear(8, 8), last=nn.LayerNorm(8),
            c=linear(8, 2),
        ), "a", f"it passes 'norm': {NORM}what 'norm' gives is added to something else, as in",
    ),
    "normed twice": (
        lambda: nn.Sequential(linear(6, 8), nn.LayerNorm(8), nn.LayerNorm(8), linear(8, 2)),
        "0", f"it passes '1': {NORM}'2' norms what '1' has normed",
    ),
    "two kinds of norm": (
        lambda: Net(
            lambda m, x: m.c(m.norm(y := m.a(x)) + m.last(y)),
            a=linear(6, 8), norm=nn.LayerNorm(8), last=nn.RMSNorm(8), c=linear(8, 2),
        ), "a", f"it passes 'norm': {NORM}'norm' takes the mean off and 'last' does not",
    ),
    "norm without a gain": (
        lambda: nn.Sequential(
            linear(6, 8), nn.LayerNorm(8, elementwise_affine=False), linear(8, 2)
        ),
        "0", f"it passes '1': {NORM}'1' has no gain",
    ),
    "normed with others": (
        lambda: Net(
            lambda m, x: m.c(m.norm(torch.cat([m.a(x), m.b(x)], -1))),
            a=linear(6, 5), b=linear(6, 3), norm=nn.LayerNorm(8), c=linear(8, 2),
        ), "a", f"it passes 'norm': {NORM}'norm' norms other channels with them",
    ),
    "norm over two axes": (
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 6)), linear(6, 8), nn.LayerNorm((1, 8)), linear(8, 2)
        ), "1", r"it passes '2': its statistics run over several axes at once, \(1, 8\)",
    ),
    "another norm between": (
        lambda: nn.Sequential(linear(6, 8), nn.BatchNorm1d(8), nn.LayerNorm(8), linear(8, 2)),
        "0", f"it passes '2': {NORM}'1' works on its single channels",
    ),
    "something added to all channels": (
        lambda: Net(
            lambda m, x: m.c(m.norm(m.a(x) + m.b(x))),
            a=linear(6, 8), b=linear(6, 1), norm=nn.RMSNorm(8), c=linear(8, 2),
        ), "a", f"it passes 'norm': {NORM}something of another width is added to its channels",
    ),
    "scaled in one place": (
        HalfScaled, "a",
        f"it passes 'norm': {NORM}what 'a' gives is scaled in some places, not in others",
    ),
    "norm without an eps": (
        lambda: nn.Sequential(linear(6, 8), Blind(8), linear(8, 2)),
        "0", "it passes '1': its statistics run over all channels",
    ),
}  # fmt: skip


def test_a_parameter_that_scales_a_layer_follows() -> None:
    model, x = networks.lively(Scaled()), torch.randn(5, 6)
    structure, average, before = Structure(model, x), copy.deepcopy(model), model(x)
    assert structure.groups["a"].scales
    for width in (11, 13):
        structure.apply(Plan(grow={"a": width - structure.groups["a"].width}), followers=[average])
        torch.testing.assert_close(model(x), before)
        torch.testing.assert_close(average(x), before)


def test_parameters_of_two_widths_in_a_module_follow() -> None:
    model, x = networks.lively(TwoWidths()), torch.randn(5, 6)
    structure = Structure(model, x)
    assert structure.groups["b"].residual == "mean"
    before = model(x)
    structure.apply(Plan(grow={"b": 3}))
    torch.testing.assert_close(model(x), before)
    assert (len(model.first), len(model.second)) == (8, 10)


@pytest.mark.parametrize("what", REFUSED)
def test_refusals_say_why_and_change_nothing(what: str) -> None:
    build, name, message = REFUSED[what]
    model, x = networks.lively(build()), torch.randn(5, 6)
    structure = Structure(model, x)
    state = snapshots.of_model(model)
    with pytest.raises(GrowmasError, match=message):
        structure.apply(Plan(grow={name: 1}))
    assert snapshots.of_model(model) == state


@pytest.mark.parametrize("name", ["BERT", "RoBERTa", "DistilBERT", "BART"])
def test_post_norm_transformers_are_refused(name: str) -> None:
    model, x = transformer_models.example(name)
    first = {"output_attentions": False} if name != "BART" else {}
    structure = Structure(model, x, forward=lambda model, x: model(**x, **first).logits)
    assert not [group.name for group in structure.groups.values() if group.residual]
    wide = [g for g in structure.groups.values() if "post-norm transformer" in g.no_grow]
    assert wide
    assert all(group.approximate for group in wide)


def test_the_same_number_added_to_all_channels_leaves_a_layer_norm_alone() -> None:
    model = Net(
        lambda m, x: m.c(m.norm(m.a(x) + m.b(x))),
        a=linear(6, 8), b=linear(6, 1), norm=nn.LayerNorm(8), c=linear(8, 2),
    ).double()  # fmt: skip
    x = torch.randn(5, 6, dtype=torch.float64)
    expected = outputs(model, x)
    Structure(model, x).apply(Plan(grow={"a": 3}))
    assert change(model, x, expected) <= 1e-9


def test_normed_channels_may_be_scaled_cut_padded_and_flattened() -> None:
    model = Net(
        lambda m, x: m.c(F.pad(m.norm(m.a(x))[:, 1:] / 3, (0, 0, 1, 0)).flatten(1)),
        a=linear(6, 8), norm=nn.LayerNorm(8), c=linear(40, 2),
    ).double()  # fmt: skip
    x = torch.randn(3, 5, 6, dtype=torch.float64)
    expected = outputs(model, x)
    Structure(model, x).apply(Plan(grow={"a": 3}))
    assert change(model, x, expected) <= 1e-9


def test_a_frozen_stream_stays_frozen_and_half_precision_passes() -> None:
    model = ViT(networks.FusedHeads)
    model.patches.requires_grad_(False)
    x = torch.randn(2, 3, 8, 8)
    Structure(model, x).apply(Plan(grow={"patches": 2}))
    assert not model.patches.weight.requires_grad
    assert model.norm1.weight.requires_grad
    coarse = networks.lively(PreNormViT()).bfloat16()
    Structure(coarse, x.bfloat16()).apply(Plan(grow={"patches": 8}))
    assert coarse.norm.weight.dtype == torch.bfloat16
