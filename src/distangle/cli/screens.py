"""Run the verbs for screens: index, folds, pack, statistics and simulate."""

import contextlib
import shlex
import tempfile
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from distangle.cli.arguments import check_exclusive, check_minimum, parse_key_values, parse_ray_workers
from distangle.cli.console import print_note, print_result, print_status, print_table
from distangle.cli.inputs import open_screen
from distangle.core.io import write_json
from distangle.core.progress import by_percent, progress, show_action
from distangle.core.remote import local_path
from distangle.errors import ConfigError, ScreenError


def folds(
    screen: Path,
    *,
    out: Path,
    hold_out: str | None = None,
    unlabelled: str | None = None,
    n: int | None = None,
    fold: int | None = None,
    group: Literal["experiment", "plate", "well"] | None = None,
    target: str = "perturbation",
    seed: int = 0,
    force_split: bool = False,
) -> None:
    """Split a screen into folds for training and testing, and report leaks.

    Args:
        screen: Folder from `distangle index`.
        out: File or URL of the folds, for `distangle train --fold-file`.
        hold_out: Wells to hold out by a column, such as `experiment=HUVEC-02,RPE-01` or `replicate=2`; `wilds=test` for
            the WILDS split.
        unlabelled: Wells whose labels are hidden, such as `experiment=HUVEC-03` or `split=test`.
        n: Number of folds of whole groups; the default is five, or fewer if there are fewer groups.
        fold: Index of the held-out fold, from 0.
        group: Unit that stays whole in a fold, with every label spread evenly over the folds.
        target: Column to predict.
        seed: Random seed of the assignment of groups to folds.
        force_split: Allow a group on both sides; every score is marked.
    """
    from distangle.screen import allowed_sources, folds_from_options, read_screen
    from distangle.screen.checks.leaks import find_leaks

    show_action("splitting the screen and checking for leaks")
    indexed_screen = allowed_sources(read_screen(screen))
    split = folds_from_options(
        indexed_screen,
        by=hold_out,
        hidden=unlabelled,
        n_folds=n,
        fold=fold,
        group=group,
        label=target,
        seed=seed,
        force=force_split,
    )
    split.write(out)
    sizes = split.table["fold"].value_counts()
    print_result(f"{split.description}: " + " + ".join(f"{name} {int(size):,}" for name, size in sizes.items())
         + f" = {len(split.table):,} sites")  # fmt: skip
    for finding in find_leaks(indexed_screen, split, label=target):
        (print_result if finding.severity == "note" else print_note)(f"{finding.kind}: {finding.what}. {finding.fix}")
    print_result(f"{out}, sha256 {split.sha256}")


