"""Writes the tables of README.md from results.jsonl and metapruner.jsonl."""

import json
import statistics
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
START = "<!-- made by table.py -->"


def table(lines: list[dict[str, Any]]) -> str:
    head = (
        "| library | models | not run | without a group | median share | share of "
        ".9 and more | that grows, median | with heads | wrong or refused | most CPU s |"
    )
    rows = [head, "|" + "---|" * 10]
    for library in sorted({line["library"] for line in lines}):
        mine = [line for line in lines if line["library"] == library]
        good = [line for line in mine if "error" not in line]
        if not good:
            continue
        wide = sum(line["share"] >= 0.9 for line in good)
        rows.append(
            f"| {library} | {len(mine)} | {len(mine) - len(good)} "
            f"| {sum(not line['groups'] for line in good)} "
            f"| {statistics.median(line['share'] for line in good):.3f} "
            f"| {wide} of {len(good)} "
            f"| {statistics.median(line['grows'] for line in good):.3f} "
            f"| {sum(line['heads'] > 0 for line in good)} "
            f"| {sum(len(line['failures']) for line in good)} of "
            f"{sum(line['tried'] for line in good)} groups "
            f"| {max(line['analysis_s'] for line in good)} |"
        )
    return "\n".join(rows)


def details(lines: list[dict[str, Any]]) -> str:
    rows = [
        "| library | model | share | that grows | heads | groups | CPU s | said |",
        "|" + "---|" * 8,
    ]
    for line in sorted(lines, key=lambda line: (line["library"], line["model"])):
        if "error" in line:
            said = line["error"].replace("|", "/")[:120]
            rows.append(f"| {line['library']} | {line['model']} | | | | | | {said} |")
            continue
        said = "; ".join(line["failures"]).replace("|", "/").replace("\n", " ")[:160]
        rows.append(
            f"| {line['library']} | {line['model']} | {line['share']:.2f} | {line['grows']:.2f} "
            f"| {line['heads']} | {line['groups']} | {line['analysis_s']} | {said} |"
        )
    return "\n".join(rows)


def beside(lines: list[dict[str, Any]]) -> str:
    """Return the table of halved networks, a row for each network and tool."""
    rows = [
        "| network | tool | parameters left | compared | largest difference | only run | refused "
        "| modes kept | requires_grad kept | said |",
        "|" + "---|" * 10,
    ]
    for line in lines:
        said = "; ".join(f"{way}: {why}" for way, why in line["failed"].items())
        said = said.replace("|", "/").replace("\n", " ")[:150]
        start = f"| {line['model']} | {line['tool']} "
        if "left" not in line:
            rows.append(f"{start}| failed | | | | | | | {said} |")
            continue
        kept = ["yes" if line[each] else "no" for each in ("modes", "requires_grad")]
        rows.append(
            f"{start}| {line['left']:.0%} | {line['compared']} | {line['worst']:.1g} "
            f"| {line['only run']} | {line['refused']} | {kept[0]} | {kept[1]} | {said} |"
        )
    return "\n".join(rows)


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / name).read_text().splitlines()]


def main() -> None:
    lines = read("results.jsonl")
    readme = HERE / "README.md"
    by_hand = readme.read_text().split(START)[0]
    parts = (table(lines), beside(read("metapruner.jsonl")), details(lines))
    readme.write_text(f"{by_hand}{START}\n\n" + "\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
