"""A stand-in of RxRx1: 51 experiments of 4 plates of 308 wells of 2 sites, 1,108 treatments, 30 positive controls.

Paths and hashes are made up; `write_files` writes tiny images at these paths.
"""

import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

N_PLATES, N_CHANNELS = 4, 6
N_TREATMENTS, N_POSITIVE = 1_108, 30
ROWS, COLUMNS = "BCDEFGHIJKLMNO", range(2, 24)
CELL_TYPES = ("HEPG2", "HUVEC", "RPE", "U2OS")
HELD_OUT_SHARE = 0.51  # of the experiments: 64,032 sites of all
N_FEATURES = 128


def make_sites(n_sites: int) -> pd.DataFrame:
    """Return a table of sites without files; the last columns are those of `read_screen`."""
    wells = [(row, column) for row in range(len(ROWS)) for column in range(len(COLUMNS))]
    names = np.array([f"{ROWS[row]}{COLUMNS[column]:02d}" for row, column in wells], dtype=object)
    per_experiment = N_PLATES * len(wells) * 2
    n_experiments = -(-n_sites // per_experiment)
    experiments = [f"{CELL_TYPES[k % 4]}-{k + 1:03d}" for k in range(n_experiments)]
    groups = np.array_split(np.arange(N_TREATMENTS), N_PLATES)
    labels, roles = [], []
    for k in range(n_experiments):
        rng = np.random.default_rng(k)
        for plate in range(N_PLATES):
            treatments = [f"sirna_{name}" for name in groups[plate]]
            controls = [f"sirna_{N_TREATMENTS + name}" for name in range(N_POSITIVE)]
            content = [
                *((name, "treatment") for name in treatments),
                *((name, "positive_control") for name in controls),
            ]
            content += [("EMPTY", "untreated")] * (len(wells) - len(content))
            for index in rng.permutation(len(wells)):
                labels.append(content[index][0])
                roles.append(content[index][1])
    n_wells = len(labels)
    well = np.tile(np.arange(len(wells)), n_experiments * N_PLATES)
    plate = np.repeat(np.tile(np.arange(N_PLATES) + 1, n_experiments), len(wells))
    experiment = np.repeat(np.array(experiments, dtype=object), len(wells) * N_PLATES)
    position = np.array(wells)[well]
    table = pd.DataFrame(
        {
            "experiment": experiment,
            "plate": plate.astype(str).astype(object),
            "well": names[well],
            "row": position[:, 0] + 1,
            "column": position[:, 1] + 1,
            "cell_type": np.array([name.partition("-")[0] for name in experiment], dtype=object),
            "perturbation": np.array(labels, dtype=object),
            "role": np.array(roles, dtype=object),
            "split": np.full(n_wells, "", dtype=object),
        }
    )
    sites = table.loc[np.repeat(np.arange(n_wells), 2)].reset_index(drop=True)
    sites.insert(5, "site", np.tile([1, 2], n_wells))
    sites = sites.iloc[:n_sites].reset_index(drop=True)
    stem = sites["experiment"] + "/Plate" + sites["plate"] + "/" + sites["well"] + "_s" + sites["site"].astype(str)
    for k in range(1, N_CHANNELS + 1):
        sites[f"path_{k}"] = (stem + f"_w{k}.png").astype("str")
        sites[f"page_{k}"] = np.int64(-1)
    sites["size"], sites["mtime"] = np.int64(540_000), 1.7e9
    sites["sha256"] = [f"{k:064x}" for k in range(n_sites)]
    texts = ("experiment", "plate", "well", "cell_type", "perturbation", "role", "split", "sha256")
    return sites.astype(dict.fromkeys(texts, "str"))


def make_screen(n_sites: int):  # noqa: ANN201 - the type is imported where it is needed
    """Return the stand-in as a screen in memory."""
    from distangle.screen import Screen
    from distangle.screen.roles import named_channels, ordered_classes, ordered_classes_sha256
    from distangle.screen.screen import PROBLEM_COLUMNS, ScreenMetadata

    sites = make_sites(n_sites)
    classes = ordered_classes(sites["perturbation"])
    metadata = ScreenMetadata(
        layout="rxrx1",
        source="images",
        channels=named_channels([f"w{k}" for k in range(1, N_CHANNELS + 1)]),
        dtype="uint8",
        shape=(512, 512),
        plate_rows=16,
        plate_columns=24,
        perturbations=classes,
        perturbations_sha256=ordered_classes_sha256(classes),
        cell_types=tuple(sorted(set(sites["cell_type"]))),
        extra_columns=(),
        found=n_sites,
        indexed=n_sites,
        refused=0,
    )
    problems = pd.DataFrame({name: pd.Series(dtype="str") for name in PROBLEM_COLUMNS}).astype({"count": "int64"})
    return Screen(metadata=metadata, sites=sites, problems=problems)


def make_folds(screen):  # noqa: ANN001, ANN201
    """Hold out the last half of the experiments."""
    from distangle.screen.folds.folds import hold_out

    names = list(dict.fromkeys(screen.sites["experiment"]))
    n = min(max(1, round(HELD_OUT_SHARE * len(names))), len(names) - 1)
    return hold_out(screen, values=names[-n:])


def make_predictions(screen, folds):  # noqa: ANN001, ANN201
    """Return predictions of the sites of a screen: a third of them right."""
    from distangle.results import Predictions

    sites, rng = screen.sites, np.random.default_rng(0)
    classes = screen.metadata.perturbations
    code = pd.Categorical(sites["perturbation"], categories=classes).codes.astype(np.int64)
    logits = rng.standard_normal((len(sites), len(classes)), dtype=np.float32)
    logits[np.arange(len(sites)), code] += np.where(rng.random(len(sites)) < 1 / 3, 6, 0).astype(np.float32)
    names = ("experiment", "plate", "well", "site", "cell_type", "role")
    table = pd.DataFrame({f"Metadata_{name.title()}": sites[name] for name in names})
    table["Metadata_Fold"] = pd.Series(folds.of(screen), dtype="str")
    table["perturbation"] = sites["perturbation"]
    table["predicted"] = pd.Series(np.array(classes, dtype=object)[logits.argmax(axis=1)], dtype="str")
    table["confidence"] = rng.random(len(sites))
    table["reason"] = pd.Series([""] * len(sites), dtype="str")
    embedding = np.zeros((len(sites), N_FEATURES), dtype=np.float32)
    return Predictions(
        level="site", table=table, logits=logits, embedding=embedding, perturbations=tuple(classes), views=1
    )


def tiny_png(number: int) -> bytes:
    """Return a PNG file of 16 x 16 gray pixels, another one for every number."""
    pixels = np.random.default_rng(number).integers(0, 256, (16, 16), dtype=np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows, 1)),
        (b"IEND", b""),
    ]
    parts = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def write_files(folder: Path, n_sites: int) -> None:
    """Write the stand-in as Kaggle's archive has it: six tiny PNG a site, and `train.csv`."""
    sites = make_sites(n_sites)
    wells = sites.drop_duplicates(["experiment", "plate", "well"])
    code = wells["experiment"] + "_" + wells["plate"] + "_" + wells["well"]
    table = pd.DataFrame({"id_code": code, "experiment": wells["experiment"], "plate": wells["plate"]})
    sirna = np.where(wells["role"] == "untreated", "sirna_1138", wells["perturbation"])
    table.assign(well=wells["well"], sirna=sirna).to_csv(folder / "train.csv", index=False)
    for place in (sites["experiment"] + "/Plate" + sites["plate"]).unique():
        (folder / "train" / place).mkdir(parents=True)
    number = 0
    for k in range(1, N_CHANNELS + 1):
        for path in sites[f"path_{k}"].tolist():
            (folder / "train" / path).write_bytes(tiny_png(number))
            number += 1
