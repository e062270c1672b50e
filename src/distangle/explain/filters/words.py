"""What the filters say, in sentences."""

from collections.abc import Mapping, Sequence
from typing import Any


def filter_sentences(
    found: Sequence[Mapping[str, Any]],
    shown: Sequence[str],
    *,
    claim: Mapping[str, Any] | None,
    prune: Sequence[Mapping[str, Any]],
) -> list[str]:
    """Return sentences on the layers, the claim of Sec. 4.6, and pruning.

    Args:
        found: The `layers` of `FilterBands`.
        shown: Names of the layers of the figure.
        claim: Of `FilterBands`.
        prune: Of `FilterBands`.
    """
    said = [_layer(one) for name in shown for one in found if one["layer"] == name and one["weights"] == "printed"]
    if claim is not None:
        said.append(_standing(claim))
    return [*said, *(_pruned(one) for one in prune)]


def _layer(one: Mapping[str, Any]) -> str:
    shares = (one[name]["value"] for name in ("near_constant", "one_colour", "silent", "duplicates"))
    constant, alike, silent, same = (round(share * one["filters"]) for share in shares)
    varies, rank = one["variation"], one["effective_rank"]
    of_shuffled = (
        f"(shuffled {varies['shuffled']['random']:.2f}, p = {varies['shuffled']['p']:.2g})",
        f"(shuffled {rank['shuffled']['random']:.0%}, p = {rank['shuffled']['p']:.2g})",
    )
    return (
        f"{one['layer'].removeprefix('features.')}: {constant} of {one['filters']} filters are nearly constant, "
        f"{alike} look so ({silent} of them are near 0), {same} repeat another. Variation within a filter "
        f"{varies['value']:.2f} {of_shuffled[0]}, effective rank {rank['value']:.0%} of full {of_shuffled[1]}."
    )


def _standing(claim: Mapping[str, Any]) -> str:
    names = [name.removeprefix("features.").removesuffix(".conv1") for name in claim["layers"]]
    ranks = claim["rank"]["printed"]
    by = (("variation", "bands"), ("cosine_size", "alike filters"), ("effective_rank", "lost rank"))
    parts = [f"by {words} {' and '.join(str(rank) for rank in ranks[number].values())}" for number, words in by]
    first = all(sorted(ranks[number].values())[-1] <= len(names) for number, _ in by)
    verdict = "They stand out" if first else "They do not stand out"
    return (
        f"Of {claim['of']} dense layers, {' and '.join(names)} rank {', '.join(parts)}. {verdict} among the layers of "
        f"this network."
    )


def _pruned(one: Mapping[str, Any]) -> str:
    what = {"merge_duplicates": "Duplicate filters merged", "zero_bands": "Bands left out"}
    if not one["filters"]:
        return f"{what[one['kind']]}: none of {one['of']} is one."
    interval = one["interval"]
    over = f", 95 % over experiments {interval[0]:+.1%} to {interval[1]:+.1%}" if interval else ""
    said = (
        f"{what[one['kind']]} ({one['filters']} of {one['of']}): accuracy over {one['sites']} held-out sites "
        f"{one['accuracy']:.1%} to {one['without']:.1%} ({one['difference']:+.1%}{over})"
    )
    if one["random"]:
        said += f"; as many at random {', '.join(f'{value:+.1%}' for value in one['random'])}"
    return f"{said}."
