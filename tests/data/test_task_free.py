import itertools
from dataclasses import replace

import pytest
import torch

from growmas.data import (
    drifting_stream,
    load_source,
    permuted_stream,
    split_stream,
    task_free_stream as task_free,
)
from growmas.data.task_free import rotated
from growmas.errors import DataError


def split(scenario="class", tasks=5):
    return split_stream(
        load_source("digits"), tasks=tasks, scenario=scenario, generator=torch.Generator()
    )


def same(a, b):
    return torch.equal(a.inputs, b.inputs) and torch.equal(a.labels, b.labels)


def test_tasks_come_one_after_the_other_and_nobody_says_so():
    stream = task_free(split(), batch_size=16, steps_per_task=20)
    batches = list(stream)
    assert len(batches) == stream.steps == 100
    for batch in batches:
        assert set(batch.labels.tolist()) <= set(stream.tasks[batch.step // 20].classes)
        assert batch.task == batch.step // 20
    assert [(s.first, s.last, s.task) for s in stream.shifts()] == [
        (20, 20, 1), (40, 40, 2), (60, 60, 3), (80, 80, 4),
    ]  # fmt: skip


def test_a_pass_shows_no_sample_twice():
    stream = task_free(split(), batch_size=16, steps_per_task=40)
    train = len(stream.tasks[0].train)
    seen = torch.cat([stream.batch(step).inputs.flatten(1) for step in range(train // 16)])
    assert len(seen.unique(dim=0)) == len(seen)


def test_any_step_can_be_had_at_any_time():
    stream = task_free(split(), batch_size=8, steps_per_task=10, blur=6, seed=3)
    forward = list(stream)
    assert all(same(stream.batch(step), forward[step]) for step in (47, 3, 12, 0, 30))
    assert all(map(same, stream.batches(start=33), forward[33:]))
    other = replace(stream, seed=4)
    assert not same(other.batch(3), forward[3])


def test_a_blurred_boundary_mixes_by_and_by():
    stream = task_free(split(tasks=2), batch_size=256, steps_per_task=40, blur=20)
    (shift,) = stream.shifts()
    assert (shift.first, shift.last) == (30, 50)
    new = set(stream.tasks[1].classes)
    share = [
        sum(label in new for label in stream.batch(step).labels.tolist()) / 256
        for step in range(80)
    ]
    assert share[:30] == [0.0] * 30
    assert share[50:] == [1.0] * 30
    # probability (i + 1/2) / B in the i-th of B steps; 3 standard deviations of 256 draws: 0.094
    for i in range(20):
        assert share[30 + i] == pytest.approx((i + 0.5) / 20, abs=0.1)


def test_tasks_come_back_and_without_end():
    stream = task_free(split(tasks=2), batch_size=8, steps_per_task=5, visits=3)
    assert [batch.task for batch in stream][::5] == [0, 1, 0, 1, 0, 1]
    assert [shift.task for shift in stream.shifts()] == [1, 0, 1, 0, 1]
    endless = task_free(split(tasks=2), batch_size=8, steps_per_task=5, visits=None)
    assert endless.steps is None
    assert endless.batch(10_000_007).task == 1
    assert len(list(itertools.islice(endless, 23))) == 23
    assert len(endless.shifts(until=21)) == 4
    with pytest.raises(DataError, match=r"has no end: call shifts\(until=step\)"):
        endless.shifts()


def test_a_single_task_has_no_shift():
    one = permuted_stream(
        load_source("digits"), tasks=1, scenario="domain", generator=torch.Generator()
    )
    assert task_free(one, visits=4).shifts() == ()


def test_a_drift_turns_the_images_by_and_by():
    stream = drifting_stream(load_source("digits"), steps=11, degrees=90, batch_size=4)
    assert stream.shifts() == ()
    assert [task.name for task in stream.tasks] == ["0°", "45°", "90°"]
    plain = replace(stream, turn=0.0)
    assert torch.allclose(stream.batch(0).inputs, plain.batch(0).inputs, atol=1e-6)
    quarter = torch.rot90(plain.batch(10).inputs, 1, (2, 3))
    turned_by = stream.batch(10).inputs
    assert (
        min(
            float((turned_by - rotated).abs().max())
            for rotated in (quarter, torch.rot90(quarter, 2, (2, 3)))
        )
        < 1e-5
    )


def test_turning_by_nothing_changes_nothing_also_where_images_are_not_square():
    images = torch.rand(2, 1, 6, 9)
    assert torch.allclose(rotated(images, 0.0), images, atol=1e-6)
    assert torch.allclose(rotated(images, 180.0), images.flip(2, 3), atol=1e-5)


def test_what_makes_no_stream_is_refused():
    with pytest.raises(DataError, match="scenario 'task', where the task is known"):
        task_free(split("task"))
    with pytest.raises(DataError, match="batch_size=0, visits=0: expected whole numbers"):
        task_free(split(), batch_size=0, visits=0)
    with pytest.raises(DataError, match=r"blur must lie in 0 … steps_per_task=10, got 11"):
        task_free(split(), steps_per_task=10, blur=11)
    with pytest.raises(DataError, match="step 500 does not exist"):
        task_free(split()).batch(500)
