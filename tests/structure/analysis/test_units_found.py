"""Which units a network has, and what is said where there are none to change."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import snapshots
import torch
import torch.nn.functional as F
from cases import CONVNET, MLP, RESIDUAL_MLP, SURGERY, TWO_HEADS, Case, FunctionalUse, RawParameter
from torch import Tensor, nn
from torch.nn.utils import prune

from growmas import GrowmasError, Plan, Structure
from growmas.batches import example_forward
from growmas.errors import PlanError, SurgeryError
from growmas.structure.analysis import propagation
from growmas.structure.analysis.tracing import DependencyTrace

by_name = pytest.mark.parametrize("case", SURGERY, ids=lambda case: case.name)


@by_name
def test_the_groups_expected_are_found(case: Case) -> None:
    structure = Structure(case.model(), case.inputs(2))
    assert {name: group.width for name, group in structure.groups.items()} == case.groups
    assert set(structure.fixed) == case.fixed
    for name, group in structure.groups.items():
        assert group.name == name
        assert group.unit_ids == tuple(range(group.width))
        assert group.births == (0,) * group.width
        assert group.next_id == group.width


@by_name
def test_readers_and_their_columns(case: Case) -> None:
    structure = Structure(case.model(), case.inputs(2))
    for name, group in structure.groups.items():
        read = {m.layer: m.positions.tolist() for m in group.members if m.side == "in"}
        assert read == {
            layer: [
                [first + unit * columns + i for i in range(columns)] for unit in range(group.width)
            ]
            for layer, columns, first in case.readers[name]
        }


def test_layers_that_share_units_are_one_group() -> None:
    stem = Structure(RESIDUAL_MLP.model(), RESIDUAL_MLP.inputs(2)).groups["stem"]
    assert {(m.layer, m.side) for m in stem.members} == {
        ("stem", "out"),
        ("back", "out"),
        ("inner", "in"),
        ("head", "in"),
    }
    assert set(stem.layers) == {"stem", "back", "inner", "head"}


def test_kinds_layers_and_edges() -> None:
    structure = Structure(CONVNET.model(), CONVNET.inputs(2))
    assert [group.kind for group in structure.groups.values()] == ["channels"] * 2 + ["neurons"]
    told = [(i.name, i.kind, i.group, i.in_width, i.out_width) for i in structure.layers()]
    assert told == [
        ("0", "Conv2d", "0", 2, 5),
        ("1", "BatchNorm2d", "0", 5, 5),
        ("4", "Conv2d", "4", 5, 4),
        ("7", "Linear", "7", 16, 6),
        ("9", "Linear", None, 6, 3),
    ]
    assert sum(info.parameters for info in structure.layers()) == structure.parameters
    assert {("0", "1"), ("1", "4"), ("4", "7"), ("7", "9")} <= set(structure.edges())
    structure.apply(Plan(grow={"4": 2}))
    assert structure.layers()[3].in_width == 24


@by_name
@pytest.mark.parametrize("training", [True, False])
def test_looking_leaves_the_model_bit_identical(case: Case, training: bool) -> None:
    model = case.optimizer_ready().train(training)
    for n, p in enumerate(model.parameters()):
        p.requires_grad_(n % 2 == 0)
    before, random_state = snapshots.of_model(model), snapshots.of_random_state()
    structure = Structure(model, case.inputs(2))
    assert snapshots.of_model(model) == before
    assert snapshots.of_random_state() == random_state
    assert {name: group.width for name, group in structure.groups.items()} == case.groups


def test_looking_leaves_no_trace_after_a_failure() -> None:
    model = CONVNET.optimizer_ready()
    model[0].weight.requires_grad_(False)
    before = snapshots.of_model(model)
    with pytest.raises(
        SurgeryError, match=r"could not be analysed on its example inputs: .*forwar"
    ):
        Structure(model, torch.zeros(2, 3))
    assert snapshots.of_model(model) == before


def test_inputs_by_position_by_keyword_and_by_a_forward() -> None:
    net, x = TWO_HEADS.model(), TWO_HEADS.inputs(2)
    for inputs in ((x,), {"x": x}, [x]):
        assert set(Structure(net, inputs).groups) == {"body"}
    both = Structure(net, x, forward=lambda model, x: (model(x, 0), model(x, 1)))
    assert set(both.groups) == {"body"}
    both.apply(Plan(grow={"body": 2}))
    assert [head.in_features for head in net.heads] == [9, 9]


def test_heads_that_did_not_run_are_refused_by_name() -> None:
    net, x = TWO_HEADS.model(), TWO_HEADS.inputs(2)
    with pytest.raises(
        SurgeryError, match=r"layers 'heads.1' take no part .* \(the heads of every"
    ):
        Structure(net, x, forward=lambda model, x: model(x, 0))
    structure = Structure(net, x, forward=lambda model, x: model(x, 0), ignore=["heads.1"])
    assert set(structure.groups) == {"body"}


def test_a_parameter_of_the_model_itself_that_is_not_used_is_named() -> None:
    net = MLP.model()
    net.register_parameter("temperature", nn.Parameter(torch.ones(())))
    structure = Structure(net, MLP.inputs(2))
    assert structure.groups
    assert "takes no part" in structure.fixed["temperature"]
    assert "" not in structure.fixed


def test_a_network_without_outputs_is_refused() -> None:
    with pytest.raises(SurgeryError, match="output"):
        Structure(MLP.model(), MLP.inputs(2), forward=lambda model, x: int(model(x).argmax()))


def test_integer_parameters_do_no_harm() -> None:
    net = MLP.model()
    net.register_parameter("steps", nn.Parameter(torch.tensor(3), requires_grad=False))
    assert set(Structure(net, MLP.inputs(2)).groups) == {"0", "2"}


@pytest.mark.parametrize("build", [RawParameter, FunctionalUse])
def test_raw_parameters_hold_a_group_fast_or_follow(build: type[nn.Module]) -> None:
    """Whatever the analysis makes of them: afterwards the network works or is as before."""
    net, x = build(), torch.randn(3, 6)
    structure = Structure(net, x)
    for name in {**structure.groups, **structure.fixed}:
        before, output = snapshots.of_model(net), net(x)
        try:
            structure.apply(Plan(grow={name: 2}))
        except (PlanError, SurgeryError):
            assert snapshots.of_model(net) == before
        torch.testing.assert_close(net(x), output)


class Scaled(nn.Linear):
    """A subclass may compute anything with its weight."""


def test_subclasses_of_layers_are_resized_as_those() -> None:
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), Scaled(6, 5), nn.ReLU(), nn.Linear(5, 2))
    structure = Structure(net, torch.randn(2, 6))
    assert set(structure.groups) == {"0", "2"}
    structure.apply(Plan(grow={"0": 1, "2": 2}))
    assert (net[2].in_features, net[2].out_features) == (7, 7)


class Bilinear(nn.Bilinear):
    """A layer that is not registered, and known to torch-pruning as nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x, x)


