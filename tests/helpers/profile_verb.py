"""Run `distangle profile` on a small table, and check what every run must hold."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distangle.cli import main
from distangle.results.profile_result import JSON_FILE

Frame = pd.DataFrame
QUICK = ("--draws", "99", "--map", "pca")


def table(n_plates: int = 2, names: tuple[str, ...] = ("a", "b", "c"), seed: int = 0) -> Frame:
    """Return wells A01 to D04 of every plate, a quarter of them DMSO; the first perturbation moves feature f0."""
    rng = np.random.default_rng(seed)
    names = ("DMSO", *names)
    rows = [
        (f"P{plate + 1}", f"{'ABCD'[number // 4]}{number % 4 + 1:02d}", names[(number + number // 4 + plate) % 4])
        for plate in range(n_plates)
        for number in range(16)
    ]
    frame = pd.DataFrame(rows, columns=["Metadata_Plate", "Metadata_Well", "Metadata_Perturbation"])
    values = rng.normal(size=(len(frame), 4))
    values[:, 0] += 6.0 * (frame["Metadata_Perturbation"] == names[1])
    return frame.assign(**{f"f{k}": values[:, k] for k in range(4)})


class ProfileVerb:
    """Run `distangle profile` on a table in a folder, and keep what it prints."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys, self.out = folder, capsys, folder / "out"

    def __call__(self, frame: Frame | None, *flags: str, source: str = "t.csv", out: str = "out") -> tuple[int, str]:
        """Return the exit status and everything that was printed, in one line."""
        if frame is not None:
            frame.to_csv(self.folder / source, index=False)
        status = 0
        try:
            main(["profile", source, "--out", out, *QUICK, *flags])
        except SystemExit as ended:
            status = int(ended.code or 0)
        output = self.capsys.readouterr()
        text = " ".join((output.out + output.err).split())
        if status == 0:
            self.check_sums(text)
        return status, text

    def check_sums(self, text: str) -> None:
        """Check that found = used + refused, in the terminal, in the JSON file and in the tables."""
        counts = re.search(r"(\d+) rows found: (\d+) used, (\d+) refused", text)
        assert counts is not None
        n_rows, n_used, n_refused = map(int, counts.groups())
        assert n_rows == n_used + n_refused
        settings = json.loads((self.out / JSON_FILE).read_text())["settings"]
        assert (settings["n_found"], settings["n_used"], settings["n_refused"]) == (n_rows, n_used, n_refused)
        with (self.out / "refused.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == n_refused
        assert all(row["row"] and row["reason"] for row in rows)

    def refusals(self) -> dict[str, str]:
        return {row: reason for row, reason in pd.read_parquet(self.out / "refused.parquet").to_numpy()}
