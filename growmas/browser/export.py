"""Files of what the browser shows."""

import csv
import json
import re
from io import StringIO
from pathlib import Path

from growmas.browser.board import Board, Measure
from growmas.errors import RunError


def as_json(board: Board, measure: Measure, groups: tuple[str, ...]) -> str:
    """Return one measure of all tasks and the given groups as JSON."""
    data = {
        "measure": measure.name,
        "tasks": list(board.tasks),
        "groups": {
            group: [measure.number(board, group, i) for i in range(len(board.tasks))]
            for group in groups
        },
        "units": [each.width for each in board.total],
        "parameters": list(board.parameters),
        "accuracy": list(board.accuracy),
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def as_csv(board: Board, measure: Measure, groups: tuple[str, ...]) -> str:
    """Return one measure of all tasks and the given groups as CSV, one row per task."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["task", *groups, "units", "parameters", "accuracy"])
    for i, task in enumerate(board.tasks):
        cells = [measure.number(board, group, i) for group in groups]
        writer.writerow(
            [task, *cells, board.total[i].width, board.parameters[i], board.accuracy[i]]
        )
    return text.getvalue()


def without_network(svg: str) -> str:
    """Return a picture of the screen that uses fonts of the reader's machine."""
    return re.sub(r"@font-face\s*{.*?}\s*", "", svg, flags=re.DOTALL).replace(
        "Fira Code", "DejaVu Sans Mono, Menlo, Consolas"
    )


def write_free(stem: str, suffix: str, text: str) -> Path:
    """Write a file with a new name in the working directory.

    Raises:
        RunError: If it cannot be written.
    """
    safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in stem) or "run"
    for i in range(1, 10_000):
        path = Path(f"{safe}.{suffix}" if i == 1 else f"{safe}-{i}.{suffix}")
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            continue
        except OSError as error:
            raise RunError(f"{path} could not be written: {error.strerror or error}") from error
        return path
    raise RunError(f"there are too many files like {safe}.{suffix}: move some away")
