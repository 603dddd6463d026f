"""Tests of the guides: their examples run as printed, in order, and their links exist."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import growmas

DOCS = Path(__file__).parents[1] / "docs"
GUIDES = sorted(DOCS.glob("*.md"))


def test_every_page_is_on_the_site() -> None:
    listed = (DOCS.parent / "mkdocs.yml").read_text("utf-8")
    pages = re.findall(r"[\w/]+\.md", listed.partition("\nnav:")[2])
    assert {guide.name for guide in GUIDES} <= {*pages}
    assert all((DOCS / page).is_file() for page in pages if not page.startswith("api/"))


def run(guide: Path, names: dict[str, Any]) -> int:
    """Run the examples; return the number of values that were compared with their comments."""
    promised = 0
    for example in re.findall(r"```python\n(.*?)```", guide.read_text("utf-8"), flags=re.DOTALL):
        exec(compile(example, guide.name, "exec"), names)
        for line in example.splitlines():
            promise = re.fullmatch(r"(\S[^#]*?)\s+# ([\d(][\d\", ()]*)", line)
            if promise and "=" not in promise[1]:  # a value, and a comment with it
                assert eval(promise[1], names) == eval(promise[2])
                promised += 1
    return promised


def write_run(path: Path) -> None:
    """Write a short version of the history that `make demo` leaves."""
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    structure = growmas.Structure(net, torch.rand(2, 4))
    path.parent.mkdir(parents=True)
    with growmas.TopologyTracker(structure, path) as tracker:
        tracker.snapshot("0/1", metrics={"accuracy/0/1": 0.9})
        structure.apply(growmas.Plan(grow={"0": 2}))
        tracker.snapshot("2/3", metrics={"accuracy/0/1": 0.8, "accuracy/2/3": 0.9})


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_the_examples_run(guide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    write_run(tmp_path / "runs" / "demo" / "growmas" / "history.db")
    run(guide, {})


def prose_of(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)


def places_in(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each.lower()).strip().replace(" ", "-") for each in headings}


def test_links_exist() -> None:
    pages = [*GUIDES, *(DOCS.parent / name for name in ("README.md", "CONTRIBUTING.md"))]
    placed = 0
    for page in pages:
        for target in re.findall(r"\]\((?!http)([^)]+)\)", prose_of(page)):
            file, _, place = target.partition("#")
            there = page.parent / file if file else page
            assert there.exists(), f"{page.name}: {target}"
            if place:
                placed += 1
                assert place in places_in(there), f"{page.name}: {target}"
    assert placed > 5


def test_the_values_in_the_guide_to_surgery_are_right() -> None:
    names: dict[str, Any] = {}
    assert run(DOCS / "surgery.md", names) == 5
    assert names["structure"].groups["0"].width == 3  # 4 + 2 fresh − 2 − 1
    assert (names["net"][0].out_features, names["net"][1].small) == (12, 5e-7)
    assert "with the plan" in str(names["trial"])


def test_the_commands_of_the_guide_to_sweeps_are_accepted(tmp_path: Path) -> None:
    blocks = re.findall(
        r"```sh\n(.*?)```", (DOCS / "sweeps.md").read_text("utf-8"), flags=re.DOTALL
    )
    lines = [line.partition(" #")[0] for block in blocks for line in block.splitlines()]
    script = [f"{line} --dry-run" if " sweep " in line else line for line in lines]
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e"], input="\n".join(script), text=True, cwd=tmp_path, capture_output=True,
        env={**os.environ, "PATH": here}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "in runs/mnist5k-split-mas-sweep: 15 to run, 0 finished" in done.stdout
    assert "in runs/mnist5k-split-growmas-sweep: 9 to run, 0 finished" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]
