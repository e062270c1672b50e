import io
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from distangle import report
from distangle.report.charts import (
    ChannelColumn,
    SvgChart,
    channel_chart,
    channel_matrix,
    confusion_matrix,
    training_curves,
)

SVG = "{http://www.w3.org/2000/svg}"


def texts(drawing: str) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(drawing).iter(f"{SVG}text")]


def test_only_curves_that_were_measured_are_drawn() -> None:
    metrics = pd.DataFrame({"epoch": [1, 2], "train_loss": [2.0, 1.0], "held_out_accuracy": [0.1, 0.4]})
    chart = training_curves(metrics, chance=0.05)
    assert list(chart) == ["accuracy", "loss"]
    assert {"Accuracy", "held out", "chance", "epoch"} <= set(texts(chart["accuracy"]))
    assert "training" not in texts(chart["accuracy"])
    assert "Loss (nats)" in texts(chart["loss"])


def test_a_single_epoch_and_an_unmeasured_one_are_drawn() -> None:
    metrics = pd.DataFrame({"epoch": [1, 2], "train_loss": [2.0, 1.0], "held_out_loss": [np.nan, 1.5]})
    assert list(training_curves(metrics.head(1))) == ["loss"]
    assert "held out" in texts(training_curves(metrics)["loss"])


def test_names_of_curves_that_end_together_stay_apart() -> None:
    def heights(end: float) -> list[float]:
        metrics = pd.DataFrame({"epoch": [1, 2], "train_accuracy": [0.1, 0.5], "held_out_accuracy": [0.1, end]})
        nodes = ElementTree.fromstring(training_curves(metrics, chance=0.1)["accuracy"]).iter(f"{SVG}text")
        places = {"".join(node.itertext()): float(node.attrib["y"]) for node in nodes if "y" in node.attrib}
        return [places["training"], places["held out"]]

    close_heights, separate = heights(0.5), heights(0.9)
    assert abs(close_heights[0] - close_heights[1]) > 11
    assert abs(separate[0] - separate[1]) > 30


def test_drawing_twice_gives_the_same_bytes_and_leaves_no_state() -> None:
    before = dict(matplotlib.rcParams)
    column = ChannelColumn(mean=np.array([1.0, -1.0]))
    drawings = [channel_chart(["a", "b"], column, title="t", unit="u") for _ in range(2)]
    assert drawings[0] == drawings[1]
    assert dict(matplotlib.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")  # loaded by another test, never by the report
    assert pyplot is None or pyplot.get_fignums() == []
    sources = Path(report.__file__).parent.glob("*.py")
    assert all("matplotlib.pyplot" not in source.read_text(encoding="utf-8") for source in sources)


def test_a_drawing_names_no_remote_address() -> None:
    chart = confusion_matrix(["a", "b"], np.eye(2))
    addresses = {word for word in chart.replace("'", '"').split('"') if word.startswith("http")}
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names of XML, not loaded
    assert "<!DOCTYPE" not in chart
    assert "<metadata" not in chart


def test_hostile_names_stay_text() -> None:
    evil = '"><svg onload=alert(1)>'
    chart = confusion_matrix([evil, "$x^2$ \x1b"], np.eye(2))
    assert evil in texts(chart)
    assert "$x^2$ \ufffd" in texts(chart)
    assert "<svg onload" not in chart


def test_the_matrix_darkens_with_the_share_of_the_row() -> None:
    chart = confusion_matrix(["a", "b"], np.array([[0.75, 0.25], [np.nan, np.nan]]))
    first = [part.split(";")[0].split('"')[0] for part in chart.split("fill-opacity: ")[1:]]
    assert first[:2] == ["0.75", "0.25"]
    assert first[2:4] == ["0.15", "0.15"]  # no held-out site: grey


def test_values_below_zero_take_the_other_color_and_planted_stains_a_frame() -> None:
    chart = channel_matrix(["p", "q"], ["a", "b"], np.array([[2.0, -1.0], [0.0, 1.0]]), unit="nats", planted=[[0], []])
    cells = chart.split("</style>")[-1].split("fill: ")[1:]  # after the rules for dark pages
    kinds = [cell[:7] for cell in cells if cell[:7] in ("#2f6299", "#c4661f")][:3]
    assert kinds == ["#2f6299", "#c4661f", "#2f6299"]
    frames = chart.count("stroke: #1d2733; stroke-width: 1.2")
    assert frames == 1
    assert {"+2", "−2", "nats"} <= set(texts(chart))


def test_a_forced_split_is_stamped_on_every_chart() -> None:
    stamp = "forced split"
    metrics = pd.DataFrame({"epoch": [1, 2], "train_loss": [2.0, 1.0], "learning_rate": [0.1, 0.2]})
    chart = [
        *training_curves(metrics, stamp=stamp).values(),
        confusion_matrix(["a", "b"], np.eye(2), stamp=stamp),
        channel_chart(["a"], ChannelColumn(mean=np.ones(1)), title="t", unit="u", stamp=stamp),
        channel_matrix(["p"], ["a"], np.ones((1, 1)), unit="u", stamp=stamp),
    ]
    assert len(chart) == 5
    assert all(stamp in texts(drawing) for drawing in chart)


def test_dark_pages_get_light_ink() -> None:
    chart = channel_chart(["a"], ChannelColumn(mean=np.ones(1)), title="t", unit="u")
    assert "prefers-color-scheme:dark" in chart
    assert '[style*="fill: #1d2733"]{fill:#e4e8ec!important}' in chart


def test_a_chart_is_drawn_as_png_too_and_always_alike() -> None:
    column = ChannelColumn(mean=np.array([1.0, 0.5]))

    def draw() -> SvgChart:
        return channel_chart(["a", "b"], column, title="x", unit="y")

    first, second = draw(), draw()
    assert first == second
    assert first.png() == second.png()
    with Image.open(io.BytesIO(first.png())) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert (pixels[0, 0] == 255).all()
    assert pixels.shape[0] > 300
    # The bar of the longer value: the first blue column is as long as twice the second.
    blue = (np.abs(pixels.astype(int) - [0x2F, 0x62, 0x99]) < 3).all(axis=2).sum(axis=1)
    lengths = sorted(set(blue[blue > 20].tolist()))
    assert lengths[-1] == pytest.approx(2 * lengths[0], rel=0.05)
