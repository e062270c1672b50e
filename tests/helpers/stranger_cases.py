"""What a stranger does to which file of a run, and the verbs that must refuse it."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from stranger import ATTACKS

# Every file of a run, and the verbs that read it. `verify` reads all of them.
READERS = {
    "run.json": ("resume", "from", "predict", "explain", "profile", "export", "figures", "report"),
    "manifest.json": ("resume", "from", "predict", "explain", "profile", "export", "figures", "report"),
    "config.yaml": ("resume", "from", "report"),
    "screen.json": ("resume", "from", "predict", "explain", "report"),
    "folds.parquet": ("resume", "from", "predict", "explain"),
    "metrics.csv": ("figures", "report"),
    "timing.csv": ("report",),
    "image_statistics.npy": ("predict",),
    "checkpoints/epoch-0001.json": ("resume",),
    "checkpoints/epoch-0001.safetensors": ("resume",),
    "checkpoints/model.json": (),
    "checkpoints/model.safetensors": ("predict", "explain"),
    "predictions/image_statistics.npy": ("explain",),
    "predictions/scores.json": ("report",),
    "predictions/sites.parquet": ("explain", "profile", "export"),
    "predictions/sites.safetensors": ("explain", "profile", "export"),
    "predictions/sites_views8.parquet": (),
    "predictions/sites_views8.safetensors": (),
    "predictions/wells.parquet": ("report",),
    "predictions/wells.safetensors": ("report",),
    "predictions/wells_views8.parquet": (),
    "predictions/wells_views8.safetensors": (),
    "explanations/explanation.json": ("figures", "report", "profile"),
    "explanations/maps.npz": ("figures", "report", "profile"),
    "explanations/sites.parquet": ("report", "profile"),
    "explanations/wells.parquet": ("report", "profile"),
    "explanations/perturbations.parquet": ("report", "profile"),
    "explanations/faithfulness.json": ("report",),
    "explanations/faithfulness.npz": ("report",),
    "explanations/templates.json": ("report",),
    "explanations/templates.parquet": ("report",),
    "explanations/embeddings.parquet": ("report",),
    "explanations/filters.json": ("report",),
    "explanations/filters.safetensors": ("report",),
    **dict.fromkeys(
        (
            "profiles/profile.json",
            "profiles/alignment.safetensors",
            "profiles/wells.parquet",
            "profiles/perturbations.parquet",
            *(
                f"profiles/{name}.{kind}"
                for name in ("hits", "neighbors", "batch_effects", "coordinates", "similarity", "refused")
                for kind in ("parquet", "csv")
            ),
        ),
        ("export", "report"),
    ),
}

# These files may be absent: not every run has them, and an older checkpoint is not needed.
OPTIONAL_FILES = ("manifest.json", "metrics.csv", "timing.csv", "checkpoints/epoch-0001.json")

ALL_CASES = [
    (name, attack, verb)
    for name, verbs in READERS.items()
    for attack in ATTACKS
    for verb in (*verbs, "verify")
    if not (attack == "absent" and name in OPTIONAL_FILES)
    and not (attack == "absent" and name.endswith("/image_statistics.npy") and verb == "explain")  # measured again
    and not (attack == "stray" and name == "folds.parquet" and verb in ("resume", "from"))  # by the hash of its rows
]

FAST_CASES = [one for k, one in enumerate(ALL_CASES) if k % 41 == 4]

ALTERED_FILES = [
    ("metrics.csv", "epoch,train_loss\none,two\n", "report"),
    ("metrics.csv", "epoch,train_loss\n1,=cmd\n", "figures"),
    ("predictions/scores.json", '{"target": "perturbation"}', "report"),
    ("explanations/explanation.json", '{"settings": [], "summary": {}, "planted": null}', "report"),
    ("explanations/templates.json", '{"numbers": {}, "maps": [3]}', "report"),
    ("explanations/faithfulness.json", '{"settings": {}, "summary": {}, "sentences": [], "sites": [{}]}', "report"),
    ("explanations/filters.json", '{"stored_layers": [7]}', "report"),
    ("run.json", '{"screen": 7}', "report"),
    ("run.json", '{"screen": "../../screen", "classes": 7}', "explain"),
    ("run.json", '{"screen": "../../screen", "cross_validation": {"n_folds": 1000000000}}', "verify"),
    ("run.json", '{"screen": "../../screen", "features": "../../../victim"}', "explain"),
    ("screen.json", '{"channels": [{}], "sites_sha256": "", "perturbations_sha256": ""}', "report"),
    ("config.yaml", "- 1\n", "report"),
    ("profiles/profile.json", '{"settings": []}', "export"),
    ("profiles/profile.json", "{}", "export"),
    ("profiles/wells.parquet", "PAR1", "export"),
    ("profiles/coordinates.parquet", "", "export"),
    ("explanations/perturbations.parquet", "PAR1", "profile"),
    ("explanations/explanation.json", '{"settings": [], "summary": {}, "planted": null}', "profile"),
]


class Bomb:
    """An object that makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


