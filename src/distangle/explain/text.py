"""Write results of an explanation as sentences and table rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from distangle.core.stats import MIN_GROUPS
from distangle.errors import brief
from distangle.results import STANDS_OUT, Benchmark, Explanation, Faithfulness, FilterAnalysis, TemplateComparison

Part = Literal["faithfulness", "templates", "filters"]
PARTS: tuple[Part, ...] = ("faithfulness", "templates", "filters")
BENCHMARK_HEADER = ("network", "question", "method", "hits", "share", "95 %", "chance", "swapped", "mass / area")
TESTS = {
    "randomization": "randomization",
    "views": "augmentations",
}  # a test of `faithfulness.json` to its printed name
REPLACEMENTS = {"control": "control image", "blur": "blurred image"}
HEADS = ("softmax", "arc")
NO_INTERVAL = f"fewer than {MIN_GROUPS} experiments: no interval"
UNUSED_CLASS_CAVEAT = (
    "The loss pushes the templates of unused classes away from all sites, so they cluster with and without pseudo "
    "labels: their separation is no evidence for pseudo labels."
)
MAX_NAMES = 5  # perturbations in a list


def sentences(explanation: Explanation) -> tuple[str, ...]:
    """Return sentences on the top channel, its null, and the planted truth."""
    summary, channels = explanation.summary, list(explanation.settings["channels"])
    perturbation, p = explanation.settings.get("perturbation"), explanation.p_of_top
    output = "the prediction" if perturbation is None else f"the output for {brief(str(perturbation))}"
    evidence = (
        f"largest Shapley value in {summary['top_channel_share']:.0%} of sites; p = {p:.3g} against shuffled channels"
    )
    lines = [*_channels_by_perturbation(summary, channels)]
    if p <= STANDS_OUT:
        lines.append(
            f"channel: {summary['top_channel']} contributed most to {output} over {summary['sites']} sites "
            f"({evidence})."
        )
    else:
        lines.append(
            f"channel: no channel stands out over {summary['sites']} sites; {summary['top_channel']} has the largest "
            f"mean ({evidence})."
        )
    observed, null = summary["eq15_top_channel"], summary["eq15_top_channel_of_random_maps"]
    name = max(observed, key=lambda channel: observed[channel])
    null_name = max(null, key=lambda channel: null[channel])
    lines.append(
        f"Eq. 15 as printed selects {name} in {observed[name]} of {summary['sites']} sites; with random maps it "
        "selects "
        f"{null_name} in {null[null_name]:.0f}. It is a distance that follows brightness, so it is no evidence."
    )
    lines += _cells(summary.get("cells"))
    lines += [f"warning: {warning}" for warning in summary["warnings"]]
    return (*lines, *_planted_truth(explanation.planted)) if explanation.planted else tuple(lines)


def analysis_sentences(folder: Path, parts: Sequence[Part]) -> tuple[str, ...]:
    """Return the sentences of one part, or one of each of several parts.

    Args:
        folder: Folder of the explanations.
        parts: Parts to read.
    """
    lines: list[list[str]] = []
    if "faithfulness" in parts:
        lines.append([*Faithfulness.read(folder).sentences][:: -1 if len(parts) > 1 else 1])  # the verdict is the last
    if "templates" in parts:
        lines.append([f"templates: {sentence}" for sentence in TemplateComparison.read(folder).numbers["sentences"]])
    if "filters" in parts:
        lines.append([f"filters: {sentence}" for sentence in FilterAnalysis.read(folder).sentences])
    return tuple(sentence for part in lines for sentence in part[: 1 if len(parts) > 1 else None])


def benchmark_lines(benchmark: Benchmark) -> list[tuple[str, ...]]:
    """Return one line per row of the benchmark, under `BENCHMARK_HEADER`."""
    return [_benchmark_line(row) for row in benchmark.rows]


def benchmark_sentences(benchmark: Benchmark) -> list[str]:
    """Return one sentence per criterion: reached or missed, and by which method."""
    lines = []
    for aim in benchmark.aims:
        if aim["value"] is None:
            lines.append(f"no site to count: {aim['aim']}.")
            continue
        verdict, bound = ("reached" if aim["met"] else "MISSED"), ("at least" if aim["at_least"] else "at most")
        lines.append(f"{verdict}: {aim['aim']}: {aim['value']:.0%} ({aim['method']}; {bound} {aim['limit']:.0%}).")
    return lines


def faithfulness_sentences(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """Return one sentence per faithfulness test; the last one is the verdict.

    Args:
        summary: Summary of the tests, with `verdicts`.
    """
    lines = [_curves(summary), _model_randomization(summary), _augmentations(summary)]
    if summary["seeds"] is not None or summary["shuffled"] is not None:
        lines.append(_other_networks(summary))
    return (*lines, _verdict(summary["verdicts"]))


def filter_sentences(
    layers: Sequence[Mapping[str, Any]],
    figure_layers: Sequence[str],
    *,
    claim: Mapping[str, Any] | None,
    prune: Sequence[Mapping[str, Any]],
) -> list[str]:
    """Return sentences on the layers, the claim of Sec. 4.6, and pruning.

    Args:
        layers: The `layers` of a `FilterAnalysis`.
        figure_layers: Names of the layers of the figure.
        claim: The `claim` of a `FilterAnalysis`.
        prune: The `prune` of a `FilterAnalysis`.
    """
    lines = [
        _filters_of_layer(layer)
        for name in figure_layers
        for layer in layers
        if layer["layer"] == name and layer["weights"] == "printed"
    ]
    if claim is not None:
        lines.append(_claim(claim))
    return [*lines, *(_pruning(result) for result in prune)]


def template_sentences(numbers: Mapping[str, Any]) -> list[str]:
    """Return sentences on dispersion, unused classes and embeddings of each run.

    Args:
        numbers: The `numbers` of a `TemplateComparison`.
    """
    kinds = {run["name"]: run["pseudo_labels"] for run in numbers["runs"]}
    prefixes = {name: "" for name in kinds}
    if len(kinds) > 1:
        names = {name: "no" if kind == "none" else kind for name, kind in kinds.items()}
        prefixes = {name: f"in {name} ({kind} pseudo labels) " for name, kind in names.items()}
    lines = []
    for head in HEADS:
        angles = {
            name: dispersions[head]["nearest_angle_deg_mean"] for name, dispersions in numbers["templates"].items()
        }
        parts = [
            f"{prefixes[name]}{angle['value']:.1f}°, random {_random_range(angle, '.1f')}°"
            for name, angle in angles.items()
        ]
        if parts:
            lines.append(f"{head} templates, mean angle to the nearest other template: {'; '.join(parts)}.")
    return [*lines, *_unused_classes(numbers["unused"], prefixes), *_embeddings(numbers, prefixes)]


def _channels_by_perturbation(summary: Mapping[str, Any], channels: Sequence[str]) -> list[str]:
    means = {name: scores["shapley"]["mean"] for name, scores in summary.get("perturbations", {}).items()}
    if len(means) < 2:
        return []
    tops = [channels[max(range(len(mean)), key=lambda k: mean[k])] for mean in means.values()]
    counts = sorted(((tops.count(name), name) for name in channels if name in tops), key=lambda pair: -pair[0])
    listed = ", ".join(f"{name} in {n}" for n, name in counts)
    return [f"channel by perturbation: largest mean Shapley value of {len(means)} perturbations: {listed}."]


def _cells(cells: object) -> list[str]:
    if not isinstance(cells, Mapping):
        return [f"cells: {cells}"] if cells else []
    parts = [
        f"{overlap['share']:.0%} on {name} ({overlap['area']:.0%} of the image; p = {overlap['p']:.2g} against random "
        "maps)"
        for name, overlap in (("nuclei", cells["nuclei"]), ("cells with their nuclei", cells["cells"]))
    ]
    return [f"cells: share of the attribution maps: {' and '.join(parts)}."]


def _planted_truth(planted: Mapping[str, Any]) -> list[str]:
    lines = []
    shapley, eq15, region = (
        planted[name] for name in ("top_shapley_is_planted", "top_eq15_is_planted", "map_peak_in_place")
    )
    if shapley["n_total"]:
        lines.append(
            f"planted channel: Shapley finds it in {_count_and_share(shapley)} of the correctly predicted sites with "
            f"an effect in one channel (chance {shapley['chance']:.0%}); Eq. 15 finds it in {eq15['share']:.0%}."
        )
    if region["n_total"]:
        lines.append(
            f"planted region: the peak of the map lies in it in {_count_and_share(region)} of sites "
            f"(chance {region['chance']:.0%})."
        )
    return lines or ["planted truth: the explained sites have no planted effect, so there is nothing to find."]


def _count_and_share(hits: Mapping[str, Any]) -> str:
    interval = "" if hits["low"] is None else f", {hits['low']:.0%} to {hits['high']:.0%}"
    return f"{hits['sites']} of {hits['n_total']} ({hits['share']:.0%}{interval})"


def _benchmark_line(row: Mapping[str, Any]) -> tuple[str, ...]:
    def percent(value: float | None) -> str:
        return "" if value is None else f"{value:.0%}"

    hits = f"{row['hits']:g}" if row["network"] == "trained" else f"{row['hits']:.1f}"
    return (
        str(row["network"]),
        f"{row['question']}, by {row['unit'].removesuffix('s')}",
        str(row["method"]),
        f"{hits} of {row['n_total']}",
        percent(row["share"]),
        "" if row["low"] is None else f"{row['low']:.0%} to {row['high']:.0%}",
        percent(row["chance"]),
        percent(row["swapped"]),
        f"{row['mass']:.0%} / {row['area']:.0%}" if row["question"] == "region" else "",
    )


def _curves(summary: Mapping[str, Any]) -> str:
    parts = []
    for replacement, curves in summary["curves"].items():
        deletion, insertion = curves["deletion"]["probability"], curves["insertion"]["probability"]
        parts.append(
            f"{REPLACEMENTS[replacement]}: deletion {_mean_and_null(deletion)}, insertion {_mean_and_null(insertion)}"
        )
    n_sites = next(iter(summary["curves"].values()))["sites"]
    return (
        f"regions: mean probability over {n_sites} sites while image regions are replaced in the order of the map "
        f"(random smooth maps in brackets): {'; '.join(parts)}. A faithful map has low deletion and high insertion."
    )


def _mean_and_null(curve: Mapping[str, Any]) -> str:
    return f"{curve['mean']:.2f} ({curve['random']:.2f}; p = {curve['p']:.2g})"


def _model_randomization(summary: Mapping[str, Any]) -> str:
    randomization = summary["randomization"]
    last = randomization["stages"][-1]
    untrained = next(stage for stage in randomization["stages"] if stage["stage"] == randomization["before_training"])
    low, high = last["null"]
    line = (
        f"weights: with all weights randomized, the maps have a rank correlation of {last['mean']:.2f} with the maps "
        f"of the network (absolute {last['absolute']:.2f}). Random smooth maps have {low:.2f} to {high:.2f} "
        f"(absolute {last['null_absolute']:.2f})."
    )
    if untrained is not last:
        line += f" With only the trained weights randomized: {untrained['mean']:.2f}."
    return line


def _augmentations(summary: Mapping[str, Any]) -> str:
    augmentations, targets = summary["views"], summary["targets"]
    line = (
        "augmentations: the maps of flipped and rotated images, transformed back, have a rank correlation of "
        f"{augmentations['mean']:.2f} with the map of the image"
    )
    if augmentations["channels"] is not None:
        channels = augmentations["channels"]
        line += (
            f"; the top channel of {channels['sites']} sites stays the same in {channels['same_top_channel']:.0%} of "
            "augmentations"
        )
    if targets is not None:
        line += f"; the maps for another perturbation have {targets['mean']:.2f}"
    return line + "."


def _other_networks(summary: Mapping[str, Any]) -> str:
    parts = []
    for name, networks in (("seeds", "networks of other seeds"), ("shuffled", "a network trained on shuffled labels")):
        if summary[name] is not None:
            similarity = summary[name]["similarity"]
            low, high = similarity["null"]
            parts.append(
                f"{networks}: rank correlation of the maps {similarity['mean']:.2f} "
                f"(random smooth maps {low:.2f} to {high:.2f})"
            )
    return "; ".join(parts) + "."


def _verdict(verdicts: Mapping[str, str]) -> str:
    tests = {
        verdict: [TESTS.get(name, name) for name, other in verdicts.items() if other == verdict]
        for verdict in ("fails", "weak", "cannot say")
    }
    labels = (("weak", "weak"), ("cannot say", "could not be tested"))
    parts = [f"{label}: {', '.join(tests[verdict])}" for verdict, label in labels if tests[verdict]]
    rest = f" ({'; '.join(parts)})" if parts else ""
    if tests["fails"]:
        return f"verdict: DO NOT TRUST THESE MAPS: they fail {', '.join(tests['fails'])}{rest}."
    if len(tests["cannot say"]) == len(verdicts):
        return "verdict: nothing could be tested."
    return f"verdict: no test failed{rest}."


def _filters_of_layer(layer: Mapping[str, Any]) -> str:
    shares = (layer[name]["value"] for name in ("near_constant", "one_color", "silent", "duplicates"))
    n_constant, n_uniform, n_silent, n_duplicates = (round(share * layer["filters"]) for share in shares)
    variation, rank = layer["variation"], layer["effective_rank"]
    shuffled_variation = f"(shuffled {variation['shuffled']['random']:.2f}, p = {variation['shuffled']['p']:.2g})"
    shuffled_rank = f"(shuffled {rank['shuffled']['random']:.0%}, p = {rank['shuffled']['p']:.2g})"
    return (
        f"{layer['layer'].removeprefix('features.')}: {n_constant} of {layer['filters']} filters are nearly constant, "
        f"{n_uniform} look uniform ({n_silent} of them are near 0), {n_duplicates} duplicate another filter. Variation "
        f"within a filter {variation['value']:.2f} {shuffled_variation}, effective rank {rank['value']:.0%} of full "
        f"{shuffled_rank}."
    )


def _claim(claim: Mapping[str, Any]) -> str:
    names = [name.removeprefix("features.").removesuffix(".conv1") for name in claim["layers"]]
    ranks = claim["rank"]["printed"]
    measures = (("variation", "bands"), ("cosine_size", "similar filters"), ("effective_rank", "lost rank"))
    parts = [f"by {label} {' and '.join(str(rank) for rank in ranks[name].values())}" for name, label in measures]
    stand_out = all(sorted(ranks[name].values())[-1] <= len(names) for name, _ in measures)
    verdict = "They stand out" if stand_out else "They do not stand out"
    return (
        f"{' and '.join(names)} rank {', '.join(parts)} among {claim['n_total']} dense layers. {verdict} among the "
        "layers of this network."
    )


def _pruning(result: Mapping[str, Any]) -> str:
    action = {"merge_duplicates": "Duplicate filters merged", "zero_bands": "Bands removed"}[result["kind"]]
    if not result["filters"]:
        return f"{action}: none of {result['n_total']} filters qualifies."
    interval = result["interval"]
    over = f", 95 % over experiments {interval[0]:+.1%} to {interval[1]:+.1%}" if interval else ""
    line = (
        f"{action} ({result['filters']} of {result['n_total']}): the accuracy over {result['sites']} held-out sites "
        f"changes from {result['accuracy']:.1%} to {result['without']:.1%} ({result['difference']:+.1%}{over})"
    )
    if result["random"]:
        line += f"; with as many random filters {', '.join(f'{value:+.1%}' for value in result['random'])}"
    return f"{line}."


def _unused_classes(separation: Mapping[str, Any], prefixes: Mapping[str, str]) -> list[str]:
    runs = [name for name in prefixes if separation[name]["softmax"]["trained"]]
    if not runs:
        return [
            "unused classes: every output has training wells. To add k outputs without any, set "
            "network.extra_outputs=k."
        ]
    lines = []
    for head in HEADS:
        parts = []
        for name in runs:
            trained, initial = separation[name][head]["trained"], separation[name][head]["first_values"]
            cosines = ""
            if trained["cosine_unused_unused"] is not None:
                cosines = (
                    f"; their mean cosine to each other is {trained['cosine_unused_unused']:.2f}, "
                    f"{initial['cosine_unused_unused']:.2f} before training"
                )
            count = f"{trained['n_unused']} of {trained['n_unused'] + trained['n_real']}"
            parts.append(
                f"{prefixes[name]}{count} outputs, separated from the others with AUROC "
                f"{trained['auroc_mean_cosine']:.2f} by mean cosine, {trained['auroc_norm']:.2f} by norm{cosines}"
            )
        lines.append(f"unused classes, {head}: {'. '.join(parts)}.")
    return [*lines, UNUSED_CLASS_CAVEAT]


def _embeddings(numbers: Mapping[str, Any], prefixes: Mapping[str, str]) -> list[str]:
    perturbations, embeddings = numbers["perturbations"], numbers["embeddings"]
    tied = list(perturbations["tied"])
    ties = ""
    if tied:
        listed = ", ".join(map(brief, tied[:MAX_NAMES])) + (", ..." if len(tied) > MAX_NAMES else "")
        ties = f" ({len(tied)} more have as many wells as the last of these: {listed})"
    silhouettes = {name: embeddings[name]["silhouette"] for name in prefixes}
    parts = [
        f"{prefixes[name]}{silhouette['value']:.2f}, shuffled labels {_random_range(silhouette, '.2f')}, "
        f"p = {silhouette['p']:.2g}"
        for name, silhouette in silhouettes.items()
    ]
    lines = [f"embeddings of {', '.join(map(brief, perturbations['names']))}{ties}, silhouette: {'; '.join(parts)}."]
    if trained := numbers.get("trained_on"):
        verb = "was" if len(trained) == 1 else "were"
        subject = "the network was" if len(prefixes) == 1 else f"{' and '.join(trained)} {verb}"
        lines.append(
            f"embeddings: {subject} trained on these sites, so their silhouette says nothing about new plates."
        )
    if "difference" in embeddings:
        gain = embeddings["difference"]["silhouette"]
        interval = gain["interval"]
        over = f"95 % over experiments {interval[0]:+.2f} to {interval[1]:+.2f}" if interval else NO_INTERVAL
        first, second = prefixes
        lines.append(f"silhouette of {second} minus that of {first}: {gain['value']:+.2f} ({over}).")
    return lines


def _random_range(number: Mapping[str, Any], digits: str) -> str:
    low, high = number["random_range"]
    return f"{low:{digits}} to {high:{digits}}"
