"""Parts of a prediction on disk, from which an interrupted prediction goes on."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from distangle.core.io import atomic_write, check_free_space, make_folder, sort_header
from distangle.core.untrusted_files import UnexpectedContent, read_regular_file
from distangle.errors import RunError

FOLDER = "parts"  # in the folder of the predictions, until they are complete
BLOCK_ROWS = 4096  # of a mapped array that are written at once
MAX_MEMORY = 256 << 20  # bytes of a joined array in memory; larger ones are mapped from a file


@dataclass(frozen=True, kw_only=True)
class PredictionPart:
    """Predictions of the sites of some whole plates.

    Attributes:
        rows: int64 [row], sites of the screen.
        reasons: Why each could not be read; "" if it could.
        logits: By number of views, float32 [row, class]; NaN for unreadable sites.
        embedding: By number of views, float32 [row, dimension]; NaN for unreadable sites.
        statistics: float32 [row, 2, channel], mean and standard deviation of each image; NaN for unreadable sites.
    """

    rows: np.ndarray
    reasons: tuple[str, ...]
    logits: Mapping[int, np.ndarray]
    embedding: Mapping[int, np.ndarray]
    statistics: np.ndarray


@dataclass(frozen=True, kw_only=True)
class JoinedParts:
    """All parts of a prediction, by site of the screen.

    Attributes:
        reasons: Why each site could not be read; "" if it could.
        logits: By number of views, float32 [site, class]; NaN for unreadable sites.
        embedding: By number of views, float32 [site, dimension]; NaN for unreadable sites.
        statistics: float32 [site, 2, channel]; NaN for unreadable sites.
    """

    reasons: Sequence[str]
    logits: Mapping[int, np.ndarray]
    embedding: Mapping[int, np.ndarray]
    statistics: np.ndarray


class PartFolder:
    """Write and read the parts of one prediction, one file each.

    A file appears as a whole or not at all. It depends on nothing but its sites and the origin, so several processes
    may write into one folder.

    Args:
        folder: Folder of the parts.
        plan: int64 [row] of each part, from `PartPredictor.plan`.
        origin: What the predictions depend on, such as `screen` and `weights`, each with a hash.
    """

    def __init__(self, folder: Path, plan: Sequence[np.ndarray], origin: Mapping[str, str]) -> None:
        self.folder, self.plan, self.origin = folder, plan, dict(sorted(origin.items()))

    def path(self, number: int) -> Path:
        """Return the file of a part, counted from 0."""
        return self.folder / f"part-{number + 1:05d}-of-{len(self.plan):05d}.safetensors"

    def missing(self) -> list[int]:
        """Return the numbers of the parts without a file; check the origin of the others.

        Raises:
            RunError: A part was predicted from something else, or is damaged.
        """
        missing = []
        for number in range(len(self.plan)):
            if self.path(number).exists():
                self._check(number)
            else:
                missing.append(number)
        return missing

    def check_space(self, *, bytes_per_site: int) -> None:
        """Check that the storage has room for the missing parts.

        Raises:
            StorageError: Less is free.
        """
        make_folder(self.folder)
        n_sites = sum(len(self.plan[number]) for number in self.missing())
        check_free_space(self.folder, needed=n_sites * bytes_per_site, content=f"the predictions of {n_sites:,} sites")

    def write(self, number: int, part: PredictionPart) -> Path:
        """Write one part.

        Raises:
            StorageError: The storage is full or not writable; the earlier parts stay.
        """
        arrays = {"rows": part.rows, "statistics": part.statistics}
        for n in part.logits:
            arrays |= {f"logits.{n}": part.logits[n], f"embedding.{n}": part.embedding[n]}
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        path = self.path(number)
        with atomic_write(path, size=sum(array.nbytes for array in arrays.values())) as temporary:
            reasons = {str(k): reason for k, reason in enumerate(part.reasons) if reason}
            save_file(arrays, temporary, metadata={"origin": json.dumps(self.origin), "reasons": json.dumps(reasons)})
            sort_header(temporary)
        return path

    def read(self, number: int) -> PredictionPart:
        """Read one part.

        Raises:
            RunError: It was predicted from something else, or is damaged.
        """
        path = self.path(number)
        self._check(number)
        with read_regular_file(path, fix=_fix(path)), safe_open(path, framework="numpy") as opened:
            names = set(opened.keys())
            views = sorted(int(name.partition(".")[2]) for name in names if name.startswith("logits."))
            reasons = json.loads((opened.metadata() or {})["reasons"])
            rows = opened.get_tensor("rows")
            return PredictionPart(
                rows=rows,
                reasons=tuple(str(reasons.get(str(k), "")) for k in range(len(rows))),
                logits={n: opened.get_tensor(f"logits.{n}") for n in views},
                embedding={n: opened.get_tensor(f"embedding.{n}") for n in views},
                statistics=opened.get_tensor("statistics"),
            )

    def join(self, n_sites: int) -> JoinedParts:
        """Join all parts.

        Large arrays are mapped from files in the folder, not held in memory.

        Args:
            n_sites: Sites of the screen; those of no part are NaN.

        Raises:
            RunError: A part was predicted from something else, or is damaged.
        """
        arrays: dict[str, np.ndarray] = {}
        reasons = [""] * n_sites
        views: list[int] = []
        for number in range(len(self.plan)):
            part = self.read(number)
            views = sorted(part.logits)
            columns = {"statistics": part.statistics}
            for n in views:
                columns |= {f"logits.{n}": part.logits[n], f"embedding.{n}": part.embedding[n]}
            for name, values in columns.items():
                if name not in arrays:
                    arrays[name] = allocate(self.folder / f"{name}.npy", (n_sites, *values.shape[1:]))
                arrays[name][part.rows] = values
            for row, reason in zip(part.rows.tolist(), part.reasons, strict=True):
                reasons[row] = reason
        return JoinedParts(
            reasons=reasons,
            logits={n: arrays[f"logits.{n}"] for n in views},
            embedding={n: arrays[f"embedding.{n}"] for n in views},
            statistics=arrays["statistics"],
        )

    def remove(self) -> None:
        """Remove the folder with all parts."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _check(self, number: int) -> None:
        """Check that a part belongs to this prediction.

        Raises:
            RunError: It was predicted from something else, or is damaged.
        """
        path = self.path(number)
        with read_regular_file(path, fix=_fix(path)), safe_open(path, framework="numpy") as opened:
            origin = json.loads((opened.metadata() or {})["origin"])
            if not isinstance(origin, dict):
                raise UnexpectedContent("its origin is no JSON object")
            rows = opened.get_tensor("rows")
        changed = [name for name in self.origin if origin.get(name) != self.origin[name]]
        if not changed and not np.array_equal(rows, self.plan[number]):
            changed = ["plan of the parts"]
        if changed:
            raise RunError(
                f"{path} was predicted with another {' and another '.join(changed)} than now: it changed between two "
                f"parts. To predict all parts again, remove {path.parent}; to go on, restore what the parts were "
                "predicted with."
            )


def allocate(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return a float32 array of NaN: in memory, or mapped from a file if it is large.

    Args:
        path: The file, `.npy`; its folder is made when absent.
        shape: Of the array; the first axis is the long one.

    Raises:
        StorageError: The folder is not writable.
    """
    if int(np.prod(shape)) * 4 <= MAX_MEMORY:
        return np.full(shape, np.nan, dtype=np.float32)
    make_folder(path.parent)
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    for start in range(0, len(array), BLOCK_ROWS):
        array[start : start + BLOCK_ROWS] = np.nan
    return array


def _fix(path: Path) -> str:
    return f"Remove it, and start the same command again: only this part is predicted again ({path.name})."
