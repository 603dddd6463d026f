"""The network as it was at a task."""

import asyncio
import contextvars
import copy
import pickle
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
import snapshots
import torch
from cases import CONVNET, MLP, SURGERY, Case, tensors
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from growmas import MAS, GrowmasError, Plan, Structure, mas_importance
from growmas.errors import PlanError
from growmas.structure.views.overrides import MaskedWeight

by_name = pytest.mark.parametrize("case", SURGERY, ids=lambda case: case.name)


def outputs(model: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return tensors(model(x))


def assert_close(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    for new, old in zip(found, wanted, strict=True):
        torch.testing.assert_close(new, old, rtol=1e-5, atol=1e-5)


def differ(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> bool:
    return any(float((x - y).abs().max()) > 1e-3 for x, y in zip(a, b, strict=True))


def shake(model: nn.Module, only_fresh: Any = None) -> None:
    """Give every parameter, or the fresh entries of an edit, another value."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            moved = p + 0.3 * torch.randn(
                p.shape, generator=torch.Generator().manual_seed(len(name))
            )
            if only_fresh is None:
                p.copy_(moved)
            else:
                keep = torch.ones_like(p, dtype=torch.bool)
                for change in only_fresh.changes.get(name, ()):
                    keep.index_fill_(change.dim, change.fresh, False)
                p.copy_(torch.where(keep, p, moved))


def grown(case: Case) -> tuple[Structure, list[tuple[Tensor, ...]]]:
    """Three tasks, units born in each; after each birth only the fresh weights are trained."""
    structure = Structure(case.model().eval(), case.inputs(3))
    x, seen = case.inputs(5, seed=9), []
    for task in range(3):
        structure.begin_task(f"task {task}")
        if task:
            edit = structure.apply(Plan(grow=dict.fromkeys(structure.groups, task)))
            shake(structure.model, edit)
        seen.append(outputs(structure.model, x))
    return structure, seen


@by_name
def test_views_equal_the_network_before_growth_when_only_fresh_weights_moved(case: Case) -> None:
    structure, seen = grown(case)
    x = case.inputs(5, seed=9)
    if not case.together:  # tied weights of old units read through the same fresh entries
        assert differ(seen[0], seen[2])
    for task in range(3):
        with structure.view(task) as model:
            assert model is structure.model
            assert_close(outputs(model, x), seen[task])
        with structure.view(f"task {task}"):
            assert_close(outputs(structure.model, x), seen[task])


@by_name
def test_views_equal_what_is_extracted(case: Case) -> None:
    structure, _ = grown(case)
    shake(structure.model)
    structure.apply(Plan(prune={n: g.unit_ids[1:2] for n, g in structure.groups.items()}))
    x = case.inputs(5, seed=9)
    before = snapshots.of_model(structure.model)
    for task in range(3):
        slim = structure.extract(task)
        with structure.view(task):
            assert_close(outputs(structure.model, x), outputs(slim, x))
        born = {n: sum(b <= task for b in g.births) for n, g in structure.groups.items()}
        assert {n: g.width for n, g in Structure(slim, case.inputs(3)).groups.items()} == born
    assert snapshots.of_model(structure.model) == before


def test_an_extracted_network_is_plain_and_apart() -> None:
    structure, _ = grown(CONVNET)
    slim = structure.extract("task 0")
    assert type(slim) is type(structure.model)
    assert [p.shape for p in slim.parameters()] == [p.shape for p in CONVNET.model().parameters()]
    shared = {p.data_ptr() for p in structure.model.parameters()}
    assert not any(p.data_ptr() in shared for p in slim.parameters())
    assert all(p.requires_grad for p in slim.parameters())


@by_name
def test_a_view_leaves_no_trace(case: Case) -> None:
    structure, _ = grown(case)
    before, random_state = snapshots.of_model(structure.model), snapshots.of_random_state()
    with structure.view(0):
        outputs(structure.model, case.inputs(2))
    assert snapshots.of_model(structure.model) == before
    with pytest.raises(ZeroDivisionError), structure.view(0), structure.view(1):
        1 / 0  # noqa: B018
    assert snapshots.of_model(structure.model) == before
    assert snapshots.of_random_state() == random_state


@by_name
def test_views_nest_and_leave_out_what_either_leaves_out(case: Case) -> None:
    structure, seen = grown(case)
    x, model = case.inputs(5, seed=9), structure.model
    for outer, inner in ((0, 2), (2, 0), (1, 0), (0, 1)):
        with structure.view(outer):
            with structure.view(inner):
                assert_close(outputs(model, x), seen[min(outer, inner)])
            assert_close(outputs(model, x), seen[outer])
    assert_close(outputs(model, x), seen[2])


def test_gradients_through_a_view_reach_the_parameters_that_count() -> None:
    structure, _ = grown(MLP)
    model = structure.model
    with structure.view(0):
        model(MLP.inputs(5)).square().sum().backward()
    slim = structure.extract(0)
    slim.zero_grad()
    slim(MLP.inputs(5)).square().sum().backward()
    for name, small in slim.named_parameters():
        large = model.get_parameter(name).grad
        corner = tuple(slice(0, length) for length in small.shape)
        torch.testing.assert_close(large[corner], small.grad)
        if name.endswith("weight") and small.shape[1] < large.shape[1]:
            assert not large[: small.shape[0], small.shape[1] :].any()


def test_a_loss_may_be_taken_in_a_view_and_stepped_outside() -> None:
    structure, _ = grown(MLP)
    model = structure.model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with structure.view(0):
        loss = model(MLP.inputs(5)).square().sum()
    loss.backward()
    before = model[0].weight.detach().clone()
    optimizer.step()
    assert not torch.equal(model[0].weight, before)


def test_frozen_weights_may_be_viewed() -> None:
    structure, seen = grown(MLP)
    structure.model.requires_grad_(False)
    with structure.view(0):
        assert_close(outputs(structure.model, MLP.inputs(5, seed=9)), seen[0])


def test_units_born_later_are_left_out_however_large_they_became() -> None:
    structure, seen = grown(CONVNET)
    with torch.no_grad():
        structure.model[0].weight[5:] = 1e6
        structure.model[0].bias[5:] = -1e6
    with structure.view(0):
        assert_close(outputs(structure.model, CONVNET.inputs(5, seed=9)), seen[0])


def test_replaced_units_are_younger_in_a_view() -> None:
    structure, _ = grown(MLP)
    structure.begin_task("last")
    structure.apply(Plan(prune={"0": [0, 1]}, grow={"0": 2}))
    assert structure.extract(0)[0].out_features == 6
    assert structure.extract("last")[0].out_features == structure.groups["0"].width


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("task 9", r"no task 'task 9'; the 3 tasks are 'task 0', 'task 1', 'task 2'"),
        (3, "no task 3; the tasks begun so far are 0 to 2"),
        (-1, "no task -1; the tasks begun so far are 0 to 2"),
        (True, "no task True"),
        (0.5, "no task 0.5"),
        (None, "no task None"),
    ],
)
def test_unknown_tasks_are_refused(task: Any, message: str) -> None:
    structure, _ = grown(MLP)
    for look in (structure.view, structure.extract):
        with pytest.raises(PlanError, match=message):
            look(task).__enter__()


def test_a_task_begun_again_is_resumed_and_no_other_is_added() -> None:
    structure, _ = grown(MLP)
    groups = dict(structure.groups)
    assert structure.begin_task("task 1") == 1
    assert structure.resumed == "task 1"
    assert (structure.tasks, structure.task) == (("task 0", "task 1", "task 2"), 2)
    assert structure.groups == groups

    structure.apply(Plan(grow={next(iter(groups)): 1}))
    assert structure.groups[next(iter(groups))].births[-1] == 2
    assert structure.begin_task("task 3") == 3
    assert structure.resumed is None


def test_a_resumed_task_that_a_listener_refuses_has_not_been_resumed() -> None:
    structure, _ = grown(MLP)

    def refuse(_: str) -> None:
        raise OSError("disk full")

    stop = structure.subscribe(lambda edit: None, begun=refuse)
    with pytest.raises(OSError, match="disk full"):
        structure.begin_task("task 0")
    assert structure.resumed is None
    stop()
    structure.begin_task("task 0")
    structure.subscribe(lambda edit: None, begun=refuse)
    with pytest.raises(OSError, match="disk full"):
        structure.begin_task("task 3")
    assert (structure.resumed, len(structure.tasks)) == ("task 0", 3)


def test_before_any_task_the_view_is_the_network() -> None:
    structure = Structure(MLP.model(), MLP.inputs(3))
    with structure.view(0):
        assert_close(outputs(structure.model, MLP.inputs(3)), outputs(MLP.model(), MLP.inputs(3)))
    with pytest.raises(PlanError, match="no task has been begun"), structure.view("first"):
        pass


def test_a_group_without_a_unit_of_that_time_cannot_be_extracted() -> None:
    structure = Structure(MLP.model(), MLP.inputs(3))
    structure.begin_task("a")
    structure.begin_task("b")
    structure.apply(Plan(prune={"2": range(5)}, grow={"2": 2}))
    with pytest.raises(PlanError, match="all 2 units would be removed"):
        structure.extract("a")
    with structure.view("a"):
        outputs(structure.model, MLP.inputs(2))


# Copies are kept between calls, and threads share a view ----------------------------------------


def changed(model: nn.Module, how: str) -> None:
    weight = model[2].weight
    if how == "data":
        weight.data = weight.data + 1
    elif how == "step":
        model(MLP.inputs(4)).sum().backward()
        torch.optim.Adam(model.parameters(), lr=0.1, foreach=True).step()
    elif how == "fused":
        model(MLP.inputs(4)).sum().backward()
        torch.optim.Adam(model.parameters(), lr=0.1, fused=True).step()
    elif how == "in data, by training":
        model(MLP.inputs(4)).sum().backward()
        for p in model.parameters():
            p.data.sub_(p.grad.data)
    else:
        with torch.no_grad():
            weight.mul_(2) if how == "in place" else weight.copy_(weight + 1)


@pytest.mark.parametrize(
    "how", ["data", "step", "fused", "in data, by training", "in place", "copied"]
)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_what_changes_in_a_view_shows_at_once(how: str, mode: Any) -> None:
    structure, _ = grown(MLP)
    model, x = structure.model, MLP.inputs(5)
    with structure.view(0):
        with mode():
            before = model(x)
            assert torch.equal(model(x), before)
        changed(model, how)
        with mode():
            after = model(x)
    assert not torch.allclose(after, before)
    assert_close((after,), outputs(structure.extract(0), x))


def test_after_calls_without_gradients_they_flow_again() -> None:
    structure, _ = grown(MLP)
    model, x = structure.model, MLP.inputs(5)
    with structure.view(0):
        for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
            with mode():
                result = model(x)
        result.sum().backward()
        assert model[2].weight.grad[:, :6].any()
        with torch.inference_mode():
            model(x)
        with torch.no_grad():
            model(x)
        seen = x.clone().requires_grad_()
        model.requires_grad_(False)
        model(seen).sum().backward()
        assert seen.grad.any()


def test_a_masked_copy_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    structure, seen = grown(MLP)
    made = []
    copy_of = MaskedWeight._copy
    monkeypatch.setattr(MaskedWeight, "_copy", lambda self, w: made.append(w) or copy_of(self, w))
    with structure.view(0):
        for _ in range(3):
            assert_close(outputs(structure.model, MLP.inputs(5, seed=9)), seen[0])
    assert len(made) == 2


def test_threads_share_a_view_in_copies_of_its_context() -> None:
    structure, seen = grown(CONVNET)
    x = CONVNET.inputs(5, seed=9)
    with structure.view(0), ThreadPoolExecutor(4) as pool:
        contexts = [contextvars.copy_context() for _ in range(200)]
        found = list(pool.map(lambda own: own.run(outputs, structure.model, x), contexts))
    for output in found:
        assert_close(output, seen[0])
    assert_close(outputs(structure.model, x), seen[2])


@by_name
def test_a_call_beside_a_view_is_right_or_refused(case: Case) -> None:
    structure, seen = grown(case)
    x = case.inputs(5, seed=9)
    entered = threading.Event()
    refused = []

    def call(_: int) -> None:
        entered.wait()
        try:
            assert_close(outputs(structure.model, x), seen[2])
        except GrowmasError as error:
            refused.append(str(error))

    with ThreadPoolExecutor(2) as pool:
        calls = pool.map(call, range(10))
        with structure.view(0):
            entered.set()
            for _ in range(5):
                assert_close(outputs(structure.model, x), seen[0])
            with pytest.raises(GrowmasError, match=r"another thread .*extract\(task\)"):
                pool.submit(structure.model, x).result()
        assert list(calls) == [None] * 10
        assert_close(pool.submit(outputs, structure.model, x).result(), seen[2])
    assert len(set(refused)) == 1


def test_a_coroutine_beside_a_view_is_refused() -> None:
    structure, seen = grown(MLP)
    model, x = structure.model, MLP.inputs(5, seed=9)

    async def answers() -> None:
        turn = asyncio.Event()

        async def beside() -> None:
            await turn.wait()
            with pytest.raises(GrowmasError, match="another thread or coroutine"):
                model(x)

        other = asyncio.create_task(beside())
        with structure.view(0):
            turn.set()
            await other
            assert_close(await asyncio.to_thread(outputs, model, x), seen[0])
        assert_close(await asyncio.to_thread(outputs, model, x), seen[2])

    asyncio.run(answers())


def test_layers_that_run_again_in_the_backward_pass_belong_to_the_view() -> None:
    structure, _ = grown(MLP)
    model, x = structure.model, MLP.inputs(5, seed=9).requires_grad_()
    with structure.view(0), ThreadPoolExecutor(1) as pool:
        checkpoint(model, x, use_reentrant=False).sum().backward()
        found = x.grad.clone()
        x.grad = None
        loss = checkpoint(model, x, use_reentrant=False).sum()
        pool.submit(loss.backward).result()  # as the threads of a GPU's backward pass do
    assert torch.equal(x.grad, found)


def test_a_view_of_another_thread_is_refused() -> None:
    structure, seen = grown(MLP)

    def view() -> None:
        with structure.view(1):
            pass

    with ThreadPoolExecutor(1) as pool:
        with (
            structure.view(0),
            pytest.raises(GrowmasError, match=r"another thread holds a view .*extract\(task\)"),
        ):
            pool.submit(view).result()
        pool.submit(view).result()
    assert_close(outputs(structure.model, MLP.inputs(5, seed=9)), seen[2])


# What else one does in a view -------------------------------------------------------------------


@by_name
def test_importance_in_a_view_is_that_of_the_extracted_network(case: Case) -> None:
    structure, _ = grown(case)
    with structure.view(0):
        found = mas_importance(structure.model, [case.inputs(4)])
    slim = structure.extract(0)
    wanted = mas_importance(slim, [case.inputs(4)])
    for name, small in wanted.items():
        assert float(found[name].sum()) == pytest.approx(float(small.sum()), rel=1e-4, abs=1e-6)


def test_anchors_taken_in_a_view_are_the_parameters() -> None:
    structure, _ = grown(MLP)
    mas = MAS(structure.model)
    with structure.view(0):
        mas.consolidate([MLP.inputs(4)])
    assert snapshots.values(mas.anchor) == snapshots.values(structure.model.named_parameters())
    assert float(mas.penalty().detach()) == 0.0


def test_a_state_dict_taken_in_a_view_holds_the_parameters() -> None:
    structure, _ = grown(MLP)
    with structure.view(0):
        state = copy.deepcopy(structure.model.state_dict())
    assert snapshots.values(state) == snapshots.values(structure.model.state_dict())


@pytest.mark.parametrize(
    "act",
    [
        lambda s: s.apply(Plan(grow={"0": 1})),
        lambda s: s.load_state_dict(s.state_dict()),
    ],
    ids=["apply", "load_state_dict"],
)
def test_surgery_in_a_view_is_refused(act: Any) -> None:
    structure, _ = grown(MLP)
    before, groups = snapshots.of_model(structure.model), snapshots.of_groups(structure)
    with structure.view(0), pytest.raises(GrowmasError, match="view"):
        act(structure)
    assert snapshots.of_model(structure.model) == before
    assert snapshots.of_groups(structure) == groups
    act(structure)


def test_what_is_extracted_in_a_view_is_as_ever_or_refused() -> None:
    structure, _ = grown(MLP)
    wanted = outputs(structure.extract(1), MLP.inputs(3))
    with structure.view(0):
        try:
            slim = structure.extract(1)
        except GrowmasError as error:
            assert "view" in str(error)  # noqa: PT017
            return
    assert_close(outputs(slim, MLP.inputs(3)), wanted)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_made_in_a_view_is_of_the_network_and_apart(way: Any) -> None:
    structure, x = Structure(MLP.model(), MLP.inputs(4)), MLP.inputs(4)
    structure.begin_task("first")
    structure.begin_task("second")
    structure.apply(Plan(grow={"0": 3}))
    shake(structure.model)
    with structure.view("first"), structure.view("second") as model:
        twin = way(model)
    assert_close(outputs(twin, x), outputs(structure.model, x))
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    assert all(not out.any() for out in outputs(twin, x))
    assert differ(outputs(structure.model, x), outputs(twin, x))


def test_a_part_of_a_network_is_not_copied_in_a_view() -> None:
    structure = Structure(MLP.model(), MLP.inputs(4))
    structure.begin_task("first")
    structure.begin_task("second")
    structure.apply(Plan(grow={"0": 3}))
    with structure.view("first") as model:
        forward = model.forward
        with pytest.raises(GrowmasError, match="leave it first"):
            copy.deepcopy(forward)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
@pytest.mark.parametrize("fused", [False, True])
def test_a_step_in_a_view_shows_though_gradients_came_before(kind: Any, fused: bool) -> None:
    structure, x = Structure(MLP.model(), MLP.inputs(4)), MLP.inputs(4)
    structure.begin_task("first")
    structure.begin_task("second")
    structure.apply(Plan(grow={"0": 3}))
    optimizer = kind(structure.model.parameters(), lr=0.1, fused=fused)
    with structure.view("first") as model:
        sum(out.square().sum() for out in tensors(model(x))).backward()
        before = outputs(model, x)
        optimizer.step()
        found = outputs(model, x)
    assert differ(found, before)
    assert_close(found, outputs(structure.extract("first"), x))


def test_of_threads_that_ask_at_once_one_holds_a_view() -> None:
    structure = Structure(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), torch.zeros(1, 2))
    inside: list[int] = []

    def ask(thread: int) -> int:
        entered = 0
        for _ in range(100):
            with suppress(GrowmasError), structure.view(0), structure.view(0):
                inside.append(thread)
                time.sleep(0)
                assert set(inside) == {thread}
                inside.remove(thread)
                entered += 1
        return entered

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert any(pool.map(ask, range(4)))
    finally:
        sys.setswitchinterval(before)
    assert not structure.viewed


@pytest.mark.parametrize("own", [False, True])
def test_a_head_that_grew_does_not_read_units_born_later(own: bool) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(8, 5)
    structure = Structure(model, x)
    for task in ("a", "b", "c"):
        structure.begin_task(task)
        if task != "a":
            structure.apply(Plan(grow={"0": 2}))
            structure.grow_head("2", 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    for index, classes in enumerate((2, 3, 4)):
        with structure.view(index, own_classes=own) as view, torch.no_grad():
            found = view(x)
        wanted = structure.extract(index)(x)
        torch.testing.assert_close(found, wanted[:, -1:] if own and index else wanted)
        assert wanted.shape == (8, classes)
