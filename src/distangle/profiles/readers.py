"""Read profiles from feature tables, DeepProfiler and AnnData files, and runs."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from distangle.core.untrusted_files import read_regular_file, reason_of
from distangle.errors import ProfileError, brief
from distangle.profiles.metadata import join_metadata
from distangle.profiles.run_reader import RunRows, Source, is_run, read_run
from distangle.profiles.table_reader import FIX, read_feature_table
from distangle.results.profiles import Profiles
from distangle.screen.plates import split_well, well_name
from distangle.screen.roles import Role, role_of

PERTURBATION_COLUMNS = (
    "Metadata_Perturbation",
    "Metadata_JCP2022",
    "Metadata_broad_sample",
    "Metadata_Compound",
    "Metadata_gene",
    "Metadata_treatment",
)
"""Columns that may name the perturbation, the preferred first."""
_EXPERIMENTS = ("Metadata_Batch", "Metadata_Week")
_DOSES = ("Metadata_Concentration", "Metadata_Dose", "Metadata_dose", "Metadata_mmoles_per_liter")
_ROLES = ("Metadata_Role", "Metadata_control_type", "Metadata_pert_type")
_NEGATIVE_NAMES = ("dmso", "vehicle", "mock")
_MOST_MISSING = 0.05
Refusals = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class ProfilesFile:
    """Profiles of a source and what was refused.

    Attributes:
        profiles: The rows that can be used.
        n_found: Rows found; a DeepProfiler file is a row.
        refused: Row or file, and the reason.
        left_out: Feature, and why it was left out of every row.
        n_trained: Sites of a run that are not used because the network was trained on them.
        notes: Sentences for the reader.
    """

    profiles: Profiles
    n_found: int
    refused: Refusals = ()
    left_out: Refusals = ()
    n_trained: int = 0
    notes: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Return how many rows were found, used and refused."""
        text = f"{self.n_found} rows found: {len(self.profiles)} used, {len(self.refused)} refused"
        if self.n_trained:
            text += f", {self.n_trained} left out (the network was trained on them)"
        text += "."
        if self.left_out:
            n = len(self.left_out)
            features = _names([f"{brief(name)} ({reason})" for name, reason in self.left_out], max_length=160)
            text += f" {n} feature{'' if n == 1 else 's'} left out: {features}."
        return text


def read_profiles(
    path: Path,
    *,
    perturbation: str | None = None,
    negative_control: Sequence[str] = (),
    metadata: Path | None = None,
    of_run: RunRows | None = None,
) -> ProfilesFile:
    """Read profiles and check every row.

    Args:
        path: A CSV or Parquet table with `Metadata_*` columns or a folder of such tables, a DeepProfiler `.npz` file
            or folder (`PLATE/WELL/SITE.npz` or `PLATE/WELL_SITE.npz`), an `.h5ad` file, a run folder, or a folder of
            predictions.
        perturbation: Column of the perturbation; None for the first of `PERTURBATION_COLUMNS`.
        negative_control: Perturbations that are negative controls.
        metadata: Table with more columns of the plates and wells, such as the perturbation and the role.
        of_run: Vectors and wells of a run; None for the embeddings of all wells.

    Raises:
        ProfileError: The source is absent, damaged, empty or contradictory, or no row can be used; or it is no run, but
            wells of a run are asked for.
        RunError: The run is incomplete.
    """
    source = _source_of(path, of_run)
    n_found = len(source.labels) + len(source.refused) + source.n_trained
    if not source.labels:
        reasons = f" First reason: {source.refused[0][1]}." if source.refused else ""
        content = f"no usable row of {n_found}" if n_found else "no row"
        raise ProfileError(f"{path} holds {content}.{reasons} Expected one row per site or well. {FIX}")
    table = _standard_table(source.table, path)
    if metadata is not None:
        table, sentence = join_metadata(table, metadata)
        source.notes.append(sentence)
    _name_experiments(table)
    _label(table, path, perturbation=perturbation, negative_control=negative_control)
    features = _complete_features(source, path)
    reasons_of = _row_reasons(table, features)
    used = np.array([not reason for reason in reasons_of])
    refused = source.refused + [(label, why) for label, why in zip(source.labels, reasons_of, strict=True) if why]
    if not used.any():
        raise ProfileError(f"No row of {n_found} in {path} can be used. First: {refused[0][0]}: {refused[0][1]}. {FIX}")
    profiles = Profiles(
        level="site" if "Metadata_Site" in table else "well",
        table=table[used].reset_index(drop=True),
        features=features.to_numpy(dtype=np.float64)[used].astype(np.float32),
        feature_names=tuple(map(str, features.columns)),
        provenance={"source": path.name, "n_found": n_found, "n_refused": len(refused), **source.provenance},
    )
    return ProfilesFile(
        profiles=profiles,
        n_found=n_found,
        refused=tuple(refused),
        left_out=tuple(source.left_out),
        n_trained=source.n_trained,
        notes=tuple(source.notes),
    )


