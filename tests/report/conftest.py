import pytest

from report_run import Plan, PlantedRun, make_run


@pytest.fixture(scope="session")
def run_data(tmp_path_factory: pytest.TempPathFactory) -> PlantedRun:
    """Return a finished run without a report."""
    return make_run(tmp_path_factory.mktemp("report"), Plan())
