"""Compute and store batch-norm statistics of every plate of a screen."""

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
from distangle.model.batch_norm import ImageBatches, NormStatistics, collect_contrast, collect_statistics
from distangle.model.checkpoint import NormStatisticsChoice
from distangle.model.classifier import PerturbationClassifier
from distangle.model.device_batches import batches_to_device
from distangle.screen import Screen
from distangle.screen.plate_groups import Plate, StatisticsSource, plates_of, statistics_groups

CellTypesOf = Callable[[Sequence[int]], Tensor | None]
BATCH_PX = 32 * 512 * 512  # pixels of a channel in one forward pass: a whole plate of 128 x 128 images

CONTRAST = "contrast"
FILE_NAME = "norm_statistics.safetensors"


@dataclass(frozen=True)
class PlateBatchNorm:
    """Fixed batch-norm statistics of plates; with them an image is predicted alone.

    Attributes:
        by: Whose statistics: of the plate, the experiment or the controls.
        index_of_plate: Index in `statistics` of each plate; None: the running statistics.
        statistics: Statistics of each group.
        descriptions: Whose statistics each of them are, and of how many sites.
        remarks: Plates with too few sites, and what they use instead.
        contrast: From `collect_contrast`, if statistics come from controls; else empty.
    """

    by: StatisticsSource
    index_of_plate: Mapping[Plate, int | None]
    statistics: tuple[NormStatistics, ...]
    descriptions: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    contrast: NormStatistics = field(default_factory=dict)

    def without_plates(self) -> "PlateBatchNorm":
        """Return the contrast of the training plates without the statistics of any plate.

        The contrast belongs to the network, not to a screen.
        """
        return PlateBatchNorm(self.by, {}, (), (), (), self.contrast)

    def join(self, other: "PlateBatchNorm") -> "PlateBatchNorm":
        """Return these statistics with those of other plates.

        Args:
            other: Statistics of plates that have none here.
        """
        n = len(self.statistics)
        indices = {plate: None if k is None else k + n for plate, k in other.index_of_plate.items()}
        return PlateBatchNorm(
            self.by,
            {**self.index_of_plate, **indices},
            (*self.statistics, *other.statistics),
            (*self.descriptions, *other.descriptions),
            (*self.remarks, *other.remarks),
            self.contrast,
        )

    def write(self, folder: Path, *, weights_sha256: str) -> list[Path]:
        """Write the statistics, then their description as JSON next to them.

        Args:
            folder: Folder of the weights.
            weights_sha256: SHA-256 of the weights file that the statistics were computed with.
        """
        path = folder / FILE_NAME
        tensors = {
            f"{k}.{name}": tensor.contiguous()
            for k, statistics in enumerate(self.statistics)
            for name, tensor in statistics.items()
        }
        tensors |= {f"{CONTRAST}.{name}": tensor.contiguous() for name, tensor in self.contrast.items()}
        with atomic_write(path) as temporary:
            save_file({name: tensor.cpu() for name, tensor in tensors.items()}, temporary)
        values = {
            "by": self.by,
            "weights_sha256": weights_sha256,
            "sha256": sha256_of(path),
            "statistics": list(self.descriptions),
            "plates": [{"experiment": e, "plate": p, "statistics": k} for (e, p), k in self.index_of_plate.items()],
            "remarks": list(self.remarks),
        }
        write_json(path.with_suffix(".json"), values)
        return [path, path.with_suffix(".json")]

    @staticmethod
    def remove(folder: Path) -> list[Path]:
        """Remove the files of `write`, if any; return their paths."""
        paths = [folder / FILE_NAME, (folder / FILE_NAME).with_suffix(".json")]
        for path in paths:
            path.unlink(missing_ok=True)
        return paths

    @classmethod
    def read(cls, folder: Path, *, weights_sha256: str) -> "PlateBatchNorm | None":
        """Read the files of `write`; return None if there are none.

        Raises:
            WeightsError: A file is damaged, or was computed with other weights.
        """
        path = folder / FILE_NAME
        json_path = path.with_suffix(".json")
        if not json_path.exists():
            return None
        try:
            values = json.loads(json_path.read_text(encoding="utf-8"))
            if values["weights_sha256"] != weights_sha256:
                raise WeightsError(
                    f"{path} was computed with other weights than those next to it. Run `distangle predict` again."
                )
            if sha256_of(path) != values["sha256"]:
                raise WeightsError(
                    f"{path} is damaged: its SHA-256 differs from that in {json_path.name}. "
                    "Run `distangle predict` again."
                )
            tensors = load_file(path)
            statistics: list[dict[str, Tensor]] = [{} for _ in values["statistics"]]
            contrast: dict[str, Tensor] = {}
            for key, tensor in tensors.items():
                index, name = key.split(".", 1)
                (contrast if index == CONTRAST else statistics[int(index)])[name] = tensor
            return cls(
                by=values["by"],
                index_of_plate={
                    (plate["experiment"], plate["plate"]): plate["statistics"] for plate in values["plates"]
                },
                statistics=tuple(statistics),
                descriptions=tuple(values["statistics"]),
                remarks=tuple(values["remarks"]),
                contrast=contrast,
            )
        except (json.JSONDecodeError, KeyError, IndexError, SafetensorError, OSError) as error:
            raise WeightsError(f"{json_path} is damaged ({error!r}). Run `distangle predict` again.") from error


