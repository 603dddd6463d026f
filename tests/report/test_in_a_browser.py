"""The page in a real browser; skipped where there is none."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from parsing import parse
from report_cases import NAMES
from study_cases import write_study

from growmas.report import RunSummary, read_study, write_report
from growmas.runs.curves import CurvePoint
from growmas.sweep.collecting import collect_runs

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


# What fits: the page into the window, figures into their boxes, and their texts into the figures.
_FITS = """
<script>
addEventListener("load", () => {
  const root = document.documentElement, wrong = [], kinds = new Set();
  if (root.scrollWidth > innerWidth) wrong.push("page " + root.scrollWidth);
  let texts = 0, least = 99;
  document.querySelectorAll(".plot svg").forEach((svg) => {
    const box = svg.getBoundingClientRect(), plot = svg.closest(".plot");
    if (!box.width) return;
    kinds.add(svg.parentElement.className);
    if (plot.scrollWidth > plot.clientWidth) wrong.push("plot of " + svg.id);
    svg.querySelectorAll("text").forEach((text) => {
      const at = text.getBoundingClientRect();
      texts += 1;
      const size = parseFloat(getComputedStyle(text).fontSize);
      least = Math.min(least, size * box.width / svg.viewBox.baseVal.width);
      if (at.left < box.left - 1 || at.right > box.right + 1)
        wrong.push(`${svg.id}: ${text.textContent}`);
    });
  });
  const said = [innerWidth, [...kinds], texts > 10, least.toFixed(1), wrong.join("; ")];
  console.log("SAID " + said.join(" | "));
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


@pytest.mark.parametrize(
    ("window", "kind", "least"), [(500, "narrow", 8.5), (700, "narrow", 8.5), (1200, "wide", 9.5)]
)
@pytest.mark.parametrize("what", ["run", "runs", "study"])
def test_figures_fit_into_every_window(
    what: str, window: int, kind: str, least: float, facts: RunSummary, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    if what == "study":
        pytest.importorskip("scipy")
        write_study(tmp_path / "runs")
        write_report(read_study(collect_runs(["s"], tmp_path / "runs"), "s"), page)
    else:
        points = tuple(
            CurvePoint(i // 5, NAMES[i // 5], i % 5 + 1, 900 * i, loss=1 / (1 + i), penalty=0.1 * i)
            for i in range(20)
        )
        one = replace(facts, curves=points)
        other = replace(facts, name="a/rather-long-name-of-a-run,seed=12,method.strength=0.001")
        write_report([one] if what == "run" else [one, other, other], page)
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("</body>", f"{_FITS}</body>"), encoding="utf-8")
    log = browse(page, tmp_path / "profile", "--dump-dom", f"--window-size={window},900")
    said = re.search(r"SAID (.*?)\", source", log)
    assert said is not None, log[-2000:]
    inner, kinds, many, size, wrong = said[1].split(" | ")
    assert (int(inner), kinds, many, wrong) == (window, kind, "true", "")
    assert float(size) >= least  # pixels of the smallest text
