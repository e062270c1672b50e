import numpy as np
import pytest

from distangle.core.random import rng_for
from distangle.errors import ExplanationError
from distangle.explain import nuclei_channel, overlap_with_cells, random_smooth_maps, segment
from distangle.explain.maps import cells as room
from distangle.screen import Channel
from distangle.synthetic.cells import CELL_TYPES, grow_cells
from distangle.synthetic.design import SimulationConfig, plan_screen
from distangle.synthetic.simulate import plate_batches, site_spec
from distangle.synthetic.site import draw_site

SIZE = 128


@pytest.fixture(scope="module")
def simulations():
    """Images of four cell types with the cells that were drawn: (image, nuclei, cells, number of nuclei)."""
    config = SimulationConfig(
        image_size=SIZE,
        cell_types=list(CELL_TYPES),
        experiments_per_cell_type=1,
        plates_per_experiment=1,
        n_treatments=4,
        optics_strength=0.0,
    )
    plan = plan_screen(config)
    batches = plate_batches(config, plan)
    result = {}
    for well in plan.wells:
        kind = well.experiment.cell_type
        if kind in result:
            continue
        order = site_spec(config, plan, well, site=1, batch=batches[well.experiment.name, well.plate])
        site = draw_site(order)
        cells = grow_cells(
            CELL_TYPES[kind],
            size=order.size,
            pixels_per_um=order.pixels_per_um,
            rng=rng_for(*order.key, "cells"),
            density=order.density * order.batch.density * order.effect.factor("density"),
            cell_size=order.effect.factor("cell_size"),
        )
        is_cell = cells.owner >= 0
        result[kind] = (site.image, is_cell & (cells.rim < 0), is_cell, site.n_cells)
    return result


def intersection_over_union(first, second):
    return (first & second).sum() / (first | second).sum()


@pytest.mark.parametrize("kind", list(CELL_TYPES))
def test_nuclei_and_cells_are_where_they_were_drawn(simulations, kind):
    image, nuclei, cells, n_cells = simulations[kind]
    result = segment(image, nuclear=0)
    assert intersection_over_union(result.nuclei > 0, nuclei) > 0.7
    assert intersection_over_union(result.cells, cells) > 0.75
    assert 0.75 * n_cells <= result.nuclei.max() <= 1.35 * n_cells + 2
    assert result.cells[result.nuclei > 0].all()


