"""The README's block of commands, from top to bottom, as a person types it, on small data."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from growmas.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALLER = {
    ("run", "configs/mnist5k_permuted_growmas.yaml"): [
        *("stream.source=digits", "stream.tasks=2", "stream.limit=30"),
        *("model.hidden=[72, 8]", "training.epochs=1"),
    ],
    ("sweep", "mnist5k_split_mas"): ["--dry-run"],
    ("sweep", "baselines"): ["--dry-run"],
}
"""What is added to commands that take long."""
REFUSED = {"watch": "needs a terminal"}
CONFIG = """\
name: small
stream: {kind: split, source: digits, tasks: 2, limit: 20, scenario: task}
model: {kind: mlp, hidden: [8]}
method: {kind: %s}
training: {epochs: 1, batch_size: 16, learning_rate: 0.01}
device: cpu
threads: 1
"""
MODEL = """\
import torch
class Net(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
"""


def commands() -> list[list[str]]:
    """Return the arguments of each `growmas` line of the README."""
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    split = [shlex.split(line, comments=True) for line in lines if line.startswith("growmas ")]
    return [words[1:] for words in split]


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the configs of a clone, and the files that the commands name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "config.yaml").write_text(CONFIG % "mas")
    (tmp_path / "mymodel.py").write_text(MODEL)
    images = np.random.default_rng(0).random((64, 8), dtype=np.float32)
    np.savez(tmp_path / "images.npz", x=images, y=np.arange(64) % 3)
    return tmp_path


def test_the_commands_run_from_top_to_bottom(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def growmas(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["growmas", *words])
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        return int(end.value.code or 0), printed.out + printed.err

    for method in ("mas", "growmas"):  # what `make demo` leaves
        (clone / "demo.yaml").write_text(CONFIG % method)
        code, text = growmas("run", "demo.yaml", "--out", f"runs/demo/{method}")
        assert code == 0, text
        assert ("ACC = mean over" in text) is (method == "mas")  # explained below the first run
    (clone / "run.db").write_bytes((clone / "runs/demo/growmas/history.db").read_bytes())
    for words in commands():
        words = [word.replace("pt2", "safetensors") for word in words]  # exports have own tests
        code, text = growmas(*words, *SMALLER.get(tuple(words[:2]), []))
        assert code == (2 if words[0] in REFUSED else 0), f"growmas {shlex.join(words)}\n{text}"
        assert REFUSED.get(words[0], "") in text
    assert (clone / "slim.safetensors").stat().st_size > 0
