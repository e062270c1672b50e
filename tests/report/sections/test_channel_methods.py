"""The channel attribution methods, read back from the page."""

import re

import numpy as np
import pandas as pd

from distangle.report.sections.channel_methods import compare_methods
from distangle.results import Explanation

NAMES = ("nuclei", "actin", "Golgi")


def page(**summary: object) -> str:
    empty = np.zeros((0, 2, 2), dtype=np.float32)
    content = compare_methods(Explanation(table=pd.DataFrame(), maps=empty, settings={}, summary=summary), NAMES)
    return "" if content is None else str(content.__html__())


def cells(text: str) -> list[list[str]]:
    lines = re.findall(r"<tr[^>]*>(.*?)</tr>", text, flags=re.S)
    return [[re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", line)] for line in lines]


def test_every_way_has_its_mean_and_p_and_the_largest_stands_out() -> None:
    shapley = {"mean": [0.1, 0.7, -0.2], "p": [0.5, 0.001, 1.0], "p_family": [0.9, 0.004, 1.0]}
    text = page(shapley=shapley, eq15={"mean": [0.99, 0.4, 0.3], "p_family": [0.3, 0.2, 0.1]})
    rows = cells(text)
    assert rows[0] == ["channel", "Shapley, p", "Eq. (15), p"]
    assert rows[2] == ["actin", "+0.700, 0.004", "+0.400, 0.2"]
    assert set(re.findall("<strong>(.*?)</strong>", text)) == {"+0.700, 0.004", "+0.990, 0.3"}


def test_cell_types_stand_below_each_other_and_one_alone_does_not() -> None:
    def one(mean: list[float], interval: list[list[float]] | None) -> dict[str, object]:
        return {"sites": 4, "wells": 2, "shapley": {"mean": mean, "interval": interval}}

    types = {"HUVEC": one([0.1, 0.7, 0.0], [[0.0, 0.2], [0.5, 0.9], [-0.1, 0.1]]), "RPE": one([0.3, 0.2, 0.1], None)}
    text = page(cell_types=types, interval_over="plate")
    assert cells(text)[1] == ["HUVEC", "2", "+0.100 (+0.00 to +0.20)", "+0.700 (+0.50 to +0.90)",
                              "+0.000 (-0.10 to +0.10)"]  # fmt: skip
    assert cells(text)[2] == ["RPE", "2", "+0.300", "+0.200", "+0.100"]
    assert "interval over plates" in text
    assert not page(cell_types={"HUVEC": types["HUVEC"]})


def test_pairs_come_by_strength_and_warnings_first() -> None:
    mean = np.zeros((3, 3))
    mean[0, 1] = mean[1, 0] = 0.2
    mean[1, 2] = mean[2, 1] = -0.5
    interval = np.stack([mean - 0.1, mean + 0.1], axis=-1)
    text = page(interactions={"mean": mean.tolist(), "interval": interval.tolist()}, warnings=["2 wells <are> odd."])
    assert cells(text)[1:3] == [["actin and Golgi", "-0.500", "-0.600 to -0.400"],
                                ["nuclei and actin", "+0.200", "+0.100 to +0.300"]]  # fmt: skip
    assert text.index("2 wells &lt;are&gt; odd.") < text.index("actin and Golgi")


def test_an_explanation_that_holds_none_of_it_adds_nothing() -> None:
    assert not page()
    assert not page(shapley={"mean": [0.1, 0.2, 0.3]})
