from xml.etree import ElementTree

import numpy as np

from distangle.report.quality_charts import curve_panels

SVG = "{http://www.w3.org/2000/svg}"


def paths(text: str) -> list[str]:
    return [node.attrib["d"] for node in ElementTree.fromstring(text).iter(f"{SVG}path") if "style" in node.attrib]


def test_every_condition_has_a_panel_and_the_reference_none_of_its_own() -> None:
    curves = {name: np.linspace(0, 1, 10)[:, None] * [[0.8, 1.0]] for name in ("baseline", "cutmix", "pseudo", "both")}
    text = curve_panels(curves, reference="baseline", measure="accuracy", chance=0.1, stamp="forced split")
    labels = ["".join(node.itertext()) for node in ElementTree.fromstring(text).iter(f"{SVG}text")]
    assert {"cutmix", "pseudo", "both", "epoch", "accuracy", "forced split"} <= set(labels)
    assert "baseline" not in labels
    single_curve = curve_panels({"baseline": curves["baseline"]}, reference="baseline", measure="accuracy")
    assert "baseline" in "".join(ElementTree.fromstring(single_curve).itertext())
    assert text == curve_panels(curves, reference="baseline", measure="accuracy", chance=0.1, stamp="forced split")


def test_the_line_is_the_mean_and_the_band_reaches_over_all_runs_that_have_come_so_far() -> None:
    from matplotlib.figure import Figure

    from distangle.report.quality_charts import _draw_band

    axes = Figure().add_subplot()
    _draw_band(axes, np.array([[0.2, 0.4], [0.3, 0.7], [0.5, np.nan]]), "#2f6299")
    (line,) = axes.lines
    np.testing.assert_allclose(line.get_xydata(), [[1, 0.3], [2, 0.5], [3, 0.5]])
    (band,) = axes.collections
    corners = {tuple(np.round(corner, 6)) for corner in band.get_paths()[0].vertices}
    assert {(1.0, 0.2), (1.0, 0.4), (2.0, 0.3), (2.0, 0.7), (3.0, 0.5)} <= corners
