"""The curves of a run, as a table and as a panel."""

import re
from dataclasses import replace

import pytest
from printing import printed

from growmas.runs.curves import CurvePoint
from growmas.terminal.curves import CurvePanel, render_curves

POINTS = tuple(
    CurvePoint(
        task,
        "ab"[task],
        epoch,
        10 * (4 * task + epoch),
        loss=1.0 / epoch,
        penalty=0.1 * task,
        learning_rate=0.01,
        training=0.5 + 0.1 * epoch,
        mean_accuracy=0.8 if epoch == 4 else None,
        signals={"dormant": 0.25, "dormant/fc1": 0.5} if epoch == 4 else {},
    )
    for task in (0, 1)
    for epoch in (1, 2, 3, 4)
)


def test_a_row_for_each_epoch_with_signals_of_the_whole_network() -> None:
    text = printed(render_curves(POINTS), 100)
    head, _, first = text.splitlines()[:3]
    headings = "task epoch loss penalty learning rate accuracy mean dormant"
    assert " ".join(head.split()) == headings
    assert first.split() == ["a", "1", "1.0000", "0", "0.01", "0.600"]
    assert re.search(r"^b +1  1.0000 +0.1 ", text, re.MULTILINE)
    assert text.count(" 0.800     0.25") == 2
    assert "on training samples" in text
    assert "after the task" in text


def test_numbers_that_a_run_does_not_have_get_no_column() -> None:
    text = printed(render_curves([CurvePoint(0, "a", None, 6, loss=0.5)]), 80)
    assert text.splitlines()[0].split() == ["task", "step", "loss"]


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("ascii", [False, True])
def test_the_panel_fits_and_names_the_tasks(width: int, ascii: bool) -> None:
    text = printed(CurvePanel(POINTS, rows=3, ascii=ascii), width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert text.isascii() is ascii
    assert re.match(r"loss +0.25  0.25 to 1$", lines[0].rstrip())
    assert lines[4].split() == ["1", "2"]
    assert lines[4].index("2") == width // 2
    assert any(line.startswith("dormant ") for line in lines)


def test_a_loss_over_orders_of_magnitude_is_drawn_on_a_log_scale() -> None:
    points = [CurvePoint(0, "a", epoch, loss=10.0**-epoch) for epoch in range(1, 9)]
    lines = printed(CurvePanel(points, rows=4, ascii=True), 50).splitlines()
    assert "log scale" in lines[0]
    filled = [row.count("*") for row in lines[1:5]]
    assert min(filled) >= 8  # a straight line down


def test_one_point_and_none() -> None:
    assert "0.5" in printed(CurvePanel([CurvePoint(0, "a", 1, loss=0.5)]), 40)
    assert printed(CurvePanel([]), 40).strip() == ""


@pytest.mark.parametrize("width", [40, 60, 80])
def test_columns_that_have_no_room_stand_below_the_others(width: int) -> None:
    signals = {"dormant": 0.25, "effective_rank": 12.5, "weight_norm": 3.0, "gradient_norm": 0.5}
    points = [replace(each, signals=signals) for each in POINTS]
    text = printed(render_curves(points), width)
    assert max(map(len, text.splitlines())) <= width
    tables = text.split("\n\n")[:-1]  # the notes are last
    heads = [table.splitlines()[0].split() for table in tables]
    assert all(head[:2] == ["task", "epoch"] for head in heads)
    assert len(tables) == {40: 5, 60: 3, 80: 2}[width]
    assert [word for head in heads for word in head[2:]] == [
        *("loss", "penalty", "learning", "rate", "accuracy", "mean"),
        *signals,
    ]
    assert all(len(table.splitlines()) == 2 + len(points) for table in tables)
