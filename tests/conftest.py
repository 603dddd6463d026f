import pytest

collect_ignore = ["misuse_of_types.py"]  # for mypy alone
collect_ignore_glob = ["*/conftest.py"]  # no doctests there, and their names are not their own


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate", action="store_true", help="write the golden files anew instead of comparing"
    )
