"""Networks beyond the memory of a machine: one message before training starts."""

import pytest

from growmas.cli import main
from growmas.config import load_config
from growmas.errors import GrowmasError
from growmas.experiment import run_experiment


@pytest.mark.parametrize(
    "model",
    [
        "{kind: mlp, hidden: [10000000000]}",
        "{kind: convnet, channels: [100000000], hidden: [10]}",
        "{kind: resnet, channels: 100000, blocks: 1}",
        "{kind: vit, width: 100000, heads: 4, depth: 1000}",
    ],
)
def test_a_network_beyond_the_memory_is_refused(tmp_path, model):
    experiment = load_config("digits_smoke", [f"model={model}"])
    with pytest.raises(GrowmasError, match="give smaller widths in model"):
        run_experiment(experiment, tmp_path / "run")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate"),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    ],
)
def test_memory_that_runs_out_later_is_one_message(monkeypatch, capsys, error):
    def failing():
        raise error

    monkeypatch.setattr("growmas.cli.program.app", failing)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "memory ran out" in capsys.readouterr().err


def test_other_errors_of_torch_are_not_hidden(monkeypatch):
    def failing():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("growmas.cli.program.app", failing)
    with pytest.raises(RuntimeError, match="mat1"):
        main()
