"""What measuring a frozen backbone once saves: features of fixed views against every image in every epoch.

    python benchmarks/frozen_features.py            # 60 epochs, the preset's
    python benchmarks/frozen_features.py --sites 96  # fewer sites than the default

The preset `small` is trained three times on one synthetic screen, on one thread: with its features measured once;
with every crop passed through the backbone in every epoch (a CutMix too rare to happen asks for images); and the same
layer by layer, as the program did it before (a hook that does nothing asks for single layers). The ratio of CPU
seconds to the last is printed beside its limit, with the accuracy of all on the held-out experiment. Eight views and
sixty epochs bound the ratio to the second at 7.5.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from torch.nn.modules.module import register_module_forward_hook

import measure
from distangle.core.progress import no_progress
from distangle.images import probe_image
from distangle.inference import predict_run
from distangle.results import Predictions
from distangle.screen import Screen, hold_out, index, read_screen, write_screen
from distangle.synthetic import SimulationConfig, simulate
from distangle.training import resolve_config, start_run, train

LIMIT = 8.0
NEVER = "cutmix.probability=1e-12"


def make_screen(folder: Path, *, n_sites: int) -> Screen:
    """Simulate a screen of crops of 68 pixels: four experiments, six treatments."""
    wells = max(1, n_sites // (4 * 8))
    config = SimulationConfig(
        seed=1,
        image_size=68,
        magnification=0.7,
        cell_types=("U2OS",),
        experiments_per_cell_type=4,
        plates_per_experiment=1,
        plate_groups=False,
        n_treatments=6,
        wells_per_treatment=wells,
        n_positive_controls=0,
        n_negative_controls=2 * wells,
        sites_per_well=1,
        local_share=0.0,
        effect_strength=1.5,
    )
    simulate(folder / "plates", config)
    write_screen(index(folder / "plates", layout="rxrx1", probe=probe_image), folder / "screen")
    return read_screen(folder / "screen")


def train_once(screen: Screen, out: Path, *, epochs: int, changes: tuple[str, ...]) -> tuple[float, float]:
    """Return CPU seconds of a training, and its accuracy on the held-out sites."""
    folds = hold_out(screen, column="experiment", values=["U2OS-04"])
    config = resolve_config("small", ["correction.method=none", "precision=fp32", *changes], epochs=epochs)
    run = start_run(screen, folds, config, out)
    start = time.process_time()
    train(run, advance=no_progress, say=no_progress)
    seconds = time.process_time() - start
    predict_run(run, screen)
    table = Predictions.read(run.predictions, level="site", views=8).table
    held_out = table[table["Metadata_Fold"] == "held_out"]
    return seconds, float(np.mean(held_out["perturbation"] == held_out["predicted"]))


def main() -> int:
    """Train both ways, and say what was saved."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--sites", type=int, default=640)
    arguments.add_argument("--epochs", type=int, default=60)
    options = arguments.parse_args()
    measure.hold_one_thread()
    with tempfile.TemporaryDirectory() as folder:
        screen = make_screen(Path(folder), n_sites=options.sites)
        features_once = train_once(screen, Path(folder) / "once", epochs=options.epochs, changes=())
        images_each_epoch = train_once(screen, Path(folder) / "every", epochs=options.epochs, changes=(NEVER,))
        hook = register_module_forward_hook(lambda module, inputs, output: None)
        before = train_once(screen, Path(folder) / "before", epochs=options.epochs, changes=(NEVER,))
        hook.remove()
    print(f"{len(screen.sites)} sites of {screen.metadata.shape}, {options.epochs} epochs, one thread")
    print(f"features once     {features_once[0]:8.1f} CPU s, accuracy {features_once[1]:.3f}")
    print(f"images each epoch {images_each_epoch[0]:8.1f} CPU s, accuracy {images_each_epoch[1]:.3f}")
    print(f"the same by layers {before[0]:7.1f} CPU s, accuracy {before[1]:.3f}")
    measure.verdict("CPU time, images each epoch / features once", images_each_epoch[0] / features_once[0])
    holds = measure.verdict(
        "CPU time, images each epoch by layers / features once", before[0] / features_once[0], at_least=LIMIT
    )
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
