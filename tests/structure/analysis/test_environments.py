"""What a model may be wrapped in or have attached: handled, or refused by name."""

import copy
from typing import Any

import pytest
import snapshots
import torch
from cases import CONVNET, MLP, MLP_BATCHNORM, SURGERY, TIED, TWO_HEADS, Case, tensors
from torch import Tensor, distributed, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils import parametrizations

from growmas import GradMax, Plan, Split, Structure
from growmas.errors import SurgeryError
from growmas.structure import Lineage, Newborns
from growmas.structure.units.placement import placements


def outputs(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([t.flatten() for t in tensors(model(x))])


def grown_and_pruned(structure: Structure, x: Tensor, tolerance: float = 1e-5) -> None:
    """Every group grows without a change, and shrinks again bit for bit."""
    before = {n: snapshots.bits(p) for n, p in structure.model.state_dict().items()}
    expected = outputs(structure.model, x)
    edit = structure.apply(Plan(grow=dict.fromkeys(structure.groups, 3)))
    torch.testing.assert_close(
        outputs(structure.model, x), expected, rtol=tolerance, atol=tolerance
    )
    structure.apply(Plan(prune=edit.born))
    assert {n: snapshots.bits(p) for n, p in structure.model.state_dict().items()} == before


# handled


@pytest.mark.parametrize("case", SURGERY, ids=lambda case: case.name)
def test_bf16(case: Case):
    structure = Structure(case.model(torch.bfloat16).eval(), case.inputs(4, torch.bfloat16))
    grown_and_pruned(structure, case.inputs(4, torch.bfloat16), 0.1)
    assert {p.dtype for p in structure.model.parameters()} == {torch.bfloat16}


def test_channels_last():
    model = CONVNET.model().eval().to(memory_format=torch.channels_last)
    x = CONVNET.inputs(4).contiguous(memory_format=torch.channels_last)
    structure = Structure(model, x)
    grown_and_pruned(structure, x)
    for init in ("zero_out", "split", Split(noise=0.0)):
        structure.apply(Plan(grow={"0": 2, "4": 1}), init=init)
        assert model[4].weight.is_contiguous(memory_format=torch.channels_last)
        assert not model[4].weight.is_contiguous()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("case", SURGERY, ids=lambda case: case.name)
def test_cuda(case: Case):
    model, x = case.model().eval().cuda(), case.inputs(8).cuda()
    structure, average = Structure(model, x), copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), capturable=True)
    sum(t.square().mean() for t in tensors(model(x))).backward()
    optimizer.step()
    grow = dict.fromkeys(structure.groups, 2)
    structure.apply(Plan(grow=grow), followers=[optimizer, average], calibrate=[x])
    if not case.together:
        structure.apply(Plan(grow=grow), followers=[optimizer, average], init="split")
    optimizer.step()
    assert {p.device.type for p in [*model.parameters(), *average.parameters()]} == {"cuda"}


def test_tied_weights_stay_tied():
    structure = Structure(TIED.model().eval(), TIED.inputs(4))
    grown_and_pruned(structure, TIED.inputs(4))
    assert structure.model.second.weight is structure.model.third.weight
    structure.apply(Plan(grow={"first": 1}))
    assert structure.model.second.weight is structure.model.third.weight


def test_frozen_parameters_stay_frozen():
    model, x = MLP_BATCHNORM.model(), MLP_BATCHNORM.inputs(6)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("6"))
    structure = Structure(model, x)
    y = torch.randint(2, (6,))
    gradmax = GradMax([(x, y)], lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]))
    for init in ("zero_out", "split", gradmax):
        structure.apply(
            Plan(grow={"0": 2, "3": 1}, replace={"6": [min(ids(structure))]}), init=init
        )
        assert [n for n, p in model.named_parameters() if p.requires_grad] == ["6.weight", "6.bias"]


def ids(structure: Structure) -> tuple[int, ...]:
    return structure.groups["6"].unit_ids


def test_module_hooks_are_kept_and_go_on_firing():
    model, x = MLP.model(), MLP.inputs(4)
    calls: list[int] = []
    handle = model[0].register_forward_hook(lambda m, i, o: calls.append(o.shape[1]))
    model[2].register_full_backward_hook(lambda m, i, o: calls.append(-1))
    Structure(model, x).apply(Plan(grow={"0": 2}))
    calls.clear()
    model(x).sum().backward()
    assert calls == [10, -1]
    handle.remove()


class Marked(nn.Parameter):
    """A class of one's own."""


