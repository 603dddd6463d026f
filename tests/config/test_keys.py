"""The keys of a config, as printed, as a page, and as a JSON Schema."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from growmas.cli.app import app
from growmas.config.keys import Key, all_keys

PAGE = Path(__file__).parents[2] / "docs" / "keys.md"
HEAD = """# Keys of a config

Every key that a config may hold. `growmas keys [PREFIX]` prints this list in the terminal, and
`growmas keys --schema` a JSON Schema for editors. Kinds are those of the mapping that has the key.
"""

BAR = r"\|"


def page() -> str:
    """docs/keys.md as it should be."""
    lines = [HEAD, "| key | of kind | type | default | expected |", "|---|---|---|---|---|"]
    for key in all_keys():
        cells = (f"`{key.path}`", key.kind, ranged(key), f"`{key.default}`", key.meaning)
        lines.append("| " + " | ".join(cell.replace("|", BAR) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def ranged(key: Key) -> str:
    return f"{key.type}, {key.range}" if key.range else key.type


def test_the_page_is_up_to_date(request: pytest.FixtureRequest) -> None:
    """`pytest tests/config/test_keys.py --regenerate` writes it."""
    if request.config.getoption("--regenerate"):
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_key_has_a_meaning_and_promised_keys_are_there() -> None:
    paths = {key.path for key in all_keys()}
    assert all(key.meaning and key.type for key in all_keys())
    assert paths >= {
        *("seed", "stream.source.path", "stream.tasks", "stream.validation", "model.freeze"),
        *("model.hidden", "method.args", "method.grow.units", "training.learning_rate", "imports"),
    }
    rate = next(key for key in all_keys() if key.path == "training.learning_rate")
    assert (rate.type, rate.range, rate.default) == ("number", "> 0", "required")


def test_keys_are_printed_and_a_schema_too() -> None:
    found = CliRunner().invoke(app, ["keys", "training", "--json"])
    assert {key["path"] for key in json.loads(found.output)} >= {"training", "training.epochs"}
    schema = json.loads(CliRunner().invoke(app, ["keys", "--schema"]).output)
    assert schema["type"] == "object"
    assert "stream" in schema["required"]
