import itertools
import json
import os
import threading
import warnings
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import growmas as gm
from growmas.checkpoint import files, read_state, write_state
from growmas.checkpoint_files import crc_of
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

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("growmas.checkpoint.files.save_file", full)
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
    with pytest.raises(CheckpointError, match="manager was made with protection"):
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


ACCIDENTS = [
    lambda folder: (folder / "state.json").write_text("{"),
    lambda folder: (folder / "state.json").unlink(),
    lambda folder: (folder / "tensors.safetensors").write_bytes(b"xx"),
    lambda folder: (folder / "tensors.safetensors").unlink(),
    lambda folder: _flip(folder / "tensors.safetensors"),
    lambda folder: _flip(folder / "state.json"),
]


def _flip(file):
    content = bytearray(file.read_bytes())
    content[-40] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_the_checkpoint_before_a_damaged_one_is_used_and_named(trained, tmp_path, accident):
    structure, *_, x = trained
    gm.save(tmp_path / "c", structure=structure)
    structure.apply(gm.Plan(grow={"0": 1}))
    gm.save(tmp_path / "c", structure=structure)
    accident(tmp_path / "c")
    with pytest.warns(gm.GrowmasWarning, match="the checkpoint before it, of 2.* is used"):
        restored, _ = gm.load(tmp_path / "c", model=network(), example_inputs=x)
    assert restored.groups["0"].width == 6
    gm.save(tmp_path / "c", structure=structure)
    restored, _ = gm.load(tmp_path / "c", model=network(), example_inputs=x)
    assert restored.groups["0"].width == 7


class Killed(BaseException):
    pass


def test_a_save_killed_before_any_file_operation_leaves_a_checkpoint(
    trained, tmp_path, monkeypatch
):
    structure, *_, x = trained
    folder = tmp_path / "c"
    gm.save(folder, structure=structure)
    seen = set()
    for fatal in range(1, 40):
        count = 0
        width = structure.groups["0"].width
        structure.apply(gm.Plan(grow={"0": 1}))

        def dying(call, fatal=fatal):
            def called(*args, **options):
                nonlocal count
                count += 1
                if count == fatal:
                    raise Killed
                return call(*args, **options)

            return called

        with monkeypatch.context() as patch:
            for name in ("replace", "open", "unlink", "mkdir"):
                patch.setattr(f"pathlib.Path.{name}", dying(getattr(Path, name)))
            patch.setattr("growmas.checkpoint.files.save_file", dying(save_file))
            for name in ("fsync", "link"):
                patch.setattr(os, name, dying(getattr(os, name)))
            try:
                gm.save(folder, structure=structure)
            except Killed:
                pass
            else:
                break
        restored, _ = gm.load(folder, model=network(), example_inputs=x)
        assert restored.groups["0"].width in (width, width + 1)
        seen.add(restored.groups["0"].width - width)
        gm.save(folder, structure=structure)
    assert fatal > 10
    assert seen == {0, 1}


def killed_after(work):
    """Return a function that does some work, after which the process is killed."""

    def stopped(*args, **options):
        work(*args, **options)
        raise Killed

    return stopped


def test_a_power_failure_may_undo_any_names_that_are_not_synced(tmp_path, monkeypatch):
    folder = tmp_path / "c"
    for number in range(3):
        write_state(folder, {"number": torch.tensor(number)})
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    changes, renamed, synced = [], Path.replace, os.fsync

    def replace(path, target):
        changes.append(({Path(target).name: path.read_bytes()}, path.name))
        return renamed(path, target)

    def fsync(handle):
        synced(handle)
        for path in (folder, *folder.iterdir()):
            if not os.path.samestat(os.fstat(handle), path.stat()):
                continue
            if path == folder:
                changes.append(None)
            else:  # from now on it survives, in full
                before[path.name] = path.read_bytes()

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        patch.setattr(os, "fsync", fsync)
        write_state(folder, {"number": torch.tensor(3)})
    assert changes.pop() is None  # the last thing a save does is to sync the names
    assert len(changes) == 4
    assert None not in changes
    seen = set()
    for kept in itertools.product((False, True), repeat=len(changes)):
        names = dict(before)
        for (made, gone), done in zip(changes, kept, strict=True):
            if done:
                names.update(made)
                names.pop(gone, None)
        after = tmp_path / "-".join(map(str, kept))
        after.mkdir()
        for name, content in names.items():
            (after / name).write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", gm.GrowmasWarning)
            seen.add(found := int(read_state(after)["number"]))
            for last in ("save_file", "_write_new", "_keep_previous"):  # of the next save
                with monkeypatch.context() as patch:
                    patch.setattr(files, last, killed_after(getattr(files, last)))
                    with pytest.raises(Killed):
                        write_state(after, {"number": torch.tensor(4)})
                assert int(read_state(after)["number"]) in (found, 4)
            write_state(after, {"number": torch.tensor(4)})
        assert int(read_state(after)["number"]) == 4
    assert seen == {2, 3}


