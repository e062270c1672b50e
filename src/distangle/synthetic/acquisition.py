"""Simulate batch effects, well position, illumination, blur and camera noise."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8
from pydantic import BaseModel, ConfigDict
from scipy import ndimage

from distangle.synthetic.cells import Plane

Light = Float32[np.ndarray, "channel height width"]
Image = UInt8[np.ndarray, "channel height width"]

N_CHANNELS = 6
HALO_SIGMA_UM = 3.0  # standard deviation of the wide part of the point spread function
HALO_REACH = 3.0  # standard deviations


class BatchEffect(BaseModel):
    """Batch effects of one plate: technical differences of its images.

    `gain` and `offset` (gray values) per channel, `blur_um` the standard deviation of the blur in micrometers,
    `vignette` the share of the light lost in the farthest corner, in [0, 1), `centre` of the illumination (row,
    column) as shares of the image, `density` a factor on the number of cells.

    The other effects remain after every image and channel has been standardized; each per channel: `gamma` the
    exponent of the camera's response, `wings` the share of the light in the wide part of the point spread function,
    `defocus_um` blur of this channel alone, `texture` (gray values) and `texture_um` strength and size of a structure
    in the background.
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
    """Draw the batch effects of a plate: those of its experiment plus its own.

    Args:
        strength: 0 gives the same acquisition without batch effects for every plate.
        experiment_rng: Equal for all plates of an experiment.
        plate_rng: Of the plate.
        optics: Strength of the effects that remain after standardizing an image.
    """
    gain = np.exp(strength * (experiment_rng.normal(0, 0.28, N_CHANNELS) + plate_rng.normal(0, 0.1, N_CHANNELS))).clip(
        0.4, 1.9
    )
    offset = 2.5 + strength * (experiment_rng.uniform(-1, 2.5, N_CHANNELS) + plate_rng.uniform(-0.4, 0.4, N_CHANNELS))
    blur = 0.4 + strength * (experiment_rng.uniform(0, 0.22) + plate_rng.uniform(0, 0.1))
    vignette = strength * (experiment_rng.uniform(0.05, 0.25) + plate_rng.uniform(0, 0.1))
    center = 0.5 + strength * plate_rng.uniform(-0.2, 0.2, 2)
    density = np.exp(strength * (experiment_rng.normal(0, 0.1) + plate_rng.normal(0, 0.05)))
    return BatchEffect(
        gain=tuple(round(float(value), 4) for value in gain),
        offset=tuple(round(float(max(value, 0)), 4) for value in offset),
        blur_um=round(float(blur), 4),
        vignette=round(float(min(vignette, 0.8)), 4),
        centre=(round(float(center[0]), 4), round(float(center[1]), 4)),
        density=round(float(np.clip(density, 0.6, 1.4)), 4),
        **_draw_optics(optics, experiment_rng, plate_rng),
    )


def position_factors(row: int, column: int, strength: float) -> tuple[float, float]:
    """Return the factors of a well's position on cell density and on intensity.

    Towards the edge of the plate, cells are fewer and brighter (evaporation). Intensity drifts along the columns, as
    in staining and reading a plate.

    Args:
        row: Zero based, of 16.
        column: Zero based, of 24.
        strength: 0 gives 1 and 1.
    """
    edge = max(abs(row - 7.5) / 6.5, abs(column - 11.5) / 10.5) ** 3
    drift = (column - 11.5) / 10.5
    return float(np.exp(-0.35 * strength * edge)), float(np.exp(strength * (0.2 * edge + 0.15 * drift)))


def illumination(size: int, batch: BatchEffect) -> Plane:
    """Return the illumination of each pixel: 1 at the center, lower outside."""
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size
    distance = (grid[:, None] - batch.centre[0]) ** 2 + (grid[None, :] - batch.centre[1]) ** 2
    max_distance = sum(max(center, 1 - center) ** 2 for center in batch.centre)
    factor: Plane = (1 - np.float32(batch.vignette) * distance / max_distance).astype(np.float32)
    return factor