def index(
    source: str,
    *,
    out: Path,
    layout: str | None = None,
    tables: str | None = None,
    map: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    channels: str | None = None,
    pages: str | None = None,
    pattern: str | None = None,
    negative_control: str | None = None,
    positive_control: str | None = None,
    missing: str | None = None,
    tables_only: bool = False,
    hash_files: bool = True,
    keep_zeroed_tails: bool = False,
    plate_rows: int | None = None,
    plate_columns: int | None = None,
    plane: str | None = None,
    time: str | None = None,
    cycle: str | None = None,
    acquisition: str | None = None,
    well_base: str | None = None,
    well_order: Literal["rows", "columns"] | None = None,
    on: Literal["local", "ray"] = "local",
    workers: int | None = None,
) -> None:
    """Index a folder of plates: match images and perturbations, list all problems.

    Args:
        source: Folder or URL of the images, and of the tables unless `--tables` names another folder. The layout
            `table` also accepts the path of the table.
        out: Folder or URL of the indexed screen: sites.parquet, screen.json and problems.csv.
        layout: Layout of the source: `rxrx1` (Kaggle tables or the official metadata.csv), `cellpainting` (Cell
            Painting Gallery, JUMP), `ome-zarr` (plates of OME-NGFF 0.4 and 0.5), `folder` (file names by `--pattern`)
            or `table` (any CSV or Parquet table). The default is detected from the source and printed.
        tables: Folder of the tables, if they are not with the images.
        map: Column of a table for each field, such as `plate=Plate,well=Well,perturbation=moa`, or separate pairs:
            `plate=Plate well=Well`. `perturbation=` declares that there is none.
        channels: Path columns of a table, one per channel: `DAPI,actin` or `nucleus=DAPI_path,actin=Actin_path`. For
            other layouts, the channels to keep: `DNA=1,ER=3`.
        pages: Path column of multi-page files; `--channels` then names the pages in order.
        pattern: Pattern of the paths, such as `{plate}/{well}_s{site}_w{channel}.tif`, or a microscope: `harmony`,
            `imagexpress`, `cellvoyager`, `cq1`, `incell`, `arrayscan`, `leica`, `nikon-jobs`, `scanr`, `squid`, `zen`.
        negative_control: Perturbations that are negative controls, such as `DMSO`, separated by commas.
        positive_control: Perturbations that are positive controls, separated by commas.
        missing: Values of tables that mean missing, separated by commas; they replace the defaults nan, NA, N/A, None,
            null, - and the like. An empty text means none. Names of controls are never missing.
        tables_only: Index the wells of the tables without images.
        hash_files: Read every file once to store its SHA-256.
        keep_zeroed_tails: Accept raw TIFF files whose last rows are all zero. By default such a site is refused,
            because the copy may be truncated. Without `--hash-files` this is not checked.
        plate_rows: Number of rows of a plate, with `--plate-columns`; 16 x 24 and 32 x 48 are detected.
        plate_columns: Number of columns of a plate, with `--plate-rows`.
        plane: Focal plane to use of a z stack: `2` for all channels, or one per channel, `DNA=3,actin=5`.
        time: Time point to use of a time series, such as `1`.
        cycle: Staining cycle to use.
        acquisition: Acquisition to use of a plate that was imaged more than once.
        well_base: First row and column number of the source: `0`, or `1` to refuse single wells with a 0. Images and
            tables can differ: `images=0,tables=1`. By default a source with a 0 is refused.
        well_order: Order of wells given by a number: `rows` if 2 is A02, `columns` if 2 is B01.
        on: Where files are read: `local` is this process; `ray` is workers of Ray on this machine, or on the cluster of
            RAY_ADDRESS.
        workers: Number of workers of `--on ray`; the default is one on each core.
    """
    if on == "local":
        check_exclusive("--on local", {"--workers": workers}, "This process decides how many threads read files.")
    ray_workers = parse_ray_workers(on, workers)
    if ray_workers is not None:
        check_exclusive("--on ray", {"--tables-only": tables_only or None}, "Workers read files, and there are none.")
    from distangle.images import find_zeroed_rows, probe_image
    from distangle.screen import conservation_line, write_screen
    from distangle.screen import index as index_screen

    controls = {
        role: [name.strip() for name in names.split(",")]
        for role, names in (("negative_control", negative_control), ("positive_control", positive_control))
        if names
    }
    _refuse_out(out, source)
    show_action("looking for images and tables")
    with progress("index", 100, unit="%") as advance:
        screen = index_screen(
            source,
            layout=layout,
            tables=tables,
            mapping=parse_key_values(map, flag="--map"),
            channels=None if channels is None else [name.strip() for name in channels.split(",")],
            pages=pages,
            pattern=pattern,
            controls=controls,
            missing=None if missing is None else [word.strip() for word in missing.split(",") if word.strip()],
            tables_only=tables_only,
            hash_files=hash_files,
            plate_rows=plate_rows,
            plate_columns=plate_columns,
            planes=None if plane is None else [item.strip() for item in plane.split(",")],
            time=time or "",
            cycle=cycle or "",
            acquisition=acquisition or "",
            well_base=well_base,
            well_order=well_order,
            probe=None if tables_only else probe_image,
            find_zeroed_rows=None if tables_only or keep_zeroed_tails else find_zeroed_rows,
            ray=ray_workers,
            progress=by_percent(advance),
        )
    show_action("writing the screen")
    write_screen(screen, out)
    if sign := screen.metadata.provenance.get("recognised_by"):
        print_result(f"layout {screen.metadata.layout}, detected by {sign}")
    print_result(conservation_line(screen))
    for (severity, kind), rows in screen.problems.groupby(["severity", "kind"], sort=False):
        location = f"{len(rows)} row{'s' if len(rows) != 1 else ''} in {out / 'problems.csv'}"
        fixes = set(rows["fix"])
        fix = f". {fixes.pop()}" if len(fixes) == 1 else ""
        print_note(f"{severity}: {kind}: {rows['count'].sum()} ({location}){fix}")
    folder = shlex.quote(str(out))
    print_status(f"next: `distangle check {folder}`, then `distangle train {folder} --preset small --out runs/first`")
    print_result(str(out))


