import json

import pytest
import torch
from torch import nn

import growmas as gm
from growmas.errors import CheckpointError


def network():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5), nn.ReLU(),
        nn.Linear(5, 2),
    )  # fmt: skip


@pytest.fixture
def trained():
    torch.manual_seed(0)
    net, x = network(), torch.randn(8, 1, 6, 6)
    structure = gm.Structure(net, x)
    mas = gm.MAS(net, strength=0.3)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    structure.begin_task("a")
    step(net, mas, optimizer, x)
    mas.consolidate([x])
    structure.begin_task("b")
    plan = gm.Plan(grow={"0": 3, "4": 2}, prune={"0": [1], "4": [0, 3]})
    structure.apply(plan, followers=[optimizer, mas])
    step(net, mas, optimizer, x)
    return structure, mas, optimizer, x


def step(net, mas, optimizer, x):
    optimizer.zero_grad()
    (net(x).square().mean() + mas.penalty()).backward()
    optimizer.step()


def test_a_resized_network_goes_on_in_a_fresh_one_as_if_nothing_happened(trained, tmp_path):
    structure, mas, optimizer, x = trained
    gm.save(tmp_path / "c", structure=structure, mas=mas, optimizer=optimizer)
    net = network()
    other = torch.optim.AdamW(net.parameters(), lr=1e-2)
    restored, held = gm.load(tmp_path / "c", model=net, example_inputs=x, optimizer=other)
    for name, tensor in structure.model.state_dict().items():
        assert torch.equal(net.state_dict()[name], tensor), name
    assert restored.tasks == structure.tasks
    for name, group in structure.groups.items():
        assert restored.groups[name].unit_ids == group.unit_ids
        assert restored.groups[name].births == group.births
    step(structure.model, mas, optimizer, x)
    step(net, held, other, x)
    for name, tensor in structure.model.state_dict().items():
        assert torch.equal(net.state_dict()[name], tensor), name
    plan = gm.Plan(grow={"0": 1}, prune={"4": [1]})
    edits = [s.apply(plan) for s in (structure, restored)]
    assert edits[0].born == edits[1].born
    with structure.view("a"), restored.view("a"):
        torch.testing.assert_close(net(x), structure.model(x))


def test_without_mas_and_optimizer(trained, tmp_path):
    structure, *_, x = trained
    gm.save(tmp_path / "c", structure=structure)
    restored, mas = gm.load(tmp_path / "c", model=network(), example_inputs=x)
    assert mas is None
    assert restored.groups["0"].width == 6


def test_saving_again_replaces(trained, tmp_path):
    structure, *_, x = trained
    gm.save(tmp_path / "c", structure=structure)
    structure.apply(gm.Plan(grow={"0": 1}))
    gm.save(tmp_path / "c", structure=structure)
    restored, _ = gm.load(tmp_path / "c", model=network(), example_inputs=x)
    assert restored.groups["0"].width == 7
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_no_pickle_inside(trained, tmp_path):
    structure, mas, optimizer, _ = trained
    gm.save(tmp_path / "c", structure=structure, mas=mas, optimizer=optimizer)
    assert {p.name for p in (tmp_path / "c").iterdir()} == {"state.json", "tensors.safetensors"}
    json.loads((tmp_path / "c" / "state.json").read_text())


def test_a_failed_save_keeps_the_old_one(trained, tmp_path, monkeypatch):
    structure, *_, x = trained
    gm.save(tmp_path / "c", structure=structure)

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("growmas.checkpoint.save_file", full)
    with pytest.raises(CheckpointError, match="No space left"):
        gm.save(tmp_path / "c", structure=structure)
    restored, _ = gm.load(tmp_path / "c", model=network(), example_inputs=x)
    assert restored.groups["0"].width == 6


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "state.json").unlink(), "not a readable checkpoint"),
        (lambda folder: (folder / "state.json").write_text("{"), "not a readable checkpoint"),
        (lambda folder: (folder / "state.json").write_text("[]"), "not a readable checkpoint"),
        (lambda f: (f / "tensors.safetensors").write_bytes(b"xx"), "not a readable checkpoint"),
        (
            lambda folder: (folder / "state.json").write_text('{"dict": [["format", 99]]}'),
            "install a newer growmas",
        ),
    ],
)
def test_what_is_no_checkpoint_is_refused(trained, tmp_path, spoil, message):
    structure, *_, x = trained
    gm.save(tmp_path / "c", structure=structure)
    spoil(tmp_path / "c")
    with pytest.raises(CheckpointError, match=message):
        gm.load(tmp_path / "c", model=network(), example_inputs=x)


def test_another_architecture_is_refused(trained, tmp_path):
    structure, *_ = trained
    gm.save(tmp_path / "c", structure=structure)
    other = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(CheckpointError, match="another architecture"):
        gm.load(tmp_path / "c", model=other, example_inputs=torch.zeros(1, 3))


def test_an_optimizer_that_was_not_saved_is_refused(trained, tmp_path):
    structure, *_, x = trained
    gm.save(tmp_path / "c", structure=structure)
    net = network()
    with pytest.raises(CheckpointError, match="holds no optimizer"):
        gm.load(
            tmp_path / "c",
            model=net,
            example_inputs=x,
            optimizer=torch.optim.SGD(net.parameters(), lr=0.1),
        )


def test_a_context_goes_along(trained, tmp_path):
    structure, *_, x = trained
    context = gm.GaussianContext(10, threshold=0.5)
    for task in structure.tasks:
        context.update(task, torch.rand(20, 1, 6, 6))
    context.calibrate(torch.rand(20, 1, 6, 6))
    gm.save(tmp_path / "c", structure=structure, context=context)
    restored = gm.GaussianContext(10, threshold=0.5)
    gm.load(tmp_path / "c", model=network(), example_inputs=x, context=restored)
    assert restored.tasks == structure.tasks
    assert torch.equal(restored.scores(x), context.scores(x))
    assert torch.equal(restored.select(x), context.select(x))
    other = gm.GaussianContext(11)
    with pytest.raises(CheckpointError, match="does not fit: the state has features 10"):
        gm.load(tmp_path / "c", model=network(), example_inputs=x, context=other)


