import json

import numpy as np
import pandas as pd
import pytest

from distangle.errors import RunError
from distangle.results import Faithfulness


def faithfulness():
    table = pd.DataFrame({"row": [4, 0], "deletion_auc": [0.25, np.nan], "stability": [0.5, 1.0]})
    return Faithfulness(
        table=table,
        arrays={"curves/blur/deletion": np.array([[1.0, 0.5]])},
        settings={"n_sites": 2},
        summary={"sites": 2},
        sentences=("one.", "two."),
    )


def test_it_is_read_as_it_was_written_and_its_json_has_no_nan(tmp_path):
    paths = faithfulness().write(tmp_path)
    assert [path.name for path in paths] == ["faithfulness.json", "faithfulness.npz"]
    message = json.loads(paths[0].read_text(), parse_constant=pytest.fail)
    assert message["sites"] == [
        {"row": 4, "deletion_auc": 0.25, "stability": 0.5},
        {"row": 0, "deletion_auc": None, "stability": 1.0},
    ]
    copy = Faithfulness.read(tmp_path)
    pd.testing.assert_frame_equal(copy.table, faithfulness().table)
    assert copy.sentences == ("one.", "two.")
    assert copy.settings == {"n_sites": 2}
    assert copy.summary == {"sites": 2}
    assert copy.arrays["curves/blur/deletion"].tolist() == [[1.0, 0.5]]


def test_columns_stand_in_the_rows_of_the_explanation():
    columns = faithfulness().columns(6)
    assert columns.index.tolist() == list(range(6))
    assert columns.columns.tolist() == ["deletion_auc", "stability"]
    assert columns["stability"].tolist()[0] == 1
    assert columns["deletion_auc"].tolist()[4] == 0.25
    assert columns["stability"].isna().sum() == 4
    with pytest.raises(RunError, match="Row 4 was tested, but the explanation has 4 rows. Explain the run again."):
        faithfulness().columns(4)


def test_a_run_that_was_not_examined_is_told_how(tmp_path):
    with pytest.raises(RunError, match=r"No examined maps at .*faithfulness.json. Run `distangle explain RUN` first."):
        Faithfulness.read(tmp_path)
