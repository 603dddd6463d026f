"""Draw docs/gallery/*.svg: topology histories of two small runs, as the commands draw them."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GALLERY = ROOT / "docs" / "gallery"
GROWN, FREE = "digits-smoke", "task-free-smoke"
VIEWS = {
    "show": ["show", GROWN],
    "lifelines": ["lifelines", GROWN, "--group", "fc1"],
    "log": ["log", GROWN, "-n", "6"],
    "graph": ["graph", GROWN],
    "importance": ["importance", GROWN],
    "survival": ["survival", GROWN, "--group", "fc1"],
    "shifts": ["shifts", FREE],
}
FIGURES = ("widths", "lineage", "units", "training")


def growmas(*arguments: str, folder: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "growmas", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env=environment)


def main() -> None:
    GALLERY.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        growmas("run", "digits_smoke", folder=folder)
        growmas("run", "task_free_smoke", folder=folder)
        for name, arguments in VIEWS.items():
            growmas(*arguments, "--svg", str(GALLERY / f"{name}.svg"), folder=folder)
        growmas("report", GROWN, "--figures", "figures", folder=folder)
        for name in FIGURES:
            picture = Path(folder, "figures", f"{name}.svg").read_text(encoding="utf-8")
            (GALLERY / f"figure-{name}.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
