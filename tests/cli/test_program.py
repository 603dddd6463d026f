"""The program itself: its version, its short help, its completion, and how it is started."""

import os
import re
import subprocess
import sys

import pytest

import growmas


def run(*arguments: str, **environment: str) -> str:
    command = [sys.executable, "-m", "growmas", *arguments]
    result = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return result.stdout


def test_it_runs_as_a_module_and_prints_its_version():
    assert run("--version") == f"growmas {growmas.__version__}\n"


@pytest.mark.parametrize("command", [[], ["show"], ["run"]])
def test_h_is_short_for_help(command):
    assert run(*command, "-h") == run(*command, "--help") != ""


def test_shells_complete_its_commands():
    typed = {"_GROWMAS_COMPLETE": "complete_bash"}
    code = "import sys; sys.argv[0] = 'growmas'; from growmas.cli import main; main()"
    words = {"COMP_WORDS": "growmas comp", "COMP_CWORD": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | typed | words,
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.findall(r"\w+", result.stdout) == ["compare"]
