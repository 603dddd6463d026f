"""Build the wheel, install it into an empty environment, and run the README's first screen there.

The environment may borrow dependencies: with `--borrow`, packages that this Python has are used as
they are, and only the wheel itself is installed. Without it, pip installs them from the index, at
the versions of `--constraint` if one is given.
"""

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    ("--version",),
    ("configs",),
    ("run", "digits_smoke", "stream.limit=20", "training.epochs=1"),
    ("show", "digits-smoke"),
    ("log", "digits-smoke"),
    ("report", "digits-smoke"),
)


def run(*command: str, folder: str, **environment: str) -> str:
    """Run a command away from the repository; print its output if it fails."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        command, cwd=folder, env={**kept, **environment}, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--borrow", action="store_true", help="use this Python's packages")
    parser.add_argument("--constraint", help="a file of versions")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"),
            *("--wheel-dir", folder, str(ROOT)),
            folder=folder,
        )
        (wheel,) = Path(folder).glob("growmas-*.whl")
        venv.create(Path(folder, "env"), with_pip=True)
        python = str(Path(folder, "env", "bin", "python"))
        install = [python, "-m", "pip", "install", "--quiet"]
        if options.borrow:
            run(*install, "--no-deps", str(wheel), folder=folder)
            site = run(
                python,
                "-c",
                "import sysconfig; print(sysconfig.get_path('purelib'))",
                folder=folder,
            )
            Path(site.strip(), "borrowed.pth").write_text(sysconfig.get_path("purelib"))
        else:
            pinned = ["--constraint", options.constraint] if options.constraint else []
            run(*install, *pinned, f"{wheel}[data]", folder=folder)
        where = run(python, "-c", "import growmas; print(growmas.__file__)", folder=folder)
        if not where.startswith(str(Path(folder, "env").resolve())):
            sys.exit(f"growmas was imported from {where.strip()}, not from the wheel")
        (first, *_) = re.findall(
            r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
        )
        run(python, "-c", first, folder=folder)
        for command in COMMANDS:
            run(python, "-m", "growmas", *command, folder=folder)
        print(f"{wheel.name}: the README's first example and {len(COMMANDS)} commands work")


if __name__ == "__main__":
    main()
