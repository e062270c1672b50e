from collections.abc import Iterator
from typing import Any

import pytest

from report_run import Plan, PlantedRun
from view_page import Visitor, find_browser, make_viewable_run
from viewing import Visit, make_viewed_run, open_planted, visit


@pytest.fixture(scope="session")
def viewed_run(tmp_path_factory: pytest.TempPathFactory) -> PlantedRun:
    """Make a run with hostile names; tests must not change it."""
    return make_viewed_run(tmp_path_factory.mktemp("viewed"), Plan(hostile=True, size=64))


@pytest.fixture(scope="session")
def running_viewer(viewed_run: PlantedRun) -> Iterator[Visit]:
    """Serve `viewed_run`; tests must not change it."""
    with visit(open_planted(viewed_run)) as viewer:
        yield viewer


@pytest.fixture(scope="session")
def page_run(tmp_path_factory: pytest.TempPathFactory) -> PlantedRun:
    find_browser()
    return make_viewable_run(tmp_path_factory.mktemp("view"))


@pytest.fixture(scope="session")
def page_address(page_run: PlantedRun) -> Iterator[str]:
    with visit(open_planted(page_run)) as viewer:
        yield f"{viewer.base}/?token={viewer.token}"


@pytest.fixture(scope="session")
def pair_address(page_run: PlantedRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve `page_run` and a second run that lacks half of its wells; return the address."""
    plan = Plan(bits=16, plates=1, explained=12, cell_types=("HUVEC",), hostile=True)
    second = make_viewed_run(tmp_path_factory.mktemp("second"), plan)
    with visit(open_planted(page_run), open_planted(second)) as viewer:
        yield f"{viewer.base}/?token={viewer.token}"


@pytest.fixture
def visitor(browser: Any, page_address: str) -> Iterator[Visitor]:
    context = browser.new_context(viewport={"width": 1400, "height": 900}, accept_downloads=True)
    visitor = Visitor(context.new_page(), page_address)
    yield visitor
    context.close()
    assert visitor.complaints == []
