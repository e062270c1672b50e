"""Simulate the microscope and the day.

Batch effects, well position, illumination, blur and camera noise.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8
from pydantic import BaseModel, ConfigDict
from scipy import ndimage

from distangle.synthetic.cells import Plane

Light = Float32[np.ndarray, "channel height width"]
Image = UInt8[np.ndarray, "channel height width"]

N_CHANNELS = 6
WINGS_UM = 3.0  # sigma of the wide part of the point spread
WINGS_REACH = 3.0  # sigmas


class BatchEffect(BaseModel):
    """What one plate did to its images: nothing of it is biology.

    `gain` and `offset` (grey values) per channel, `blur_um` the sigma of the blur in micrometres, `vignette` the
    share of the light lost in the far corner, in [0, 1), `centre` of the illumination (row, column) in shares of
    the image, `density` a factor on the number of cells.

    The rest stays after every image and channel has been standardised; each per channel: `gamma` the exponent of the
    camera's response, `wings` the share of the light in the wide part of the point spread, `defocus_um` blur of this
    stain alone, `texture` (grey values) and `texture_um` strength and size of a structure in the background.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gain: tuple[float, ...]
    offset: tuple[float, ...]
    blur_um: float
    vignette: float
    centre: tuple[float, float]
    density: float
    gamma: tuple[float, ...] = (1.0,) * N_CHANNELS
    wings: tuple[float, ...] = (0.0,) * N_CHANNELS
    defocus_um: tuple[float, ...] = (0.0,) * N_CHANNELS
    texture: tuple[float, ...] = (0.0,) * N_CHANNELS
    texture_um: tuple[float, ...] = (1.0,) * N_CHANNELS


def draw_batch_effect(
    strength: float,
    experiment_rng: np.random.Generator,
    plate_rng: np.random.Generator,
    *,
    optics: float = 0.0,
) -> BatchEffect:
    """Draw the batch effects of a plate: those of its experiment, and its own on top.

    Args:
        strength: 0 gives the same plain acquisition for every plate.
        experiment_rng: Equal for all plates of an experiment.
        plate_rng: The plate's own.
        optics: The same for what standardising an image does not remove.
    """
    gain = np.exp(strength * (experiment_rng.normal(0, 0.28, N_CHANNELS) + plate_rng.normal(0, 0.1, N_CHANNELS))).clip(
        0.4, 1.9
    )
    offset = 2.5 + strength * (experiment_rng.uniform(-1, 2.5, N_CHANNELS) + plate_rng.uniform(-0.4, 0.4, N_CHANNELS))
    blur = 0.4 + strength * (experiment_rng.uniform(0, 0.22) + plate_rng.uniform(0, 0.1))
    vignette = strength * (experiment_rng.uniform(0.05, 0.25) + plate_rng.uniform(0, 0.1))
    centre = 0.5 + strength * plate_rng.uniform(-0.2, 0.2, 2)
    density = np.exp(strength * (experiment_rng.normal(0, 0.1) + plate_rng.normal(0, 0.05)))
    return BatchEffect(
        gain=tuple(round(float(value), 4) for value in gain),
        offset=tuple(round(float(max(value, 0)), 4) for value in offset),
        blur_um=round(float(blur), 4),
        vignette=round(float(min(vignette, 0.8)), 4),
        centre=(round(float(centre[0]), 4), round(float(centre[1]), 4)),
        density=round(float(np.clip(density, 0.6, 1.4)), 4),
        **_draw_optics(optics, experiment_rng, plate_rng),
    )


def _draw_optics(
    strength: float, experiment_rng: np.random.Generator, plate_rng: np.random.Generator
) -> dict[str, tuple[float, ...]]:
    """Draw what an experiment's microscope does to every channel, and a little that each plate adds."""
    if strength == 0:
        return {}

    def both(experiment: float, plate: float) -> np.ndarray:
        return experiment_rng.normal(0, experiment, N_CHANNELS) + plate_rng.normal(0, plate, N_CHANNELS)

    drawn = {
        "gamma": np.exp(strength * both(0.3, 0.05)).clip(0.35, 2.5),
        "wings": (strength * np.abs(both(0.25, 0.04))).clip(0, 0.8),
        "defocus_um": (strength * np.abs(both(0.4, 0.06))).clip(0, 3),
        "texture": (strength * np.abs(both(4.0, 0.6))).clip(0, 30),
        "texture_um": np.exp(both(0.5, 0.05)).clip(0.4, 4),
    }
    return {name: tuple(round(float(value), 4) for value in values) for name, values in drawn.items()}


