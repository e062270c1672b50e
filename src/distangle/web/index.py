"""Number the plates, wells, sites and perturbations of a source, once."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from distangle.results.predictions import KEYS
from distangle.screen import CONTROLS, natural_sort_key
from distangle.screen.screen import WELL_COLUMNS
from distangle.web.answers import columnar
from distangle.web.source import ViewSource

FIXED = ("plate", "row", "column", "name", "role", "perturbation", "perturbation_id", "n_sites", "first_site")
_OWN = {*WELL_COLUMNS, "row", "column", "site", "perturbation", "role"}
_FIXED = {"name", "perturbation_id", "n_sites", "first_site"}  # the table of wells has these columns of its own
LABELS = {
    "cell_type": "Cell type",
    "split": "Split of the source",
    "fold": "Fold",
    "predicted": "Predicted perturbation",
    "confidence": "Confidence of the prediction",
    "correct": "Predicted as labeled",
    "explained": "Explained",
    "mean_average_precision": "Activity (mAP)",
    "q": "Activity, q-value",
    "effect_size": "Effect size",
    "replicate_agreement": "Agreement of replicates",
    "cluster": "Cluster",
    "role": "Role",
    "perturbation": "Perturbation",
}
HIT_SCORES = ("mean_average_precision", "q", "effect_size", "replicate_agreement", "cluster")
Key = tuple[str, str, str]


@dataclass(frozen=True)
class ViewIndex:
    """Numbers of everything that the page names.

    The number of a site is its row in the sites of the source; wells, plates and perturbations are numbered in the
    order in which they occur, perturbations in natural order.

    Attributes:
        source: The source.
        well_of_site: Number of the well of every site, int64 [site].
        first_site: Number of the first site of every well, int64 [well].
        n_sites: Sites of every well, int64 [well].
        plate_of_well: Number of the plate of every well, int64 [well].
        plates: Experiment and plate of every plate.
        perturbations: Names, "" excluded.
        perturbation_of_well: Number of the perturbation of every well; -1 if it is unknown, int64 [well].
    """

    source: ViewSource
    well_of_site: np.ndarray
    first_site: np.ndarray
    n_sites: np.ndarray
    plate_of_well: np.ndarray
    plates: list[tuple[str, str]]
    perturbations: list[str]
    perturbation_of_well: np.ndarray

    @cached_property
    def wells(self) -> pd.DataFrame:
        """The first site of every well, with a default index."""
        return self.source.sites.iloc[self.first_site].reset_index(drop=True)

    @cached_property
    def well_ids(self) -> dict[Key, int]:
        """Number of the well with an experiment, plate and well."""
        return {key: number for number, key in enumerate(_keys(self.wells, WELL_COLUMNS))}

    @cached_property
    def perturbation_ids(self) -> dict[str, int]:
        """Number of every perturbation."""
        return {name: number for number, name in enumerate(self.perturbations)}

    def site_rows(self, table: pd.DataFrame) -> np.ndarray:
        """Return the number of the site of every row of a table.

        Args:
            table: Columns `Metadata_Experiment`, `Metadata_Plate`, `Metadata_Well` and `Metadata_Site`.

        Returns:
            int64 [row]; -1 for a row without a site.
        """
        return match_rows(
            table, [f"Metadata_{name.title()}" for name in KEYS], self.source.sites, [*WELL_COLUMNS, "site"]
        )

    def well_rows(self, table: pd.DataFrame) -> np.ndarray:
        """Return the number of the well of every row of a table, as `site_rows`."""
        return match_rows(table, [f"Metadata_{name.title()}" for name in KEYS[:3]], self.wells, list(WELL_COLUMNS))

    def wells_of(self, plate: int) -> np.ndarray:
        """Return the numbers of the wells of a plate."""
        return np.flatnonzero(self.plate_of_well == plate)

    def sites_of(self, well: int) -> range:
        """Return the numbers of the sites of a well."""
        first = int(self.first_site[well])
        return range(first, first + int(self.n_sites[well]))

    @cached_property
    def is_control(self) -> np.ndarray:
        """Whether a well is a control, bool [well]."""
        return self.wells["role"].isin([str(role) for role in CONTROLS]).to_numpy()

    @cached_property
    def predicted_wells(self) -> np.ndarray:
        """Well of every row of the predictions of wells; see `well_rows`."""
        predictions = self.source.predictions
        return np.empty(0, dtype=np.int64) if predictions is None else self.well_rows(predictions.wells)

    @cached_property
    def predicted_sites(self) -> np.ndarray:
        """Site of every row of the predictions of sites; see `site_rows`."""
        predictions = self.source.predictions
        return np.empty(0, dtype=np.int64) if predictions is None else self.site_rows(predictions.sites)

    @cached_property
    def profile_wells(self) -> np.ndarray:
        """Well of every row of the profiles of wells; see `well_rows`."""
        profiles = self.source.profiles
        return np.empty(0, dtype=np.int64) if profiles is None else self.well_rows(profiles.wells)

    @cached_property
    def explained_wells(self) -> dict[int, int]:
        """Row of the explanations of every explained well."""
        explanation = self.source.explanation
        if explanation is None:
            return {}
        wells = self.well_rows(explanation.sites if explanation.wells is None else explanation.wells)
        return {int(well): row for row, well in reversed(list(enumerate(wells))) if well >= 0}

    @cached_property
    def prediction_row(self) -> np.ndarray:
        """Row of the predictions of every well; -1 without one, int64 [well]."""
        return self._inverse(self.predicted_wells)

    @cached_property
    def profile_row(self) -> np.ndarray:
        """Row of the profiles of every well; -1 without one, int64 [well]."""
        return self._inverse(self.profile_wells)

    @cached_property
    def unreadable_sites(self) -> dict[int, str]:
        """Reason why the image of a site was not read for its prediction."""
        predictions = self.source.predictions
        if predictions is None:
            return {}
        rows = np.flatnonzero(predictions.sites["reason"].to_numpy(dtype=object) != "")
        reasons = predictions.sites["reason"].astype(str).tolist()
        return {int(self.predicted_sites[row]): reasons[row] for row in rows if self.predicted_sites[row] >= 0}

    @cached_property
    def explained_sites(self) -> dict[int, int]:
        """Row of the explanations of every explained site."""
        if self.source.explanation is None:
            return {}
        rows = self.site_rows(self.source.explanation.sites).tolist()
        return {site: row for row, site in enumerate(rows) if site >= 0}

    @cached_property
    def columns(self) -> pd.DataFrame:
        """Columns by which wells can be colored, with a default index [well]."""
        wells = self.wells
        columns: dict[str, Any] = {}
        for name in wells:
            if name in _OWN or (wells[name].nunique() > max(64, len(wells) // 2)):
                continue  # a column with another value in every well colors nothing
            columns[f"source_{name}" if name in _FIXED else str(name)] = _as_numbers(wells[name])
        columns |= self._prediction_columns() | self._hit_columns()
        if self.source.explanation is not None:
            explained = np.zeros(len(wells), dtype=np.int64)
            explained[self.well_of_site[list(self.explained_sites)]] = 1
            columns["explained"] = explained
        return pd.DataFrame(columns, index=pd.RangeIndex(len(wells)))

    def describe_columns(self) -> list[dict[str, str]]:
        """Return name, label and kind of every column of `columns`."""
        table = self.columns
        return [
            {
                "name": str(name),
                "label": label_of(str(name)),
                "kind": "number" if pd.api.types.is_numeric_dtype(table[name]) else "text",
            }
            for name in table
        ]

    def plate_table(self) -> dict[str, Any]:
        """Return all plates and wells for the page."""
        wells = self.wells
        rows, columns = self.source.plate_shape
        fixed = pd.DataFrame(
            {
                "plate": self.plate_of_well,
                "row": wells["row"],
                "column": wells["column"],
                "name": wells["well"],
                "role": wells["role"],
                "perturbation": wells["perturbation"],
                "perturbation_id": self.perturbation_of_well,
                "n_sites": self.n_sites,
                "first_site": self.first_site,
            }
        )
        plates = [
            {"id": number, "experiment": experiment, "name": name, "n_rows": rows, "n_columns": columns}
            for number, (experiment, name) in enumerate(self.plates)
        ]
        return {"plates": plates, "wells": columnar(pd.concat([fixed, self.columns], axis=1))}

    def site_table(self) -> dict[str, Any]:
        """Return all sites for the page."""
        sites = self.source.sites
        n = len(sites)
        table = pd.DataFrame({"well": self.well_of_site, "number": sites["site"].to_numpy()})
        fold = sites["fold"].to_numpy(dtype=object).copy() if "fold" in sites else np.full(n, "", dtype=object)
        correct, probability = np.full(n, np.nan), np.full(n, np.nan)
        predictions = self.source.predictions
        if predictions is not None:
            rows = self.predicted_sites
            known, rows = rows >= 0, rows[rows >= 0]
            part = predictions.sites[known]
            if "Metadata_Fold" in part:
                fold[rows] = part["Metadata_Fold"].astype(str).to_numpy(dtype=object)
            correct[rows] = _is_correct(part)
            probability[rows] = part["confidence"].to_numpy(dtype=np.float64)
        return columnar(table.assign(fold=fold, correct=correct, probability=probability))

    def _inverse(self, wells: np.ndarray) -> np.ndarray:
        inverse = np.full(len(self.first_site), -1, dtype=np.int64)
        inverse[wells[wells >= 0]] = np.flatnonzero(wells >= 0)
        return inverse

    def _prediction_columns(self) -> dict[str, Any]:
        if self.source.predictions is None:
            return {}
        table, rows = self.source.predictions.wells, self.prediction_row
        known = rows >= 0
        columns: dict[str, Any] = {}
        part = table.iloc[rows[known]]
        text = {"fold": "Metadata_Fold", "predicted": "predicted"}
        for name, column in text.items():
            values = np.full(len(rows), "", dtype=object)
            if column in part:
                values[known] = part[column].astype(str).to_numpy(dtype=object)
            columns[name] = values
        for name, numbers in {"confidence": part["confidence"].to_numpy(), "correct": _is_correct(part)}.items():
            filled = np.full(len(rows), np.nan)
            filled[known] = numbers
            columns[name] = filled
        return columns

    def _hit_columns(self) -> dict[str, Any]:
        if self.source.profiles is None:
            return {}
        hits = self.source.profiles.hits
        hits = hits[~hits["perturbation"].duplicated()].set_index("perturbation")
        names = self.wells["perturbation"]
        return {name: names.map(hits[name]).to_numpy(dtype=np.float64) for name in HIT_SCORES}


def label_of(column: str) -> str:
    """Return the name of a column for people."""
    return LABELS.get(column, column.replace("_", " "))


def build_index(source: ViewSource) -> ViewIndex:
    """Number everything in a source."""
    sites = source.sites
    n = len(sites)
    codes = [pd.factorize(sites[name])[0] for name in WELL_COLUMNS]
    well_changes, plate_changes = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    for position, column in enumerate(codes):
        changes = np.r_[True, column[1:] != column[:-1]] if n else np.zeros(0, dtype=bool)
        well_changes |= changes
        if position < 2:
            plate_changes |= changes
    first_site = np.flatnonzero(well_changes)
    plate_numbers = np.cumsum(plate_changes) - 1
    firsts = sites.iloc[np.flatnonzero(plate_changes)]
    names = sites["perturbation"].iloc[first_site]
    levels = [str(name) for name in names.unique() if str(name)]
    if source.screen is not None:
        levels = list(dict.fromkeys([*source.screen.metadata.perturbations, *sorted(levels, key=natural_sort_key)]))
    else:
        levels = sorted(levels, key=natural_sort_key)
    return ViewIndex(
        source=source,
        well_of_site=np.cumsum(well_changes) - 1,
        first_site=first_site,
        n_sites=np.diff(np.r_[first_site, n]),
        plate_of_well=plate_numbers[first_site],
        plates=list(zip(firsts["experiment"].astype(str), firsts["plate"].astype(str), strict=True)),
        perturbations=levels,
        perturbation_of_well=pd.Index(levels, dtype=object).get_indexer(pd.Index(names, dtype=object)).astype(np.int64),
    )


def _keys(table: pd.DataFrame, columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
    return list(zip(*(table[name].astype(str) for name in columns), strict=True))


def match_rows(table: pd.DataFrame, columns: list[str], base: pd.DataFrame, base_columns: list[str]) -> np.ndarray:
    """Return the row of `base` with the key of every row of a table.

    Args:
        table: The rows to match.
        columns: Key columns of `table`; without one of them nothing matches.
        base: The rows to find.
        base_columns: Key columns of `base`, in the same order.

    Returns:
        int64 [row of the table]; the first row of `base` that matches, -1 where there is none.
    """
    if not set(columns) <= set(table):
        return np.full(len(table), -1, dtype=np.int64)
    left = [table[name].astype(str).to_numpy(dtype=object) for name in columns]
    right = [base[name].astype(str).to_numpy(dtype=object) for name in base_columns]
    if len(table) == len(base) and all((own == other).all() for own, other in zip(left, right, strict=True)):
        return np.arange(len(base), dtype=np.int64)
    rows = pd.MultiIndex.from_arrays(right)
    firsts = np.flatnonzero(~rows.duplicated())
    places = rows[firsts].get_indexer(pd.MultiIndex.from_arrays(left))
    return np.where(places >= 0, firsts[places] if len(firsts) else -1, -1).astype(np.int64)


def _is_correct(table: pd.DataFrame) -> np.ndarray:
    """Return 1 where the prediction is the label, 0 where not, else NaN."""
    if "perturbation" not in table:
        return np.full(len(table), np.nan)
    label, name = table["perturbation"].astype(str), table["predicted"].astype(str)
    return np.where((label == "") | (name == ""), np.nan, (label == name).astype(np.float64))


def _as_numbers(values: pd.Series) -> pd.Series:
    """Return a column of text that holds numbers only as numbers."""
    if pd.api.types.is_numeric_dtype(values):
        return values
    texts = [str(level) for level in values.unique() if str(level)]
    if texts and all(re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?", text) for text in texts):
        return pd.to_numeric(values.replace("", None)).astype("float64")
    return values.fillna("")
