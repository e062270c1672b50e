"""Test one simulated site: what a perturbation changes, and where."""

import dataclasses

import numpy as np
import pytest

from distangle.core.random import rng_for
from distangle.synthetic.acquisition import BatchEffect, acquire, draw_batch_effect, illumination, position_factors
from distangle.synthetic.cells import CELL_TYPES, fine_noise, grow_cells, slow_noise
from distangle.synthetic.effects import EFFECT_TYPES, Effect, draw_effects, no_effect
from distangle.synthetic.site import SiteSpec, draw_site
from distangle.synthetic.stains import stamp

PLAIN = BatchEffect(gain=(1.0,) * 6, offset=(2.5,) * 6, blur_um=0.4, vignette=0.0, centre=(0.5, 0.5), density=1.0)
SINGLE = [kind for kind in EFFECT_TYPES.values() if len(kind.channels) == 1]


def order(effect: Effect | None = None, *, cell_type: str = "HUVEC", size: int = 96, seed: int = 5) -> SiteSpec:
    return SiteSpec(
        key=(seed, "test"),
        cell_type=cell_type,
        size=size,
        pixels_per_um=(size / 128) ** 0.3,
        batch=PLAIN,
        density=1.0,
        intensity=1.0,
        effect=effect or Effect(),
    )


def changed_channels(one: np.ndarray, other: np.ndarray) -> list[int]:
    return [channel + 1 for channel in range(6) if (one[channel] != other[channel]).any()]


@pytest.mark.parametrize("kind", SINGLE, ids=lambda kind: kind.name)
def test_an_effect_on_one_stain_changes_that_channel_and_no_other(kind):
    plain = draw_site(order())
    with_effect = draw_site(order(Effect((kind.name,), 1.0)))
    assert changed_channels(plain.image, with_effect.image) == list(kind.channels)
    channel = kind.channels[0] - 1
    difference = np.abs(plain.image[channel].astype(float) - with_effect.image[channel].astype(float)).mean()
    assert difference > 0.07 * plain.image[channel].std()


@pytest.mark.parametrize("kind", SINGLE, ids=lambda kind: kind.name)
def test_a_local_effect_changes_nothing_outside_its_place(kind):
    plain = draw_site(order(size=128))
    with_effect = draw_site(order(Effect((kind.name,), 1.0, local=True), size=128))
    place = with_effect.place
    assert plain.place is None
    assert place is not None
    assert changed_channels(plain.image, with_effect.image) == list(kind.channels)
    grid = np.arange(128)
    distance = np.hypot(grid[:, None] - place.row, grid[None, :] - place.column)
    differs = (plain.image != with_effect.image).any(axis=0)
    assert differs.any()
    assert distance[differs].max() <= place.radius
    assert 0 <= place.row - place.radius
    assert place.row + place.radius < 128
    assert 0 <= place.column - place.radius
    assert place.column + place.radius < 128


def test_the_place_differs_from_site_to_site():
    effect = Effect(("er_aggregates",), 1.0, local=True)
    places = {draw_site(order(effect, seed=seed)).place for seed in range(4)}
    assert len(places) == 4


def test_two_stains_change_in_an_effect_on_two():
    effect = Effect(("nuclei_shrunken", "golgi_dispersed"), 1.0)
    with_effect = draw_site(order(effect))
    assert effect.channels == (1, 6)
    assert changed_channels(draw_site(order()).image, with_effect.image) == [1, 6]


def test_no_strength_is_no_effect():
    for kind in EFFECT_TYPES:
        assert (draw_site(order(Effect((kind,), 0.0))).image == draw_site(order()).image).all(), kind


def test_more_strength_changes_more():
    plain = draw_site(order()).image.astype(float)
    for kind in ("nuclei_enlarged", "er_perinuclear", "actin_cortical_ring", "mito_perinuclear"):
        distances = [
            np.abs(draw_site(order(Effect((kind,), strength))).image - plain).mean() for strength in (0.25, 0.6, 1.0)
        ]
        assert distances[0] < distances[1] < distances[2], kind