def reach_px(batch: BatchEffect, pixels_per_um: float) -> float:
    """Return the distance that light spreads, in pixels.

    A change of the light affects no pixel beyond it.
    """
    blur = float(np.hypot(batch.blur_um, max(batch.defocus_um)))
    halo = HALO_REACH * HALO_SIGMA_UM if any(batch.wings) else 0.0
    return (4 * blur + halo) * pixels_per_um + 1


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
    """Simulate the image: blur, haze, illumination, gain, offset, noise, eight bits.

    The noise is drawn first and scaled by the signal, so that equal light gives an equal image.

    Args:
        light: Emitted by each channel's stain, about 1 in stained structures.
        body: Soft mask of the cells, in [0, 1]; the source of haze.
        batch: Of the plate.
        levels: Gray value of light 1 in each channel.
        intensity: Factor of the well's position.
        pixels_per_um: Magnification.
        rng: Of the camera.
    """
    size = body.shape[0]
    haze_width = 2 * int(3 * pixels_per_um) + 1
    haze = ndimage.uniform_filter(ndimage.uniform_filter(body, haze_width, mode="nearest"), haze_width, mode="nearest")
    illumination_factor = illumination(size, batch) * np.float32(intensity)
    image = np.empty((N_CHANNELS, size, size), np.uint8)
    for channel in range(N_CHANNELS):
        noise = rng.standard_normal((size, size), dtype=np.float32)
        blur = np.hypot(batch.blur_um, batch.defocus_um[channel]) * pixels_per_um
        sharp = ndimage.gaussian_filter(light[channel], blur, truncate=4)
        if batch.wings[channel]:
            halo = ndimage.gaussian_filter(sharp, HALO_SIGMA_UM * pixels_per_um, truncate=HALO_REACH)
            sharp = (1 - np.float32(batch.wings[channel])) * sharp + np.float32(batch.wings[channel]) * halo
        signal = (sharp + 0.1 * haze) * illumination_factor * np.float32(levels[channel] * batch.gain[channel])
        if batch.texture[channel]:
            texture = ndimage.gaussian_filter(
                rng.standard_normal((size, size), dtype=np.float32), batch.texture_um[channel] * pixels_per_um
            )
            signal = np.maximum(signal + np.float32(batch.texture[channel] / texture.std()) * texture, 0)
        signal = 255 * np.tanh(signal / 255)
        if batch.gamma[channel] != 1:
            signal = 255 * (signal / 255) ** np.float32(batch.gamma[channel])
        signal = signal + batch.offset[channel]
        noisy = signal + noise * np.sqrt(0.35 + 0.05 * signal)
        image[channel] = np.clip(np.rint(noisy), 0, 255)
    return image


def _draw_optics(
    strength: float, experiment_rng: np.random.Generator, plate_rng: np.random.Generator
) -> dict[str, tuple[float, ...]]:
    """Draw optical effects of an experiment and of a plate on each channel."""
    if strength == 0:
        return {}

    def draw(experiment: float, plate: float) -> np.ndarray:
        return experiment_rng.normal(0, experiment, N_CHANNELS) + plate_rng.normal(0, plate, N_CHANNELS)

    optics = {
        "gamma": np.exp(strength * draw(0.3, 0.05)).clip(0.35, 2.5),
        "wings": (strength * np.abs(draw(0.25, 0.04))).clip(0, 0.8),
        "defocus_um": (strength * np.abs(draw(0.4, 0.06))).clip(0, 3),
        "texture": (strength * np.abs(draw(4.0, 0.6))).clip(0, 30),
        "texture_um": np.exp(draw(0.5, 0.05)).clip(0.4, 4),
    }
    return {name: tuple(round(float(value), 4) for value in values) for name, values in optics.items()}
