"""What pyproject.toml promises is what `make test-lowest` installs."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
INSTALLED = ("data", "dev")  # extras, by the Makefile
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def release(version: str) -> tuple[int, ...]:
    """Return the numbers of a version without trailing zeros: 6.0 is 6."""
    numbers = [int(number) for number in version.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def test_every_promised_minimum_is_the_version_that_is_tested() -> None:
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.partition("#")[0].strip().split("==") for line in lines if "==" in line)
    tested = {name.lower(): release(version) for name, version in pins.items()}
    extras = PROJECT["optional-dependencies"]
    promised = [*PROJECT["dependencies"], *(each for extra in INSTALLED for each in extras[extra])]
    minima = dict(
        re.match(r"([\w.-]+)>=([\d.]+)", each).groups() for each in promised if ">=" in each
    )
    assert minima.keys() >= {"torch", "numpy", "rich", "pytest", "scikit-learn"}
    assert {name: release(version) for name, version in minima.items()} == {
        name: tested.get(name.lower()) for name in minima
    }
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"--constraint constraints-lowest.txt --editable '.[{','.join(INSTALLED)}]'" in makefile
