"""The page in a real browser; skipped where there is none."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from parsing import parse

from growmas.report import RunSummary, write_report

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=3000",
    "--enable-logging=stderr",
]

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium")

# What a reader does: point at marks, filter the events, change the theme.
_READER = """
<script>
addEventListener("load", () => {
  const at = (mark, x, y) => {
    const box = mark.getBoundingClientRect();
    mark.dispatchEvent(new PointerEvent("pointermove", {bubbles: true,
      clientX: box.left + x * box.width, clientY: box.top + y * box.height}));
    return document.getElementById("tip").textContent;
  };
  const said = [];
  for (const [key, y] of [["widths", 0.3], ["accuracy", 0.3], ["importance", 0.3], ["units", 0.02]])
    said.push(at(document.querySelector(`#${key}-0 [data-grid]`), 0.3, y));
  said.push("guides " + document.querySelectorAll(".guide").length);
  const filter = document.querySelector(".filter"), words = filter.querySelector("input");
  words.value = "pruned below";
  filter.dispatchEvent(new Event("input"));
  said.push("events " + filter.querySelector("output").textContent);
  document.getElementById("theme").click();
  document.getElementById("theme").click();
  said.push("theme " + document.documentElement.dataset.theme);
  said.push("paper " + getComputedStyle(document.querySelector("figure")).backgroundColor);
  console.log("SAID " + said.join(" | ").replaceAll("\\n", " / "));
});
</script>
"""


def browse(page: Path, profile: Path, *arguments: str) -> str:
    done = subprocess.run(
        [str(BROWSER), *FLAGS, f"--user-data-dir={profile}", *arguments, page.as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_the_page_works_without_an_error(facts: RunSummary, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    write_report([facts, facts], page)
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("</body>", f"{_READER}</body>"), encoding="utf-8")
    log = browse(page, tmp_path / "profile", "--dump-dom")
    said = re.search(r"SAID (.*?)\", source", log)
    assert said is not None, log[-2000:]
    widths, accuracy, importance, units, guides, events, theme, paper = said[1].split(" | ")
    assert widths.startswith("all units · digits 2/3 / 56 before, +6 born, −6 pruned")
    assert accuracy.startswith("95.0% on digits 2/3 / after learning digits 2/3")
    assert importance.startswith("fc0 · digits 2/3 / mean importance")
    assert re.match(r"fc0 #\d+ / 1 alive after digits 2/3 / importance", units)
    assert int(guides.split()[1]) > 3
    assert events == "events 3 of 7"
    assert theme == "theme dark"
    assert paper == "paper rgb(25, 28, 32)"
    errors = [line for line in log.splitlines() if "CONSOLE" in line and "SAID" not in line]
    assert not errors


def test_the_picture_of_the_page_is_not_empty(facts: RunSummary, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    write_report([facts], tmp_path / "page.html")
    picture = tmp_path / "page.png"
    shape = ("--window-size=1200,3000", f"--screenshot={picture}")
    browse(tmp_path / "page.html", tmp_path / "profile", *shape)
    with image.open(picture) as shot:
        colours = shot.convert("RGB").getcolors(maxcolors=1_000_000)
    assert len(colours) > 200
    assert parse((tmp_path / "page.html").read_text(encoding="utf-8")).all("svg")
