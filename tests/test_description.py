"""The README as a package index shows it, built by hatch_build.py."""

import importlib.util
import re
from pathlib import Path

import pytest

import growmas

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
_SPEC = importlib.util.spec_from_file_location(
    "description", ROOT / "experiments" / "tooling" / "description.py"
)
description = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(description)
LINKS = re.compile(r"!?\[[^\]]*\]\(([^)]+)\)")


def prose(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("repository", [None, "https://example.org/some/where/"])
def test_no_link_leads_nowhere_and_code_is_as_it_was(repository: str | None) -> None:
    text = description.for_index(README, repository, "1.2")
    targets = LINKS.findall(prose(text))
    assert all(target.startswith("https://") for target in targets)
    assert re.findall(r"```.*?```", text, re.DOTALL) == re.findall(r"```.*?```", README, re.DOTALL)
    assert "https://arxiv.org/abs/1711.09601" in targets
    if repository is None:
        assert not re.search(r"\[[^\]]*\]\(", re.sub(LINKS, "", prose(text)))
        assert "](docs/" not in text
    else:
        assert len(targets) == len(LINKS.findall(prose(README)))
        assert "https://example.org/some/where/blob/v1.2/docs/surgery.md" in targets
        assert "https://example.org/some/where/raw/v1.2/docs/show.svg" in targets
        assert "https://example.org/some/where#more-results" in targets


def test_pictures_and_links_in_links() -> None:
    readme = "![a picture](p.svg) [`x[0]`](docs/x.md) [a [b]](c.md)\n```python\nf[0](x)\n```\n"
    assert description.for_index(readme, None, "1") == " `x[0]` a [b]\n```python\nf[0](x)\n```\n"


def test_the_version_is_the_same_wherever_it_stands() -> None:
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited is not None
    assert cited[1] == growmas.__version__
