"""Test batch effects that standardizing an image does not remove."""

import numpy as np
import pytest

from distangle.core.random import rng_for
from distangle.synthetic.acquisition import HALO_SIGMA_UM, BatchEffect, acquire, draw_batch_effect, reach_px
from distangle.synthetic.effects import Effect
from distangle.synthetic.site import SiteSpec, draw_site

PLAIN = BatchEffect(gain=(1.0,) * 6, offset=(0.0,) * 6, blur_um=0.4, vignette=0.0, centre=(0.5, 0.5), density=1.0)
SIZE = 96


def acquired_image(light: np.ndarray, **changes: object) -> np.ndarray:
    """Acquire light in channel 1 of six, without cells; float [channel, row, column]."""
    lights = np.zeros((6, SIZE, SIZE), np.float32)
    lights[0] = light
    image = acquire(
        lights,
        np.zeros((SIZE, SIZE), np.float32),
        PLAIN.model_copy(update=changes),
        levels=(100.0,) * 6,
        intensity=1.0,
        pixels_per_um=1.0,
        rng=rng_for(3, "camera"),
    )
    return image.astype(float)


def first(value: float, rest: float = 0.0) -> tuple[float, ...]:
    return (value, *(rest,) * 5)


def test_gamma_is_the_exponent_of_the_response() -> None:
    flat = np.full((SIZE, SIZE), 0.8, np.float32)
    linear = 255 * np.tanh(80 / 255)
    for gamma in (0.5, 1.0, 2.0):
        expected = 255 * (linear / 255) ** gamma
        assert acquired_image(flat, gamma=first(gamma, 1.0))[0].mean() == pytest.approx(expected, abs=0.5)


def test_wings_spread_their_share_of_the_light() -> None:
    point = np.zeros((SIZE, SIZE), np.float32)
    point[48, 48] = 40.0
    grid = np.hypot(*(np.arange(SIZE)[side] - 48 for side in (np.s_[:, None], np.s_[None, :])))
    sharp, winged = (acquired_image(point, wings=first(share), blur_um=1.0)[0] for share in (0.0, 0.5))
    ring = (grid > 4) & (grid < 9)
    assert sharp[ring].mean() < 0.5
    expected = (
        0.5
        * 40
        * 100
        / (2 * np.pi * (HALO_SIGMA_UM**2 + 1))
        * np.exp(-(grid[ring] ** 2) / (2 * (HALO_SIGMA_UM**2 + 1)))
    )
    assert winged[ring].mean() == pytest.approx(expected.mean(), rel=0.15)


def test_wings_take_their_light_from_the_sharp_part() -> None:
    square = np.zeros((SIZE, SIZE), np.float32)
    square[40:56, 40:56] = 0.4
    sharp, winged = (acquired_image(square, wings=first(share), offset=(20.0,) * 6)[0].sum() for share in (0.0, 0.6))
    assert winged - 20 * SIZE**2 == pytest.approx(sharp - 20 * SIZE**2, rel=0.03)


def test_defocus_blurs_its_stain_and_no_other() -> None:
    point = np.zeros((6, SIZE, SIZE), np.float32)
    point[:2, 48, 48] = 20.0
    batch = PLAIN.model_copy(update={"defocus_um": first(2.0)})
    image = acquire(
        point,
        np.zeros((SIZE, SIZE), np.float32),
        batch,
        levels=(60.0,) * 6,
        intensity=1.0,
        pixels_per_um=1.0,
        rng=rng_for(3, "camera"),
    )
    assert image[0].max() < 0.3 * image[1].max()


def test_texture_has_its_strength_and_its_size() -> None:
    flat = np.full((SIZE, SIZE), 0.8, np.float32)
    for grain_um in (1.0, 3.0):
        image = acquired_image(flat, texture=first(12.0), texture_um=(grain_um,) * 6)[0]
        assert image.std() == pytest.approx(12.0, rel=0.2)
        centred = image - image.mean()
        neighbor_correlation = (centred[:, 2:] * centred[:, :-2]).mean() / centred.var()
        assert neighbor_correlation == pytest.approx(
            np.exp(-(2**2) / (4 * grain_um**2)), abs=0.12
        )  # of a Gaussian filter's noise


def test_without_optics_every_byte_is_as_it_was_and_with_them_the_rest_of_the_batch_is() -> None:
    default, explicit = (
        draw_batch_effect(1.0, rng_for(1), rng_for(1, 1), **options) for options in ({}, {"optics": 1.0})
    )
    assert default == draw_batch_effect(1.0, rng_for(1), rng_for(1, 1), optics=0.0)
    new_settings = {"gamma", "wings", "defocus_um", "texture", "texture_um"}
    assert default.model_dump(exclude=new_settings) == explicit.model_dump(exclude=new_settings)
    assert all(getattr(default, name) != getattr(explicit, name) for name in new_settings)
    assert (default.gamma, default.wings, default.texture) == ((1.0,) * 6, (0.0,) * 6, (0.0,) * 6)


def test_plates_of_an_experiment_share_most_of_their_optics() -> None:
    def gammas(experiment: int, plate: int) -> np.ndarray:
        return np.log(draw_batch_effect(0.0, rng_for(experiment), rng_for(experiment, plate), optics=1.0).gamma)

    within_mean = np.mean([np.abs(gammas(e, 1) - gammas(e, 2)).mean() for e in range(30)])
    between = np.mean([np.abs(gammas(e, 1) - gammas(e + 1, 1)).mean() for e in range(30)])
    assert between > 3 * within_mean


def order(batch: BatchEffect, effect: Effect) -> SiteSpec:
    return SiteSpec(
        key=(5, "test"),
        cell_type="HUVEC",
        size=160,
        pixels_per_um=1.0,
        batch=batch,
        density=1.0,
        intensity=1.0,
        effect=effect,
    )


def test_standardising_removes_gain_and_offset_but_not_the_optics() -> None:
    def standardised(batch: BatchEffect) -> np.ndarray:
        image = draw_site(order(batch, Effect())).image.astype(float)
        return (image - image.mean((1, 2), keepdims=True)) / image.std((1, 2), keepdims=True)

    plain = standardised(PLAIN)
    brighter = standardised(PLAIN.model_copy(update={"gain": (1.3,) * 6, "offset": (5.0,) * 6}))
    other = standardised(draw_batch_effect(0.0, rng_for(4), rng_for(4, 1), optics=1.0))
    assert np.abs(brighter - plain).mean() < 0.25 * np.abs(other - plain).mean()


def test_a_local_effect_stays_in_its_place_also_behind_strong_optics() -> None:
    batch = draw_batch_effect(1.0, rng_for(2), rng_for(2, 1), optics=1.0)
    plain = draw_site(order(batch, Effect()))
    with_effect = draw_site(order(batch, Effect(("nuclei_speckled",), 1.0, local=True)))
    place = with_effect.place
    assert place is not None
    grid = np.arange(160)
    distance = np.hypot(grid[:, None] - place.row, grid[None, :] - place.column)
    differs = (plain.image != with_effect.image).any(axis=0)
    assert differs.any()
    assert distance[differs].max() <= place.radius
    assert reach_px(batch, 1.0) > 3 * HALO_SIGMA_UM
