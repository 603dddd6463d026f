"""Tables of a study as LaTeX and Markdown, read back by pandoc; skipped where there is none."""

import re
import shutil
import subprocess
from html import unescape

import pytest

from growmas.terminal.study import _latex_row, _markdown_row

PANDOC = shutil.which("pandoc")
pytestmark = pytest.mark.skipif(PANDOC is None, reason="no pandoc")
ROWS = (
    ["kind", "ACC"],
    ["a_b & 50% #1", "[11.7, 18.1]"],
    ["{x: $y}, ~z^2", "−70.0 [−74.2, −67.7]*"],
    ["*starred*, `code`", "< 0.001"],
    ["[text](link) | a\\b", "[1, 2]*"],
    ["[256, 256]", "·"],
    ["two\nlines <i>", "> 5"],
)


def read_back(text: str, form: str) -> list[list[str]]:
    """Return the cells of the table that pandoc reads."""
    done = subprocess.run(
        [str(PANDOC), "-f", form, "-t", "html", "--wrap=none", "--mathjax"],
        input=text, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    rows = re.findall(r"<tr.*?>(.*?)</tr>", done.stdout, re.DOTALL)
    found = [re.findall(r"<t[dh].*?>(.*?)</t[dh]>", row, re.DOTALL) for row in rows]
    assert not any(re.search("<(?!span|/span)", cell) for row in found for cell in row)
    plain = [[re.sub(r"<.*?>|\\[()]", "", cell) for cell in row] for row in found]
    return [[unescape(cell).replace("\u2006", " ") for cell in row] for row in plain]


def expected(nothing: str, minus: str) -> list[list[str]]:
    cells = [[" ".join(cell.split()) for cell in row] for row in ROWS]
    return [[cell.replace("·", nothing).replace("−", minus) for cell in row] for row in cells]


def test_latex() -> None:
    rows = "\n".join(_latex_row(row) for row in ROWS)
    text = f"\\begin{{tabular}}{{lr}}\n{rows}\n\\end{{tabular}}\n"
    found = read_back(text, "latex")
    quotes = str.maketrans("‘’", "`'")  # LaTeX sets quotes as a book does
    assert [[cell.translate(quotes) for cell in row] for row in found] == expected("–", "-")


def test_markdown() -> None:
    rows = [_markdown_row(row) for row in ROWS]
    rows.insert(1, "| --- | ---: |")
    assert read_back("\n".join(rows), "gfm") == expected("·", "−")
