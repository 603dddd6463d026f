"""The imports of a process that is going to train."""

import gc
import subprocess
import sys

import torch  # noqa: F401 (in this process it is there)

from growmas.start_up import start_up


def _fresh(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_fresh_process_imports_without_collections_and_collects_again_afterwards() -> None:
    code = """
import gc
from growmas.start_up import start_up
assert gc.isenabled() and not gc.get_freeze_count()
before = sum(each["collections"] for each in gc.get_stats())
with start_up():
    inside = gc.isenabled()
    import torch
during = sum(each["collections"] for each in gc.get_stats()) - before
print(inside, during, gc.isenabled(), gc.get_freeze_count() > 100_000)
"""
    assert _fresh(code) == ["False", "0", "True", "True"]


def test_a_failed_import_turns_collections_on_again() -> None:
    code = """
import gc
from growmas.start_up import start_up
try:
    with start_up():
        raise ImportError
except ImportError:
    print(gc.isenabled())
"""
    assert _fresh(code) == ["True"]


def test_nothing_changes_where_torch_is_in_use() -> None:
    frozen = gc.get_freeze_count()
    with start_up():
        assert gc.isenabled()
    assert gc.get_freeze_count() == frozen


def test_collections_that_a_user_has_turned_off_stay_so() -> None:
    code = """
import gc
from growmas.start_up import start_up
gc.disable()
with start_up():
    pass
print(gc.isenabled(), gc.get_freeze_count())
"""
    assert _fresh(code) == ["False", "0"]


def test_the_command_line_starts_so() -> None:
    code = """
import gc, sys
from growmas.cli.program import main
sys.argv = ["growmas", "run", "no-such-config"]
try:
    main()
except SystemExit as end:
    print(end.code, gc.isenabled(), gc.get_freeze_count() > 100_000)
"""
    assert _fresh(code) == ["2", "True", "True"]
