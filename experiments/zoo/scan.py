"""Tries surgery on networks that other people wrote, and writes what came of it.

python experiments/zoo/scan.py timm --limit 60 --jobs 2          one line of results.jsonl for each
python experiments/zoo/scan.py transformers others
python experiments/zoo/table.py                                  the table in README.md

Every model is tried in a process of its own with a limit of CPU seconds. A line that is there
already is not made again, so a scan that was stopped goes on where it ended.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import catalogue

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"


def measured(library: str, name: str, most: int = 8) -> dict[str, Any]:
    """Analyse one model, try its groups, and return what came of it."""
    import torch
    import trial

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, inputs, others = catalogue.example(library, name)
    return trial.tried(model, inputs, others, most)


def in_process(library: str, name: str, limit: int) -> dict[str, Any]:
    """Run `measured` in a process of its own that is ended after `limit` CPU seconds."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))

    command = [sys.executable, __file__, "--one", library, name]
    done = subprocess.run(
        command, capture_output=True, text=True, preexec_fn=limited, check=False, cwd=HERE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if lines:
        return json.loads(lines[-1])
    over = done.returncode in (-24, -9)
    said = f"over {limit} CPU s" if over else (done.stderr.strip().splitlines() or ["died"])[-1]
    return {"error": said[:300]}


def done_before() -> set[tuple[str, str]]:
    if not RESULTS.exists():
        return set()
    lines = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    return {(line["library"], line["model"]) for line in lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("libraries", nargs="*", default=["timm", "transformers", "others"])
    parser.add_argument("--one", nargs=2, metavar=("LIBRARY", "MODEL"))
    parser.add_argument("--models", nargs="*", help="only these")
    parser.add_argument("--limit", type=int, default=120, help="CPU seconds for each model")
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(*given.one)))
        return
    before = done_before()
    wanted = [
        (library, name)
        for library in given.libraries
        for name in catalogue.names(library)
        if (library, name) not in before and (not given.models or name in given.models)
    ]

    def run(pair: tuple[str, str]) -> None:
        start = time.perf_counter()
        found = in_process(*pair, given.limit)
        line = {"library": pair[0], "model": pair[1], **found}
        with RESULTS.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{pair[1]:40s} {time.perf_counter() - start:6.1f} s  {summary(found)}", flush=True)

    with ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(run, wanted))


def summary(found: dict[str, Any]) -> str:
    if "error" in found:
        return found["error"]
    return (
        f"share {found['share']:.2f} (grows {found['grows']:.2f}), {found['heads']} heads, "
        f"{found['analysis_s']:.1f} CPU s, {len(found['failures'])} failures {found['failures'][:2]}"
    )


if __name__ == "__main__":
    main()