def _refuse_out(out: Path, source: str) -> None:
    """Check the output folder of a screen before anything is read.

    Raises:
        ScreenError: It is a file, cannot be written, or is the source folder. In the source folder, the tables of the
            screen would be read as tables of the plates.
    """
    if out.exists() and not out.is_dir():
        raise ScreenError(f"--out {out} is a file. Expected a new folder, or the folder of an earlier screen.")
    _check_writable(out)
    if out.exists() and (out == local_path(source) or (Path(source).exists() and out.samefile(source))):
        raise ScreenError(
            f"--out {out} is the source folder: the tables of the screen would be read as tables of the plates. Choose "
            "another folder."
        )


def _check_writable(out: Path) -> None:
    """Check that a folder can be written, before hours of reading.

    Raises:
        ScreenError: The folder cannot be written.
    """
    new_folders = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise ScreenError(
            f"--out {out} cannot be written ({error.strerror}). Choose a folder with write permission."
        ) from error
    finally:
        for folder in new_folders:
            with contextlib.suppress(OSError):
                folder.rmdir()


def pack(
    screen: Path,
    *,
    out: Path,
    format: Literal["ome-zarr", "records"] = "ome-zarr",
    level: int | None = None,
    images: Path | None = None,
    on: Literal["local", "ray"] = "local",
    workers: int | None = None,
) -> None:
    """Pack the images of a screen without loss, for faster reading.

    The result is a screen that every other verb accepts. To resume an interrupted packing, run the same command again.

    Args:
        screen: Folder from `distangle index`.
        out: Folder or URL of the packed screen.
        format: Format of the images: `ome-zarr` (OME-Zarr plates, NGFF 0.5, for any reader) or `records` (smaller and
            faster, for distangle only).
        level: Compression level of zstd, 1 (fast) to 22 (small); the default is 12 for ome-zarr and 1 for records.
        images: Folder of the images, if they were moved after `distangle index`.
        on: Where to compute: `local` is this process; `ray` is workers of Ray on this machine, or on the cluster of
            RAY_ADDRESS, each with a plate at a time.
        workers: Number of threads, 2 by default; of workers with `--on ray`, by default one on each core.
    """
    from distangle.core.io import format_bytes
    from distangle.images import pack_screen
    from distangle.screen import conservation_line

    n_threads = check_minimum(2 if workers is None else workers, 1, flag="--workers")
    ray_workers = parse_ray_workers(on, workers)
    source = open_screen(screen, images)
    with progress("pack", len(source.sites), unit="image") as advance:
        packed = pack_screen(
            source,
            out,
            format=format,
            level=level,
            workers=n_threads,
            ray=ray_workers,
            advance=advance,
            say=print_note,
        )
    n_refused = len(source.sites) - len(packed.screen.sites)
    if n_refused:
        print_note(f"{n_refused} image(s) could not be read and were refused; see {out / 'problems.csv'}")
    print_result(
        f"packed and verified {packed.n_packed} images, kept {packed.n_reused} from before; size "
        f"{format_bytes(packed.bytes_before)} -> {format_bytes(packed.bytes_after)} "
        f"(ratio {packed.bytes_after / packed.bytes_before:.2f})"
    )
    print_result(conservation_line(packed.screen))
    print_result(str(out))


