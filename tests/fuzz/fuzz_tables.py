"""Faults of tables: several of them, columns, labels that are none, two forms of a name, odd heads."""

import random
import unicodedata
from collections.abc import Iterator

from fuzz_drafts import Draft, dialect, label_rows, letters, text_of
from fuzz_pixels import FilePlan
from fuzz_schemes import SCHEMES, folder_screen, path_of, way_of
from fuzz_screens import load_data_screen, table_screen

from distangle.inference.predict import cell_free_table
from distangle.screen import Screen


def many_tables(rng: random.Random) -> Draft:
    instance = rng.choice(("per plate", "per plate", "below", "illum", "rest", "two of sites", "two of wells"))
    if instance in ("two of sites", "two of wells"):
        if instance == "two of sites":
            d, rows = table_screen(rng, n_plates=2, n_experiments=1)
        else:
            d, _, _ = folder_screen(rng, n_plates=2)
            header, rows_of_plates = label_rows(d, keys=("plate",))
            rows = [header, *rows_of_plates]
        index = next(k for k, name in enumerate(rows[0]) if name.removeprefix("Metadata_").lower() == "plate")
        for name in sorted({row[index] for row in rows[1:]}):
            d.texts[f"tables/wells_{name}.csv"] = text_of([rows[0], *(row for row in rows[1:] if row[index] == name)])
        d.options["tables"] = "tables"
    else:
        d, tables = load_data_screen(rng, n_plates=rng.choice((2, 3)))
        folder = "workspace/load_data_csv/B1/" if instance == "below" else ""
        parts = list(tables.items())
        if instance == "illum":
            table_rows = [parts[0][1][0], *(row for _, table in parts for row in table[1:])]
            d.texts["load_data.csv"] = text_of(table_rows)
            illum = [[*row, "x" if k else f"FileName_Illum{d.channels[0]}"] for k, row in enumerate(table_rows)]
            d.texts["load_data_with_illum.csv"] = text_of(illum)
        elif instance == "rest":
            d.texts["load_data.csv"] = text_of(parts[0][1])
            d.texts["load_data_more.csv"] = text_of([parts[0][1][0], *(row for _, t in parts[1:] for row in t[1:])])
        else:
            for key, table in parts:
                d.texts[f"{folder}load_data_{d.plates[key]}.csv"] = text_of(table)
            if instance == "below":
                d.experiments = ["B1"]
                d.untold = frozenset({"plates"})
    d.says = r"table|load_data|csv|row"
    d.fault, d.instance = "many tables", instance
    return d


COLUMNS = (
    "Plate",
    "Well",
    "Site",
    "Role",
    "Experiment",
    "Fold",
    "Cell Type",
    "Metadata_Plate",
    "Metadata_Well",
    "Perturbation",
    "path_1",
    "sha256",
    "Split",
    "row",
    "Column",
    "Predicted",
    "METADATA_PLATE",
    "Metadata_Row",
)


def user_columns(rng: random.Random) -> Draft:
    d, rows = table_screen(rng, n_plates=rng.choice((1, 2)))
    renames = {
        "experiment": "week",
        "plate": "Barcode",
        "well": "Well Name",
        "site": "field no",
        "perturbation": "compound",
    }
    for k, name in enumerate(rows[0][:5]):
        rows[0][k] = renames[name.removeprefix("Metadata_").lower()]
    names = rng.sample(COLUMNS, rng.choice((1, 2, 3)))
    rows[0] += names
    for k, row in enumerate(rows[1:]):
        row += [rng.choice(("1", str(9000 + k), "train", "negcon", "B07")) for _ in names]
    d.texts["sites.csv"] = dialect(rng, rows)
    # Unmapped fields may be found by name, so map the fields of ours to no column.
    d.options["mapping"] = {**renames, "role": "", "cell_type": "", "split": ""}
    d.extra["more"] = _column_problems
    d.says = r"column|name"
    d.fault, d.instance = "user columns", ", ".join(names)
    return d


def _column_problems(screen: Screen) -> Iterator[str]:
    """Give the extra columns that take the place of one of ours in the tables of predictions."""
    n = len(screen.sites)
    table = cell_free_table(screen, "perturbation", ["train"] * n, classes=screen.metadata.perturbations).table
    for column in ("experiment", "plate", "well", "site", "cell_type", "perturbation", "role"):
        values = table[f"Metadata_{column.title()}"].astype(str).tolist()
        if values != screen.sites[column].astype(str).tolist():
            yield f"column: {column} of the predictions is {values[0]!r}, not {screen.sites[column][0]!r}"
    if len(set(table.columns)) < len(table.columns):
        yield "column: the predictions have a column twice"