def bomb(path: Path) -> None:
    np.save(path, np.array([Bomb()], dtype=object), allow_pickle=True)


def write_card(content: str) -> Callable[[Path], None]:
    return lambda path: path.with_name("features.json").write_text(content) and None


FEATURE_ATTACKS = {
    "pickle": ("00000.npy", bomb),
    "pickle of statistics": ("statistics.npy", bomb),
    "another size": ("00000.npy", lambda path: np.save(path, np.zeros((2, 1, 3), np.float32))),
    "text": ("00000.npy", lambda path: np.save(path, np.full((18, 1, 3), "x"))),
    "cut": ("00000.npy", lambda path: path.write_bytes(path.read_bytes()[:100])),
    "absent": ("00000.npy", lambda path: path.unlink()),
    "absent statistics": ("statistics.npy", lambda path: path.unlink()),
    "endless": ("features", write_card('{"shape": [1000000000000, 1, 3], "unreadable": {}}')),
    "wide": ("00000.npy", write_card('{"shape": [18, 1, 1000000000000], "unreadable": {}}')),
    "text in the shape": ("features.json", write_card('{"shape": ["18", 1, 3], "unreadable": {}}')),
    "list for names": ("features.json", write_card('{"shape": [18, 1, 3], "unreadable": [1]}')),
    "no shape": ("features.json", write_card("{}")),
    "one number": ("features.json", write_card('{"shape": 18, "unreadable": {}}')),
}

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)

BOMBS = ("bomb under a known key", "braces", "too long")

CONFIGS = {
    "bomb": (BOMB, "uses an anchor"),
    "bomb under a known key": (f"loggers: &a [x]\n{BOMB[2:]}", "uses an anchor"),
    "alias": ("epochs: &n 3\nseed: *n\n", "uses an anchor"),
    "brackets": ("loggers: " + "[" * 5000, "nested deeper than"),
    "braces": ("optim: " + "{a: " * 5000, "nested deeper than"),
    "indents": ("\n".join(" " * k + "a:" for k in range(400)), "nested deeper than"),
    "too long": ("# " + "x" * 300_000, "characters"),
    "python": ("epochs: !!python/object/apply:os.system ['touch pwned']\n", "not understood"),
    "python at the root": ("!!python/object/apply:os.system ['touch pwned']\n", "expected settings"),
    "bytes": ("epochs: !!binary aGk=\n", "epochs"),
    "a list": ("[]", "expected settings"),
    "number of digits": ("seed: " + "9" * 5000, "seed"),
}

CONFIG_CASES = [
    (kind, verb) for kind in CONFIGS for verb in ("settings", "from", "report") if verb == "settings" or kind in BOMBS
]


FOREIGN_SOURCES = {
    "http": "http://127.0.0.1:8765/x",
    "https": "https://10.0.0.1/plates",
    "s3": "s3://bucket/plates",
    "another scheme": "file:///etc",
    "up": "../../victim/plates",
    "absolute": "{victim}/plates",
    "root": "/",
}
SCREEN_VERBS = ("check", "folds", "statistics", "pack", "train", "verify", "predict", "explain", "figures", "report")