def _source_of(path: Path, of_run: RunRows | None) -> Source:
    if not path.exists():
        raise ProfileError(f"{path} does not exist. Expected a table, a folder or a run. Check the path.")
    if is_run(path):
        return read_run(path, of_run or RunRows())
    if of_run is not None and of_run != RunRows():
        raise ProfileError(
            f"{path} is no run, but features or wells of a run are asked for. Leave `--features` and `--wells` out, or "
            "name a run."
        )
    if path.is_file():
        if path.suffix == ".npz":
            return _read_cells([path])
        return _read_h5ad(path) if path.suffix == ".h5ad" else read_feature_table(path)
    tables = sorted(file for file in path.iterdir() if file.name.endswith((".csv", ".csv.gz", ".parquet")))
    cells = sorted(path.rglob("*.npz"))
    if bool(tables) == bool(cells):
        raise ProfileError(
            f"{path} holds {len(tables)} tables and {len(cells)} .npz files. Expected one kind: .csv and .parquet "
            "tables, or the .npz files of DeepProfiler. Name the right folder or file."
        )
    if cells:
        return _read_cells(cells)
    return _joined([(file.name, read_feature_table(file)) for file in tables])


def _read_cells(paths: Sequence[Path]) -> Source:
    rows: list[dict[str, str]] = []
    means: list[np.ndarray] = []
    labels: list[str] = []
    refused: list[tuple[str, str]] = []
    for path in paths:
        place = path.resolve()
        well, _, site = place.stem.partition("_")
        plate = place.parent.name
        if not site or split_well(well) is None:
            plate, well, site = place.parent.parent.name, place.parent.name, place.stem
        label = f"{plate}/{well}/{site} ({path.name})"
        try:
            with np.load(path, allow_pickle=False) as opened:
                cells = np.asarray(opened["features"], dtype=np.float64)
            if cells.ndim != 2 or 0 in cells.shape:
                refused.append((label, f"`features` has the shape {cells.shape}, expected [cell, feature]"))
                continue
        except Exception as cause:  # noqa: BLE001 - a damaged archive raises errors of many types
            refused.append((label, f"the file cannot be read: {reason_of(cause)}"))
            continue
        if means and len(means[0]) != cells.shape[1]:
            raise ProfileError(
                f"{label} has {cells.shape[1]} features, {labels[0]} has {len(means[0])}. Expected the same network "
                "for every file. Read the folders of one network."
            )
        rows.append({"Metadata_Plate": plate, "Metadata_Well": well, "Metadata_Site": site})
        means.append(cells.mean(axis=0) if np.isfinite(cells).all() else np.full(cells.shape[1], np.nan))
        labels.append(label)
    features = pd.DataFrame(np.array(means)).rename(columns=lambda number: f"feature_{number}")
    # A file with cells that are not finite refuses its own row only.
    return Source(table=pd.DataFrame(rows), features=features, labels=labels, refused=refused)


