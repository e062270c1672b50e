"""The verb that compares: ablate.

The verbs that explain a run: explain, with its tests and its benchmark, and figures.
"""

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
    """Compare the parts of the recipe (Fig. 6): train every condition with several seeds, and say what each is worth.

    Stopped at any point, the same words go on with it; so does `distangle ablate --out DIR` alone.

    Args:
        screen: Folder from `distangle index`.
        out: Folder of the ablation; every run lies in its runs/.
        only: Some of the conditions, such as `baseline,cutmix`; others can be added later.
        seeds: Such as `0,1,2`, the default; others can be added later.
        preset: As in `distangle train`.
        config: As in `distangle train`.
        hold_out: As in `distangle train`; the same in every run.
        unlabelled: Wells whose labels are hidden, for pseudo labels: `experiment=HUVEC-03`.
        folds: As in `distangle train`.
        fold: As in `distangle train`.
        group: As in `distangle train`.
        fold_file: As in `distangle train`.
        force_split: As in `distangle train`.
        target: As in `distangle train`.
        epochs: Instead of the preset's.
        set: Any other setting of all runs, such as `optim.lr=1e-4`; `--optim.lr 1e-4` is the same.
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
    compare_with: Path | None = None,
    embeddings: str | None = None,
    prune: bool = False,
    seeds: Annotated[tuple[Path, ...], Parameter(negative=())] = (),
    shuffled: Path | None = None,
    benchmark: bool = False,
) -> None:
    """Show where and in which stain the network looked, with a null beside every number.

    Args:
        run: Folder of a run that has been predicted.
        screen: Where the screen is now, when it was moved.
        images: Where the images are now, when they were moved after `distangle index`.
        device: `cpu`, `cuda`, `cuda:1` or `mps`; the processor when left out.
        n_sites: Held-out sites to explain, spread over the perturbations; 96, or all for `--benchmark`. Of a run that
            held nothing out, sites that it was trained on.
        only: Sites of these values only, such as `well=B02,B03` or `plate=2`; any column of the predictions.
        perturbation: What to explain of every site, instead of what was predicted for it.
        method: What draws the maps; the last two look at the pixels and need `distangle[explain]`.
        layer: Any layer of the backbone, such as `features.denseblock2`; the last map when left out.
        head: `softmax` or `arc`.
        removal: What stands in for an absent stain: `control` (of an untreated well of the plate; taken where
            every plate has one), `mean` (of the channel) or `other_well` (any other of the plate).
        parts: What else to do, with commas between: `faithfulness` tests the maps, `templates` and `filters` look into
            the network; `none` for the sites alone.
        nuclear: Channel that shows nuclei, where its name, stain or organelle does not say so.
        compare_with: Another run on the same screen, such as one with pseudo labels: its templates in the same maps.
        embeddings: Perturbations whose embeddings are shown, with commas between; the most frequent when left out.
        prune: Try what leaving filters out does to the accuracy (several predictions).
        seeds: Runs on the same screen that differ in their seed, predicted: are their maps alike?
        shuffled: A run trained with `--set shuffle_labels=true`, predicted: are its maps others?
        benchmark: Instead, on a synthetic screen: how often every method finds the planted stain and the planted
            place, beside networks with random weights.
    """
    if n_sites is not None:
        check_minimum(n_sites, 1, flag="--n-sites")
    from distangle.results import RunFolder

    opened = RunFolder.open(run)
    compute_on(device)
    if benchmark:
        others: dict[str, object] = {"--only": only or None, "--perturbation": perturbation, "--nuclear": nuclear}
        others |= {"--compare-with": compare_with, "--embeddings": embeddings, "--prune": prune or None}
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
        beside=None if compare_with is None else RunFolder.open(compare_with),
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
        N_BENCHMARK_STEPS,
        benchmark_lines,
        benchmark_run,
        benchmark_sentences,
    )

    with progress("benchmark", N_BENCHMARK_STEPS, unit="method") as advance:
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
    """Draw the paper's figures 1, 5 and 7 to 12 from a run, each with the number that its caption claims.

    Args:
        run: Folder of a run; what a figure needs must have been explained.
        only: Numbers of figures; all when left out.
        screen: Where the screen is now, when it was moved.
        images: Where the images are now, when they were moved after `distangle index`.
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
