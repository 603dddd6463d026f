"""Tries surgery on networks that other people wrote, and writes what came of it.

python experiments/zoo/scan.py timm transformers others --limit 120     results.jsonl, line by line
python experiments/zoo/table.py                                         the table in README.md

Every model has a limit of CPU seconds. A line that is there already is not made again, so a scan
that was stopped goes on where it ended; a model that ended the process is written down as that.
"""

import argparse
import json
import re
import signal
import warnings
from pathlib import Path
from typing import Any

import catalogue
import torch
import trial

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"


class OverLimitError(BaseException):
    """The limit of CPU seconds; no error of the network, which a check would take for a refusal."""


def measured(library: str, name: str, limit: int, most: int) -> dict[str, Any]:
    """Try one model within a limit of CPU seconds."""

    def ended(number: int, frame: Any) -> None:
        raise OverLimitError(f"over {limit} CPU s")

    signal.signal(signal.SIGPROF, ended)
    signal.setitimer(signal.ITIMER_PROF, limit)
    try:
        torch.manual_seed(0)
        return trial.tried(*catalogue.example(library, name), most=most)
    except OverLimitError as error:
        return {"error": str(error)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:300]}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def lines() -> list[dict[str, Any]]:
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def write(library: str, name: str, found: dict[str, Any]) -> None:
    with RESULTS.open("a") as file:
        file.write(json.dumps({"library": library, "model": name, **found}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("libraries", nargs="*", default=["timm", "transformers", "others"])
    parser.add_argument("--limit", type=int, default=120, help="CPU seconds for each model")
    parser.add_argument(
        "--most", type=int, default=6, help="groups of each model to try one by one"
    )
    parser.add_argument("--models", nargs="*", help="only these")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for library in given.libraries:
        label = catalogue.label(library)
        running = HERE / f"running-{label}.txt"
        if running.exists():
            write(label, running.read_text(), {"error": "it ended the process"})
            running.unlink()
        before = {(line["library"], line["model"]) for line in lines()}
        for name in given.models or catalogue.names(library):
            if (label, name) in before:
                continue
            running.write_text(name)
            found = measured(library, name, given.limit, given.most)
            write(label, name, found)
            running.unlink()
            print(f"{name:40s} {summary(found)}", flush=True)


def summary(found: dict[str, Any]) -> str:
    if "error" in found:
        return re.sub(r"\s+", " ", found["error"])
    return (
        f"share {found['share']:.2f} (grows {found['grows']:.2f}), {found['heads']} heads, "
        f"{found['analysis_s']:.1f} CPU s, {len(found['failures'])} failures "
        f"{found['failures'][:2]}"
    )


if __name__ == "__main__":
    main()
