"""Tests of the prose: docstrings, comments, messages, guides and configs in plain English."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "growmas").rglob("*.py"))
GUIDES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "configs/*.yaml", "experiments/*/*.md")
    for path in ROOT.glob(pattern)
)
QUESTIONS = re.compile(r"(What|Why|Whether|Where|How|Who|Whom|Whose|Which|When)\b")
# Phrases may continue on the next line, in a comment behind a "#". "there is no" and "is no longer"
# are plain English: a match of a group is not an offender.
TRANSLATED = {
    r"\bnobody\b": "use the passive: 'is unknown', 'is not given'",
    r"\bsee[\s#]+there\b": "repeat the line, or name the place",
    r"\bby[\s#]+and[\s#]+by\b": "use 'gradually'",
    r"\bdoomed\b": "use 'to be removed'",
    r"(\bthere[\s#]+)?\b(?:is|are|was|were)[\s#]+no[\s#]+"
    r"(longer\b|more\b|less\b|worse\b|such\b|\w+er\b)?\w*": "use 'is not a' or 'has no'",
}


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the docstrings of a module, and the line on which each begins."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, text


def translated(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the phrases of a file that read as translated, and the line of each."""
    text = path.read_text("utf-8")
    for pattern, remedy in TRANSLATED.items():
        for found in re.finditer(pattern, text, re.IGNORECASE):
            if not found.lastindex:
                line = text.count("\n", 0, found.start()) + 1
                yield line, f"{' '.join(found[0].split())!r}: {remedy}"


def expect_none(offenders: Iterable[tuple[Path, int, str]]) -> None:
    """Fail with a line for each offender, as editors and terminals can follow it."""
    lines = [f"{path.relative_to(ROOT)}:{line}: {text}" for path, line, text in sorted(offenders)]
    if lines:
        pytest.fail("\n".join([f"{len(lines)} to rewrite:", *lines]), pytrace=False)


def test_modules_have_docstrings() -> None:
    expect_none(
        (path, 1, "no docstring")
        for path in SOURCES
        if ast.get_docstring(ast.parse(path.read_text("utf-8"))) is None
    )


def test_docstrings_do_not_open_like_questions() -> None:
    """A function's docstring says what it does, a property's names the value."""
    expect_none(
        (path, line, text.splitlines()[0])
        for path in SOURCES
        for line, text in docstrings(path)
        if QUESTIONS.match(text)
    )


def test_no_phrase_reads_as_translated() -> None:
    expect_none(
        (path, line, text) for path in (*SOURCES, *GUIDES) for line, text in translated(path)
    )


def test_every_page_is_in_the_index_of_the_docs() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages == set(re.findall(r"\]\(([\w.]+\.md)\)", index))


def test_every_word_has_one_entry_in_the_glossary() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    entries = re.findall(r"^- (\*\*[^:]+\*\*(?: \([^)]*\))?)", glossary, re.MULTILINE)
    assert len(entries) > 60
    assert sorted(set(entries)) == sorted(entries)
