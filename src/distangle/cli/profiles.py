"""Run the verb `profile`: hits, neighbors and batch effects."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from distangle.cli.app import command_line
from distangle.cli.arguments import RepeatedOption, check_exclusive, check_minimum
from distangle.cli.console import print_note, print_result, print_status, print_table
from distangle.core.progress import progress, show_action
from distangle.errors import ConfigError, brief

if TYPE_CHECKING:
    import pandas as pd

    from distangle.profiles.alignment import Alignment
    from distangle.results import ProfileResult

MAX_HITS = 20  # rows in the terminal
PROFILE_INPUTS = (
    "run.json",
    "predictions/sites.",
    *(f"explanations/{name}." for name in ("explanation", "maps", "sites", "wells", "perturbations")),
)
MEASURES = (("probe accuracy", "experiment"), ("probe accuracy", "plate"), ("probe accuracy", "position"))


def profile(
    source: Path,
    *,
    out: Path | None = None,
    align: str | None = None,
    align_like: Path | None = None,
    fit_on: Annotated[RepeatedOption, Parameter(negative=())] = (),
    aggregate: Literal["mean", "median", "medoid"] = "mean",
    perturbation: str | None = None,
    negative_control: Annotated[RepeatedOption, Parameter(negative=())] = (),
    metadata: Path | None = None,
    label: str | None = None,
    not_same: str | None = None,
    relations: Path | None = None,
    map: Literal["tsne", "umap", "pca"] | None = None,
    q: float = 0.05,
    features: Literal["embedding", "backbone"] | None = None,
    wells: Literal["held-out", "all"] | None = None,
    draws: int = 9999,
    seed: int = 0,
) -> None:
    """Rank perturbations by activity, with neighbors and batch effects.

    The source is a run, or features from elsewhere with a plate and a well in every row. Profiles of sites become
    wells, wells are aligned, and every perturbation is compared with the negative controls of its plates.

    Args:
        source: Run with predictions, folder of predictions, table (CSV or Parquet with `Metadata_Plate` and
            `Metadata_Well`), folder of tables, DeepProfiler `.npz` files, or `.h5ad` file.
        out: Folder or URL of the results; the default is RUN/profiles for a run.
        align: Steps of the alignment in their order, such as `center-plate,tvn`; `none` for no step; the default is
            `center-plate`.
        align_like: Folder of an earlier `distangle profile`, whose alignment is applied to these plates.
        fit_on: Wells that the steps of the controls are fitted on, in place of negative controls: `COLUMN=VALUE`, such
            as `Metadata_Role=positive_control`; can be repeated.
        aggregate: Center of the sites of a well, and of the wells of a perturbation.
        perturbation: Column of the perturbation, if the source names it otherwise.
        negative_control: Perturbation that is a negative control, if no column states the role; can be repeated.
        metadata: Table with more columns of plates and wells, such as the perturbation, role, gene or mechanism.
        label: Column of labels that perturbations share, such as `Metadata_moa`, to measure how well they find each
            other.
        not_same: Column in which perturbations of a label must differ too, such as `Metadata_Week`.
        relations: Table of known relations, a pair of perturbations in each row, to measure their recall.
        map: Method of the 2-D map of wells; the default is `tsne` if it is installed, else `pca`.
        q: False discovery rate of the hits.
        features: Vectors of a run: `embedding` of the network, or features of the frozen `backbone`; the default is
            `backbone` for a cross-validation with one, because they saw no label.
        wells: Wells of a run: `held-out`, those that the network was not trained on, or `all`; the default is
            `held-out` if there are any.
        draws: Number of random draws of a p-value; those of few replicates are exact.
        seed: Random seed of draws, probes and the map.
    """
    check_minimum(draws, 99, flag="--draws")
    if not 0 < q < 1:
        raise ConfigError(f"--q {q}: expected a false discovery rate between 0 and 1, such as 0.05.")
    is_run = (source / "run.json").exists()
    if not is_run and out is None and (source / "manifest.json").exists():
        raise ConfigError(
            f"{source} is no run any more: run.json is missing. Restore it from a copy; `distangle verify {source}` "
            "names what else differs. Or name a folder for the results: `--out FOLDER`."
        )
    if not is_run and out is None:
        raise ConfigError(f"Name a folder for the results of {source}: `distangle profile {source} --out FOLDER`.")
    if not_same and not label:
        raise ConfigError(f"--not-same {not_same} needs labels. Name their column with `--label COLUMN`.")
    if out is not None:
        _check_out(out)
    show_action("reading the profiles")
    from distangle.profiles.alignment_file import read_alignment
    from distangle.profiles.compute import N_STAGES, ProfileOptions, compute_profiles, read_edges
    from distangle.profiles.readers import read_profiles
    from distangle.profiles.run import channels_of_run, profile_run
    from distangle.profiles.run_reader import RunRows
    from distangle.results import RunFolder, refuse_altered

    run = RunFolder.open(source) if is_run else None
    if run is not None:
        refuse_altered(run, *PROFILE_INPUTS)
    of_run = None
    if run is not None or features or wells or (source / "sites.safetensors").exists():
        of_run = RunRows(features=features or "auto", wells=_wells(wells))
    file = read_profiles(
        source,
        perturbation=_column(perturbation) or None,
        negative_control=negative_control,
        metadata=metadata,
        of_run=of_run,
    )
    if run is not None and file.profiles.provenance.get("features") == "backbone":
        refuse_altered(run, "features/")
    print_result(file.sentence())
    for row, reason in file.refused[:5]:
        print_note(f"refused: {row}: {reason}")
    if len(file.refused) > 5:
        print_note(f"and {len(file.refused) - 5} more, in refused.csv")
    for note in file.notes:
        print_note(note)
    if align_like is not None:
        check_exclusive(
            f"--align-like {align_like}",
            {"--align": align, "--fit-on": " ".join(fit_on) or None},
            "The steps and the wells to fit on are those of that alignment.",
        )
    alignment = None if align_like is None else read_alignment(align_like)
    names = (align or "center-plate").split(",")
    steps = () if align == "none" else tuple(name.strip() for name in names if name.strip())
    options = ProfileOptions(
        alignment=steps,
        fit_on=tuple(_column(condition) for condition in fit_on),
        aggregate=aggregate,
        label=_column(label),
        not_same=_column(not_same),
        map=map,
        q=q,
        n_draws=draws,
        seed=seed,
    )
    pairs = None if relations is None else read_edges(relations)
    with progress(
        "profile", (len(alignment.steps) if alignment else len(steps)) + 1 + N_STAGES, unit="stage"
    ) as advance:
        if run is not None and out is None:
            result = profile_run(run, options, file=file, edges=pairs, alignment=alignment, advance=advance)
            folder = run.profiles
            run.add_command(command_line())
        else:
            channels, folder = channels_of_run(run) if run else {}, out or Path()
            result, fitted = compute_profiles(
                file, options, channels=channels, edges=pairs, alignment=alignment, advance=advance
            )
            page = _write(result, fitted, folder)
    print_profiles(result, earlier=file.notes)
    if run is not None and out is None:
        print_status(f"next: `distangle report {shlex.quote(str(source))}`")
    else:
        print_result(str(page))
    print_result(str(folder / "hits.csv"))


def _check_out(out: Path) -> None:
    """Refuse a folder that has other files, belongs to a run or cannot be written, before the work begins."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file. Expected a folder for the results. Name another one with `--out FOLDER`.")
    run = next((folder for folder in out.resolve().parents if (folder / "run.json").exists()), None)
    if run is not None:
        raise ConfigError(
            f"{out} lies in the run {run}. Expected a folder outside of a run. Name another one, or leave `--out` out: "
            f"the profiles of a run are written to {run / 'profiles'}."
        )
    if out.exists() and any(out.iterdir()) and not (out / "profile.json").exists():
        raise ConfigError(f"{out} is not empty and holds no profiles. Name another folder with `--out FOLDER`.")
    existing = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"{existing} is not writable. Name another folder with `--out FOLDER`.")


