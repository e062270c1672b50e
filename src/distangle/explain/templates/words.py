"""What the full space says of templates and embeddings, in sentences."""

from collections.abc import Mapping
from typing import Any

from distangle.errors import brief
from distangle.intervals import LEAST_GROUPS

HEADS = ("softmax", "arc")
NO_INTERVAL = f"fewer than {LEAST_GROUPS} experiments: no interval"
PUSHED = (
    "Rows that no site has are only ever pushed away from what the others are pulled to, so they fall together with "
    "and without pseudo labels: that junk classes lie apart is no evidence for pseudo labels."
)


def template_sentences(numbers: Mapping[str, Any]) -> list[str]:
    """Return sentences on spread, unused classes and embeddings of every run.

    Args:
        numbers: Of `TemplateMaps`.
    """
    kinds = {run["name"]: run["pseudo_labels"] for run in numbers["runs"]}
    where = {name: "" for name in kinds}
    if len(kinds) > 1:
        where = {name: f"in {name} ({'no' if kind == 'none' else kind} pseudo labels) " for name, kind in kinds.items()}
    said = []
    for head in HEADS:
        angles = {name: found[head]["nearest_angle_deg_mean"] for name, found in numbers["templates"].items()}
        parts = [
            f"{where[name]}{angle['value']:.1f}°, random {_range(angle, '.1f')}°" for name, angle in angles.items()
        ]
        if parts:
            said.append(f"{head} templates, mean angle to the nearest other one: {'; '.join(parts)}.")
    return [*said, *_junk(numbers["junk"], where), *_embeddings(numbers, where)]


def _junk(junk: Mapping[str, Any], where: Mapping[str, str]) -> list[str]:
    with_junk = [name for name in where if junk[name]["softmax"]["trained"]]
    if not with_junk:
        return ["junk classes: every output has training wells; network.extra_outputs=k makes k without any."]
    said = []
    for head in HEADS:
        parts = []
        for name in with_junk:
            now, first = junk[name][head]["trained"], junk[name][head]["first_values"]
            close = ""
            if now["cosine_junk_junk"] is not None:
                close = (
                    f"; cosine to each other {now['cosine_junk_junk']:.2f}, {first['cosine_junk_junk']:.2f} untrained"
                )
            n = f"{now['n_junk']} of {now['n_junk'] + now['n_real']}"
            parts.append(
                f"{where[name]}{n} outputs, told from the others with AUROC {now['auroc_mean_cosine']:.2f} by mean "
                f"cosine, {now['auroc_norm']:.2f} by norm{close}"
            )
        said.append(f"junk classes, {head}: {'. '.join(parts)}.")
    return [*said, PUSHED]


def _embeddings(numbers: Mapping[str, Any], where: Mapping[str, str]) -> list[str]:
    chosen, found = numbers["perturbations"], numbers["embeddings"]
    tied = list(chosen["tied"])
    words = ""
    if tied:
        listed = ", ".join(map(brief, tied[:5])) + (", ..." if len(tied) > 5 else "")
        words = f" ({len(tied)} more with as many wells as the last of these: {listed})"
    parts = [
        f"{where[name]}{found[name]['silhouette']['value']:.2f}, shuffled labels "
        f"{_range(found[name]['silhouette'], '.2f')}, p = {found[name]['silhouette']['p']:.2g}"
        for name in where
    ]
    said = [f"embeddings of {', '.join(map(brief, chosen['names']))}{words}, silhouette: {'; '.join(parts)}."]
    if seen := numbers.get("trained_on"):
        whose = "the network was" if len(where) == 1 else f"{' and '.join(seen)} {'was' if len(seen) == 1 else 'were'}"
        said.append(f"embeddings: {whose} trained on these sites, so how they lie says nothing of new plates.")
    if "difference" in found:
        gain = found["difference"]["silhouette"]
        interval = gain["interval"]
        over = f"95 % over experiments {interval[0]:+.2f} to {interval[1]:+.2f}" if interval else NO_INTERVAL
        first, second = where
        said.append(f"silhouette of {second} minus that of {first}: {gain['value']:+.2f} ({over}).")
    return said


def _range(found: Mapping[str, Any], digits: str) -> str:
    low, high = found["random_range"]
    return f"{low:{digits}} to {high:{digits}}"