def nuclear_share(image: np.ndarray) -> float:
    return float((image[0] > 15).mean())


def test_enlarged_nuclei_cover_more_and_shrunken_ones_less():
    plain = nuclear_share(draw_site(order()).image)
    assert nuclear_share(draw_site(order(Effect(("nuclei_enlarged",), 1.0))).image) > 1.4 * plain
    assert nuclear_share(draw_site(order(Effect(("nuclei_shrunken",), 1.0))).image) < 0.75 * plain


def test_fewer_cells_are_counted_where_cells_are_lost():
    plain = [draw_site(order(size=128, seed=seed)).n_cells for seed in range(4)]
    with_cell_loss = [
        draw_site(order(Effect(("cell_count_low",), 1.0), size=128, seed=seed)).n_cells for seed in range(4)
    ]
    assert sum(with_cell_loss) < 0.7 * sum(plain)


def test_larger_cells_are_fewer_in_the_field():
    plain = [draw_site(order(size=128, seed=seed)).n_cells for seed in range(4)]
    large = [draw_site(order(Effect(("cell_size_large",), 1.0), size=128, seed=seed)).n_cells for seed in range(4)]
    assert sum(large) < 0.75 * sum(plain)


@pytest.mark.parametrize("cell_type", CELL_TYPES)
@pytest.mark.parametrize("size", [96, 256])
def test_images_are_dim_textured_and_not_saturated_as_the_real_ones(cell_type, size):
    image = draw_site(order(cell_type=cell_type, size=size)).image
    assert image.shape == (6, size, size)
    assert image.dtype == np.uint8
    means = image.mean(axis=(1, 2))
    assert (means > 4).all()
    assert (means < 40).all()
    assert (image.std(axis=(1, 2)) > 3).all()
    assert (image == 255).mean() < 0.005


def test_cell_types_differ_in_number_and_shape():
    cells = {
        name: grow_cells(kind, size=256, pixels_per_um=1.23, rng=rng_for(1, name)) for name, kind in CELL_TYPES.items()
    }
    n = {name: cell.n_visible for name, cell in cells.items()}
    assert n["HEPG2"] > 1.5 * n["RPE"]
    assert n["RPE"] > 1.2 * n["U2OS"]
    long = {name: float(np.median(cell.half_long / cell.half_short)) for name, cell in cells.items()}
    assert long["HUVEC"] > 1.6
    assert max(long["RPE"], long["HEPG2"]) < 1.3


def test_confluent_cells_fill_the_field_and_clusters_leave_gaps():
    def cover(name: str) -> float:
        cells_of_seeds = [
            grow_cells(CELL_TYPES[name], size=256, pixels_per_um=1.23, rng=rng_for(seed, name)) for seed in range(3)
        ]
        return float(np.mean([(cells.owner >= 0).mean() for cells in cells_of_seeds]))

    assert cover("RPE") > 0.88
    assert 0.6 < cover("HEPG2") < 0.88


def test_nuclei_do_not_overlap_and_lie_in_their_own_cell():
    cells = grow_cells(CELL_TYPES["U2OS"], size=128, pixels_per_um=1.0, rng=rng_for(3))
    grid = np.arange(128)
    for cell in range(len(cells.row) - 1):
        y, x = (int(np.rint(place[cell])) for place in (cells.nucleus_row, cells.nucleus_column))
        if 0 <= y < 128 and 0 <= x < 128:
            assert cells.owner[y, x] == cell
            in_cell = (cells.rim < 0) & (cells.owner == cell)
            distance = np.hypot(grid[:, None] - cells.nucleus_row[cell], grid[None, :] - cells.nucleus_column[cell])
            # Seven tenths: the warped outline and the neighbor's nucleus may bite into the edge.
            core = distance < 0.6 * cells.nucleus_short[cell]
            assert in_cell[core].mean() > 0.7
    assert ((cells.rim < 0) <= (cells.owner >= 0)).all()


