"""Scatter charts: marks in place, labels that do not overlap, texts escaped."""

import re

import numpy as np
import pytest

from distangle.report.scatter import HEIGHT, WIDTH, Frame, Point, _ticks, scatter, shorten, text_width

FRAME = Frame(x_title="x", y_title="y", description="test")


def labels_of(drawing: str) -> list[tuple[float, float, str]]:
    labels = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="label">([^<]*)<', drawing)
    return [(float(x), float(y), text) for x, y, text in labels]


def circles_of(drawing: str) -> np.ndarray:
    return np.array(re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawing), dtype=float)


def test_more_is_right_and_up() -> None:
    points = [Point(x=x, y=y, style="hit") for x, y in ((0.0, 0.0), (1.0, 0.0), (0.0, 2.0))]
    origin, right_circle, up_circle = circles_of(scatter(points, FRAME))
    assert right_circle[0] > origin[0]
    assert right_circle[1] == origin[1]
    assert up_circle[1] < origin[1]
    assert up_circle[0] == origin[0]


def test_labels_overlap_neither_each_other_nor_marks_nor_the_edge() -> None:
    rng = np.random.default_rng(1)
    points = [
        Point(x=x, y=y, style="hit", label=f"gene {k}") for k, (x, y) in enumerate(rng.normal(size=(40, 2)).tolist())
    ]
    drawing = scatter(points, FRAME)
    boxes = [(x, y - 10, x + text_width(text), y + 3) for x, y, text in labels_of(drawing)]
    assert len(boxes) > 15
    for number, (x0, top, x1, bottom) in enumerate(boxes):
        assert min(x0, top) >= 0
        assert x1 <= WIDTH
        assert bottom <= HEIGHT
        for x, y in circles_of(drawing):
            assert not (x0 < x + 4 and x - 4 < x1 and top < y + 4 and y - 4 < bottom)
        for other in boxes[:number]:
            assert not (x0 < other[2] and other[0] < x1 and top < other[3] and other[1] < bottom)


def test_the_first_label_gets_the_place() -> None:
    points = [Point(x=0.0, y=0.0, style="hit", label=name) for name in ("first", "second")]
    points += [Point(x=x, y=y, style="other") for x, y in ((-1.0, -1.0), (1.0, 1.0))]
    assert labels_of(scatter(points, FRAME))[0][2] == "first"


def test_a_hostile_name_comes_out_as_text() -> None:
    name = "<script>alert(1)</script>"
    drawing = scatter([Point(x=0.0, y=0.0, style="hit", label=name, tooltip=name)], FRAME)
    assert "<script>" not in drawing
    assert "&lt;script&gt;" in drawing


def test_a_map_has_one_scale() -> None:
    points = [Point(x=x, y=y, style="other") for x, y in ((0.0, 0.0), (10.0, 0.0), (0.0, 1.0))]
    origin, right_circle, up_circle = circles_of(
        scatter(points, Frame(x_title="", y_title="", description="map", is_map=True))
    )
    assert right_circle[0] - origin[0] == pytest.approx(10 * (origin[1] - up_circle[1]), abs=0.2)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-1.0, 3.0, [-1, 0, 1, 2, 3]),
        (0.42, 0.47, [0.42, 0.43, 0.44, 0.45, 0.46, 0.47]),
    ],
)
def test_ticks_are_round_numbers_inside_the_range(low: float, high: float, expected: list[float]) -> None:
    assert _ticks(low, high) == pytest.approx(expected)


def test_one_point_and_none_can_be_drawn() -> None:
    assert "<circle" in scatter([Point(x=3.0, y=3.0, style="hit")], FRAME)
    assert "<svg" in scatter([], FRAME)


def test_wide_letters_count_double_and_long_labels_are_cut() -> None:
    assert text_width("薬") == 2 * text_width("a")
    assert shorten("a" * 40) == "a" * 25 + "…"
