"""Feed mutated files to every reader: only errors of growmas may come out.

python experiments/fuzz/study.py [--cases 2000]
"""

import argparse
import collections
import json
import random
import shutil
import tempfile
import traceback
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import growmas as gm
from growmas.checkpoint import read_state
from growmas.config import load_config
from growmas.errors import GrowmasError
from growmas.experiment import run_experiment
from growmas.runs import list_runs, read_result, read_trace
from growmas.runs.health import check_run
from growmas.terminal import log, topology

HERE = Path(__file__).parent
VALUES = [
    None, -1, 1e300, float("nan"), [], {}, "", "x", 10**30, True, [[1]], {"tensor": "x"}, 0, 0.5,
    {"dict": []}, {"list": []}, "\x1b[2J", "\ud800", -(2**63), [None],
]  # fmt: skip
TOKENS = [
    b"null", b"-1", b"1e400", b"NaN", b"[]", b"{}", b'""', b"\x00", b"\xff",
    b"99999999999999999999", b"[[", b"}}", b":", b",", b"\n", b"'", b"\"", b"\x1b[2J",
    b"\xed\xa0\x80", b"true", b"0",
]  # fmt: skip


def mutated(content: bytes, draw: random.Random) -> bytes:
    """Return some bytes with one to four mutations."""
    made = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(made) + 1)
        match draw.randrange(6):
            case 0 if made:
                made[at % len(made)] = draw.randrange(256)
            case 1:
                made[at:at] = draw.choice(TOKENS)
            case 2:
                del made[at : at + draw.randint(1, 40)]
            case 3:
                end = at + draw.randint(1, 60)
                made[at:at] = made[at:end]
            case 4:
                del made[at:]
            case _:
                end = at + draw.randint(1, 8)
                made[at:end] = draw.choice(TOKENS)
    return bytes(made)


def restructured(content: bytes, draw: random.Random) -> bytes:
    """Return a JSON text, or lines of it, with one value changed; else mutated bytes."""
    try:
        text = content.decode()
        lines = text.splitlines() if "\n{" in text else [text]
        at = draw.randrange(len(lines))
        head, found, body = lines[at].partition(', "dict": ')
        values = json.loads(body[:-1] if found else lines[at])
        places: list[tuple[Any, Any]] = []
        _collect(values, places)
        owner, key = draw.choice(places)
        if draw.random() < 0.3:
            del owner[key]
        else:
            owner[key] = draw.choice(VALUES)
        made = json.dumps(values)
        if found:
            crc = json.loads(f"{head}}}")["crc32"]
            made = head.replace(crc, f"{zlib.crc32(made.encode()):08x}") + found + made + "}"
        lines[at] = made
        return ("\n".join(lines) + "\n" * (len(lines) > 1)).encode()
    except (ValueError, IndexError, KeyError):
        return mutated(content, draw)


def _collect(value: Any, places: list[tuple[Any, Any]]) -> None:
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in keys:
        places.append((value, key))
        if isinstance(value[key], dict | list):
            _collect(value[key], places)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))


def readers(root: Path) -> dict[str, tuple[Path, Callable[[Path], object], float]]:
    """Return name -> the file to mutate, what reads it, and its share of the cases."""
    aware = load_config("digits_smoke", ["stream.tasks=2", "stream.limit=10", "training.epochs=1"])
    run_experiment(aware, root / "aware")
    overrides = ["stream.tasks=2", "stream.of=permuted", "stream.scenario=domain"]
    run_experiment(load_config("task_free_smoke", overrides), root / "free")
    x = torch.rand(4, 4)
    structure = gm.Structure(network(), x)
    structure.begin_task("a")
    structure.apply(gm.Plan(grow={"0": 2}))
    optimizer = torch.optim.Adam(structure.model.parameters())
    gm.save(root / "ckpt", structure=structure, mas=gm.MAS(structure.model), optimizer=optimizer)
    plan = gm.Plan(grow={"0": 2}, prune={"0": [1, 3]}, reason="x", cause={"a": 1})
    (root / "plan.json").write_text(plan.to_json())

    def load(path: Path) -> object:
        net = network()
        other = torch.optim.Adam(net.parameters())
        return gm.load(path.parent, model=net, example_inputs=x, optimizer=other)

    def apply(path: Path) -> object:
        plan = gm.Plan.from_json(path.read_text(errors="surrogateescape"))
        return gm.Structure(network(), x).apply(plan)

    def history(path: Path) -> None:
        with gm.TopologyHistory(path) as opened:
            topology.as_data(topology.summarise(opened))
            log.as_data(log.summarise(opened))
            opened.lineage()

    def run_state(path: Path) -> object:
        return read_state(path.parent)

    def run(path: Path) -> None:
        list_runs(path.parent.parent)
        check_run(path.parent)
        read_result(path.parent)

    def trace(path: Path) -> None:
        check_run(path.parent)
        read_trace(path.parent)

    return {
        "config": (root / "aware" / "config.yaml", load_config, 0.25),
        "metrics": (root / "aware" / "metrics.json", run, 0.25),
        "stream": (root / "free" / "stream.jsonl", trace, 0.15),
        "plan": (root / "plan.json", apply, 0.1),
        "state": (root / "ckpt" / "state.json", load, 0.1),
        "tensors": (root / "ckpt" / "tensors.safetensors", load, 0.05),
        "run state": (root / "aware" / "checkpoint" / "state.json", run_state, 0.05),
        "history": (root / "aware" / "history.db", history, 0.05),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    draw, table, found = random.Random(0), [], []
    with tempfile.TemporaryDirectory() as place:
        for name, (path, read, share) in readers(Path(place)).items():
            kept = path.read_bytes()
            read(path)
            outcomes: collections.Counter[str] = collections.Counter()
            for _ in range(max(1, round(share * given.cases))):
                change = mutated if draw.random() < 0.5 else restructured
                path.write_bytes(change(kept, draw))
                try:
                    read(path)
                    outcomes["read"] += 1
                except GrowmasError:
                    outcomes["refused"] += 1
                except Exception as error:
                    outcomes["wrong"] += 1
                    where = traceback.extract_tb(error.__traceback__)[-1]
                    found.append(f"{name}: {type(error).__name__}: {str(error)[:100]} {where[:3]}")
            path.write_bytes(kept)
            table.append({"file": name, **outcomes})
            print(json.dumps(table[-1]), flush=True)
    shutil.rmtree(place, ignore_errors=True)
    for line, times in collections.Counter(found).most_common(40):
        print(times, line)
    (HERE / "results.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
