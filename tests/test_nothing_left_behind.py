"""The guard of tests/conftest.py: no test leaves a file in the repository."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WRITES = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("i", range(2))
def test_writes(i, tmp_path):
    (FOLDER / f"left-{i}.csv").write_text("")
"""


def guarded(tmp_path: Path, folder: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a test that writes into a folder, in a repository outside git with our conftest.py."""
    tests = tmp_path / "repository" / "tests"
    tests.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("conftest.py"), tests)
    (tests / "test_one.py").write_text(WRITES.replace("FOLDER", folder))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    return subprocess.run(
        command, cwd=tests.parent, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_file_left_at_the_top_fails_the_run(tmp_path: Path, workers: str) -> None:
    done = guarded(tmp_path, "Path()", "-n", workers)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("left-0.csv, left-1.csv; they must write into tmp_path") == 1
    assert done.returncode == 1


def test_files_elsewhere_do_not(tmp_path: Path) -> None:
    done = guarded(tmp_path, "tmp_path", "-n", "0")
    assert done.returncode == 0, done.stdout + done.stderr