def position_factors(row: int, column: int, strength: float) -> tuple[float, float]:
    """Return the factors of a well's position on cell density and on intensity.

    Towards the edge of the plate cells are fewer and brighter (evaporation), and intensity drifts along the
    columns as the plate is stained and read.

    Args:
        row: Zero based, of 16.
        column: Zero based, of 24.
        strength: 0 gives 1 and 1.
    """
    edge = max(abs(row - 7.5) / 6.5, abs(column - 11.5) / 10.5) ** 3
    drift = (column - 11.5) / 10.5
    return float(np.exp(-0.35 * strength * edge)), float(np.exp(strength * (0.2 * edge + 0.15 * drift)))


def illumination(size: int, batch: BatchEffect) -> Plane:
    """Return the illumination of a plate: 1 at the centre, falling off smoothly.

    It multiplies every image.
    """
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size
    distance = (grid[:, None] - batch.centre[0]) ** 2 + (grid[None, :] - batch.centre[1]) ** 2
    farthest = sum(max(centre, 1 - centre) ** 2 for centre in batch.centre)
    field: Plane = (1 - np.float32(batch.vignette) * distance / farthest).astype(np.float32)
    return field


def reach_px(batch: BatchEffect, pixels_per_um: float) -> float:
    """Return how far light spreads at most, in pixels.

    Beyond it a change leaves the image as it was.
    """
    blur = float(np.hypot(batch.blur_um, max(batch.defocus_um)))
    wide = WINGS_REACH * WINGS_UM if any(batch.wings) else 0.0
    return (4 * blur + wide) * pixels_per_um + 1


def acquire(
    light: Light,
    body: Plane,
    batch: BatchEffect,
    *,
    levels: Sequence[float],
    intensity: float,
    pixels_per_um: float,
    rng: np.random.Generator,
) -> Image:
    """Take the image: blur, haze, illumination, gain, offset, noise, eight bits.

    The noise is drawn first and scaled by the signal, so where the light is equal the image is equal.

    Args:
        light: What the stains emit, about 1 where a stain is.
        body: Soft mask of the cells, in [0, 1]; haze follows it and not the stains.
        batch: Of the plate.
        levels: Grey values of light 1 in each channel.
        intensity: Factor of the well's position.
        pixels_per_um: Magnification.
        rng: Of the camera.
    """
    size = body.shape[0]
    broad = 2 * int(3 * pixels_per_um) + 1
    haze = ndimage.uniform_filter(ndimage.uniform_filter(body, broad, mode="nearest"), broad, mode="nearest")
    field = illumination(size, batch) * np.float32(intensity)
    image = np.empty((N_CHANNELS, size, size), np.uint8)
    for channel in range(N_CHANNELS):
        grain = rng.standard_normal((size, size), dtype=np.float32)
        blur = np.hypot(batch.blur_um, batch.defocus_um[channel]) * pixels_per_um
        sharp = ndimage.gaussian_filter(light[channel], blur, truncate=4)
        if batch.wings[channel]:
            wide = ndimage.gaussian_filter(sharp, WINGS_UM * pixels_per_um, truncate=WINGS_REACH)
            sharp = (1 - np.float32(batch.wings[channel])) * sharp + np.float32(batch.wings[channel]) * wide
        signal = (sharp + 0.1 * haze) * field * np.float32(levels[channel] * batch.gain[channel])
        if batch.texture[channel]:
            rough = ndimage.gaussian_filter(
                rng.standard_normal((size, size), dtype=np.float32), batch.texture_um[channel] * pixels_per_um
            )
            signal = np.maximum(signal + np.float32(batch.texture[channel] / rough.std()) * rough, 0)
        signal = 255 * np.tanh(signal / 255)
        if batch.gamma[channel] != 1:
            signal = 255 * (signal / 255) ** np.float32(batch.gamma[channel])
        signal = signal + batch.offset[channel]
        noisy = signal + grain * np.sqrt(0.35 + 0.05 * signal)
        image[channel] = np.clip(np.rint(noisy), 0, 255)
    return image