def _write(result: "ProfileResult", alignment: "Alignment", folder: Path) -> Path:
    """Write profiles that belong to no run, and their page."""
    from distangle.profiles.run import write_profiles
    from distangle.report.profile_page import FILE, build_profile_page

    (folder / FILE).unlink(missing_ok=True)  # the page of earlier profiles
    write_profiles(result, alignment, folder)
    return build_profile_page(folder, result)


def _wells(wells: str | None) -> Literal["all", "held_out", "auto"]:
    return "auto" if wells is None else "all" if wells == "all" else "held_out"


def _column(name: str | None) -> str:
    """Return the name of a column with its head."""
    return "" if not name else name if name.startswith("Metadata_") else f"Metadata_{name}"


def print_profiles(result: "ProfileResult", *, earlier: tuple[str, ...] = ()) -> None:
    """Print the strongest hits, the batch effects and the notes.

    Args:
        result: What `distangle profile` computed.
        earlier: Notes that were printed before.
    """
    hits, level = result.hits, float(result.settings["q"])
    left_out = print_table(
        ("perturbation", "mAP", "chance", "p", "q", "agreement", "effect", "wells", "channel", "nearest", "opposite"),
        (
            (
                _name(row.perturbation),
                _number(row.mean_average_precision),
                _number(row.expected),
                _number(row.p, 4),
                _number(row.q, 4),
                _number(row.replicate_agreement),
                _number(row.effect_size),
                str(row.n_wells),
                _name(row.channel) if row.channel and row.q <= level else "-",
                _other(row.nearest, row.nearest_cosine),
                _other(row.opposite, row.opposite_cosine),
            )
            for row in _rows(hits.head(MAX_HITS))
        ),
        n_spare=3,
    )
    if left_out:
        print_result(f"This terminal is too narrow for {', '.join(left_out)}: see hits.csv.")
    if len(hits) > MAX_HITS:
        print_result(f"and {len(hits) - MAX_HITS} more perturbations in hits.csv")
    tested = int(hits["p"].notna().sum())
    print_result(
        f"hits: {int((hits['q'] <= level).sum())} of {tested} perturbations at a false discovery rate of {level:g}."
    )
    for reason, count in hits.loc[hits["reason"] != "", "reason"].value_counts().items():
        print_note(f"{_count(count, 'perturbation')} {'is' if count == 1 else 'are'} not tested: {reason}.")
    print_table(
        ("alignment", *(f"{of}" for _, of in MEASURES), "activity (mAP)"),
        (_batch_cells(name, rows) for name, rows in result.batch_effects.groupby("alignment", sort=False)),
    )
    print_result("Accuracy of a probe for experiment, plate and position (chance in brackets), and mean activity.")
    for reason, parts in _absent_measures(result.batch_effects).items():
        print_note(f"no accuracy of {', '.join(parts)}: {reason}")
    if result.consistency is not None:
        known_rows = result.consistency["reason"] == ""
        known = result.consistency[known_rows]
        mean, expected = known["mean_average_precision"].mean(), known["expected"].mean()
        of = f"{len(known)} of {_count(len(result.consistency), 'label')}"
        n_found = int((known["q"] <= level).sum())
        values = f"{_number(mean)} (chance {_number(expected)})"
        print_result(f"consistency: mean mAP of {of} {values}; {n_found} with q ≤ {level:g}.")
        for reason, count in result.consistency.loc[~known_rows, "reason"].value_counts().items():
            print_note(f"{_count(count, 'label')} {'has' if count == 1 else 'have'} no value: {reason}")
    for row in () if result.relations is None else _rows(result.relations):
        print_result(
            f"relations: {_number(row.recall)} of {row.n_edges} in the tails {row.low:g} and {row.high:g} "
            f"(chance {row.chance:.3f})."
        )
    for note in result.settings["notes"]:
        if note not in earlier:
            print_note(note)


