import signal
from collections.abc import Set
from pathlib import Path

import pytest

collect_ignore = ["misuse_of_types.py"]  # for mypy alone
collect_ignore_glob = ["*/conftest.py"]  # no doctests there, and their names are not their own

ROOT = Path(__file__).parents[1]
BEFORE = pytest.StashKey[Set[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate", action="store_true", help="write the golden files anew instead of comparing"
    )


def top_level() -> Set[str]:
    """Return the names at the top of the repository, without those of tools (.venv, caches)."""
    return {path.name for path in ROOT.iterdir() if not path.name.startswith((".", "__pycache__"))}


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let signals arrive as in a terminal: a shell's `nohup` and `&` have them ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    session.config.stash[BEFORE] = top_level()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the whole run if a test left a file in the repository: tests write into tmp_path."""
    left = sorted(top_level() - session.config.stash[BEFORE])
    if left and not hasattr(session.config, "workerinput"):  # once, after xdist's workers are done
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            words = f"tests left in {ROOT}: {', '.join(left)}; they must write into tmp_path"
            reporter.write_line(f"\nERROR: {words}", red=True)