def _read_h5ad(path: Path) -> Source:
    try:
        anndata: Any = importlib.import_module("anndata")
    except ImportError as cause:
        raise ProfileError(f"{path.name} needs the package anndata. Run `pip install '.[profiles]'`.") from cause
    with read_regular_file(path, fix=FIX, error=ProfileError):
        data = anndata.read_h5ad(path)
        values = data.X.toarray() if hasattr(data.X, "toarray") else np.asarray(data.X)
        table = data.obs.reset_index(drop=True).rename(
            columns=lambda name: name if str(name).startswith("Metadata_") else f"Metadata_{name}"
        )
    features = pd.DataFrame(np.asarray(values, dtype=np.float64), columns=list(map(str, data.var_names)))
    return Source(table=table, features=features, labels=[f"{path.name} {name}" for name in data.obs_names])


def _joined(parts: list[tuple[str, Source]]) -> Source:
    first_name, first = parts[0]
    for name, part in parts[1:]:
        for less, more, where in ((part, first, name), (first, part, first_name)):
            absent = [column for column in more.features if column not in less.features]
            if absent:
                raise ProfileError(
                    f"{where} lacks {len(absent)} features of the other tables: {_names(absent)}. Expected the same "
                    "features on every plate. Select features over all plates together."
                )
    return Source(
        table=pd.concat([part.table for _, part in parts], ignore_index=True),
        features=pd.concat([part.features[list(first.features)] for _, part in parts], ignore_index=True),
        labels=[label for _, part in parts for label in part.labels],
        left_out=list(dict.fromkeys(pair for _, part in parts for pair in part.left_out)),
    )