def test_layers_without_axes_are_named() -> None:
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), Bilinear(6, 6, 5), nn.ReLU(), nn.Linear(5, 2))
    structure = Structure(net, torch.randn(2, 6))
    assert set(structure.fixed) == {"0", "2", "4"}
    assert all(word in structure.fixed["2"] for word in ("Bilinear", "register_layer"))
    with pytest.raises(PlanError, match="group '0' cannot change"):
        structure.apply(Plan(grow={"0": 1}))


def reparametrised(how: str) -> nn.Module:
    net = MLP.model()
    if how == "spectral_norm":
        nn.utils.spectral_norm(net[2])
    elif how == "parametrization":
        nn.utils.parametrizations.orthogonal(net[2])
    else:
        prune.l1_unstructured(net[2], "weight", 0.5)
    return net


@pytest.mark.parametrize("how", ["spectral_norm", "parametrization", "prune"])
def test_weights_computed_from_others_are_refused_by_name(how: str) -> None:
    net = reparametrised(how)
    before = snapshots.of_model(net)
    for name in ("0", "2"):
        with pytest.raises(GrowmasError, match="'2'"):
            Structure(net, MLP.inputs(2)).apply(Plan(grow={name: 1}))
    assert snapshots.of_model(net) == before


class ReturnsHidden(nn.Module):
    def __init__(self, residual: bool) -> None:
        super().__init__()
        self.body = nn.Linear(6, 5)
        self.last = nn.Linear(5, 5)
        self.residual = residual

    def forward(self, x: Tensor) -> Any:
        hidden = self.body(x).relu()
        return hidden + self.last(hidden) if self.residual else (hidden, self.last(hidden))


