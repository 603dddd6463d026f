"""Tests of the README: its Python examples run as printed, its commands and links exist."""

import re
from pathlib import Path

import torch

import growmas as gm

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_examples_of_the_readme_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict[str, object] = {}
    for example in examples:  # each continues where the previous one ended
        exec(compile(example, "README.md", "exec"), names)
    structure, history = names["structure"], names["history"]
    assert structure.tasks == ("odd", "even")
    assert history.widths()["0"] == {"odd": 32, "even": 42}  # 8 for a task, 4 and −2 by a plan
    assert [event.kind for event in names["events"] if event] == ["plateau", "peak"]
    with structure.view("odd"):
        assert torch.isfinite(structure.model(torch.rand(2, 8))).all()
    assert names["context"].tasks == structure.tasks
    assert names["answers"].tasks[-1] == gm.UNKNOWN
    assert names["answers"].logits.shape == (6, 2)


def test_the_commands_of_the_readme_exist():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    commands = (Path(gm.__file__).parent / "cli").glob("*_commands.py")
    app = "\n".join(path.read_text(encoding="utf-8") for path in commands)
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert f"\n{target}:" in makefile
    shell = "".join(re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL))
    for command in re.findall(r"^growmas (\w+)", shell, flags=re.MULTILINE):
        assert f"def {command}(" in app or f'command("{command}")' in app, command
    for config in re.findall(r"configs/[\w.]+\.yaml", README):
        assert (Path(__file__).parents[1] / config).is_file(), config
    for link in re.findall(r"\]\((?!http|#)([^)]+)\)", README):
        assert (Path(__file__).parents[1] / link).exists(), link
