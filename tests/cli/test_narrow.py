"""Lists of configs and keys in narrow terminals: nothing is cut, and no word is broken."""

import re

import pytest
from typer.testing import CliRunner

from growmas.cli.app import app
from growmas.cli.program import main  # noqa: F401 (registers the commands)
from growmas.config import bundled_configs
from growmas.config.keys import all_keys


def listed(*command: str, width: int) -> str:
    found = CliRunner().invoke(app, [*command, "--width", str(width)])
    assert found.exit_code == 0, (found.output, found.exception)
    lines = found.output.splitlines()
    assert max(map(len, lines)) <= width
    return found.output


def words(text: str) -> set[str]:
    """Return the words of a text, which lines may break at blanks, slashes and commas."""
    return set(re.findall(r"[^\s,/]+", text))


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
def test_configs_are_readable(width: int) -> None:
    shown = words(listed("configs", width=width))
    for config in bundled_configs():
        assert words(f"{config.name} {config.run_time}") <= shown
        assert not width < 60 or words(config.shows) <= shown


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
def test_keys_are_readable(width: int) -> None:
    shown = words(listed("keys", "stream", width=width))
    for key in all_keys("stream"):
        assert words(f"{key.path} {key.type}") <= shown
