"""The program itself: its version, its short help, its completion, and how it is started."""

import os
import re
import shlex
import subprocess
import sys

import pytest
import typer

import growmas
import growmas.cli.program
from growmas.cli.app import app
from growmas.cli.examples import EXAMPLES

COMMANDS = typer.main.get_command(app).commands


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


def test_every_command_has_examples():
    assert set(EXAMPLES) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_stand_below_the_help_as_they_are_typed(command):
    text = run(command, "--help", COLUMNS="80")
    assert text.endswith("\n  Examples:\n" + "".join(f"    {each}\n" for each in EXAMPLES[command]))
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("example", [each for every in EXAMPLES.values() for each in every])
def test_examples_are_commands_that_growmas_takes(example):
    typed = shlex.split(example.partition(" > ")[0])
    program, command, *arguments = typed
    assert program == "growmas"
    COMMANDS[command].make_context(command, arguments)


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