def test_a_field_with_no_cell_or_smaller_than_a_cell_is_drawn():
    tiny = dataclasses.replace(order(cell_type="U2OS", size=32), pixels_per_um=5.0, density=0.05)
    for seed in range(3):
        assert draw_site(dataclasses.replace(tiny, key=(seed,))).image.shape == (6, 32, 32)


def test_noise_has_unit_variance():
    slow = np.concatenate([slow_noise(64, 8.0, rng_for(seed)).ravel() for seed in range(40)])
    assert slow.std() == pytest.approx(1, abs=0.1)
    assert fine_noise(64, 1.0, rng_for(0)).std() == pytest.approx(1, abs=1e-3)


def test_a_stamp_is_a_disc_of_its_area():
    plane = stamp(32, np.array([16.0]), np.array([10.0]), np.array([4.0]), np.array([2.0]), softness=0.2)
    assert plane.sum() == pytest.approx(2 * np.pi * 4**2, rel=0.03)
    assert plane[16, 10] == pytest.approx(2, rel=1e-3)
    assert plane[16, 18] < 1e-3
    assert plane.argmax() // 32 in range(13, 20)


def test_an_effect_changes_only_the_cells_it_reaches():
    traits = no_effect(CELL_TYPES["RPE"], 4, rng_for(1))
    is_affected = np.array([1, 0, 1, 0], np.float32)
    uneven = Effect(("er_uneven",), 1.0).change(traits, is_affected, np.array([0.1, 0.1, 0.9, 0.9], np.float32))
    ratio = uneven.er_gain / traits.er_gain
    np.testing.assert_allclose(ratio, [2.8, 1, 1, 1], rtol=1e-5)
    half = Effect(("golgi_ring",), 0.5).change(traits, is_affected, np.zeros(4, np.float32))
    np.testing.assert_allclose(half.golgi_ring, [0.5, 0, 0.5, 0])
    np.testing.assert_allclose(half.golgi_gain / traits.golgi_gain, [1.2**0.5, 1, 1.2**0.5, 1], rtol=1e-5)


def test_most_effects_are_on_one_stain_and_every_channel_occurs():
    names = [f"sirna_{i}" for i in range(24)]
    effects = draw_effects(names, ["p1", "p2"], strength=1.0, local_share=0.25, rng=rng_for(4))
    effects_of_names = [effects[name] for name in names]
    single = [effect for effect in effects_of_names if len(effect.channels) == 1]
    assert len(single) > 16
    assert {channel for effect in single for channel in effect.channels} == {1, 2, 3, 4, 5, 6}
    assert sum(effect.local for effect in effects_of_names) == 6
    assert len({(effect.kinds, effect.local) for effect in effects_of_names}) == 24
    assert any(len(effect.channels) == 6 for effect in effects_of_names)
    for name in ("p1", "p2"):
        assert effects[name].strength == pytest.approx(1.3)
        assert not effects[name].local


def test_six_treatments_are_enough_for_every_channel():
    for seed in range(5):
        names = [f"sirna_{i}" for i in range(6)]
        effects = draw_effects(names, [], strength=1.0, local_share=0.0, rng=rng_for(seed))
        assert {channel for name in names for channel in effects[name].channels} == {1, 2, 3, 4, 5, 6}


def test_many_treatments_all_get_an_effect():
    names = [f"sirna_{i}" for i in range(1108)]
    effects = draw_effects(names, [], strength=1.0, local_share=0.2, rng=rng_for(1))
    assert all(effects[name].kinds and effects[name].strength > 0 for name in names)


