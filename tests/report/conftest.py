import pytest

from report_run import Made, Plan, make_run


@pytest.fixture(scope="session")
def run_data(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A whole run with a report-to-be."""
    return make_run(tmp_path_factory.mktemp("report"), Plan())