def _standard_table(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    names = [name for name in ("Metadata_Plate", "Metadata_Well") if name not in table]
    if names:
        raise ProfileError(
            f"{path} has no column {' or '.join(names)}. Its metadata columns: "
            f"{_names(table.columns.tolist()) or 'none'}. "
            f"Rename the columns of the plate and well to Metadata_Plate and Metadata_Well."
        )
    text = pd.DataFrame({str(name): [_text(value) for value in table[name]] for name in table})
    if "Metadata_Experiment" not in text:
        text.insert(0, "Metadata_Experiment", "")
    if "Metadata_Site" in text and not text["Metadata_Site"].any():
        text = text.drop(columns="Metadata_Site")
    wells = [split_well(name) for name in text["Metadata_Well"]]
    pairs = zip(wells, text["Metadata_Well"], strict=True)
    text["Metadata_Well"] = [well_name(*well) if well else name for well, name in pairs]
    return text


def _name_experiments(table: pd.DataFrame) -> None:
    source = next((name for name in _EXPERIMENTS if name in table), None)
    if source and not (table["Metadata_Experiment"] != "").any():
        table["Metadata_Experiment"] = table[source]


def _label(table: pd.DataFrame, path: Path, *, perturbation: str | None, negative_control: Sequence[str]) -> None:
    """Set the perturbation and the role of every row."""
    if perturbation is not None and perturbation not in table:
        raise ProfileError(
            f"{path} has no column {perturbation!r}. Expected one of: {_names(table.columns.tolist())}. Name one."
        )
    column = perturbation or next((name for name in PERTURBATION_COLUMNS if name in table), None)
    names = table[column].tolist() if column else [""] * len(table)
    absent = [name for name in negative_control if name not in names]
    if absent:
        known = _names(sorted(set(names)))
        raise ProfileError(f"{path} has no perturbation {_names(absent)}. Expected one of: {known}. Correct the name.")
    roles = []
    for number, name in enumerate(names):
        stated = [role_of(str(table[key].iat[number])) for key in _ROLES if key in table]
        role = next((value for value in stated if value not in (None, Role.UNKNOWN)), None)
        if name in negative_control or (role is None and name.lower() in _NEGATIVE_NAMES):
            role = Role.NEGATIVE_CONTROL
        roles.append(str((role or (Role.TREATMENT if name else Role.UNKNOWN)).value))
    table["Metadata_Role"] = roles
    dose_column = next((key for key in _DOSES if key in table), None)
    if dose_column:
        if column == "Metadata_Perturbation" and "Metadata_Compound" not in table:
            table["Metadata_Compound"] = names
        doses = [_dose(value) for value in table[dose_column]]
        n_doses = pd.Series(doses).groupby(names).nunique()
        names = [f"{n}@{d}" if n and d and n_doses[n] > 1 else n for n, d in zip(names, doses, strict=True)]
    table["Metadata_Perturbation"] = names


def _complete_features(source: Source, path: Path) -> pd.DataFrame:
    features = source.features
    if features.columns.has_duplicates:
        twice = _names(list(features.columns[features.columns.duplicated()]))
        raise ProfileError(f"{path} has two features of one name: {twice}. Expected names once. Rename them.")
    rows_with_values = features.notna().any(axis=1)
    counts = (features.isna() & rows_with_values.to_numpy()[:, None]).sum()
    n_rows = max(int(rows_with_values.sum()), 1)
    for name, count in counts[counts > _MOST_MISSING * n_rows].items():
        source.left_out.append((str(name), f"it is NaN in {count} of {n_rows} rows"))
        features = features.drop(columns=name)
    if not len(features.columns):
        raise ProfileError(
            f"{path} has no numeric feature without many NaN. Expected numeric columns without the head Metadata_. "
            f"{len(source.left_out)} were left out: {_names([name for name, _ in source.left_out])}. {FIX}"
        )
    return features


def _row_reasons(table: pd.DataFrame, features: pd.DataFrame) -> list[str]:
    """Return why each row is refused; "" for a row that is used."""
    bad = ~(np.abs(features.to_numpy(dtype=np.float64)) <= np.finfo(np.float32).max)
    plates = list(zip(table["Metadata_Experiment"], table["Metadata_Plate"], table["Metadata_Well"], strict=True))
    sites = table["Metadata_Site"].tolist() if "Metadata_Site" in table else [""] * len(table)
    labels_of: dict[tuple[str, str, str], list[str]] = {}
    for place, label in zip(plates, table["Metadata_Perturbation"], strict=True):
        labels_of.setdefault(place, [])
        if label not in labels_of[place]:
            labels_of[place].append(label)
    seen: set[tuple[tuple[str, str, str], str]] = set()
    reasons = []
    for number, place in enumerate(plates):
        reason = ""
        if not place[1]:
            reason = "the plate is empty"
        elif split_well(place[2]) is None:
            reason = f"{brief(place[2])!r} is no well name, expected one such as B02"
        elif len(labels_of[place]) > 1:
            listed = " and ".join(repr(brief(label)) for label in labels_of[place])
            reason = f"well {place[2]} of plate {place[1]} has the perturbations {listed}"
        elif bad[number].any():
            names = [str(name) for name in features.columns[bad[number]]]
            reason = f"{len(names)} of {bad.shape[1]} features NaN, infinite or too large: {_names(names, 3)}"
        elif (place, sites[number]) in seen:
            location = f"site {sites[number]} of well {place[2]}" if sites[number] else f"well {place[2]}"
            reason = (
                f"{location} of plate {place[1]} has an earlier row; name sites in Metadata_Site, experiments in "
                "Metadata_Experiment"
            )
        else:
            seen.add((place, sites[number]))
        reasons.append(reason)
    return reasons


def _text(value: object) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _dose(text: str) -> str:
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def _names(names: Sequence[object], most: int = 10, *, max_length: int = 60) -> str:
    shown = ", ".join(brief(str(name), max_length=max_length) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