@pytest.mark.parametrize("plan", [Plan(grow={"0": 2}), Plan(prune={"0": [1, 4]}, grow={"0": 1})])
def test_attributes_and_classes_of_parameters_follow(plan: Plan):
    model, x = MLP.model(), MLP.inputs(4)
    model[2].weight = Marked(model[2].weight.detach())
    average, kept = copy.deepcopy(model), []
    for net in (model, average):
        weight = net[0].weight
        weight.tag, weight.mask, weight.scale = "first", torch.rand_like(weight), torch.ones(3)
        kept.append(weight.mask)
    edit = Structure(model, x).apply(plan, followers=[average])
    for net, mask in zip((model, average), kept, strict=True):
        assert net[0].weight.tag == "first"
        assert torch.equal(net[0].weight.mask, edit.reindex("0.weight", mask))
        assert torch.equal(net[0].weight.scale, torch.ones(3))
        assert type(net[2].weight) is Marked
        assert net[2].weight.requires_grad
    model(x).sum().backward()
    assert model[2].weight.grad is not None


def test_gradients_and_a_pending_loss_survive():
    """What a graph holds are the old parameters; `edit` says where their gradient belongs."""
    model, x = MLP.model(), MLP.inputs(4)
    structure = Structure(model, x)
    model(x).sum().backward()
    kept = model[0].weight.grad.clone()
    pending = model(x).square().sum()
    edit = structure.apply(Plan(grow={"0": 2}, prune={"0": [1]}))
    expected = edit.reindex("0.weight", kept)
    assert torch.equal(model[0].weight.grad, expected)
    pending.backward()
    assert torch.equal(model[0].weight.grad, expected)
    old, new = edit.swapped["0.weight"]
    assert edit.reindex("0.weight", old.grad).shape == new.shape
    assert not torch.equal(old.grad, kept)


def test_compiled_models_are_operated_on_underneath():
    model, x = MLP.model().eval(), MLP.inputs(4)
    compiled = torch.compile(model, backend="eager")
    compiled(x)
    structure = Structure(compiled, x)
    assert structure.model is model
    settings = torch._dynamo.config
    torch_2_6 = "cache_size_limit"  # its name there
    limit = getattr(settings, "recompile_limit", None) or getattr(settings, torch_2_6)
    for _ in range(2 + limit):
        structure.apply(Plan(grow={"0": 1}))
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        torch.testing.assert_close(compiled(x), model(x))
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > graphs
    torch._dynamo.reset()


def test_models_compiled_in_place():
    model, x = TWO_HEADS.model().eval(), TWO_HEADS.inputs(4)
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    model.compile(backend=backend)
    structure = Structure(model, x)
    expected = outputs(model, x)
    made = len(graphs)
    structure.apply(Plan(grow={"body": 1}))
    assert len(graphs) == made
    torch.testing.assert_close(outputs(model, x), expected)
    assert len(graphs) > made
    torch._dynamo.reset()


def test_parameters_made_in_inference_mode_can_be_trained():
    model, x = MLP.model(), MLP.inputs(4)
    structure = Structure(model, x)
    with torch.inference_mode():
        structure.apply(Plan(grow={"0": 2}))
    model(x).sum().backward()
    assert model[0].weight.grad is not None


