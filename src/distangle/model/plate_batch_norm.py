"""Compute and keep norm statistics of every plate of a screen."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from distangle.core.io import atomic_write, sha256_of, write_json
from distangle.errors import ConfigError, WeightsError
from distangle.images import ImageCache
from distangle.model.batch_norm import NormStatistics, Pieces, collect_contrast, collect_statistics
from distangle.model.checkpoint import NormStatisticsChoice
from distangle.model.classifier import PerturbationClassifier
from distangle.model.device_batches import batches_to_device
from distangle.screen import Screen
from distangle.screen.plate_groups import AtTest, Plate, plates_of, statistics_groups

CellTypesOf = Callable[[Sequence[int]], Tensor | None]
PIECE_PX = 32 * 512 * 512  # pixels of a channel in one forward pass: a whole plate of images of 128 x 128

CONTRAST = "contrast"
FILE = "norm_statistics.safetensors"


@dataclass(frozen=True)
class PlateBatchNorm:
    """Frozen norm statistics of plates.

    With them an image of a known plate needs no other image.

    Attributes:
        by: What was asked for.
        of_plate: Index in `collected` of each known plate; None: the running statistics.
        collected: Statistics of each group.
        words: Whose statistics each of them are, and of how many sites.
        remarks: Plates that had too few sites, and what is used for them.
        contrast: From `collect_contrast`, where controls stand for their plate; else empty.
    """

    by: AtTest
    of_plate: Mapping[Plate, int | None]
    collected: tuple[NormStatistics, ...]
    words: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    contrast: NormStatistics = field(default_factory=dict)

    def without_plates(self) -> "PlateBatchNorm":
        """Return the contrast of the training plates alone, without statistics of plates.

        The contrast belongs to the network.
        """
        return PlateBatchNorm(self.by, {}, (), (), (), self.contrast)

    def write(self, folder: Path, *, weights_sha256: str) -> list[Path]:
        """Write the statistics, then what they are as JSON beside them.

        Args:
            folder: Where the weights lie.
            weights_sha256: Of the file of the weights that they were computed with.
        """
        path = folder / FILE
        tensors = {
            f"{k}.{name}": tensor.contiguous() for k, one in enumerate(self.collected) for name, tensor in one.items()
        }
        tensors |= {f"{CONTRAST}.{name}": tensor.contiguous() for name, tensor in self.contrast.items()}
        with atomic_write(path) as temporary:
            save_file({name: tensor.cpu() for name, tensor in tensors.items()}, temporary)
        told = {
            "by": self.by,
            "weights_sha256": weights_sha256,
            "sha256": sha256_of(path),
            "statistics": list(self.words),
            "plates": [{"experiment": e, "plate": p, "statistics": k} for (e, p), k in self.of_plate.items()],
            "remarks": list(self.remarks),
        }
        write_json(path.with_suffix(".json"), told)
        return [path, path.with_suffix(".json")]

    @staticmethod
    def remove(folder: Path) -> list[Path]:
        """Remove what `write` wrote, where there is anything; return where it would lie."""
        paths = [folder / FILE, (folder / FILE).with_suffix(".json")]
        for path in paths:
            path.unlink(missing_ok=True)
        return paths

    @classmethod
    def read(cls, folder: Path, *, weights_sha256: str) -> "PlateBatchNorm | None":
        """Read what `write` wrote; None where there is nothing.

        Raises:
            WeightsError: A file is damaged, or was computed with other weights.
        """
        path = folder / FILE
        about = path.with_suffix(".json")
        if not about.exists():
            return None
        try:
            told = json.loads(about.read_text(encoding="utf-8"))
            if told["weights_sha256"] != weights_sha256:
                raise WeightsError(
                    f"{path} was computed with other weights than lie beside it. Run `distangle predict` again."
                )
            if sha256_of(path) != told["sha256"]:
                raise WeightsError(
                    f"{path} is damaged: its SHA-256 is not the one in {about.name}. Run `distangle predict` again."
                )
            tensors = load_file(path)
            collected: list[dict[str, Tensor]] = [{} for _ in told["statistics"]]
            contrast: dict[str, Tensor] = {}
            for key, tensor in tensors.items():
                number, name = key.split(".", 1)
                (contrast if number == CONTRAST else collected[int(number)])[name] = tensor
            return cls(
                by=told["by"],
                of_plate={(one["experiment"], one["plate"]): one["statistics"] for one in told["plates"]},
                collected=tuple(collected),
                words=tuple(told["statistics"]),
                remarks=tuple(told["remarks"]),
                contrast=contrast,
            )
        except (json.JSONDecodeError, KeyError, IndexError, SafetensorError, OSError) as error:
            raise WeightsError(f"{about} is damaged ({error!r}). Run `distangle predict` again.") from error


def norm_parts(
    norms: PlateBatchNorm | None, screen: Screen, rows: Sequence[int], fold: np.ndarray | None = None
) -> list[tuple[list[int], NormStatistics | None]]:
    """Group rows by their norm statistics, each group in the order of its rows.

    Args:
        norms: Of all plates of the rows; None: the running statistics for all.
        screen: The screen.
        rows: Positions in it.
        fold: Of each site of the screen, as the statistics were collected with.

    Raises:
        WeightsError: A plate is not known.
    """
    if norms is None:
        return [(list(rows), None)]
    parts: dict[int | None, list[int]] = {}
    for row, plate in zip(rows, plates_of(screen, rows, fold), strict=True):
        if plate not in norms.of_plate:
            raise WeightsError(
                f"There are no norm statistics of plate {' '.join(plate)}, only of {len(norms.of_plate)} other plates. "
                f"Predict a screen that has the whole plate first."
            )
        parts.setdefault(norms.of_plate[plate], []).append(row)
    return [(members, None if k is None else norms.collected[k]) for k, members in parts.items()]


def collect_plate_statistics(
    model: PerturbationClassifier,
    store: ImageCache,
    rows: Sequence[int],
    statistics: np.ndarray,
    *,
    choice: NormStatisticsChoice,
    cell_types: CellTypesOf,
    known: PlateBatchNorm | None = None,
    training_rows: Sequence[int] = (),
) -> PlateBatchNorm | None:
    """Compute the norm statistics of every plate of a screen that is not known yet.

    Args:
        model: Left as it was found.
        store: The images.
        rows: Readable sites: statistics rest on these and no others.
        statistics: float32 [site of the screen, 2, channel], from `measure_sites`.
        choice: Whose statistics, and how many sites they need. `controls` are the negative controls of the plate, with
            the contrast that the training plates have; `running` asks for none.
        cell_types: One-hot cell types of rows; None for a network without them.
        known: Stored statistics, taken as they are.
        training_rows: Readable sites of the training fold; for `controls`, unless `known` has the contrast.

    Returns:
        Statistics of the plates of `rows`; None for `running`.

    Raises:
        ConfigError: There is no contrast, because no training plate is here or none has enough controls.
    """
    by, fewest = choice.statistics, choice.min_sites
    if by == "running":
        return None
    kept = known if known is not None and known.by == by else PlateBatchNorm(by, {}, (), ())
    missing = [
        row
        for row, plate in zip(rows, plates_of(store.screen, rows, store.fold), strict=True)
        if plate not in kept.of_plate
    ]
    device = next(model.parameters()).device

    def pieces_of(chosen: Sequence[int]) -> Pieces:
        return _pieces(store, chosen, statistics, device=device, cell_types=cell_types)

    contrast = kept.contrast
    if by == "controls" and not contrast:
        contrast = _contrast(model, store, training_rows, pieces_of, fewest=fewest)
    groups, remarks = statistics_groups(
        store.screen, missing, by=by, min_sites=fewest, source_rows=rows, fold=store.fold
    )
    of_plate, collected, words = dict(kept.of_plate), list(kept.collected), list(kept.words)
    for group in groups:
        of_plate |= dict.fromkeys(group.plates, len(collected) if group.rows else None)
        if group.rows:
            collected.append(collect_statistics(model, pieces_of(group.rows), contrast=contrast or None))
            words.append(f"{group.description}, {len(group.rows)} sites")
    return PlateBatchNorm(by, of_plate, tuple(collected), tuple(words), (*kept.remarks, *remarks), contrast)


def _contrast(
    model: PerturbationClassifier,
    store: ImageCache,
    training_rows: Sequence[int],
    pieces_of: Callable[[Sequence[int]], Pieces],
    *,
    fewest: int,
) -> NormStatistics:
    screen, fold = store.screen, store.fold
    groups, _ = statistics_groups(
        screen, training_rows, by="controls", min_sites=fewest, source_rows=training_rows, fold=fold
    )
    places = plates_of(screen, training_rows, fold)

    def both() -> Iterator[tuple[Pieces, Pieces]]:
        for group in groups:
            if group.rows:
                whole = [row for row, place in zip(training_rows, places, strict=True) if place in group.plates]
                yield pieces_of(sorted({*whole, *group.rows})), pieces_of(group.rows)

    if not any(group.rows for group in groups):
        raise ConfigError(
            f"batch_norm.statistics=controls compares the controls of training plates with the whole plates, and of "
            f"{len(set(places))} training plates in this screen none has {fewest} readable negative controls "
            f"(batch_norm.min_sites). Predict the run's own screen first, or use batch_norm.statistics=plate."
        )
    return collect_contrast(model, both())


def _pieces(
    store: ImageCache,
    rows: Sequence[int],
    statistics: np.ndarray,
    *,
    device: torch.device,
    cell_types: CellTypesOf,
) -> Callable[[], Iterator[tuple[Tensor, Tensor | None]]]:
    """Give the images of rows in as few pieces as memory allows, all of about one size."""
    height, width = store.image(rows[0]).shape[1:]
    n_pieces = -(-len(rows) // max(32, PIECE_PX // (height * width)))
    size = -(-len(rows) // n_pieces)

    def pieces() -> Iterator[tuple[Tensor, Tensor | None]]:
        for chosen, images in batches_to_device(device, store, rows, statistics, batch_size=size):
            kinds = cell_types(chosen)
            yield images[: len(chosen)], None if kinds is None else kinds.to(device)

    return pieces