def test_a_checkpoint_without_a_context(trained, tmp_path):
    structure, *_, x = trained
    gm.save(tmp_path / "c", structure=structure)
    context = gm.EnergyContext()
    with pytest.raises(CheckpointError, match="holds no context: save it with context="):
        gm.load(tmp_path / "c", model=network(), example_inputs=x, context=context)


def managed(net, x, optimizer, structure=None, mas=None, **options):
    return gm.StructuralManager(
        structure or gm.Structure(net, x),
        mas=mas or gm.MAS(net, strength=0.3),
        optimizer=optimizer,
        grow=gm.GrowPolicy(units=2),
        prune=gm.PrunePolicy(ratio=0.2, grace=1),
        **options,
    )


def learn(manager, optimizer, x, task):
    manager.begin_task(task)
    step(manager.structure.model, manager.mas, optimizer, x)
    return manager.end_task([x])


def test_a_manager_goes_on_as_if_nothing_happened(tmp_path):
    torch.manual_seed(0)
    net, x = network(), torch.randn(12, 1, 6, 6)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    manager = managed(net, x, optimizer, protect=gm.HardProtection(net, fraction=0.5))
    for task in "ab":
        learn(manager, optimizer, x + ord(task) / 100, task)
    gm.save(tmp_path / "c", structure=manager.structure, optimizer=optimizer, manager=manager)
    fresh = network()
    other = torch.optim.AdamW(fresh.parameters(), lr=1e-2)
    structure, mas = gm.load(tmp_path / "c", model=fresh, example_inputs=x, optimizer=other)
    protect = gm.HardProtection(fresh, fraction=0.1)
    restored = managed(fresh, x, other, structure, mas, protect=protect)
    gm.load_manager(tmp_path / "c", restored)
    assert protect.fraction == 0.5
    edits = []
    for one, its in ((manager, optimizer), (restored, other)):
        torch.manual_seed(7)
        edits.append([edit.plan for edit in learn(one, its, x, "c")])
    assert edits[0] == edits[1]
    assert any(plan.prune for plan in edits[0])
    for name, tensor in net.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], tensor), name
    net.eval(), fresh.eval()
    for task in "abc":
        with manager.structure.view(task), structure.view(task):
            assert torch.equal(net(x), fresh(x))
    assert structure.norms == manager.structure.norms


def test_a_manager_or_protection_that_was_not_saved(trained, tmp_path):
    structure, mas, optimizer, x = trained
    gm.save(tmp_path / "c", structure=structure, mas=mas)
    manager = managed(structure.model, x, optimizer, structure, mas)
    with pytest.raises(CheckpointError, match="holds no manager: save it with manager="):
        gm.load_manager(tmp_path / "c", manager)
    gm.save(tmp_path / "c", structure=structure, manager=manager)
    bare = gm.StructuralManager(
        structure, mas=mas, protect=gm.HardProtection(mas.model, fraction=1)
    )
    with pytest.raises(CheckpointError, match="manager was made with hard protection"):
        gm.load_manager(tmp_path / "c", bare)
    net = network()
    with pytest.raises(CheckpointError, match="holds no protect: save it with protect="):
        gm.load(
            tmp_path / "c",
            model=net,
            example_inputs=x,
            protect=gm.HardProtection(net, fraction=0.5),
        )


def test_protection_goes_along_without_a_manager(trained, tmp_path):
    structure, mas, _, x = trained
    protect = gm.HardProtection(structure.model, fraction=0.5)
    protect.freeze(mas.omega)
    gm.save(tmp_path / "c", structure=structure, mas=mas, protect=protect)
    net = network()
    restored = gm.HardProtection(net, fraction=0.2)
    gm.load(tmp_path / "c", model=net, example_inputs=x, protect=restored)
    assert restored.share == protect.share > 0
    assert all(torch.equal(restored.frozen[n], mask) for n, mask in protect.frozen.items())


def test_a_head_that_grew_goes_along(trained, tmp_path):
    structure, mas, optimizer, x = trained
    structure.grow_head("6", 2, followers=[optimizer, mas])
    gm.save(tmp_path / "c", structure=structure, mas=mas, optimizer=optimizer)
    net = network()
    other = torch.optim.AdamW(net.parameters(), lr=1e-2)
    restored, held = gm.load(tmp_path / "c", model=net, example_inputs=x, optimizer=other)
    step(structure.model, mas, optimizer, x)
    step(net, held, other, x)
    for name, tensor in structure.model.state_dict().items():
        assert torch.equal(net.state_dict()[name], tensor), name
    with restored.view("a"):
        assert net(x).shape == (8, 2)


def test_what_is_no_checkpoint_is_never_replaced(tmp_path):
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    structure = gm.Structure(net, torch.rand(2, 4))
    (tmp_path / "data").mkdir()
    for path in (tmp_path / "data" / "mine.csv", tmp_path / "notes.txt"):
        path.write_text("mine")
    for place in ("data", "notes.txt"):
        with pytest.raises(CheckpointError, match="exists and is not a checkpoint, so it is not"):
            gm.save(tmp_path / place, structure=structure)
    assert (tmp_path / "data" / "mine.csv").read_text() == "mine"
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "notes.txt"]
    gm.save(tmp_path / "fresh", structure=structure)
    gm.save(tmp_path / "fresh", structure=structure)