def rows_by_statistics(
    norms: PlateBatchNorm | None, screen: Screen, rows: Sequence[int], fold: np.ndarray | None = None
) -> list[tuple[list[int], NormStatistics | None]]:
    """Group rows by their batch-norm statistics, each group in the order of its rows.

    Args:
        norms: Statistics of all plates of the rows; None: the running statistics for all.
        screen: The screen.
        rows: Positions in it.
        fold: Fold of each site of the screen, as in the computation of the statistics.

    Raises:
        WeightsError: A plate has no statistics.
    """
    if norms is None:
        return [(list(rows), None)]
    groups: dict[int | None, list[int]] = {}
    for row, plate in zip(rows, plates_of(screen, rows, fold), strict=True):
        if plate not in norms.index_of_plate:
            raise WeightsError(
                f"Plate {' '.join(plate)} has no batch-norm statistics, {len(norms.index_of_plate)} other plates have. "
                "Predict a screen that contains the whole plate first."
            )
        groups.setdefault(norms.index_of_plate[plate], []).append(row)
    return [(members, None if k is None else norms.statistics[k]) for k, members in groups.items()]


def collect_plate_statistics(
    model: PerturbationClassifier,
    store: ImageCache,
    rows: Sequence[int],
    statistics: np.ndarray,
    *,
    choice: NormStatisticsChoice,
    cell_types: CellTypesOf,
    stored: PlateBatchNorm | None = None,
    training_rows: Sequence[int] = (),
) -> PlateBatchNorm | None:
    """Compute the batch-norm statistics of every plate of a screen that has none yet.

    Args:
        model: Its mode and buffers are restored.
        store: The images.
        rows: Readable sites; the statistics use only these.
        statistics: float32 [site of the screen, 2, channel], from `fit_normalization`.
        choice: Whose statistics, and how many sites they need. `controls` are the negative controls of the plate, with
            the contrast of the training plates; `running` needs no computation.
        cell_types: Returns one-hot cell types of rows; None for a network without them.
        stored: Statistics computed before; they are kept.
        training_rows: Readable sites of the training fold; needed for `controls` unless `stored` has the contrast.

    Returns:
        Statistics of the plates of `rows`; None for `running`.

    Raises:
        ConfigError: There is no contrast, because the screen has no training plate or none has enough controls.
    """
    by, min_sites = choice.statistics, choice.min_sites
    if by == "running":
        return None
    previous = stored if stored is not None and stored.by == by else PlateBatchNorm(by, {}, (), ())
    missing = [
        row
        for row, plate in zip(rows, plates_of(store.screen, rows, store.fold), strict=True)
        if plate not in previous.index_of_plate
    ]
    device = next(model.parameters()).device

    def batches_of(members: Sequence[int]) -> ImageBatches:
        return _image_batches(store, members, statistics, device=device, cell_types=cell_types)

    contrast = previous.contrast
    if by == "controls" and not contrast:
        contrast = _training_contrast(model, store, training_rows, batches_of, min_sites=min_sites)
    groups, remarks = statistics_groups(
        store.screen, missing, by=by, min_sites=min_sites, source_rows=rows, fold=store.fold
    )
    index_of_plate = dict(previous.index_of_plate)
    plate_statistics, descriptions = list(previous.statistics), list(previous.descriptions)
    for group in groups:
        index_of_plate |= dict.fromkeys(group.plates, len(plate_statistics) if group.rows else None)
        if group.rows:
            plate_statistics.append(collect_statistics(model, batches_of(group.rows), contrast=contrast or None))
            descriptions.append(f"{group.description}, {len(group.rows)} sites")
    return PlateBatchNorm(
        by, index_of_plate, tuple(plate_statistics), tuple(descriptions), (*previous.remarks, *remarks), contrast
    )


def _training_contrast(
    model: PerturbationClassifier,
    store: ImageCache,
    training_rows: Sequence[int],
    batches_of: Callable[[Sequence[int]], ImageBatches],
    *,
    min_sites: int,
) -> NormStatistics:
    screen, fold = store.screen, store.fold
    groups, _ = statistics_groups(
        screen, training_rows, by="controls", min_sites=min_sites, source_rows=training_rows, fold=fold
    )
    plates = plates_of(screen, training_rows, fold)

    def pairs() -> Iterator[tuple[ImageBatches, ImageBatches]]:
        for group in groups:
            if group.rows:
                plate_rows = [row for row, plate in zip(training_rows, plates, strict=True) if plate in group.plates]
                yield batches_of(sorted({*plate_rows, *group.rows})), batches_of(group.rows)
                store.release(plate_rows)

    if not any(group.rows for group in groups):
        raise ConfigError(
            f"batch_norm.statistics=controls compares the controls of training plates with the whole plates, but "
            f"none of the {len(set(plates))} training plates in this screen has {min_sites} readable negative controls "
            f"(batch_norm.min_sites). Predict the run's own screen first, or use batch_norm.statistics=plate."
        )
    return collect_contrast(model, pairs())


def _image_batches(
    store: ImageCache,
    rows: Sequence[int],
    statistics: np.ndarray,
    *,
    device: torch.device,
    cell_types: CellTypesOf,
) -> Callable[[], Iterator[tuple[Tensor, Tensor | None]]]:
    """Return the images of rows in few batches of about equal size."""
    height, width = store.image(rows[0]).shape[1:]
    n_batches = -(-len(rows) // max(32, BATCH_PX // (height * width)))
    size = -(-len(rows) // n_batches)

    def batches() -> Iterator[tuple[Tensor, Tensor | None]]:
        for batch, images in batches_to_device(device, store, rows, statistics, batch_size=size):
            types = cell_types(batch)
            yield images[: len(batch)], None if types is None else types.to(device)

    return batches
