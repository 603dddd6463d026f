import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from printing import printed

from growmas.errors import RunError
from growmas.terminal import plot
from growmas.terminal.shifts import as_data, read_trace, render_shifts


def write_run(folder: Path, *, seen: int = 300, contexts: bool = True) -> Path:
    """Three tasks of 100 steps; the loss falls in each, and the peaks are noticed a step late."""
    noise = random.Random(0)
    head = {
        "stream": "digits permuted, task-free",
        "steps": 300,
        "tasks": ["a", "b", "c"],
        "true_shifts": [[100, 100, 1], [190, 210, 2]],
    }
    lines = [json.dumps(head)]
    events = {
        50: ("plateau", 41, "settled"),
        101: ("peak", 100, "opened"),
        150: ("plateau", 141, "settled"),
        203: ("peak", 197, "returned"),
    }
    for step in range(seen):
        age = step % 100 if step < 200 else step - 200
        loss = (2.3 - 0.5 * (step >= 200)) * 0.93**age + 0.1 + 0.05 * noise.random()
        line: dict[str, object] = {"step": step, "loss": loss}
        if step == 0:
            line["widths"] = {"fc1": 64, "blocks.1.mlp.fc2": 32}
            line["context"] = "context 1" if contexts else ""
        if step == 101:
            line["widths"] = {"fc1": 82, "blocks.1.mlp.fc2": 50}
            line["context"] = "context 2, step 101" if contexts else ""
        if step == 203:
            line["context"] = "context 1" if contexts else ""
        if step in events:
            kind, onset, deed = events[step]
            line["shift"] = {
                "kind": kind, "step": step, "onset": onset, "action": deed, "reason": "said so",
                "statistics": {}, "thresholds": {},
            }  # fmt: skip
        lines.append(json.dumps(line))
    folder.mkdir(exist_ok=True)
    (folder / "stream.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


@pytest.mark.parametrize("ascii", [False, True])
@pytest.mark.parametrize("width", [80, 120])
def test_golden(
    tmp_path: Path, width: int, ascii: bool, check_golden: Callable[[str, str], None]
) -> None:
    text = printed(render_shifts(read_trace(write_run(tmp_path)), ascii=ascii), width)
    assert max(map(len, text.splitlines())) <= width
    assert text.isascii() is ascii
    check_golden(f"shifts_{width}_{'ascii' if ascii else 'unicode'}", text)


@pytest.mark.parametrize("width", [40, 60, 80, 133, 200])
@pytest.mark.parametrize("ascii", [False, True])
def test_marks_stand_where_their_steps_are(tmp_path: Path, width: int, ascii: bool) -> None:
    text = printed(render_shifts(read_trace(write_run(tmp_path)), ascii=ascii), width)
    rows = {line[:11].strip(): line[12:].ljust(width - 12) for line in text.splitlines()}
    columns = width - 12
    peaks = [i for i, sign in enumerate(rows["peak"]) if sign != " "]
    assert peaks == [101 * columns // 300, 203 * columns // 300]
    shifts = [i for i, sign in enumerate(rows["true shift"]) if sign in "|┃"]
    assert shifts == [100 * columns // 300, 190 * columns // 300]
    assert rows["step"].split()[0] == "0"
    assert rows["step"].split()[-1] == "300"


def test_printed_scores_are_those_of_the_data(tmp_path: Path) -> None:
    trace = read_trace(write_run(tmp_path))
    data = json.loads(json.dumps(as_data(trace)))
    own = data["scores"]["this run"]
    assert (own["found"], own["shifts"], own["peaks"], own["delay"]) == (2, 2, 2, 7)
    text = printed(render_shifts(trace, ascii=True), 100)
    row = re.search(r"^this run +(\d+) of (\d+) +(\d+) +([\d.]+) +([\d.]+) +(\S+)", text, re.M)
    assert row is not None
    assert row.groups() == ("2", "2", "2", "100.0", "100.0", "7")
    assert data["losses"] == list(trace.losses)
    assert [event["action"] for event in data["events"]] == [
        "settled", "opened", "settled", "returned",
    ]  # fmt: skip


def test_a_run_that_goes_on_is_shown_so_far(tmp_path: Path) -> None:
    folder = write_run(tmp_path, seen=120)
    path = folder / "stream.jsonl"
    path.write_text(path.read_text() + '{"step": 120, "lo')  # being written
    text = printed(render_shifts(read_trace(folder), ascii=True), 80)
    said = " ".join(text.split())
    assert "300 steps (120 so far), 2 contexts; 1 settled, 1 opened." in said
    loss = [line[12:] for line in text.splitlines()[:8]]
    assert max(len(row.rstrip()) for row in loss) <= 120 * 68 // 300 + 1
    assert "1 of 1" in text  # the second shift has not come yet


def test_a_run_that_has_not_begun_is_shown_empty(tmp_path: Path) -> None:
    text = printed(render_shifts(read_trace(write_run(tmp_path, seen=0))), 80)
    assert "300 steps (0 so far), no contexts; no events." in text


def test_many_events_are_folded(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    path = folder / "stream.jsonl"
    head, *lines = path.read_text().splitlines()
    shifted = next(line for line in lines if "shift" in line)
    path.write_text("\n".join([head, *[shifted] * 20]) + "\n")
    text = printed(render_shifts(read_trace(folder), ascii=True), 80)
    assert "8 earlier" in text
    assert text.count("settled") == 13  # twelve rows and the caption


def test_what_is_no_task_free_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="only runs over a stream of kind task_free have shifts"):
        read_trace(tmp_path)
    (tmp_path / "stream.jsonl").write_text('{"stream": 1}\n')
    with pytest.raises(RunError, match=r"stream\.jsonl is damaged"):
        read_trace(tmp_path)


def test_reading_needs_no_torch() -> None:
    code = "import sys, growmas.terminal.shifts; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_line_goes_from_its_largest_value_on_top_to_its_least_at_the_bottom() -> None:
    assert plot.line([3.0, 2.0, 1.0], 3, 3, 3, ascii=True) == ["** ", " **", "  *"]
    braille = plot.line([1.0, 1.0], 2, 1, 1, ascii=False)
    assert braille == ["⠉"]  # the top dots of both columns


def test_bars_know_the_last_change() -> None:
    row = plot.bars([(0, 5), (50, 10)], 60, 100, 4, ascii=True)
    assert row[0] == row[1] == str(round(9 * 5 / 10))
    assert row[2] == "9"
    assert row[3] == " "
