import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from distangle.errors import ExplanationError
from distangle.explain import PlantedCircle, compare_with_truth
from distangle.explain.ground_truth import share_of

CHANNELS_OF = {"actin": (2,), "mito": (3,), "two stains": (1, 2), "nothing": ()}


def rows(*entries):
    """Each entry: perturbation, predicted, explained, top channel of Shapley, of Eq. 15, of the correlation."""
    lines = []
    for region, (perturbation, prediction, label, *tops) in enumerate(entries):
        line = {"Metadata_Experiment": "E1", "Metadata_Plate": "1", "Metadata_Well": f"B{region:02d}"}
        line |= {"perturbation": perturbation, "predicted": prediction, "explained": label}
        for name, top in zip(("shapley", "eq15", "correlation"), tops, strict=True):
            line |= {f"{name}_{k}": float(k == top) for k in (1, 2, 3)}
        lines.append(line)
    return pd.DataFrame(lines)


def empty_maps(n):
    return np.zeros((n, 10, 10), dtype=np.float32)


def test_hits_are_counted_over_correct_sites_with_one_planted_channel():
    table = rows(
        ("actin", "actin", "actin", 2, 1, 2),
        ("actin", "actin", "actin", 2, 1, 3),
        ("mito", "mito", "mito", 1, 1, 3),
        ("mito", "actin", "mito", 3, 3, 3),  # wrongly predicted
        ("mito", "mito", "actin", 3, 3, 3),  # another perturbation was explained
        ("two stains", "two stains", "two stains", 1, 1, 1),
        ("nothing", "nothing", "nothing", 1, 1, 1),
        ("unknown", "unknown", "unknown", 1, 1, 1),
    )
    output = compare_with_truth(table, empty_maps(8), channels_of=CHANNELS_OF, regions={})
    counts = {name: (output[name]["sites"], output[name]["n_total"]) for name in output if name.startswith("top_")}
    assert counts == {
        "top_shapley_is_planted": (2, 3),
        "top_eq15_is_planted": (0, 3),
        "top_correlation_is_planted": (2, 3),
    }
    assert output["top_shapley_is_planted"]["share"] == pytest.approx(2 / 3)
    assert output["top_shapley_is_planted"]["chance"] == pytest.approx(1 / 3)
    result = output["perturbations_found"]
    assert (result["perturbations"], result["n_total"]) == (1, 2)


def test_the_region_is_asked_wherever_there_is_one_and_its_own_perturbation_was_explained():
    table = rows(
        ("actin", "actin", "actin", 2, 1, 2),
        ("actin", "mito", "actin", 2, 1, 2),
        ("actin", "mito", "mito", 2, 1, 2),
        ("actin", "actin", "actin", 2, 1, 2),
    )
    maps = empty_maps(4)
    maps[0, 2, 7] = 1  # inside
    maps[0, 9, 0] = 0.5
    maps[1, 7, 2] = 1  # row and column exchanged: outside
    maps[2, 2, 7] = 1  # not asked
    circle = PlantedCircle(2.0, 7.0, 1.0)  # 5 pixels of 100
    output = compare_with_truth(table, maps, channels_of=CHANNELS_OF, regions=dict.fromkeys(range(4), circle))
    assert (output["map_peak_in_place"]["sites"], output["map_peak_in_place"]["n_total"]) == (
        1,
        3,
    )  # the empty map is a miss
    assert output["map_peak_in_place"]["chance"] == pytest.approx(0.05)
    assert output["map_mass_in_place"] == {
        "n_total": 3,
        "share": pytest.approx((1 / 1.5) / 3),
        "area": pytest.approx(0.05),
    }


def test_an_empty_map_misses_even_a_region_in_the_corner():
    table = rows(("actin", "actin", "actin", 2, 1, 2))
    output = compare_with_truth(
        table, empty_maps(1), channels_of=CHANNELS_OF, regions={0: PlantedCircle(0.0, 0.0, 3.0)}
    )
    assert output["map_peak_in_place"]["sites"] == 0
    assert output["map_mass_in_place"]["share"] == 0


def test_nothing_to_count_is_none_and_not_nan():
    table = rows(("nothing", "nothing", "nothing", 1, 1, 1))
    output = compare_with_truth(table, empty_maps(1), channels_of=CHANNELS_OF, regions={})
    for name in ("top_shapley_is_planted", "map_peak_in_place", "perturbations_found"):
        assert output[name]["n_total"] == 0
        assert output[name]["share"] is None
        assert output[name]["low"] is None
    assert output["map_mass_in_place"] == {"n_total": 0, "share": None, "area": None}


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (3, 7), (7, 7), (40, 90)])
def test_of_single_sites_the_interval_is_nearly_the_exact_binomial_one(hits, n):
    expected = binomtest(hits, n).proportion_ci(0.95)
    result = share_of(np.arange(n) < hits, np.arange(n))
    assert (result["n_total"], result["share"]) == (n, hits / n)
    assert result["low"] == pytest.approx(expected.low, abs=0.04)
    assert result["high"] == pytest.approx(expected.high, abs=0.04)


def test_sites_of_one_well_are_one_witness():
    hits, wells = np.arange(20) < 15, np.arange(20) // 4
    by_site, by_well = share_of(hits, np.arange(20)), share_of(hits, wells)
    assert by_well["low"] < by_site["low"]
    assert share_of(hits, np.arange(20) // 5)["low"] is None  # four wells


def test_rows_and_maps_that_do_not_match_are_refused():
    with pytest.raises(ExplanationError, match="1 rows and 2 maps"):
        compare_with_truth(rows(("a", "a", "a", 1, 1, 1)), empty_maps(2), channels_of={}, regions={})


def test_a_planted_channel_that_is_not_there_is_refused():
    with pytest.raises(ExplanationError, match="actin is planted in channel 0; the explanation has channels 1 to 3"):
        compare_with_truth(rows(("a", "a", "a", 1, 1, 1)), empty_maps(1), channels_of={"actin": (0,)}, regions={})
