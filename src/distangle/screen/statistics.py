"""Count and reconcile wells, sites and images of a screen."""

from collections import Counter
from collections.abc import Iterable, Mapping

import pandas as pd
from pydantic import BaseModel, ConfigDict

from distangle.errors import ScreenError
from distangle.screen.roles import NEGATIVE, Role, natural_sort_key
from distangle.screen.screen import PLATE_COLUMNS, WELL_COLUMNS, Screen


class EntityCounts(BaseModel):
    """The size of a part of a screen.

    Attributes:
        experiments: Number of experiments (batches).
        plates: Number of pairs of experiment and plate.
        wells: Number of triples of experiment, plate and well.
        sites: Number of fields of view with images; 0 if images were not indexed.
        planes: Sites times channels: the paper's gray-scale images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiments: int
    plates: int
    wells: int
    sites: int
    planes: int


class ScreenStatistics(BaseModel):
    """The numbers of Sec. 2.3 for a screen.

    Attributes:
        all: The whole screen.
        by_split: Parts by the split in the table; empty without a split.
        by_role: Parts by role.
        by_cell_type: Parts by cell type; "" is unknown.
        n_classes: Known perturbations of all roles.
        n_treatment_classes: N_class: known treatments in the training part.
        n_train_wells: N_train: wells of these treatments in the training part.
        n_test_wells: N_test: treatment wells in the test part, with or without a label.
        class_sets: S_x of Table 1: wells per class x to number of classes, over the training part.
        negative_controls_per_plate: Negative (or untreated) wells on a plate to number of plates.
        tables_only: Whether the screen was indexed without images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    all: EntityCounts
    by_split: Mapping[str, EntityCounts]
    by_role: Mapping[str, EntityCounts]
    by_cell_type: Mapping[str, EntityCounts]
    n_classes: int
    n_treatment_classes: int
    n_train_wells: int
    n_test_wells: int
    class_sets: Mapping[int, int]
    negative_controls_per_plate: Mapping[int, int]
    tables_only: bool


def statistics(screen: Screen) -> ScreenStatistics:
    """Count a screen, and check that the parts sum to the whole.

    The training part is the split `train`, or the whole screen without a split.

    Source: Sec. 2.3, Table 1.
    Departs: the paper calls wells images (36,517 and 19,899 are rows, one per well; each has two sites of six
        channels), and its Table 1 sums to 1,100 classes and 36,257 wells, not to its own 1,108 and 36,517.

    Raises:
        ScreenError: The totals do not reconcile.
    """
    sites = screen.sites[[*WELL_COLUMNS, "site", "role", "split", "cell_type", "perturbation"]]
    # Rows of a table of wells have site number 0: they are not sites.
    has_sites = not screen.metadata.tables_only or bool((sites["site"] != 0).any())
    has_images = not screen.metadata.tables_only

    def counts(part: pd.DataFrame) -> EntityCounts:
        n_sites = len(part) if has_sites else 0
        return EntityCounts(
            experiments=part["experiment"].nunique(),
            plates=len(part[list(PLATE_COLUMNS)].drop_duplicates()),
            wells=len(part[list(WELL_COLUMNS)].drop_duplicates()),
            sites=n_sites,
            planes=n_sites * len(screen.metadata.channels) if has_images else 0,
        )

    def parts(column: str) -> dict[str, EntityCounts]:
        names = sorted(map(str, sites[column].unique()), key=natural_sort_key)
        return {name: counts(sites[sites[column] == name]) for name in names}

    wells = sites.drop_duplicates(list(WELL_COLUMNS))
    has_splits = bool((sites["split"] != "").any())
    training = wells[wells["split"] == "train"] if has_splits else wells
    treatments = training[(training["role"] == Role.TREATMENT.value) & (training["perturbation"] != "")]
    wells_of_class = Counter(treatments["perturbation"])
    class_sets = dict(sorted(Counter(wells_of_class.values()).items()))
    is_test = (wells["split"] == "test") & (wells["role"] == Role.TREATMENT.value)
    result = ScreenStatistics(
        all=counts(sites),
        by_split={name: part for name, part in parts("split").items() if name},
        by_role=parts("role"),
        by_cell_type=parts("cell_type"),
        n_classes=len(screen.metadata.perturbations),
        n_treatment_classes=len(wells_of_class),
        n_train_wells=len(treatments),
        n_test_wells=int(is_test.sum()),
        class_sets=class_sets,
        negative_controls_per_plate=_negative_controls(wells),
        tables_only=screen.metadata.tables_only,
    )
    reconcile_class_sets(result.class_sets, n_classes=result.n_treatment_classes, n_wells=result.n_train_wells)
    _reconcile("plates by their negative controls", result.negative_controls_per_plate.values(), result.all.plates)
    for name, part_counts in (("role", result.by_role), ("cell type", result.by_cell_type)):
        _reconcile(f"wells by {name}", [part.wells for part in part_counts.values()], result.all.wells)
        _reconcile(f"sites by {name}", [part.sites for part in part_counts.values()], result.all.sites)
    return result


def reconcile_class_sets(class_sets: Mapping[int, int], *, n_classes: int, n_wells: int) -> None:
    """Check that a table of class sets sums to the given totals.

    Source: Table 1.

    Args:
        class_sets: Wells per class to number of classes.
        n_classes: Classes in all.
        n_wells: Wells in all.

    Raises:
        ScreenError: The sums differ, as in the paper's table.
    """
    classes = sum(class_sets.values())
    wells = sum(size * n for size, n in class_sets.items())
    if (classes, wells) != (n_classes, n_wells):
        raise ScreenError(
            f"The class sets sum to {classes} classes and {wells} wells, not to {n_classes} classes and {n_wells} "
            "wells. Count them again from the table of wells."
        )


def statistics_table(result: ScreenStatistics) -> list[tuple[str, str]]:
    """Return the statistics as names and values for printing."""
    total = result.all
    rows = [
        ("experiments", total.experiments),
        ("plates", total.plates),
        ("wells", total.wells),
        ("sites", "not looked for" if result.tables_only and not total.sites else total.sites),
        ("planes (sites x channels)", "not looked for" if result.tables_only else total.planes),
        ("perturbations, all roles", result.n_classes),
        ("treatments in the training part (N_class)", result.n_treatment_classes),
        ("their wells (N_train)", result.n_train_wells),
        ("treatment wells in the test part (N_test)", result.n_test_wells),
    ]
    rows += [(f"treatments with {size} wells (S_{size})", n) for size, n in result.class_sets.items()]
    rows += [(f"wells, split {name}", part.wells) for name, part in result.by_split.items()]
    rows += [(f"wells, {name.replace('_', ' ')}", part.wells) for name, part in result.by_role.items()]
    rows += [(f"wells, cell type {name or 'unknown'}", part.wells) for name, part in result.by_cell_type.items()]
    rows += [
        (f"plates with {n_controls} negative controls or untreated wells", n)
        for n_controls, n in result.negative_controls_per_plate.items()
    ]
    return [(name, f"{value:,}" if isinstance(value, int) else value) for name, value in rows]


def _negative_controls(wells: pd.DataFrame) -> dict[int, int]:
    is_negative = wells["role"].isin(NEGATIVE)
    per_plate = is_negative.groupby([wells["experiment"], wells["plate"]]).sum()
    return {int(n): int(plates) for n, plates in sorted(Counter(per_plate.tolist()).items())}


def _reconcile(name: str, parts: Iterable[int], expected: int) -> None:
    total = sum(parts)
    if total != expected:
        raise ScreenError(
            f"{name}: the parts sum to {total}, the whole is {expected}. A well is counted twice or not at all."
        )
