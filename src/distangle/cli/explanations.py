"""Run the verbs that explain and compare runs: explain, figures and ablate."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from distangle.cli.app import command_line
from distangle.cli.arguments import (
    RepeatedOption,
    check_exclusive,
    check_minimum,
    parse_choices,
    parse_filters,
    parse_int_list,
)
from distangle.cli.console import print_note, print_result, print_status, print_table
from distangle.cli.inputs import compute_on, open_for_drawing, open_own_screen
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
    set: RepeatedOption = (),
) -> None:
    """Train every ablation condition with several seeds and compare them (Fig. 6).

    After an interruption, the same command continues; so does `distangle ablate --out DIR`.

    Args:
        screen: Folder from `distangle index`.
        out: Folder or URL of the ablation; every run is a folder in its runs/.
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

    fold_flags = {
        "--hold-out": hold_out,
        "--unlabelled": unlabelled,
        "--folds": folds,
        "--fold": fold,
        "--group": group,
        "--fold-file": fold_file,
        "--force-split": force_split or None,
    }
    if screen is None:
        setting_flags = {
            "--preset": preset,
            "--config": config,
            "--target": target,
            "--epochs": epochs,
            "--set": set or None,
        }
        others = {**fold_flags, **setting_flags}
        check_exclusive(f"--out {out}", others, "Without a screen, the ablation in that folder continues unchanged.")
        conditions = () if only is None else chosen_conditions(only)
        plan = continue_ablation(
            out, conditions=conditions, seeds=parse_int_list(seeds or "", flag="--seeds"), command=command_line()
        )
    else:
        training_config = resolve_config(preset, set, file=config, target=target, epochs=epochs)
        indexed_screen = allowed_sources(read_screen(screen))
        # Every run has the same folds, whatever its seed.
        split = make_folds(indexed_screen, fold_flags, label=training_config.target, seed=0)
        plan = plan_ablation(
            indexed_screen,
            split,
            training_config,
            out,
            conditions=chosen_conditions(only),
            seeds=parse_int_list(seeds or "0,1,2", flag="--seeds"),
            command=command_line(),
        )
    resume_hint = f"To continue, run `distangle ablate --out {out}`."
    with stop_at_signals(resume_hint) as stop, progress("ablate", count_steps(plan), unit="piece") as advance:
        run_ablation(plan, command=command_line(), advance=advance, say=print_note, stop=stop)
    comparison = compare(plan)
    page = write_comparison(plan, comparison)
    headings = ("condition", "level", "views", "accuracy", "over baseline", "balanced", "over baseline", "seeds", "n")
    print_table(headings, table_lines(comparison))
    for sentence in caveats(comparison):
        print_note(sentence)
    print_result(str(page))


EXPLAIN_INPUTS = ("run.json", "config.yaml", "screen.json", "folds.parquet", "predictions/sites.")
ALL_PARTS = "faithfulness,templates,filters"


def explain(
    run: Path,
    *,
    screen: Path | None = None,
    images: Path | None = None,
    device: str | None = None,
    n_sites: int | None = None,
    only: RepeatedOption = (),
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
        method: Attribution method of the maps; the last two use pixels and need the extra `explain`.
        layer: Layer of the backbone, such as `features.denseblock2`; the default is the last one with a spatial map.
        head: Output to explain: `softmax` or `arc`.
        removal: Replacement of an absent channel: `control` (from a control well of the plate; the default if every
            plate has one), `mean` (mean of the channel) or `other_well` (from any other well of the plate).
        parts: Further analyses, separated by commas: `faithfulness` tests the maps, `templates` and `filters` analyze
            the network; `none` explains the sites only.
        nuclear: Channel that shows nuclei, if its name, stain or organelle does not say so.
        compare_with: Second run on the same screen whose templates are compared, such as one with pseudo-labels.
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

    run_folder = RunFolder.open(run)
    compute_on(device)
    if benchmark:
        others: dict[str, object] = {"--only": only or None, "--perturbation": perturbation, "--nuclear": nuclear}
        others |= {"--compare-with": compare_with, "--embeddings": embeddings, "--prune": prune or None}
        others |= {"--seeds": seeds or None, "--shuffled": shuffled}
        others |= {
            "--method": None if method == "grad_cam" else method,
            "--parts": None if parts == ALL_PARTS else parts,
        }
        check_exclusive("--benchmark", others, "The benchmark tests every method on all held-out wells.")
        from distangle.results import refuse_altered

        refuse_altered(run_folder, *EXPLAIN_INPUTS)
        indexed_screen = open_own_screen(run_folder, screen, images)
        _benchmark(run_folder, indexed_screen, n_sites=n_sites, layer=layer, head=head, removal=removal)
        return
    filters = parse_filters(only, flag="--only")
    from distangle.results import refuse_altered

    refuse_altered(run_folder, *EXPLAIN_INPUTS)
    indexed_screen = open_own_screen(run_folder, screen, images)
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

    analyses = () if parts == "none" else parse_choices(parts, PARTS, flag="--parts")
    options = AnalysisOptions(
        parts=analyses,
        nuclear=nuclear,
        other_run=None if compare_with is None else RunFolder.open(compare_with),
        embeddings=None if embeddings is None else [name.strip() for name in embeddings.split(",")],
        prune=prune,
        seeds=[RunFolder.open(other) for other in seeds],
        shuffled=None if shuffled is None else RunFolder.open(shuffled),
    )
    with progress("explain", 0, n_steps=n_steps(analyses)) as advance:
        explanation = explain_run(
            run_folder,
            indexed_screen,
            selection=SiteSelection(
                n_sites=96 if n_sites is None else n_sites, only=filters, perturbation=perturbation
            ),
            settings=ExplainSettings(method=method, layer=layer, head=head, removal=removal),
            options=options,
            advance=advance,
            say=print_note,
        )
    run_folder.add_command(command_line())
    if explanation.settings["remark"]:
        print_note(explanation.settings["remark"])
    for sentence in (*sentences(explanation), *analysis_sentences(run_folder.explanations, analyses)):
        print_result(sentence)
    print_status(f"next: `distangle report {shlex.quote(str(run))}`")
    print_result(str(run_folder.explanations))


def _benchmark(
    run: "RunFolder",
    screen: "Screen",
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
        result = benchmark_run(run, screen, n_sites=n_sites, layer=layer, head=head, removal=removal, advance=advance)
    run.add_command(command_line())
    if result.settings["remark"]:
        print_note(result.settings["remark"])
    print_table(BENCHMARK_HEADER, benchmark_lines(result))
    for sentence in benchmark_sentences(result):
        print_result(sentence)
    print_result(str(run.explanations / "benchmark.json"))


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
    run_folder, indexed_screen = open_for_drawing(run, screen, images)
    from distangle.report import FIGURES, draw_figures

    with progress("figures", len(only or FIGURES), unit="figure") as advance:
        entries = draw_figures(run_folder, indexed_screen, only=only or (), advance=advance)
    run_folder.add_command(command_line())
    for number in map(str, only or FIGURES):
        entry = entries[number]
        if "missing" in entry:
            command_words = shlex.split(entry["command"])  # the command names the run as the report does
            command = (
                f" Run `{shlex.join([*command_words[:2], str(run), *command_words[3:]])}` first."
                if command_words
                else ""
            )
            print_note(f"Figure {number} is not drawn: {entry['missing']}{command}")
        else:
            print_result(f"Figure {number}. {entry['title']}. {entry['caption']}")
    print_result(str(run_folder.explanations / "figures"))
