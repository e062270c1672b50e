"""Run the verbs that explain and compare runs: explain, figures and ablate."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from distangle.cli.app import command_line
from distangle.cli.arguments import Words, check_exclusive, check_minimum, parse_choices, parse_filters, parse_int_list
from distangle.cli.console import print_note, print_result, print_status, print_table
from distangle.cli.inputs import compute_on, open_own_screen
from distangle.cli.runs import make_folds
from distangle.core.progress import progress, show_action

if TYPE_CHECKING:
    from distangle.results import RunFolder
    from distangle.screen import Screen


def ablate(
    screen: Path | None = None,
    *,
    out: Path,
    only: str | None = None,
    seeds: str | None = None,
    preset: str | None = None,
    config: Path | None = None,
    hold_out: str | None = None,
    unlabelled: str | None = None,
    folds: int | None = None,
    fold: int | None = None,
    group: Literal["experiment", "plate", "well"] | None = None,
    fold_file: Path | None = None,
    force_split: bool = False,
    target: str | None = None,
    epochs: int | None = None,
    set: Words = (),
) -> None:
    """Train every ablation condition with several seeds and compare them (Fig. 6).

    After an interruption, the same command continues; so does `distangle ablate --out DIR`.

    Args:
        screen: Folder from `distangle index`.
        out: Folder of the ablation; every run is a folder in its runs/.
        only: Conditions to train, such as `baseline,cutmix`; the default is all. Others can be added later.
        seeds: Seeds of every condition; the default is `0,1,2`. Others can be added later.
        preset: Preset of the settings, as in `distangle train`.
        config: YAML file with settings, as in `distangle train`.
        hold_out: Wells to hold out, as in `distangle train`; the same in every run.
        unlabelled: Wells whose labels are hidden for pseudo-labels, such as `experiment=HUVEC-03`.
        folds: Number of folds, as in `distangle train`.
        fold: Index of the held-out fold, as in `distangle train`.
        group: Unit that stays whole in a fold, as in `distangle train`.
        fold_file: File of folds, as in `distangle train`.
        force_split: Allow a split inside plates, as in `distangle train`.
        target: Column to predict, as in `distangle train`.
        epochs: Number of epochs; the default is that of the preset.
        set: Setting of all runs to change, such as `optim.lr=1e-4`. `--optim.lr 1e-4` does the same.
    """
    from distangle.ablation import (
        chosen_conditions,
        compare,
        continue_ablation,
        plan_ablation,
        run_ablation,
        write_comparison,
    )
    from distangle.ablation.page import caveats, table_lines
    from distangle.ablation.run import count_steps
    from distangle.screen import allowed_sources, read_screen
    from distangle.training import resolve_config, stop_at_signals

    folding = {
        "--hold-out": hold_out,
        "--unlabelled": unlabelled,
        "--folds": folds,
        "--fold": fold,
        "--group": group,
        "--fold-file": fold_file,
        "--force-split": force_split or None,
    }
    if screen is None:
        setting = {"--preset": preset, "--config": config, "--target": target, "--epochs": epochs, "--set": set or None}
        others = {**folding, **setting}
        check_exclusive(
            f"--out {out}", others, "Without a screen, the ablation in that folder goes on as it was begun."
        )
        more = () if only is None else chosen_conditions(only)
        plan = continue_ablation(
            out, conditions=more, seeds=parse_int_list(seeds or "", flag="--seeds"), command=command_line()
        )
    else:
        asked = resolve_config(preset, set, file=config, target=target, epochs=epochs)
        indexed = allowed_sources(read_screen(screen))
        # Every run has the same folds, whatever the seed of the recipe.
        divided = make_folds(indexed, folding, label=asked.target, seed=0)
        plan = plan_ablation(
            indexed,
            divided,
            asked,
            out,
            conditions=chosen_conditions(only),
            seeds=parse_int_list(seeds or "0,1,2", flag="--seeds"),
            command=command_line(),
        )
    again = f"Go on with `distangle ablate --out {out}`."
    with stop_at_signals(again) as stop, progress("ablate", count_steps(plan), unit="piece") as advance:
        run_ablation(plan, command=command_line(), advance=advance, say=print_note, stop=stop)
    found = compare(plan)
    page = write_comparison(plan, found)
    heads = ("condition", "level", "views", "accuracy", "over baseline", "balanced", "over baseline", "seeds", "n")
    print_table(heads, table_lines(found))
    for sentence in caveats(found):
        print_note(sentence)
    print_result(str(page))


RESTS_ON = ("run.json", "config.yaml", "screen.json", "folds.parquet", "predictions/sites.")
ALL_PARTS = "faithfulness,templates,filters"


def explain(
    run: Path,
    *,
    screen: Path | None = None,
    images: Path | None = None,
    device: str | None = None,
    n_sites: int | None = None,
    only: Words = (),
    perturbation: str | None = None,
    method: Literal["grad_cam", "hires_cam", "layer_cam", "integrated_gradients", "occlusion"] = "grad_cam",
    layer: str | None = None,
    head: Literal["softmax", "arc"] = "softmax",
    removal: Literal["control", "mean", "other_well"] | None = None,
    parts: str = ALL_PARTS,
    nuclear: str | None = None,
    beside: Path | None = None,
    embeddings: str | None = None,
    prune: bool = False,
    seeds: Annotated[tuple[Path, ...], Parameter(negative=())] = (),
    shuffled: Path | None = None,
    benchmark: bool = False,
) -> None:
    """Compute attribution maps and channel attribution, with null distributions.

    Args:
        run: Folder of a run with predictions.
        screen: Folder of the screen, if it was moved.
        images: Folder of the images, if they were moved after `distangle index`.
        device: Device to compute on: `cpu`, `cuda`, `cuda:1` or `mps`; the default is `cpu`.
        n_sites: Number of held-out sites to explain, spread over the perturbations; the default is 96, or all sites
            with `--benchmark`. If the run held nothing out, training sites are explained.
        only: Filter of the sites by a column of the predictions, such as `well=B02,B03` or `plate=2`.
        perturbation: Perturbation to explain at every site; the default is the predicted one.
        method: Attribution method of the maps; the last two use pixels and need `distangle[explain]`.
        layer: Layer of the backbone, such as `features.denseblock2`; the default is the last one with a spatial map.
        head: Output to explain: `softmax` or `arc`.
        removal: Replacement of an absent channel: `control` (from a control well of the plate; the default if every
            plate has one), `mean` (mean of the channel) or `other_well` (from any other well of the plate).
        parts: Further analyses, separated by commas: `faithfulness` tests the maps, `templates` and `filters` analyze
            the network; `none` explains the sites only.
        nuclear: Channel that shows nuclei, if its name, stain or organelle does not say so.
        beside: Second run on the same screen whose templates are compared, such as one with pseudo-labels.
        embeddings: Perturbations whose embeddings are shown, separated by commas; the default is the most frequent
            ones.
        prune: Measure how removing filters changes the accuracy; this needs several predictions.
        seeds: Predicted runs on the same screen with other seeds; their maps are compared with these.
        shuffled: Predicted run trained with `--set shuffle_labels=true`; its maps should differ from these.
        benchmark: On a synthetic screen, measure how often each method finds the planted channel and the planted
            region, compared with networks with random weights.
    """
    if n_sites is not None:
        check_minimum(n_sites, 1, flag="--n-sites")
    from distangle.results import RunFolder

    opened = RunFolder.open(run)
    compute_on(device)
    if benchmark:
        others: dict[str, object] = {"--only": only or None, "--perturbation": perturbation, "--nuclear": nuclear}
        others |= {"--beside": beside, "--embeddings": embeddings, "--prune": prune or None}
        others |= {"--seeds": seeds or None, "--shuffled": shuffled}
        others |= {
            "--method": None if method == "grad_cam" else method,
            "--parts": None if parts == ALL_PARTS else parts,
        }
        check_exclusive("--benchmark", others, "It asks every method for what was planted, in all held-out wells.")
        from distangle.results import refuse_altered

        refuse_altered(opened, *RESTS_ON)
        indexed = open_own_screen(opened, screen, images)
        _benchmark(opened, indexed, n_sites=n_sites, layer=layer, head=head, removal=removal)
        return
    chosen = parse_filters(only, flag="--only")
    from distangle.results import refuse_altered

    refuse_altered(opened, *RESTS_ON)
    indexed = open_own_screen(opened, screen, images)
    show_action("loading the network code")
    from distangle.explain import (
        PARTS,
        AnalysisOptions,
        ExplainSettings,
        SiteSelection,
        analysis_sentences,
        explain_run,
        n_steps,
        sentences,
    )

    asked = () if parts == "none" else parse_choices(parts, PARTS, flag="--parts")
    options = AnalysisOptions(
        parts=asked,
        nuclear=nuclear,
        beside=None if beside is None else RunFolder.open(beside),
        embeddings=None if embeddings is None else [name.strip() for name in embeddings.split(",")],
        prune=prune,
        seeds=[RunFolder.open(other) for other in seeds],
        shuffled=None if shuffled is None else RunFolder.open(shuffled),
    )
    with progress("explain", 0, n_steps=n_steps(asked)) as advance:
        found = explain_run(
            opened,
            indexed,
            selection=SiteSelection(n_sites=96 if n_sites is None else n_sites, only=chosen, perturbation=perturbation),
            settings=ExplainSettings(method=method, layer=layer, head=head, removal=removal),
            options=options,
            advance=advance,
            say=print_note,
        )
    opened.add_command(command_line())
    if found.settings["remark"]:
        print_note(found.settings["remark"])
    for sentence in (*sentences(found), *analysis_sentences(opened.explanations, asked)):
        print_result(sentence)
    print_status(f"next: `distangle report {shlex.quote(str(run))}`")
    print_result(str(opened.explanations))


def _benchmark(
    opened: "RunFolder",
    indexed: "Screen",
    *,
    n_sites: int | None,
    layer: str | None,
    head: Literal["softmax", "arc"],
    removal: Literal["control", "mean", "other_well"] | None,
) -> None:
    from distangle.explain import (
        BENCHMARK_HEADER,
        BENCHMARK_PIECES,
        benchmark_lines,
        benchmark_run,
        benchmark_sentences,
    )

    with progress("benchmark", BENCHMARK_PIECES, unit="method") as advance:
        found = benchmark_run(
            opened, indexed, n_sites=n_sites, layer=layer, head=head, removal=removal, advance=advance
        )
    opened.add_command(command_line())
    if found.settings["remark"]:
        print_note(found.settings["remark"])
    print_table(BENCHMARK_HEADER, benchmark_lines(found))
    for sentence in benchmark_sentences(found):
        print_result(sentence)
    print_result(str(opened.explanations / "benchmark.json"))


def figures(
    run: Path, *, only: list[int] | None = None, screen: Path | None = None, images: Path | None = None
) -> None:
    """Draw figures 1, 5 and 7 to 12 of the paper from a run, with their numbers.

    Args:
        run: Folder of a run; most figures need `distangle explain` first.
        only: Number of a figure to draw; the default is all.
        screen: Folder of the screen, if it was moved.
        images: Folder of the images, if they were moved after `distangle index`.
    """
    from distangle.results import RunFolder

    opened = RunFolder.open(run)
    indexed = open_own_screen(opened, screen, images, needed=False)
    show_action("loading the drawing code")
    from distangle.report import FIGURES, SHOWN, draw_figures
    from distangle.results import refuse_altered

    refuse_altered(opened, *SHOWN)
    with progress("figures", len(only or FIGURES), unit="figure") as advance:
        listed = draw_figures(opened, indexed, only=only or (), advance=advance)
    opened.add_command(command_line())
    for number in map(str, only or FIGURES):
        said = listed[number]
        if "missing" in said:
            words = shlex.split(said["command"])  # names the run, which may lie elsewhere
            command = f" `{shlex.join([*words[:2], str(run), *words[3:]])}` makes it." if words else ""
            print_note(f"Figure {number} is not drawn: {said['missing']}{command}")
        else:
            print_result(f"Figure {number}. {said['title']}. {said['caption']}")
    print_result(str(opened.explanations / "figures"))