def discs(*regions, radius=6, size=64):
    rows, columns = np.mgrid[:size, :size]
    plane = np.zeros((size, size))
    for row, column in regions:
        plane[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = 200
    return plane


def test_touching_nuclei_are_divided_and_specks_are_dropped():
    stain = discs((20, 20), (20, 31), (45, 40))
    stain[60, 5:7] = 200
    result = segment(np.stack([stain, np.zeros_like(stain)]).astype(np.uint8), nuclear=0)
    assert result.nuclei.max() == 3
    labels = [result.nuclei[region] for region in ((20, 20), (20, 31), (45, 40))]
    assert sorted(labels) == [1, 2, 3]
    assert result.nuclei[60, 5] == 0


def test_an_empty_image_has_no_cells():
    result = segment(np.full((3, 32, 32), 7, dtype=np.uint8), nuclear=1)
    assert result.nuclei.max() == 0
    assert not result.cells.any()


def test_cells_come_from_the_other_channels_too():
    nuclei, body = discs((32, 32)), discs((32, 32), radius=20)
    result = segment(np.stack([body, nuclei]).astype(np.uint8), nuclear=1)
    assert result.cells[32, 48]
    assert result.nuclei[32, 48] == 0
    assert not result.cells[2, 2]


@pytest.mark.parametrize(
    ("channels", "index"),
    [
        ([{"name": "actin"}, {"name": "nuclei"}], 1),
        ([{"name": "w1", "stain": "Hoechst 33342"}, {"name": "w2", "stain": "SYTO 14"}], 0),
        ([{"name": "RNA", "organelle": "nucleoli and cytoplasmic RNA"}, {"name": "OrigDNA", "organelle": ""}], 1),
        ([{"name": "c1", "organelle": "mitochondria"}, {"name": "c2", "organelle": "nuclei, chromatin"}], 1),
    ],
)
def test_the_nuclear_channel_is_known_by_name_dye_or_organelle(channels, index):
    assert nuclei_channel([Channel(**channel) for channel in channels]) == index


def test_a_screen_that_does_not_say_which_is_asked():
    plain = [Channel(name="w1"), Channel(name="w2"), Channel(name="nucleoli")]
    with pytest.raises(ExplanationError, match=r"of \['w1', 'w2', 'nucleoli'\], none matches.*Set `nuclear`"):
        nuclei_channel(plain)
    assert nuclei_channel(plain, name="w2") == 1
    with pytest.raises(ExplanationError, match="no channel 'w3'. Did you mean 'w2' or 'w1'"):
        nuclei_channel(plain, name="w3")
    with pytest.raises(ExplanationError, match=r"\['DAPI', 'dna'\] match"):
        nuclei_channel([Channel(name="DAPI"), Channel(name="dna")])


def test_shares_are_those_counted_by_hand():
    nuclei, body = discs((32, 32)), discs((32, 32), radius=20)
    raw = np.stack([nuclei, body])[None].repeat(3, 0).astype(np.uint8)
    result = segment(raw[0], nuclear=0)
    maps = np.zeros((3, 64, 64), dtype=np.float32)
    maps[0] = 0.5
    maps[1, 32, 32], maps[1, 32, 48], maps[1, 2, 2] = 1, 0.5, 0.5
    output = overlap_with_cells(maps, raw, nuclear=0, grid=(8, 8), rng=np.random.default_rng(0), n_maps=50)
    first, second, third = (output.table.iloc[row] for row in range(3))
    assert first["nuclei_share"] == pytest.approx((result.nuclei > 0).mean())
    assert first["nuclei_area"] == pytest.approx((result.nuclei > 0).mean())
    assert (second["nuclei_share"], second["cells_share"], second["background_share"]) == (0.5, 0.75, 0.25)
    assert third[["nuclei_share", "cells_share", "nuclei_p"]].isna().all()
    assert (output.summary["sites"], output.summary["empty"]) == (2, 1)
    assert output.summary["cells"]["share"] == pytest.approx((0.75 + result.cells.mean()) / 2)
    assert output.summary["cells"]["interval"] is None
    assert first["n_nuclei"] == 1


def test_random_maps_on_the_grid_are_those_at_full_size():
    maps = random_smooth_maps(7, grid=(5, 8), size=(40, 64), rng=np.random.default_rng(1))
    masks = np.random.default_rng(2).random((3, 40, 64)) < 0.3
    expected = np.einsum("dhw,mhw->dm", maps.enlarged().astype(np.float64), masks.astype(np.float64))
    np.testing.assert_allclose(room._mass_in_masks(maps, masks.astype(np.float64)), expected, rtol=1e-5)


def test_maps_on_nuclei_are_told_from_maps_anywhere(simulations):
    images = np.stack([simulations[kind][0] for kind in CELL_TYPES] * 2)
    nuclei = np.stack([simulations[kind][1] for kind in CELL_TYPES] * 2)
    rng = np.random.default_rng(3)
    coarse = nuclei.reshape(8, 16, 8, 16, 8).mean((2, 4))
    on_nuclei = (coarse**2).repeat(8, 1).repeat(8, 2).astype(np.float32)
    experiments = list("ABCDABCE")
    ask = {"nuclear": 0, "grid": (16, 16), "experiments": experiments}
    result = overlap_with_cells(on_nuclei, images, rng=rng, **ask)
    assert result.summary["nuclei"]["share"] > 1.5 * result.summary["nuclei"]["area"]
    assert result.summary["nuclei"]["p"] == pytest.approx(1 / 201)
    assert result.summary["nuclei"]["null"][1] < result.summary["nuclei"]["share"]
    assert result.summary["background"]["p"] > 0.9
    assert (result.table["nuclei_p"] < 0.05).all()
    low, high = result.summary["nuclei"]["interval"]
    assert low <= result.summary["nuclei"]["share"] <= high
    anywhere = random_smooth_maps(8, grid=(16, 16), size=(SIZE, SIZE), rng=np.random.default_rng(9)).enlarged()
    assert overlap_with_cells(anywhere, images, rng=rng, **ask).summary["nuclei"]["p"] > 0.01


def test_maps_without_any_place_say_nothing_and_no_nan():
    raw = np.stack([discs((32, 32)), discs((32, 32))])[None].astype(np.uint8)
    output = overlap_with_cells(
        np.zeros((1, 64, 64), np.float32), raw, nuclear=0, grid=(8, 8), rng=np.random.default_rng(0), n_maps=5
    )
    assert output.summary == {"sites": 0, "empty": 1, "nuclei": None, "cells": None, "background": None}


def test_maps_that_do_not_lie_on_the_images_are_refused():
    raw = np.zeros((2, 3, 16, 16), dtype=np.uint8)
    ask = {"grid": (4, 4), "rng": np.random.default_rng(0)}
    plain = room.overlap_with_cells  # without the type check, which would refuse it first
    while hasattr(plain, "__wrapped__"):
        plain = plain.__wrapped__
    with pytest.raises(
        ExplanationError, match=r"Maps of shape \(1, 16, 16\) do not match images of shape \(2, 3, 16, 16\)"
    ):
        plain(np.zeros((1, 16, 16), np.float32), raw, nuclear=0, **ask)
    with pytest.raises(ExplanationError, match="no channel 3: there are 3, from 0"):
        overlap_with_cells(np.zeros((2, 16, 16), np.float32), raw, nuclear=3, **ask)