@pytest.mark.parametrize("residual", [True, False])
def test_units_that_the_network_gives_out_cannot_change(residual: bool) -> None:
    net = ReturnsHidden(residual)
    structure = Structure(net, torch.randn(2, 6))
    before = snapshots.of_model(net)
    with pytest.raises(GrowmasError, match="output"):
        structure.apply(Plan(grow={"body": 1}))
    assert snapshots.of_model(net) == before
    assert "body" in structure.fixed


def test_units_that_end_in_a_softmax_cannot_change() -> None:
    net = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3), nn.Softmax(1))
    structure = Structure(net, torch.randn(2, 6))
    assert set(structure.groups) == {"0"}
    assert set(structure.fixed) == {"2"}


def test_groups_that_torch_pruning_mixes_up_are_caught() -> None:
    """Pixels before channels: the flatten is not what the analysis takes it for."""

    class PixelsFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3)
            self.head = nn.Linear(12, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(self.conv(x)).permute(0, 2, 3, 1).flatten(1))

    net, x = PixelsFirst(), torch.randn(3, 2, 4, 4)
    structure = Structure(net, x)
    kept, output = snapshots.of_model(net), net(x)
    try:
        structure.apply(Plan(prune={"conv": [1]}))
    except GrowmasError:
        assert snapshots.of_model(net) == kept
        torch.testing.assert_close(net(x), output)
    else:
        hidden = net.conv(x)
        assert hidden.shape[1] == 2
        assert net(x).shape == output.shape


def test_a_group_and_an_edit_print_in_one_line() -> None:
    net = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))
    structure = Structure(net, torch.zeros(1, 3))
    edit = structure.apply(Plan(prune={"0": [1]}, grow={"0": 3}, reason="more room"))
    assert repr(structure.groups["0"]) == "UnitGroup('0', 8 neurons of 0, 2; shrinks and grows)"
    assert repr(edit) == "Edit('0' +3 −1; 3 tensors, task 0 because 'more room')"


GUIDE = Path(__file__).parents[3] / "docs" / "analysis.md"


def examples(names: dict[str, Any]) -> list[str]:
    """Run the examples of the guide; every line that promises a value, where it does not hold."""
    wrong = []
    for example in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL):
        exec(compile(example, GUIDE.name, "exec"), names)
        for line in example.splitlines():
            promise = re.fullmatch(r"(\S[^#]*?)\s+# ([\[('\"\dTF].*)", line)
            if promise and eval(promise[1], names) != ast.literal_eval(promise[2]):
                wrong.append(f"{line}: {eval(promise[1], names)}")
    return wrong


def test_the_guide_says_what_the_analysis_finds() -> None:
    rules = dict(propagation.RULES)
    try:
        assert examples({}) == []
    finally:
        propagation.RULES.clear()
        propagation.RULES.update(rules)


def test_the_picture_in_the_guide_is_drawn_from_the_network() -> None:
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)[0], names)
    (picture,) = re.findall(r"```text\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    trace = DependencyTrace(names["Net"](), torch.rand(5, 1, 4, 4), example_forward)
    drawn = {}
    for node, labels in trace._flow._labels.items():
        drawn[propagation.operation(node.grad_fn)] = re.sub(r"(?<=\d),? (?=\d)", " ", str(labels))
        if isinstance(labels, str):
            del drawn[propagation.operation(node.grad_fn)]
    for operation, labels in drawn.items():
        line = next(line for line in picture.splitlines() if operation in line)
        assert re.sub(r"\s+", "", labels) in re.sub(r"\s+", "", line).replace(",", "")
    assert {"Add", "Relu", "View"} <= set(drawn)
    for member in Structure(names["Net"](), torch.rand(5, 1, 4, 4)).groups["a"].members:
        assert f"{member.layer:<4} {member.side:<3} {member.positions.tolist()}" in picture


@pytest.mark.parametrize("kind", ["spectral_norm", "orthogonal"])
def test_a_parametrised_layer_is_one_entry(kind: str) -> None:
    parametrised = getattr(nn.utils.parametrizations, kind)(nn.Linear(5, 5))
    model = nn.Sequential(
        nn.Linear(6, 5), parametrised, nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 2)
    )
    structure = Structure(model, torch.rand(3, 6), check=True)
    assert list(structure.groups) == ["2"]
    assert set(structure.fixed) == {"0", "1", "4"}
    assert "it is parametrised" in structure.fixed["1"]
