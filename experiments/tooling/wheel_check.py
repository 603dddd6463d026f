"""Build the wheel, install it into an empty environment, and run the README's first screen there.

The first screen is the README's first block of commands, without pip's, and its first example.

The environment may borrow dependencies: with `--borrow`, packages that this Python has are used as
they are, and only the wheel itself is installed. Without it, pip installs them from the index, at
the versions of `--constraint` if one is given.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BESIDES = (
    ("--version",),
    ("configs",),
    ("log", "digits-smoke"),
    ("compare", "digits-smoke"),
    ("report", "digits-smoke"),
)


@dataclass(frozen=True)
class Place:
    """A folder away from the repository, with an empty environment in it."""

    folder: Path

    @property
    def python(self) -> str:
        """The Python of the environment."""
        return str(self.folder / "env" / "bin" / "python")

    def run(self, *command: str) -> str:
        """Return what a command prints; end with its output if it fails."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        done = subprocess.run(command, cwd=self.folder, env=kept, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{shlex.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout

    def code(self, code: str) -> str:
        """Return what Python code prints in the environment."""
        return self.run(self.python, "-c", code).strip()

    def growmas(self, *words: str) -> str:
        """Return what a command of growmas prints in the environment."""
        return self.run(self.python, "-m", "growmas", *words)


def build(place: Place) -> Path:
    """Build the wheel of the working tree."""
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps")
    place.run(*pip, "--wheel-dir", str(place.folder), str(ROOT))
    (wheel,) = place.folder.glob("growmas-*.whl")
    return wheel


def install(place: Place, wheel: Path, *, borrow: bool, constraint: Path | None) -> None:
    """Make the environment, and install the wheel into it."""
    venv.create(place.folder / "env", with_pip=True)
    pip = (place.python, "-m", "pip", "install", "--quiet")
    if borrow:
        place.run(*pip, "--no-deps", str(wheel))
        site = place.code("import sysconfig; print(sysconfig.get_path('purelib'))")
        Path(site, "borrowed.pth").write_text(sysconfig.get_path("purelib"))
        return
    pinned = ("--constraint", str(constraint.resolve())) if constraint else ()
    place.run(*pip, *pinned, f"{wheel}[data]")


def check_origin(place: Place) -> None:
    """Check that growmas is imported from the wheel."""
    where = place.code("import growmas; print(growmas.__file__)")
    if not where.startswith(str((place.folder / "env").resolve())):
        sys.exit(f"growmas was imported from {where}, not from the wheel")


def check_description(place: Place) -> None:
    """Check that every link of the description leads somewhere on a package index."""
    about = place.code(
        "from importlib.metadata import metadata; print(metadata('growmas')['Description'])"
    )
    prose = re.sub(r"```.*?```", "", about, flags=re.DOTALL)
    if dead := re.findall(r"\]\((?!https?:)[^)]*\)", prose):
        sys.exit(f"links that lead nowhere on a package index: {', '.join(dead)}")


def try_first_screen(place: Place) -> int:
    """Run the README's first example and first commands; return the number of commands."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    example, screen = (
        re.findall(rf"```{kind}\n(.*?)```", readme, re.DOTALL)[0] for kind in ("python", "sh")
    )
    place.code(example)
    typed = [shlex.split(line, comments=True) for line in screen.splitlines()]
    commands = [words[1:] for words in typed if words[:1] == ["growmas"]]
    for words in commands:
        place.growmas(*words)
    return len(commands)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--borrow", action="store_true", help="use this Python's packages")
    parser.add_argument("--constraint", type=Path, help="a file of versions")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        wheel = build(place)
        install(place, wheel, borrow=options.borrow, constraint=options.constraint)
        check_origin(place)
        check_description(place)
        tried = try_first_screen(place)
        for words in BESIDES:
            place.growmas(*words)
        torch = place.code("import torch; print(torch.__version__)")
    print(
        f"{wheel.name} with torch {torch}: the README's first screen ({tried} commands and an "
        f"example) and {len(BESIDES)} other commands work"
    )


if __name__ == "__main__":
    main()
