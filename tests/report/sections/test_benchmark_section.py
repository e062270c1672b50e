"""The truth table on the page: shares, random weights and missed aims."""

import re

from distangle.report.sections.channel_methods import truth_table
from distangle.results import Benchmark


def text_of(benchmark: Benchmark) -> str:
    content = truth_table(benchmark)
    return "" if content is None else str(content.__html__())


def row(network: str, question: str, method: str, hits: float, n_total: int) -> dict[str, object]:
    share = hits / n_total if n_total else None
    return {"network": network, "question": question, "unit": "wells" if question == "channel" else "sites",
            "method": method, "hits": hits, "n_total": n_total, "share": share, "low": share, "high": share,
            "chance": 0.25}  # fmt: skip


def cells(text: str) -> list[list[str]]:
    lines = re.findall(r"<tr[^>]*>(.*?)</tr>", text, flags=re.S)
    return [[re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", line)] for line in lines]


def test_every_method_stands_beside_random_weights_and_chance() -> None:
    rows = [
        row("trained", "channel", "shapley", 9, 10),
        row("trained", "region", "occlusion", 4, 5),
        {**row("trained", "channel", "shapley", 1, 10), "unit": "sites"},
        row("untrained", "channel", "shapley", 2.5, 10),
    ]
    text = text_of(Benchmark(rows=rows, aims=[], settings={}))
    lines = [[cell for k, cell in enumerate(line) if k != 4] for line in cells(text)]
    assert lines[1] == ["Shapley", "9", "10", "90\u202f%", "25\u202f%", "25\u202f%"]
    assert lines[3] == ["occlusion", "4", "5", "80\u202f%", "–", "25\u202f%"]
    assert len(lines) == 4
    assert "Below its aim" not in text


def test_a_missed_aim_is_not_overlooked_and_one_without_cases_is_no_miss() -> None:
    aims = [{"aim": "planted stain first by Shapley", "met": False}, {"aim": "planted place", "met": None}]
    text = text_of(Benchmark(rows=[row("trained", "channel", "shapley", 0, 0)], aims=aims, settings={}))
    assert "Below its aim: planted stain first by Shapley." in text
    assert "planted place" not in text.replace("planted stain first by Shapley", "")
    assert cells(text)[1][3] == "–"
    assert not text_of(Benchmark(rows=[], aims=[], settings={}))