def missing_labels(rng: random.Random) -> Draft:
    missing = rng.choice(("nan", "NaN", "NA", "N/A", "None", "#N/A", " ", "", "null", "<NA>", "n/a", "NULL"))
    d, rows = table_screen(rng, n_wells=3)
    index = next(k for k, name in enumerate(rows[0]) if name.removeprefix("Metadata_").lower() == "perturbation")
    assert d.labels is not None
    without_moa = set(rng.sample(sorted(set(d.labels.values())), max(1, len(d.labels) // 3)))
    d.labels = {well: "" if name in without_moa else name for well, name in d.labels.items()}
    column = rng.random() < 0.5
    rows[0].append("moa")
    for row in rows[1:]:
        row.append(missing if row[index] in without_moa else f"moa of {row[index]}")
        row[index] = missing if row[index] in without_moa else row[index]
    near = rng.choice(("", "", "NAN-190 ", "Nanaomycin ", "None-such ", "NA/K inhibitor "))  # names, not missing
    for row in rows[1:]:
        row[index] = row[index] if row[index] == missing else f"{near}{row[index]}"
    d.labels = {well: name and f"{near}{name}" for well, name in d.labels.items()}
    d.texts["sites.csv"] = dialect(rng, rows)
    d.extra["more"] = lambda screen: _classes(screen, missing)
    d.says = r"label|missing|" + ("perturbation" if column else "nan")
    d.fault, d.instance = "missing labels", repr(missing)
    d.extra["must_be_whole"] = True
    return d


def _classes(screen: Screen, missing: str) -> Iterator[str]:
    if missing.strip() in screen.metadata.perturbations:
        yield f"label: {missing!r} is a class"


def unicode_forms(rng: random.Random) -> Draft:
    instance = rng.choice(("labels", "micro", "plates", "files", "channels", "labels of wells"))
    other = unicodedata.normalize
    if instance in ("labels", "micro"):
        d, rows = table_screen(rng, n_wells=3)
        index = next(k for k, name in enumerate(rows[0]) if name.removeprefix("Metadata_").lower() == "perturbation")
        assert d.labels is not None
        for k, row in enumerate(rows[1:]):
            name = "5 \u00b5M caf\u00e9" if instance == "micro" else "\u00e9toposide \u00c5"
            for well, label in d.labels.items():
                d.labels[well] = name if label == row[index] else label
            row[index] = (
                (name.replace("\u00b5", "\u03bc") if instance == "micro" else other("NFD", name)) if k % 2 else name
            )
        d.texts["sites.csv"] = text_of(rows)
    elif instance == "files":
        d, rows = table_screen(rng, paged=False)
        d.files = {other("NFD", path.replace("img/", "im\u00e1genes/")): plan for path, plan in d.files.items()}
        rows[1:] = [[other("NFC", field.replace("img/", "im\u00e1genes/")) for field in row] for row in rows[1:]]
        d.texts["sites.csv"] = text_of(rows)
    elif instance == "channels":
        d, scheme, ending = folder_screen(
            rng, schemes=[s for s in SCHEMES if s.name in ("flat", "folders")], by_name=False, n_channels=2, n_wells=3
        )
        d.channels = ["caf\u00e9", "DAPI"]
        plans = list(d.files.values())
        d.files, d.extra["seen"] = {}, None
        forms = {key: rng.choice(("NFC", "NFD")) for key in d.plates}
        for plan in plans:
            place = plan.pages[0]
            stain = other(forms[place.experiment, place.plate], d.channels[place.channel])
            d.files[path_of(d, scheme, place, ending, stain=stain)] = plan
        if "channels" in d.options:
            d.options["channels"] = list(d.channels)
    else:
        d, scheme, ending = folder_screen(rng, schemes=[s for s in SCHEMES if s.name == "folder of a plate"])
        d.plates = {key: f"pl\u00e1que {key[1]}" for key in d.plates}
        d.files = {other("NFD", path_of(d, scheme, p, ending)): FilePlan([p], way_of(rng, ending)) for p in d.places()}
        header, label_lines = label_rows(d, keys=("plate",))
        d.texts["wells.csv"] = text_of([header, *label_lines])
        d.options["tables"] = "wells.csv"
    d.says = r"."
    d.extra["must_be_whole"] = True
    d.fault, d.instance = "unicode forms", instance
    return d


def csv_heads(rng: random.Random) -> Draft:
    instance = rng.choice(
        (
            "index column",
            "sep=",
            "comment",
            "trailing",
            "grid",
            "title",
            "merged",
            "blank lines",
            "comment below",
            "unnamed index",
            "quoted",
        )
    )
    d, _, _ = folder_screen(rng, plate=(8, 12))
    header, rows = label_rows(d, keys=() if instance == "grid" else None)
    if instance == "grid":
        names = {key[2:]: name for key, name in (d.labels or {}).items()}
        table = [["", *(str(c + 1) for c in range(12))]]
        table += [[letters(r), *(names.get((r, c), "") for c in range(12))] for r in range(8)]
        d.texts["wells.csv"] = text_of(table)
    else:
        table = [header, *rows]
        if instance in ("index column", "unnamed index"):
            first = "" if instance == "index column" else "Unnamed: 0"
            table = [[first if not k else str(k - 1), *row] for k, row in enumerate(table)]
        text = text_of(table, delimiter=";" if instance == "sep=" else ",")
        if instance == "sep=":
            text = "sep=;\n" + text
        elif instance == "comment":
            text = "# plate map of 2024-01-01, by hand\n" + text
        elif instance == "comment below":
            lines = text.splitlines(keepends=True)
            text = lines[0] + "# checked, twice\n" + "".join(lines[1:])
        elif instance == "trailing":
            text = "".join(f"{line},,\n" for line in text.splitlines())
        elif instance == "title":
            text = "Plate map of the screen\n\n" + text
        elif instance == "merged":
            text = "Place" + "," * (len(header) - 2) + "Treatment,\n" + text
        elif instance == "blank lines":
            text = "\n\n" + text.replace("\n", "\n\n")
        elif instance == "quoted":
            text = "".join(",".join(f'"{f}"' for f in row) + "\n" for row in table)
        d.texts["wells.csv"] = text
    d.options["tables"] = "wells.csv"
    d.says = r"header|column|comment|delimit|grid|table|field|csv|ragged|line"
    d.fault, d.instance = "heads of tables", instance
    d.extra["must_be_whole"] = instance in ("blank lines", "quoted")
    return d