def test_a_damaged_text_does_not_take_the_place_of_the_one_before(tmp_path):
    for number in range(2):
        write_state(tmp_path / "c", {"number": number})
    _flip(tmp_path / "c" / "state.json")
    write_state(tmp_path / "c", {"number": 2})
    assert read_state(tmp_path / "c") == {"number": 2}
    _flip(tmp_path / "c" / "state.json")
    with pytest.warns(gm.GrowmasWarning, match="the checkpoint before it"):
        assert read_state(tmp_path / "c") == {"number": 0}


def test_a_disk_without_hard_links_keeps_the_one_before(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError("no hard links")

    monkeypatch.setattr(os, "link", refused)
    for number in range(3):
        write_state(tmp_path / "c", {"number": number})
    _flip(tmp_path / "c" / "state.json")
    with pytest.warns(gm.GrowmasWarning, match="the checkpoint before it"):
        assert read_state(tmp_path / "c") == {"number": 1}


def test_a_failed_load_leaves_everything_as_it_was(trained, tmp_path):
    structure, mas, optimizer, x = trained
    gm.save(tmp_path / "c", structure=structure, mas=mas, optimizer=optimizer)
    net = network()
    other = torch.optim.AdamW(net.parameters(), lr=1e-3)
    net(x).square().mean().backward()
    other.step()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    objects = list(net.parameters())
    state = other.state_dict()

    text = (tmp_path / "c" / "state.json").read_text()
    head, _, body = text.partition(', "dict": ')
    spoilt = body[:-1].replace('"betas"', '"bets"')
    head = head.replace(json.loads(head + "}")["crc32"], f"{zlib.crc32(spoilt.encode()):08x}")
    (tmp_path / "c" / "state.json").write_text(f'{head}, "dict": {spoilt}}}')
    context = gm.GaussianContext(10)
    for options in ({"optimizer": torch.optim.SGD(net.parameters(), lr=1.0)}, {"context": context}):
        with pytest.raises(CheckpointError):
            gm.load(tmp_path / "c", model=net, example_inputs=x, **options)
    with pytest.raises(CheckpointError):
        gm.load(tmp_path / "c", model=net.double(), example_inputs=x.double())
    net.float()
    assert [a is b for a, b in zip(objects, net.parameters(), strict=True)] == [True] * len(objects)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert str(other.state_dict()) == str(state)
    assert net[0].out_channels == 4


def test_what_does_not_fit_is_said(trained, tmp_path):
    structure, mas, optimizer, x = trained
    gm.save(tmp_path / "c", structure=structure, mas=mas, optimizer=optimizer)
    net = network()
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(CheckpointError, match=r"optimizer was saved as .*AdamW and is .*SGD"):
        gm.load(tmp_path / "c", model=net, example_inputs=x, optimizer=sgd)
    net[2] = nn.LeakyReLU(0.2)
    with pytest.raises(CheckpointError, match=r"'2' was saved as ReLU\(\) and is LeakyReLU"):
        gm.load(tmp_path / "c", model=net, example_inputs=x)
    with pytest.raises(CheckpointError, match=r"saved as torch.float32 and is torch.float64"):
        gm.load(tmp_path / "c", model=network().double(), example_inputs=x.double())
    with torch.no_grad():
        structure.model[4].weight[0, 0] = float("nan")
    gm.save(tmp_path / "c", structure=structure)
    with pytest.raises(CheckpointError, match=r"4\.weight holds NaN"):
        gm.load(tmp_path / "c", model=network(), example_inputs=x)


def test_keys_of_any_kind_survive(tmp_path):
    one, two = torch.ones(1), torch.zeros(1)
    state = {"a/b": one, "a": {"b": two}, 1: "x", "1": "y", None: [], 0.5: (1,)}
    write_state(tmp_path / "c", state)
    read = read_state(tmp_path / "c")
    assert torch.equal(read["a/b"], one)
    assert torch.equal(read["a"]["b"], two)
    assert {key: read[key] for key in (None, 0.5, "1")} == {None: [], 0.5: (1,), "1": "y"}
    for bad in ({(1, 2): 3}, {"x": object()}, {"x": {1, 2}}):
        with pytest.raises(CheckpointError):
            write_state(tmp_path / "d", bad)
    deep = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_state(tmp_path / "d", {"deep": deep})


@pytest.mark.parametrize(
    "body",
    [
        "[" * 100_000, '[["a", {"tensor": "x"}]]', '[["a", {"tensor": []}]]', '[["a", {}]]',
        '[["a"]]', '[1]', '[[[1], 2]]', '[["a", [1]]]', '[["a", {"set": []}]]', "{}", "null",
        '[["model", 1]]', '[["model", {"dict": []}]]', '[["structure", {"dict": []}]]',
        '[["model", {"dict": []}], ["optimizer", null], ["mas", 3], ["structure", 1]]',
    ],
)  # fmt: skip
def test_odd_json_is_an_error_of_checkpoints(trained, tmp_path, body):
    structure, *_, x = trained
    gm.save(tmp_path / "c", structure=structure)
    head = json.loads((tmp_path / "c" / "state.json").read_text())
    del head["dict"]
    head["crc32"] = f"{zlib.crc32(body.encode()):08x}"
    (tmp_path / "c" / "state.json").write_text(f'{json.dumps(head)[:-1]}, "dict": {body}}}')
    with pytest.raises(CheckpointError):
        gm.load(tmp_path / "c", model=network(), example_inputs=x)


def test_a_link_to_a_folder_stays_a_link(trained, tmp_path):
    structure, *_, x = trained
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    for _ in range(2):
        gm.save(tmp_path / "link", structure=structure)
    assert (tmp_path / "link").is_symlink()
    gm.load(tmp_path / "there", model=network(), example_inputs=x)


def test_a_file_of_somebody_else_is_never_touched(trained, tmp_path):
    structure, *_ = trained
    gm.save(tmp_path / "c", structure=structure)
    (tmp_path / "c" / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="is not a checkpoint, so it is not replaced"):
        gm.save(tmp_path / "c", structure=structure)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "state.json").write_text('{"trainer": 1}')
    with pytest.raises(CheckpointError, match="is not a checkpoint, so it is not replaced"):
        gm.save(tmp_path / "d", structure=structure)
    assert (tmp_path / "c" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "d" / "state.json").read_text() == '{"trainer": 1}'


