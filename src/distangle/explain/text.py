"""The truth table in words, for a terminal.

What the tests of a map say, in sentences for a terminal and a page.

What the filters say, in sentences.

What the full space says of templates and embeddings, in sentences.

What an explanation says, in sentences for a terminal.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from distangle.core.stats import MIN_GROUPS
from distangle.errors import brief
from distangle.results import STANDS_OUT, Benchmark, Explanation, Faithfulness, FilterAnalysis, TemplateComparison

BENCHMARK_HEADER = ("network", "question", "method", "hits", "share", "95 %", "chance", "swapped", "mass / area")


def benchmark_lines(benchmark: Benchmark) -> list[tuple[str, ...]]:
    """Return one line per row of the truth table, under `BENCHMARK_HEADER`."""
    return [_line(row) for row in benchmark.rows]


def benchmark_sentences(benchmark: Benchmark) -> list[str]:
    """Return one sentence per aim: reached or missed, by what."""
    said = []
    for aim in benchmark.aims:
        if aim["value"] is None:
            said.append(f"nothing to count: {aim['aim']}.")
            continue
        word, side = ("reached" if aim["met"] else "MISSED"), ("at least" if aim["at_least"] else "at most")
        said.append(f"{word}: {aim['aim']}: {aim['value']:.0%} ({aim['method']}; {side} {aim['limit']:.0%}).")
    return said


def _line(row: Mapping[str, Any]) -> tuple[str, ...]:
    def per_cent(value: float | None) -> str:
        return "" if value is None else f"{value:.0%}"

    hits = f"{row['hits']:g}" if row["network"] == "trained" else f"{row['hits']:.1f}"
    return (
        str(row["network"]),
        f"{row['question']}, by {row['unit'].removesuffix('s')}",
        str(row["method"]),
        f"{hits} of {row['n_total']}",
        per_cent(row["share"]),
        "" if row["low"] is None else f"{row['low']:.0%} to {row['high']:.0%}",
        per_cent(row["chance"]),
        per_cent(row["swapped"]),
        f"{row['mass']:.0%} / {row['area']:.0%}" if row["question"] == "place" else "",
    )


IN_PLACE = {"control": "untreated image", "blur": "blurred image"}


def sentences_of(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """Put the numbers of a summary into sentences; the last one is the verdict.

    Args:
        summary: With `verdicts`.
    """
    said = [_curves(summary), _weights(summary), _views(summary)]
    if summary["seeds"] is not None or summary["shuffled"] is not None:
        said.append(_beside(summary))
    return (*said, _verdict(summary["verdicts"]))


def _curves(summary: Mapping[str, Any]) -> str:
    parts = []
    for replacement, one in summary["curves"].items():
        deletion, insertion = one["deletion"]["probability"], one["insertion"]["probability"]
        parts.append(f"{IN_PLACE[replacement]}: deletion {_figure(deletion)}, insertion {_figure(insertion)}")
    sites = next(iter(summary["curves"].values()))["sites"]
    return (
        f"places: mean probability over {sites} sites while places are replaced in the order of the map, random smooth "
        f"maps in brackets. {'; '.join(parts)}. A true map has low deletion and high insertion."
    )


def _figure(one: Mapping[str, Any]) -> str:
    return f"{one['mean']:.2f} ({one['random']:.2f}; p = {one['p']:.2g})"


def _weights(summary: Mapping[str, Any]) -> str:
    weights = summary["randomization"]
    last = weights["stages"][-1]
    before = next(stage for stage in weights["stages"] if stage["stage"] == weights["before_training"])
    low, high = last["null"]
    said = (
        f"weights: drawn anew from the templates to the first layer, the network gives maps that are "
        f"{last['mean']:.2f} like its own (rank correlation; sign aside {last['absolute']:.2f}). "
        f"Random smooth maps are {low:.2f} to {high:.2f} (sign aside {last['null_absolute']:.2f})."
    )
    if before is not last:
        said += f" With only the trained parts drawn anew: {before['mean']:.2f}."
    return said


def _views(summary: Mapping[str, Any]) -> str:
    views, targets = summary["views"], summary["targets"]
    said = f"views: maps of the turned image, turned back, are {views['mean']:.2f} like the map of the image"
    if views["channels"] is not None:
        stains = views["channels"]
        said += f", and the largest stain of {stains['sites']} sites stays in {stains['same_top_channel']:.0%} of views"
    if targets is not None:
        said += f"; maps for another perturbation are {targets['mean']:.2f} like it"
    return said + "."


def _beside(summary: Mapping[str, Any]) -> str:
    said = []
    for name, words in (("seeds", "networks of other seeds"), ("shuffled", "a network trained on shuffled labels")):
        if summary[name] is not None:
            alike = summary[name]["similarity"]
            low, high = alike["null"]
            said.append(
                f"{words}: maps {alike['mean']:.2f} like each other (random smooth maps {low:.2f} to {high:.2f})"
            )
    return "; ".join(said) + "."


def _verdict(found: Mapping[str, str]) -> str:
    by = {
        word: [name for name, verdict in found.items() if verdict == word] for word in ("fails", "weak", "cannot say")
    }
    parts = [f"{words}: {', '.join(by[word])}" for word, words in
             (("weak", "weak"), ("cannot say", "could not be tested")) if by[word]]  # fmt: skip
    rest = f" ({'; '.join(parts)})" if parts else ""
    if by["fails"]:
        return f"verdict: DO NOT BELIEVE THESE MAPS: they fail {', '.join(by['fails'])}{rest}."
    if len(by["cannot say"]) == len(found):
        return "verdict: nothing could be tested."
    return f"verdict: no test failed{rest}."


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
        f"Of {claim['n_total']} dense layers, {' and '.join(names)} rank {', '.join(parts)}. {verdict} among the "
        f"layers of this network."
    )


def _pruned(one: Mapping[str, Any]) -> str:
    what = {"merge_duplicates": "Duplicate filters merged", "zero_bands": "Bands left out"}
    if not one["filters"]:
        return f"{what[one['kind']]}: none of {one['n_total']} is one."
    interval = one["interval"]
    over = f", 95 % over experiments {interval[0]:+.1%} to {interval[1]:+.1%}" if interval else ""
    said = (
        f"{what[one['kind']]} ({one['filters']} of {one['n_total']}): accuracy over {one['sites']} held-out sites "
        f"{one['accuracy']:.1%} to {one['without']:.1%} ({one['difference']:+.1%}{over})"
    )
    if one["random"]:
        said += f"; as many at random {', '.join(f'{value:+.1%}' for value in one['random'])}"
    return f"{said}."


HEADS = ("softmax", "arc")
NO_INTERVAL = f"fewer than {MIN_GROUPS} experiments: no interval"
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
    return [*said, *_junk(numbers["unused"], where), *_embeddings(numbers, where)]


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
            if now["cosine_unused_unused"] is not None:
                apart, before = now["cosine_unused_unused"], first["cosine_unused_unused"]
                close = f"; cosine to each other {apart:.2f}, {before:.2f} untrained"
            n = f"{now['n_unused']} of {now['n_unused'] + now['n_real']}"
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


Part = Literal["faithfulness", "templates", "filters"]
PARTS: tuple[Part, ...] = ("faithfulness", "templates", "filters")


def sentences(explanation: Explanation) -> tuple[str, ...]:
    """Return sentences on the top channel, its null, and the planted truth."""
    summary, channels = explanation.summary, list(explanation.settings["channels"])
    asked, p = explanation.settings.get("perturbation"), explanation.p_of_top
    moved = "the prediction" if asked is None else f"the answer {brief(str(asked))}"
    of = f"Shapley value, largest in {summary['top_channel_share']:.0%} of sites; p = {p:.3g} against shuffled stains"
    said = [*_by_perturbation(summary, channels)]
    if p <= STANDS_OUT:
        said.append(f"stain: over {summary['sites']} sites, {summary['top_channel']} moved {moved} most ({of}).")
    else:
        said.append(
            f"stain: over all {summary['sites']} sites no single stain stands out; the first is "
            f"{summary['top_channel']} ({of})."
        )
    literal, chance = summary["eq15_top_channel"], summary["eq15_top_channel_of_random_maps"]
    name = max(literal, key=lambda channel: literal[channel])
    drawn = max(chance, key=lambda channel: chance[channel])
    said.append(
        f"Eq. 15 as printed names {name} in {literal[name]} of {summary['sites']} sites; with maps drawn at random, "
        f"{drawn} in {chance[drawn]:.0f}. It is a distance that follows brightness, no evidence."
    )
    said += _on_cells(summary.get("cells"))
    said += [f"warning: {warning}" for warning in summary["warnings"]]
    return (*said, *_planted(explanation.planted)) if explanation.planted else tuple(said)


def _by_perturbation(summary: Mapping[str, Any], channels: Sequence[str]) -> list[str]:
    means = {name: one["shapley"]["mean"] for name, one in summary.get("perturbations", {}).items()}
    if len(means) < 2:
        return []
    tops = [channels[max(range(len(mean)), key=lambda k: mean[k])] for mean in means.values()]
    counts = sorted(((tops.count(name), name) for name in channels if name in tops), key=lambda one: -one[0])
    listed = ", ".join(f"{name} in {n}" for n, name in counts)
    return [f"stain by perturbation: the largest mean Shapley value of {len(means)} perturbations is that of {listed}."]


def _on_cells(cells: object) -> list[str]:
    if not isinstance(cells, Mapping):
        return [f"cells: {cells}"] if cells else []
    parts = [
        f"{one['share']:.0%} on {where} ({one['area']:.0%} of the image; p = {one['p']:.2g} against random maps)"
        for where, one in (("nuclei", cells["nuclei"]), ("cells with their nuclei", cells["cells"]))
    ]
    return [f"cells: of the maps, {' and '.join(parts)}."]


def _planted(planted: Mapping[str, Any]) -> list[str]:
    said = []
    stain, literal, place = (
        planted[name] for name in ("top_shapley_is_planted", "top_eq15_is_planted", "map_peak_in_place")
    )
    if stain["n_total"]:
        said.append(
            f"planted stain: found by Shapley in {_share(stain)} of rightly predicted sites with an effect in one "
            f"stain (chance {stain['chance']:.0%}); by Eq. 15 in {literal['share']:.0%}."
        )
    if place["n_total"]:
        said.append(
            f"planted place: the map's peak lies in it in {_share(place)} of sites (chance {place['chance']:.0%})."
        )
    return said or ["nothing was planted in the explained sites: there is nothing to find."]


def _share(counted: Mapping[str, Any]) -> str:
    ends = "" if counted["low"] is None else f", {counted['low']:.0%} to {counted['high']:.0%}"
    return f"{counted['sites']} of {counted['n_total']} ({counted['share']:.0%}{ends})"


def analysis_sentences(folder: Path, parts: Sequence[Part]) -> tuple[str, ...]:
    """Return what the parts of an explanation say, as they were written.

    Args:
        folder: Of the explanations.
        parts: Which of them.
    """
    said: list[str] = []
    if "faithfulness" in parts:
        said += Faithfulness.read(folder).sentences
    if "templates" in parts:
        said += [f"templates: {sentence}" for sentence in TemplateComparison.read(folder).numbers["sentences"]]
    if "filters" in parts:
        said += [f"filters: {sentence}" for sentence in FilterAnalysis.read(folder).sentences]
    return tuple(said)
