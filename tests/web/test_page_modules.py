"""Single functions of the JavaScript modules, in the browser, against known results."""

import numpy as np
import pytest

from view_page import Visitor


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Uint8Array", "Uint16Array"])
def test_formula_of_the_composite(visitor: Visitor, kind: str) -> None:
    rng = np.random.default_rng(1)
    top = 255 if kind == "Uint8Array" else 65535
    planes = rng.integers(0, top + 1, (3, 500))
    layers = [(planes[0], (255, 0, 128), 0, top, 1.0), (planes[1], (0, 200, 30), top // 8, top // 2, 0.45),
              (planes[2], (90, 90, 255), top // 3, top // 3, 2.0)]  # fmt: skip
    expected = np.zeros((500, 3))
    for values, color, low, high, gamma in layers:
        share = np.clip((values - low) / (high - low), 0, 1) if high > low else (values >= high).astype(float)
        expected += np.array(color) / 255 * (share**gamma)[:, None]
    expected = np.rint(255 * np.clip(expected, 0, 1))
    rgba = visitor.page.evaluate(
        """async ([kind, layers]) => {
          const { compose } = await import("/assets/compose.js");
          const ready = layers.map(([values, color, low, high, gamma]) =>
            ({ pixels: new globalThis[kind](values), color, low, high, gamma }));
          return Array.from(compose(ready, 500));
        }""",
        [kind, [(values.tolist(), *rest) for values, *rest in layers]],
    )
    colors = np.array(rgba).reshape(-1, 4)
    assert np.abs(colors[:, :3] - expected).max() <= 1
    assert (colors[:, 3] == 255).all()


@pytest.mark.slow
def test_saved_cells_are_no_formulas(visitor: Visitor) -> None:
    text = visitor.page.evaluate("""async () => {
      const { csv } = await import("/assets/dom.js");
      return csv(["a", "b"], [["=1+1", -2], ["@x", 'say "hi", you'], ["+3", null], ["-x", "ok"]]);
    }""")
    assert text == 'a,b\r\n\'=1+1,-2\r\n\'@x,"say ""hi"", you"\r\n\'+3,\r\n\'-x,ok\r\n'


@pytest.mark.slow
def test_a_whole_name_beats_parts_of_names(visitor: Visitor) -> None:
    fits = visitor.page.evaluate("""async () => {
      const { levelsThatFit } = await import("/assets/data.js");
      const column = { levels: ["siRNA_7", "siRNA_77", "other"] };
      return ["sirna_7", "sirna", "77", "x"].map((text) => Array.from(levelsThatFit(column, text)));
    }""")
    assert fits == [[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.slow
def test_wells_inside_a_line(visitor: Visitor) -> None:
    rng = np.random.default_rng(4)
    places = rng.uniform(-1, 1, (400, 2)).astype(np.float32)
    polygon = [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (0, -0.2), (-0.8, 0.8)]  # a notch from above
    rows = visitor.page.evaluate(
        """async ([places, polygon]) => {
          const { inside, readPolygon, writePolygon } = await import("/assets/lasso.js");
          return inside(new Float32Array(places), readPolygon(writePolygon(polygon)));
        }""",
        [places.ravel().tolist(), polygon],
    )
    x, y = places.T
    in_shape = (np.abs(x) < 0.8) & (y > -0.8) & (y < -0.2 + np.abs(x) / 0.8)
    np.testing.assert_array_equal(rows, np.flatnonzero(in_shape))