def test_the_checksum_from_memory_is_that_of_the_file(tmp_path):
    tensors = {
        f"{dtype} {shape}".replace("torch.", ""): torch.ones(shape).to(dtype)
        for dtype in (
            torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.uint8,
        )
        for shape in ((3, 5), (), (0, 2))
    }  # fmt: skip
    tensors["ä b"] = torch.rand(7)
    save_file(tensors, tmp_path / "t", metadata={"id": "0"})
    assert files._crc_in_memory(tmp_path / "t", tensors) == crc_of(tmp_path / "t")


def test_a_checkpoint_takes_little_more_than_its_tensors(tmp_path):
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    x, mas, optimizer = torch.rand(8, 1, 8, 8), gm.MAS(net), torch.optim.Adam(net.parameters())
    statistics = gm.ActivationStatistics(gm.Structure(net, x))
    statistics.update([x])
    step(net, mas, optimizer, x)
    mas.consolidate([x])
    state = {
        "model": dict(net.state_dict()),
        "optimizer": optimizer.state_dict(),
        "mas": mas.state_dict(),
        "statistics": statistics.state_dict(),
    }
    write_state(tmp_path / "c", state)
    parameters = sum(p.numel() for p in net.parameters())
    read = (16 * 9, 512, 64)  # features that each consumer reads, and one for its bias
    kept = 4 * (5 * parameters + sum((f + 1) * (f + 2) // 2 for f in read))
    assert sum(file.stat().st_size for file in (tmp_path / "c").iterdir()) <= 1.1 * kept


def test_what_a_checkpoint_cannot_hold_is_said_before_anything_is_written(trained, tmp_path):
    structure, *_, x = trained
    for wrong in ({"structure": None}, {"structure": structure.model}, {"optimizer": "adam"}):
        with pytest.raises(CheckpointError, match=f"{next(iter(wrong))}: expected"):
            gm.save(tmp_path / "c", **{"structure": structure, **wrong})
    assert not (tmp_path / "c").exists()
    for call in (
        lambda: gm.save(3, structure=structure),
        lambda: gm.load(3, model=network(), example_inputs=x),
    ):
        with pytest.raises(CheckpointError, match="expected the path of a folder, got int"):
            call()


def test_an_optimizer_of_another_model_is_refused(trained, tmp_path):
    structure, mas, optimizer, x = trained
    gm.save(tmp_path / "c", structure=structure, mas=mas, optimizer=optimizer)
    other = torch.optim.AdamW(network().parameters(), lr=1e-3)
    with pytest.raises(CheckpointError, match="holds none of the model's parameters"):
        gm.load(tmp_path / "c", model=network(), example_inputs=x, optimizer=other)


def test_a_state_that_is_saved_while_it_is_read_is_never_mixed(tmp_path):
    folder, done = tmp_path / "c", threading.Event()

    def save():
        number = 0
        while not done.is_set():
            number += 1
            write_state(folder, {"number": number, "tensor": torch.full((9,), float(number))})

    write_state(folder, {"number": 0, "tensor": torch.zeros(9)})
    saving = threading.Thread(target=save)
    saving.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nor is the one before used without need
            for _ in range(400):
                state = read_state(folder)
                assert (state["tensor"] == state["number"]).all()
    finally:
        done.set()
        saving.join()


def test_a_manager_of_other_units_is_refused(tmp_path):
    def managed():
        net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
        structure = gm.Structure(net, torch.rand(2, 4))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        return gm.StructuralManager(
            structure, mas=gm.MAS(net), optimizer=optimizer, grow=gm.GrowPolicy(2)
        )

    manager = managed()
    manager.begin_task("a")
    manager.end_task([torch.rand(3, 4)])
    manager.begin_task("b")
    gm.save(tmp_path / "c", structure=manager.structure, manager=manager)
    with pytest.raises(CheckpointError, match="remembers unit 6 of '0', which the structure does"):
        gm.load_manager(tmp_path / "c", managed())
    with pytest.raises(CheckpointError, match=r"manager: expected a growmas\.StructuralManager"):
        gm.load_manager(tmp_path / "c", None)
    gm.load_manager(tmp_path / "c", manager)


def test_a_save_waits_for_an_edit_in_another_thread(trained, tmp_path):
    structure, *_ = trained
    editing, go_on = threading.Event(), threading.Event()

    def slow(_):
        editing.set()
        go_on.wait(10)

    structure.subscribe(slow)
    edit = threading.Thread(target=lambda: structure.apply(gm.Plan(grow={"0": 1})))
    save = threading.Thread(target=lambda: gm.save(tmp_path / "c", structure=structure))
    edit.start()
    assert editing.wait(10)
    save.start()
    save.join(0.3)
    assert save.is_alive()
    go_on.set()
    edit.join()
    save.join()
    state = read_state(tmp_path / "c")
    assert len(state["structure"]["groups"]["0"]["unit_ids"]) == structure.groups["0"].width
    assert state["model"]["0.weight"].shape[0] == structure.groups["0"].width