def _batch_cells(name: object, rows: "pd.DataFrame") -> tuple[str, ...]:
    cells = [str(name)]
    for measure, of in (*MEASURES, ("mAP", "perturbation")):
        row = rows[(rows["name"] == measure) & (rows["of"] == of)].iloc[0]
        cells.append("-" if row["reason"] else f"{row['value']:.3f} ({row['chance']:.3f})")
    return tuple(cells)


def _absent_measures(batch_effects: "pd.DataFrame") -> dict[str, list[str]]:
    """Return the probes without a value after the last step, by reason."""
    last = batch_effects[batch_effects["alignment"] == batch_effects["alignment"].iloc[-1]]
    parts: dict[str, list[str]] = {}
    for measure, of in MEASURES:
        for reason in last.loc[(last["name"] == measure) & (last["of"] == of), "reason"]:
            if reason:
                parts.setdefault(str(reason), []).append(of)
    return parts


def _rows(table: "pd.DataFrame") -> Iterator[Any]:
    yield from table.itertuples()


def _number(value: float, digits: int = 3) -> str:
    return "-" if value != value else f"{value:.{digits}f}"


def _other(name: object, cosine: float) -> str:
    return f"{_name(name)} ({cosine:.2f})" if name else "-"


def _name(name: object) -> str:
    """Return a name on one line, shortened when it is very long."""
    return brief(" ".join(str(name).split()), max_length=40)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
