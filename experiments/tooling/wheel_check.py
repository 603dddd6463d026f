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
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BESIDES = (
    ("--version",),
    ("configs",),
    ("log", "digits-smoke"),
    ("compare", "digits-smoke"),
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
    parser.add_argument("--constraint", type=Path, help="a file of versions")
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
            pinned = (
                ["--constraint", str(options.constraint.resolve())] if options.constraint else []
            )
            run(*install, *pinned, f"{wheel}[data]", folder=folder)
        where = run(python, "-c", "import growmas; print(growmas.__file__)", folder=folder)
        if not where.startswith(str(Path(folder, "env").resolve())):
            sys.exit(f"growmas was imported from {where.strip()}, not from the wheel")
        about = run(
            python,
            "-c",
            "from importlib.metadata import metadata; print(metadata('growmas')['Description'])",
            folder=folder,
        )
        if dead := re.findall(
            r"\]\((?!https?:)[^)]*\)", re.sub(r"```.*?```", "", about, flags=re.S)
        ):
            sys.exit(f"links that lead nowhere on a package index: {', '.join(dead)}")
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        example = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)[0]
        run(python, "-c", example, folder=folder)
        screen = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)[0]
        typed = [shlex.split(line, comments=True) for line in screen.splitlines()]
        commands = [words[1:] for words in typed if words[:1] == ["growmas"]]
        for command in (*commands, *BESIDES):
            run(python, "-m", "growmas", *command, folder=folder)
        torch = run(python, "-c", "import torch; print(torch.__version__)", folder=folder).strip()
        print(
            f"{wheel.name} with torch {torch}: the README's first screen ({len(commands)} commands "
            f"and an example) and {len(BESIDES)} other commands work"
        )


if __name__ == "__main__":
    main()