def test_sparse_gradients_follow():
    model, x = nn.Sequential(nn.Embedding(9, 4, sparse=True), nn.Linear(4, 2)), torch.arange(5)
    optimizer = torch.optim.SparseAdam([model[0].weight], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
    before = model[0].weight.grad.to_dense()
    edit = Structure(model, x).apply(Plan(grow={"0": 2}, prune={"0": [1]}), followers=[optimizer])
    gradient = model[0].weight.grad
    assert gradient.is_sparse
    assert torch.equal(gradient.to_dense(), edit.reindex("0.weight", before))
    optimizer.step()
    assert optimizer.state[model[0].weight]["exp_avg"].shape == (9, 5)


# refused by name


def test_gradient_hooks_are_refused():
    model, x = MLP.model(), MLP.inputs(4)
    structure = Structure(model, x)
    handles = [
        model[0].weight.register_hook(lambda grad: grad),
        model[2].bias.register_post_accumulate_grad_hook(lambda p: None),
    ]
    before = snapshots.of_model(model)
    with pytest.raises(SurgeryError, match=r"'0.weight', '2.bias' has gradient hooks.*again"):
        structure.apply(Plan(grow={"0": 1, "2": 1}))
    assert snapshots.of_model(model) == before
    for handle in handles:
        handle.remove()
    structure.apply(Plan(grow={"0": 1, "2": 1}))


@pytest.fixture
def process_group(tmp_path: Any) -> Any:
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


def test_distributed_wrappers_say_how_it_is_done(process_group: None):
    model, x = MLP.model(), MLP.inputs(4)
    wrapped = DistributedDataParallel(model)
    with pytest.raises(SurgeryError) as caught:
        Structure(wrapped, x)
    for line in (
        "the model is wrapped in DistributedDataParallel", "    model = wrapped.module\n",
        "    structure.apply(plan, followers=[optimizer])",
        "    wrapped = DistributedDataParallel(model)",
    ):  # fmt: skip
        assert line in str(caught.value)
    model = wrapped.module
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    Structure(model, x).apply(Plan(grow={"0": 1}), followers=[optimizer])
    wrapped = DistributedDataParallel(model)
    wrapped(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    with pytest.raises(SurgeryError, match="'1' is wrapped in DataParallel"):
        Structure(nn.Sequential(nn.Linear(6, 6), DataParallel(nn.Linear(6, 2))), x)


def test_compiled_parts_are_refused():
    part = torch.compile(nn.Linear(6, 5), backend="eager")
    with pytest.raises(SurgeryError, match=r"'0' is a compiled part.*or call .compile\(\) on '0'"):
        Structure(nn.Sequential(part, nn.ReLU(), nn.Linear(5, 2)), torch.rand(3, 6))


def weight_normed(layer: nn.Linear) -> nn.Module:
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(layer)


@pytest.mark.parametrize(
    "change",
    [
        parametrizations.spectral_norm,
        nn.utils.spectral_norm,
        lambda layer: parametrizations.weight_norm(layer, dim=None),
    ],
)
def test_parametrised_layers_are_one_entry_in_fixed(change: Any):
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    model.append(change(nn.Linear(2, 3))).append(nn.Linear(3, 2)).eval()
    structure = Structure(model, torch.rand(3, 6))
    assert set(structure.groups) == {"0", "2"}
    assert "parametrised" in structure.fixed["5"]
    assert "remove_parametrizations" in structure.fixed["5"]
    assert "touches '5'" in structure.fixed["4"]
    grown_and_pruned(structure, torch.rand(3, 6))


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, weight_normed])
def test_the_tensors_of_weight_norm_move(norm: Any):
    def build() -> nn.Module:
        layers = nn.Linear(6, 5), nn.ReLU(), norm(nn.Linear(5, 4)), nn.ReLU(), nn.Linear(4, 2)
        return nn.Sequential(*layers).eval()

    model, x = build(), torch.rand(3, 6)
    before, optimizer = model(x), torch.optim.Adam(model.parameters())
    structure = Structure(model, x)
    structure.begin_task("first")
    structure.begin_task("second")
    structure.apply(Plan(grow={"0": 2, "2": 3}), followers=[optimizer])
    torch.testing.assert_close(model(x), before)
    with structure.view(task="first"):
        torch.testing.assert_close(model(x), before)
    torch.testing.assert_close(structure.extract(task="first")(x), before)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.rand_like(parameter), alpha=0.1)  # young columns are heard now
    with structure.view(task="first"):
        younger_left_out = model(x)
    torch.testing.assert_close(structure.extract(task="first")(x), younger_left_out)
    model(x).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    other = build()
    fresh = Structure(other, x)
    fresh.load_state_dict(structure.state_dict())
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(x), model(x))


class Loud:
    """Fresh units that are heard: consumers read them with ones."""

    def prepare(self, structure: Structure, plan: Plan) -> Any:
        def fill(newborns: Newborns) -> Lineage:
            for name in newborns.born:
                for place in placements(newborns.model, newborns.groups[name], ["in"]):
                    fresh = place.positions[newborns.indices(name)].flatten()
                    with torch.no_grad():
                        place.tensor.index_fill_(place.axis.dim, fresh, 1.0)
            return Lineage()

        return fill


@pytest.mark.parametrize("case", SURGERY, ids=lambda case: case.name)
def test_a_failed_verification_leaves_everything_as_it_was(case: Case):
    model, x = case.model(), case.inputs(6)
    structure = Structure(model, x, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters())
    sum(t.square().mean() for t in tensors(model(x))).backward()
    optimizer.step()

    def state() -> Any:
        return (
            snapshots.of_model(model),
            snapshots.of_optimizer(optimizer),
            snapshots.of_groups(structure),
            snapshots.of_random_state(),
        )

    before = state()
    plan = Plan(grow=dict.fromkeys(structure.groups, 3))
    with pytest.raises(SurgeryError, match="would move the output"):
        structure.apply(plan, init=Loud(), calibrate=[x], followers=[optimizer])
    assert state() == before