def statistics(
    screen: Path,
    *,
    out: Path | None = None,
    sample: int = 400,
    pixels: bool = True,
    quantity: Literal["mean", "std", "median", "p99_9", "sharpness"] = "mean",
    images: Path | None = None,
    workers: int = 2,
) -> None:
    """Count the entities of a screen (Table 1), and write its data card with `--out`.

    Args:
        screen: Folder from `distangle index`.
        out: Folder or URL for statistics.json, card.json and index.html; without it, nothing is written.
        sample: Number of sites whose pixels are read, spread over plates and wells; 0 reads all sites.
        pixels: Read pixels.
        quantity: Quantity of a plane whose variance is split into experiment, plate, well and site.
        images: Folder of the images, if they were moved after `distangle index`.
        workers: Number of processes that decode images.
    """
    show_action("reading the screen")
    from distangle.screen import allowed_sources, read_screen, statistics_table
    from distangle.screen import statistics as count

    n_workers, n_sampled = check_minimum(workers, 1, flag="--workers"), check_minimum(sample, 0, flag="--sample")
    indexed_screen = allowed_sources(read_screen(screen)) if out is None or not pixels else open_screen(screen, images)
    show_action("counting")
    counts = count(indexed_screen)
    print_table(("entity", "count"), statistics_table(counts))
    if out is None:
        return
    from distangle.images import measure_planes, sample_sites
    from distangle.images.quality.summary import first_readable, summarize_screen
    from distangle.report.data_card import edge_sentence, write_card

    write_json(out / "statistics.json", counts.model_dump(mode="json"))
    planes, example = None, None
    if pixels and not indexed_screen.metadata.tables_only:
        show_action("reading planes")
        with progress("statistics", 100, unit="%") as advance:
            planes = measure_planes(
                indexed_screen, sample_sites(indexed_screen, n_sampled), workers=n_workers, progress=by_percent(advance)
            )
        example = first_readable(indexed_screen, planes)
    show_action("computing variance components and drawing charts")
    card = summarize_screen(indexed_screen, planes, quantity=quantity)
    for channel in card.get("pixels", {}).get("channels", []):
        shares = ", ".join(f"{name} {share:.0%}" for name, share in channel["components"].items() if share is not None)
        n_zero, n_planes = channel["planes_of_zero"], channel["planes"]
        if n_zero:
            reason = f"the {quantity} of {n_zero:,} of {n_planes:,} planes is zero; its variance shares leave them out"
            print_note(f"{channel['channel']}: {reason}")
        if shares:
            print_result(
                f"{channel['channel']}: variance of the {quantity}: {shares}. {edge_sentence(channel['edge'])}"
            )
    for path in (out / "statistics.json", write_card(card, out, example=example)[-1]):
        print_result(str(path))


def simulate(
    out: Path,
    *,
    seed: int = 0,
    null: bool = False,
    set: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    workers: int = 2,
) -> None:
    """Simulate a screen in six channels with planted effects and batch effects.

    Args:
        out: New folder or URL for images and tables in the RxRx1 layout, and truth.json.
        seed: Random seed; the same settings and seed give the same bytes.
        null: Plant no effect: every well looks like a control, and the labels stay.
        set: Setting to change, such as `n_treatments=24` or `batch_strength=2`.
        workers: Number of processes; it does not change the result.
    """
    from pydantic import ValidationError

    from distangle.synthetic import SimulationConfig
    from distangle.synthetic import simulate as draw

    settings = {"seed": seed, "null": null, **parse_key_values(set, flag="--set", parse=True)}
    try:
        config = SimulationConfig.model_validate(settings)
    except ValidationError as error:
        from distangle.errors import did_you_mean

        problem = error.errors()[0]
        name = ".".join(map(str, problem["loc"]))
        hint = did_you_mean(name, SimulationConfig.model_fields) if problem["type"] == "extra_forbidden" else ""
        raise ConfigError(f"Setting {name!r}: {problem['msg'].lower()}. {hint}".rstrip()) from error
    show_action("simulating cells")
    with progress("simulate", 100, unit="%") as advance:
        truth = draw(out, config, workers=workers, progress=by_percent(advance))
    print_status(f"next: `distangle index {shlex.quote(str(out))} --out screen`")
    print_result(str(truth))
