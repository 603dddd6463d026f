from pathlib import Path

import pytest
from report_cases import write_history

from growmas.history import TopologyHistory
from growmas.report import RunFacts, read_facts


@pytest.fixture(scope="session")
def history_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_history(tmp_path_factory.mktemp("report") / "run.db")


@pytest.fixture(scope="session")
def facts(history_file: Path) -> RunFacts:
    with TopologyHistory(history_file) as history:
        return read_facts(history, "run & <one>")
