"""A small, hand-made result of `distangle profile`, with planted groups and two steps of alignment."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from distangle.results.profile_result import BATCH_COLUMNS, HIT_COLUMNS, ProfileResult
from distangle.results.profiles import Profiles

STAGES = ("none", "center-plate", "center-plate + tvn")
NO_POSITION = "Every position holds one perturbation: place and perturbation cannot be told apart."


def profile_result(
    names: Sequence[str], *, n_hits: int = 2, n_experiments: int = 2, n_untested: int = 1
) -> ProfileResult:
    """Make a result: the first names are hits, the last ones cannot be tested."""
    rng = np.random.default_rng(3)
    n = len(names)
    rows = [
        {
            "Metadata_Experiment": f"exp-{e + 1}",
            "Metadata_Plate": f"{p + 1}",
            "Metadata_Well": f"{chr(66 + k // 10)}{k % 10 + 1:02d}",
            "Metadata_Role": "treatment" if k < n else "negative_control",
            "Metadata_Perturbation": names[k] if k < n else "DMSO",
        }
        for e in range(n_experiments)
        for p in range(2)
        for k in range(n + 6)
    ]
    table = pd.DataFrame(rows)
    features = rng.normal(size=(len(table), 5)).astype(np.float32)
    feature_names = tuple(f"feature_{k}" for k in range(5))
    wells = Profiles(level="well", table=table, features=features, feature_names=feature_names)
    first = table.drop_duplicates("Metadata_Perturbation").index.to_numpy()
    perturbations = Profiles(
        level="perturbation",
        table=table.loc[first, ["Metadata_Role", "Metadata_Perturbation"]].reset_index(drop=True),
        features=features[first],
        feature_names=feature_names,
    )
    place = {name: k for k, name in enumerate(names)}
    coordinates = pd.DataFrame(
        [
            (
                4 * (k % 7) if (k := place.get(name, -1)) in range(n_hits) else 12,
                3 * (k // 7) if 0 <= k < n_hits else -6,
            )
            for name in table["Metadata_Perturbation"]
        ],
        columns=["x", "y"],
    ) + rng.normal(0, 0.7, (len(table), 2))
    return ProfileResult(
        wells=wells,
        perturbations=perturbations,
        hits=_hits(names, rng, n_hits=n_hits, n_untested=n_untested, n_experiments=n_experiments),
        neighbors=pd.DataFrame(
            [(name, "nearest", 1, names[0], 0.5) for name in names],
            columns=["name", "kind", "rank", "other", "cosine"],
        ),
        batch_effects=_batch_effects(n_experiments),
        refused=pd.DataFrame({"row": ["17"], "reason": ["The profile has no finite value."]}),
        settings={
            "source": "profiles.parquet",
            "level": "well",
            "alignment": ["center-plate", "tvn"],
            "aggregate": "mean",
            "map": "t-SNE of cosine distances",
            "q": 0.05,
            "notes": ["The network was trained on these wells: activity is optimistic."],
            "n_found": len(table) + 1,
            "n_used": len(table),
            "n_refused": 1,
        },
        coordinates=coordinates,
        consistency=pd.DataFrame(
            {"label": ["tubulin", "actin"], "mean_average_precision": [0.714, 0.2], "n_perturbations": [5, 3]}
        ),
        relations=pd.DataFrame({"low": [0.05], "high": [0.95], "recall": [0.386]}),
    )


def _hits(
    names: Sequence[str], rng: np.random.Generator, *, n_hits: int, n_untested: int, n_experiments: int
) -> pd.DataFrame:
    n = len(names)
    is_hit, tested = np.arange(n) < n_hits, np.arange(n) < n - n_untested
    strength = np.where(is_hit, np.linspace(0.987, 0.5, n), np.linspace(0.4, 0.1, n))
    p = np.where(is_hit, np.geomspace(1e-4, 0.008, n), np.linspace(0.08, 0.9, n))
    hits = pd.DataFrame(
        {
            "perturbation": list(names),
            "mean_average_precision": strength,
            "expected": 0.234,
            "p": p,
            "q": np.minimum(1, p * 3),
            "replicate_agreement": strength * 0.9,
            "effect_size": strength**2 * 3 + rng.uniform(0, 0.4, n),
            "n_wells": 2 * n_experiments,
            "n_plates": 2 * n_experiments,
            "n_experiments": n_experiments,
            "channel": ["Mito", "DNA"] * (n // 2) + ["ER"] * (n % 2),
            "nearest": [names[(k + 1) % n] for k in range(n)],
            "nearest_cosine": np.linspace(0.91, 0.2, n),
            "opposite": [names[-1 - k] for k in range(n)],
            "opposite_cosine": np.linspace(-0.82, -0.1, n),
            "cluster": 1,
            "reason": np.where(tested, "", "It has one well; a test needs two."),
        }
    )
    columns = ["mean_average_precision", "expected", "p", "q", "replicate_agreement", "effect_size"]
    hits.loc[~tested, columns] = np.nan
    return hits[list(HIT_COLUMNS)]


def _batch_effects(n_experiments: int) -> pd.DataFrame:
    rows = []
    for stage, probe, precision in zip(STAGES, (0.912, 0.66, 0.543), (0.61, 0.702, 0.655), strict=True):
        has_many = n_experiments > 1
        reason = "" if has_many else "1 batch(es); expected at least 2."
        accuracy = probe if has_many else np.nan
        interval = (accuracy - 0.05, accuracy + 0.05) if has_many else (0.0, 1.0)
        kind = "95 % interval" if has_many else "possible values"
        rows += [
            (
                stage,
                "BRAS",
                "experiment",
                1.2 - probe if has_many else np.nan,
                np.nan,
                0,
                1,
                "possible values",
                90,
                0,
                reason,
            ),
            (stage, "probe accuracy", "experiment", accuracy, 0.5, *interval, kind, 90, 0, reason),
            (stage, "PCR", "plate", probe / 3, 0.03, 0, 1, "possible values", 90, 0, ""),
            (stage, "probe accuracy", "plate", probe - 0.1, 0.25, probe - 0.2, probe, "95 % interval", 90, 0, ""),
            (stage, "BRAS", "position", np.nan, np.nan, 0, 1, "possible values", 0, 0, NO_POSITION),
            (stage, "cLISI", "perturbation", precision, np.nan, 0, 1, "possible values", 90, 0, ""),
            (
                stage,
                "mAP",
                "perturbation",
                precision,
                0.2,
                precision - 0.04,
                precision + 0.04,
                "95 % interval",
                90,
                1,
                "",
            ),
        ]
    return pd.DataFrame(rows, columns=list(BATCH_COLUMNS))
