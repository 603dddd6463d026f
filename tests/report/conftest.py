from pathlib import Path

import pytest
from report_cases import write_history

from growmas.history import TopologyHistory
from growmas.report import RunSummary, read_summary


@pytest.fixture(scope="session")
def history_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_history(tmp_path_factory.mktemp("report") / "run.db")


@pytest.fixture(scope="session")
def facts(history_file: Path) -> RunSummary:
    with TopologyHistory(history_file) as history:
        return read_summary(history, "run & <one>")
