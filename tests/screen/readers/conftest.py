"""Fixtures of the readers."""

from pathlib import Path

import pytest

from gallery import Gallery


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(tmp_path / "source_4")
