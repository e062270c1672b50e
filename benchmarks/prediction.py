"""Prediction of a screen in parts: decodes, CPU time, memory, and bytes on disk.

The screen is synthetic: 64 images of six PNG planes of random blobs, and tables that name them again and again. The
network is a small one (`resnet_small`, 64 x 64 pixels after binning). The peer is what cannot be avoided: every image
decoded once, its statistics, and eight forward passes.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

import measure  # before numpy and torch: it holds their thread pools at one
from distangle.images import ImageCache, Preprocessing, bin_pixels, cache, channel_statistics, probe_image, read_image
from distangle.inference import PredictionOptions, average_wells, parts
from distangle.inference.predict import part_predictor, site_predictions
from distangle.inference.stored_parts import part_folder, predict_missing
from distangle.model import ModelCard, ModelConfig, build_classifier
from distangle.screen import Screen, index, read_screen, write_screen

N_IMAGES, SIZE, BINNING = 64, 256, 4
CHANNELS = ("DNA", "ER", "actin", "nucleoli", "mitochondria", "Golgi")
CLASSES = tuple(f"s{k:04d}" for k in range(1139))
EMBEDDING = 64
RXRX1_SITES = 64_032


def make_screen(folder: Path) -> Screen:
    """Write the images of one plate, and index them."""
    rng = np.random.default_rng(0)
    (folder / "plates").mkdir()
    rows = []
    for well in range(N_IMAGES):
        names = []
        for channel in CHANNELS:
            names.append(f"{well}_{channel}.png")
            small = rng.gamma(1.0, 12.0, (SIZE // 4, SIZE // 4)).clip(0, 255).astype(np.uint8)
            plane = np.asarray(Image.fromarray(small).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
            noise = rng.integers(0, 6, plane.shape, dtype=np.uint8)
            Image.fromarray(np.minimum(plane, 249) + noise).save(folder / "plates" / names[-1])
        rows.append(("E1", "1", f"{'ABCDEFGH'[well // 8]}{well % 8 + 1:02d}", CLASSES[well], "treatment", *names))
    table = pd.DataFrame(rows, columns=["experiment", "plate", "well", "perturbation", "role", *CHANNELS])
    table.to_csv(folder / "plates/table.csv", index=False)
    screen = index(folder / "plates/table.csv", layout="table", channels=CHANNELS, probe=probe_image)
    write_screen(screen, folder / "screen")
    return read_screen(folder / "screen")


def repeat(screen: Screen, n_plates: int) -> Screen:
    """Return a screen of several plates with the same images."""
    plates = [screen.sites.assign(plate=f"{k:05d}") for k in range(n_plates)]
    return replace(screen, sites=pd.concat(plates, ignore_index=True))


def model_card(preprocessing: Preprocessing) -> ModelCard:
    """Return the card of a network that knows all classes of the benchmark."""
    return ModelCard(
        target="perturbation",
        classes=CLASSES,
        class_sites=(1,) * len(CLASSES),
        channels=CHANNELS,
        cell_types=(),
        preprocessing=preprocessing,
        epochs=1,
        precision="fp32",
    )


def prepare(root: str, n_plates: int) -> Callable[[], object]:
    """Return what predicts a screen of several plates into parts on disk."""
    folder = Path(root)
    torch.manual_seed(0)
    screen = repeat(read_screen(folder / "screen"), n_plates)
    config = ModelConfig(backbone="resnet_small", n_channels=6, n_perturbations=len(CLASSES), embedding_size=EMBEDDING)
    model = build_classifier(config, seed=0)
    card = model_card(Preprocessing(binning=BINNING))

    def call() -> None:
        store = ImageCache(screen, card.preprocessing, workers=1)
        predictor = part_predictor(model, card, store, PredictionOptions(views=(1, 8)))
        folder_of_parts = part_folder(predictor, folder / f"out-{n_plates}", weights_sha256="none")
        predict_missing(predictor, folder_of_parts, report=lambda *_: None, say=lambda _: None)
        store.close()
        folder_of_parts.remove()

    def peer() -> None:
        with torch.no_grad():
            for start in range(0, len(screen.sites), parts.BATCH_PLAN.size):
                rows = range(start, min(start + parts.BATCH_PLAN.size, len(screen.sites)))
                images = [bin_pixels(read_image(screen.image_paths(r), screen.pages(r)), BINNING) for r in rows]
                for image in images:
                    channel_statistics(image)
                batch = torch.from_numpy(np.stack(images)).float().contiguous(memory_format=torch.channels_last)
                for _ in range(8):
                    model(batch)

    model.eval()
    model.to(memory_format=torch.channels_last)
    call.peer = peer  # type: ignore[attr-defined]
    return call


def count_decodes(call: Callable[[], object], n_sites: int) -> float:
    """Return how often an image is decoded, on average."""
    real, n_decodes = cache.read_image, 0

    def no_read(*arguments: object) -> np.ndarray:
        nonlocal n_decodes
        n_decodes += 1
        return real(*arguments)  # type: ignore[arg-type]

    cache.read_image = no_read  # type: ignore[assignment]
    try:
        call()
    finally:
        cache.read_image = real
    return n_decodes / n_sites


def bytes_on_disk(screen: Screen, folder: Path) -> int:
    """Return the bytes of predictions of RxRx1's training set: two sites a well, one view and eight."""
    n_plates = -(-RXRX1_SITES // (2 * N_IMAGES))
    one = pd.concat([screen.sites.assign(site=1), screen.sites.assign(site=2)], ignore_index=True)
    sites = pd.concat([one.assign(plate=f"{k:05d}") for k in range(n_plates)], ignore_index=True)[:RXRX1_SITES]
    card = model_card(Preprocessing())
    total = 0
    for views in (1, 8):
        rng = np.random.default_rng(views)
        logits = rng.normal(0, 3, (len(sites), len(CLASSES))).astype(np.float32)
        embedding = rng.normal(0, 1, (len(sites), EMBEDDING)).astype(np.float32)
        predictions = site_predictions(
            replace(screen, sites=sites), card, logits, embedding, views=views, reasons=[""] * len(sites)
        )
        for level in (predictions, average_wells(predictions)):
            total += sum(path.stat().st_size for path in level.write(folder))
    return total


def main() -> int:
    verdicts = []
    with tempfile.TemporaryDirectory() as name:
        screen = make_screen(Path(name))
        n_plates = 2
        call = prepare(name, n_plates)
        for _ in range(2):
            call()  # the compiled loops begin when their start has paid
        decodes = count_decodes(call, n_plates * N_IMAGES)
        verdicts.append(measure.verdict("decodes of an image, 1 and 8 views", decodes, at_most=1.0))
        times = measure.time_variants({"ours": call, "decode and 8 forwards": call.peer}, rounds=5)  # type: ignore[attr-defined]
        measure.show_times(times)
        ratio = times["ours"].median / times["decode and 8 forwards"].median
        verdicts.append(measure.verdict("CPU time, prediction / decode and 8 forwards", ratio, at_most=1.15))
        small, large = (measure.peak_memory(prepare, name, n, calls=1) for n in (8, 16))
        measure.show_memory({"512 sites": small, "1,024 sites": large})
        verdicts.append(measure.verdict("added memory, 1,024 / 512 sites", large.added / small.added, at_most=1.1))
        megabytes = bytes_on_disk(screen, Path(name) / "stored") / 1e6
        verdicts.append(measure.verdict("MB on disk, 64,032 sites, 1,139 classes", megabytes, at_most=120))
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
