"""Tables as Parquet files, against pandas' own reader."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distangle.core.result_files import read_parquet, read_table
from distangle.errors import RunError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    table = pd.DataFrame(
        {"well": ["B02", "", None], "dose": [0.5, np.nan, 2.0], "n": [1, 2, 3], "correct": [True, False, True]}
    )
    table.to_parquet(tmp_path / "table.parquet", index=False)
    return tmp_path / "table.parquet"


def test_a_table_is_that_of_pandas(path: Path) -> None:
    pd.testing.assert_frame_equal(read_parquet(path), pd.read_parquet(path))
    pd.testing.assert_frame_equal(read_parquet(path.read_bytes()), pd.read_parquet(path))


def test_a_damaged_table_is_named(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RunError, match=r"table\.parquet is damaged.*Make it again\."):
        read_table(path, fix="Make it again.")


def test_a_table_is_read_without_the_slow_import(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from distangle.core.result_files import read_parquet; "
        f"read_parquet(Path({str(path)!r})); print('pyarrow.dataset' in sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "False"
