"""The documentation as a site: built with warnings as errors, complete, and without the network."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import growmas

for package in ("mkdocs", "material", "mkdocstrings_handlers.python"):
    pytest.importorskip(package, reason="the extra docs is not installed")

ROOT = Path(__file__).parents[1]


class Links(HTMLParser):
    """Collects what a page leads to, what it fetches, and the places in it."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.fetched: list[str] = []
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.places |= {found[key] for key in ("id", "name") if key in found}
        if tag == "a" and "href" in found:
            self.targets.append(found["href"])
        elif tag in ("link", "script", "img"):
            self.fetched += [found[key] for key in ("href", "src") if key in found]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Links]:
    """Return each page of the site, in a folder of its own, with its links."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir"]
    done = subprocess.run(
        [*command, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    pages = {}
    for path in folder.rglob("*.html"):
        pages[path] = Links()
        pages[path].feed(path.read_text(encoding="utf-8"))
    return pages


def test_it_has_every_guide_and_every_public_name(site: dict[Path, Links]) -> None:
    names = {path.stem for path in site}
    assert {guide.stem for guide in (ROOT / "docs").glob("*.md")} - {"README"} <= names
    places = set().union(*(each.places for path, each in site.items() if path.parent.name == "api"))
    described = {place.rpartition(".")[2] for place in places}
    assert {*growmas.__all__} - {"__version__"} <= described


def test_its_links_lead_somewhere_and_nothing_is_fetched(site: dict[Path, Links]) -> None:
    assert sum(len(each.targets) for each in site.values()) > 1000
    for path, links in site.items():
        if path.name == "404.html":  # its links begin at the top of the site
            continue
        for target in (*links.targets, *links.fetched):
            if re.match(r"(https?|mailto|data):", target):
                assert target not in links.fetched, f"{path.name} fetches {target}"
                continue
            file, _, place = unquote(target).partition("#")
            there = (path.parent / file).resolve() if file else path
            assert there.exists(), f"{path.name} leads to {target}"
            if place and there in site and place != "__skip":
                assert place in site[there].places, f"{path.name} leads to {target}"
