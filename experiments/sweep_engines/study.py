"""One sweep of 24 small runs on every engine: the same numbers, also if it is killed twice.

    python experiments/sweep_engines/study.py [ENGINE ...]

Engines: local, ray, slurm (submitit's executor of this machine), slurm-8 (eight runs to a job).
Results are added to results.json, an engine at a time; one that is there is not measured again.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
GRID = [
    "method={kind: mas, strength: 1},{kind: finetune}",
    "training.learning_rate=0.001,0.003,0.01",
    "seed=1..4",
    "stream.tasks=5",
    "training.epochs=2",
]
ENGINES = {
    "local": [],
    "ray": ["--engine", "ray"],
    "slurm": ["--engine", "slurm", "-E", "cluster=local"],
    "slurm-8": ["--engine", "slurm", "-E", "cluster=local", "-E", "runs_per_job=8"],
}
RUNS, KILLS, JOBS = 24, (8, 16), 2
NUMBERS = ("accuracy", "parameters", "units", "stream_digest", "tasks", "memory_size", "flops")
MARK = "GROWMAS_STUDY"


def main() -> None:
    wanted = sys.argv[1:] or list(ENGINES)
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in wanted:
        if name in found:
            continue
        with tempfile.TemporaryDirectory(prefix="growmas-sweep-") as place:
            through = measure(name, Path(place) / "through", kills=())
            killed = measure(name, Path(place) / "killed", kills=KILLS)
        print(name, {key: value for key, value in through.items() if key != "numbers"})
        found[name] = {"through": through, "killed": killed}
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    report(found)


def measure(name: str, folder: Path, *, kills: tuple[int, ...]) -> dict:
    """Run the sweep, killed by SIGKILL at some numbers of finished runs; return what it gave."""
    begun, cpu = time.time(), {}
    kept: dict[str, str] = {}
    repeated = 0
    for stop_at in (*kills, None):
        process = start(name, folder)
        while process.poll() is None:
            follow(cpu)
            if stop_at is not None and len(finished(folder)) >= stop_at:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                break
            time.sleep(0.1)
        if stop_at is None and process.returncode:
            raise SystemExit(f"{name}: exit code {process.returncode}")
        ids = finished(folder)
        repeated += sum(ids[run] != before for run, before in kept.items())
        kept = ids
    return {
        "finished": len(kept),
        "run twice": repeated,
        "seconds": round(time.time() - begun, 1),
        "cpu_seconds": round(sum(cpu.values()), 1),
        "cpu_seconds_a_run": round(sum(cpu.values()) / RUNS, 2),
        "numbers": numbers(folder),
    }


def start(name: str, folder: Path) -> subprocess.Popen:
    command = [
        sys.executable, "-m", "growmas", "sweep", "digits_smoke", *GRID, "--jobs", str(JOBS),
        "--out", str(folder), *ENGINES[name],
    ]  # fmt: skip
    environment = {
        **os.environ, MARK: str(folder), "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"
    }  # fmt: skip
    with (folder.parent / "output.txt").open("a") as output:
        return subprocess.Popen(command, env=environment, stdout=output, stderr=output)


def finished(folder: Path) -> dict[str, str]:
    """Return run -> id of those that are finished."""
    found = {}
    for path in folder.glob("*/metrics.json"):
        metrics = json.loads(path.read_text())
        if metrics["status"] == "finished":
            found[path.parent.name] = metrics["run_id"]
    return found


def numbers(folder: Path) -> dict[str, str]:
    """Return, for every run, a hash of what must not depend on the engine."""
    return {
        path.parent.name: digest({key: json.loads(path.read_text())[key] for key in NUMBERS})
        for path in sorted(folder.glob("*/metrics.json"))
    }


def digest(values: dict) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def follow(cpu: dict[tuple[str, str], float]) -> None:
    """Note the CPU seconds of every process of the sweep, by its id and the time of its start."""
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if f"{MARK}=".encode() not in (process / "environ").read_bytes():
                continue
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        cpu[process.name, fields[19]] = used


def report(found: dict) -> None:
    """Print the table, and say whether all numbers are the same."""
    reference = next(iter(found.values()))["through"]["numbers"]
    print("| engine | CPU s a run | killed twice: CPU s a run | numbers | runs repeated |")
    print("|---|---|---|---|---|")
    for name, each in found.items():
        same = all(each[way]["numbers"] == reference for way in ("through", "killed"))
        cpu = [each[way]["cpu_seconds_a_run"] for way in ("through", "killed")]
        again = each["killed"]["run twice"]
        print(f"| {name} | {cpu[0]} | {cpu[1]} | {'same' if same else 'DIFFER'} | {again} |")


if __name__ == "__main__":
    if not Path("/proc").is_dir():
        raise SystemExit("this study needs /proc")
    main()
