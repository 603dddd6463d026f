"""The page that says which method to choose quotes numbers that stand in the studies."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "choosing.md"

NUMBER = re.compile(r"(?<![\w.])\d*\.\d+")


def quotes() -> list[tuple[str, str]]:
    """Numbers with a point, each with the folder of the study that is linked after it."""
    found = []
    text = re.sub(r"\s+", " ", PAGE.read_text("utf-8").replace("\n- ", " \n"))
    for part in re.split(r"(?<=README\.md\))", text):
        link = re.search(r"experiments/(\w+)/README\.md\)$", part)
        if link:
            found += [(link[1], number) for number in NUMBER.findall(part)]
    return found


def test_many_numbers_are_quoted():
    assert len(quotes()) > 40


@pytest.mark.parametrize("study", sorted({study for study, _ in quotes()}))
def test_every_number_stands_in_its_study(study):
    text = (ROOT / "experiments" / study / "README.md").read_text("utf-8")
    known = {float(each) for each in NUMBER.findall(text)}
    missing = [n for of, n in quotes() if of == study and float(n) not in known]
    assert not missing
