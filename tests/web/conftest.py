from collections.abc import Iterator

import pytest

from report_run import Made, Plan
from viewing import Visit, make_viewed_run, open_made, visit


@pytest.fixture(scope="session")
def viewed(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A run with hostile names; read only."""
    return make_viewed_run(tmp_path_factory.mktemp("viewed"), Plan(hostile=True, size=64))


@pytest.fixture(scope="session")
def visited(viewed: Made) -> Iterator[Visit]:
    """Its viewer; `viewed` must not be changed."""
    with visit(open_made(viewed)) as running:
        yield running