def test_gain_offset_and_illumination_act_as_recorded():
    light = np.ones((6, 64, 64), np.float32)
    body = np.zeros((64, 64), np.float32)
    batch = BatchEffect(
        gain=(1.0, 0.5, 1.5, 1.0, 1.0, 1.0),
        offset=(0.0, 10.0, 0.0, 0.0, 0.0, 0.0),
        blur_um=0.5,
        vignette=0.4,
        centre=(0.25, 0.5),
        density=1.0,
    )
    image = acquire(light, body, batch, levels=(40.0,) * 6, intensity=1.2, pixels_per_um=1.0, rng=rng_for(0)).astype(
        float
    )
    field = illumination(64, batch)
    assert field.max() == pytest.approx(1, abs=1e-3)
    assert np.unravel_index(field.argmax(), field.shape)[0] in (15, 16)
    assert field[63, 0] == pytest.approx(0.6, abs=0.02)

    def expected(gain: float, offset: float) -> float:
        return float((255 * np.tanh(40 * gain * 1.2 * field / 255) + offset).mean())

    assert image[0].mean() == pytest.approx(expected(1, 0), abs=0.2)
    assert image[1].mean() == pytest.approx(expected(0.5, 10), abs=0.2)
    assert image[2].mean() == pytest.approx(expected(1.5, 0), abs=0.2)


def test_blur_takes_away_fine_detail():
    sharp = draw_site(order()).image.astype(float)
    soft = draw_site(dataclasses.replace(order(), batch=PLAIN.model_copy(update={"blur_um": 1.5}))).image.astype(float)
    detail = [np.abs(np.diff(image, axis=2)).mean() for image in (sharp, soft)]
    assert detail[1] < 0.8 * detail[0]


def test_no_batch_strength_means_the_same_acquisition_everywhere():
    plain = {draw_batch_effect(0.0, rng_for(seed), rng_for(seed, 1)).model_dump_json() for seed in range(5)}
    assert len(plain) == 1
    with_batch = draw_batch_effect(0.0, rng_for(1), rng_for(2))
    assert with_batch.gain == (1.0,) * 6
    assert with_batch.vignette == 0
    assert with_batch.density == 1


def test_plates_of_an_experiment_are_alike_and_experiments_are_not():
    def gains(experiment: int, plate: int) -> np.ndarray:
        return np.log(draw_batch_effect(1.0, rng_for(experiment), rng_for(experiment, plate)).gain)

    within_mean = np.mean([np.abs(gains(e, 1) - gains(e, 2)).mean() for e in range(30)])
    between = np.mean([np.abs(gains(e, 1) - gains(e + 1, 1)).mean() for e in range(30)])
    assert between > 1.8 * within_mean


def test_wells_at_the_edge_hold_fewer_and_brighter_cells():
    centre, edge = position_factors(7, 11, 1.0), position_factors(1, 11, 1.0)
    assert edge[0] < 0.8 < 0.95 < centre[0]
    assert edge[1] > centre[1]
    assert position_factors(1, 22, 0.0) == (1.0, 1.0)
    assert position_factors(7, 20, 1.0)[1] > position_factors(7, 3, 1.0)[1]


def test_stains_lie_on_the_cells_they_belong_to():
    spec = order(size=128, cell_type="RPE")
    cells = grow_cells(CELL_TYPES["RPE"], size=128, pixels_per_um=1.0, rng=rng_for(*spec.key, "cells"))
    image = draw_site(spec).image.astype(float)
    nuclei = (cells.rim < 0).astype(float)
    agreement = {
        shift: np.corrcoef(np.roll(nuclei, shift, (0, 1)).ravel(), image[0].ravel())[0, 1]
        for shift in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))
    }
    assert max(agreement, key=lambda shift: agreement[shift]) == (0, 0)
    assert agreement[0, 0] > 0.8
    core, ring = cells.rim < -1.5, (cells.rim > 1) & (cells.rim < 4)
    assert image[1][ring].mean() > 1.5 * image[1][core].mean()
    assert image[4][ring].mean() > 1.5 * image[4][core].mean()
    assert image[5][cells.rim < 6].mean() > image[5][cells.rim > 6].mean()
    is_background = cells.owner < 0
    assert all(
        image[channel][is_background].mean() < 0.5 * image[channel][~is_background].mean() for channel in range(6)
    )
