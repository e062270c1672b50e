from pathlib import Path

import pytest

from rxrx1_lab import RxRx1Lab


@pytest.fixture
def rxrx1(tmp_path: Path) -> RxRx1Lab:
    """A folder as Kaggle gives it: two wells of treatments and a control, two sites each."""
    lab = RxRx1Lab(tmp_path / "rxrx1")
    lab.table("train.csv", [("HUVEC-01", "1", "B03", "sirna_2"), ("HUVEC-01", "1", "B04", "sirna_10")])
    lab.table("train_controls.csv", [("HUVEC-01", "1", "B02", "UNTREATED", "negative_control")])
    for well in ("B02", "B03", "B04"):
        for site in (1, 2):
            lab.site("train/HUVEC-01/Plate1", well, site)
    return lab
