"""Write a synthetic screen in the layout of RxRx1, with its ground truth."""

import csv
import io
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

from PIL import Image as PillowImage

from distangle.core.io import write_json, write_text
from distangle.core.random import rng_for
from distangle.errors import ConfigError, ScreenError
from distangle.synthetic.acquisition import BatchEffect, draw_batch_effect, position_factors
from distangle.synthetic.design import (
    NEGATIVE_CONTROL,
    PlannedExperiment,
    PlannedWell,
    ScreenDesign,
    SimulationConfig,
    plan_screen,
)
from distangle.synthetic.site import SiteSpec, draw_site
from distangle.synthetic.truth import Place, PlantedPerturbation, PlantedPlate, PlantedSite, Truth

WellJob = tuple[int, str, str, list[tuple[int, SiteSpec]]]
"""Index of the well, its folder, its name, and number and specification of its sites."""


def simulate(
    out: Path,
    config: SimulationConfig,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a synthetic screen; the bytes depend on the configuration alone.

    Args:
        out: A folder that is empty or does not exist yet.
        config: The configuration.
        workers: Number of processes; above 1 they are spawned, so a script calling this needs the
            usual main guard around the call.
        progress: Called in this process with (sites written, all sites) as wells are finished.

    Returns:
        The path of `truth.json`, which is written last: a folder without it is incomplete.

    Raises:
        ConfigError: A cell type is unknown, or `workers` is below 1.
        ScreenError: `out` is not empty, or the design does not fit the plates.
    """
    if workers < 1:
        raise ConfigError(f"workers is {workers}, expected at least 1.")
    design = plan_screen(config)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ScreenError(
            f"{out} is not empty; a synthetic screen needs its own folder. Choose another folder, or "
            "remove this one (a screen without truth.json is incomplete)."
        )
    batches = plate_batches(config, design)
    jobs = [_well_job(out, config, design=design, index=index, batches=batches) for index in range(len(design.wells))]
    for folder in sorted({job[1] for job in jobs}):
        Path(folder).mkdir(parents=True, exist_ok=True)
    sites_by_well: dict[int, list[PlantedSite]] = {}
    n_done = 0
    for index, results in _run_jobs(jobs, workers):
        well = design.wells[index]
        sites_by_well[index] = [
            PlantedSite(
                experiment=well.experiment.name,
                plate=well.plate,
                well=well.well,
                site=site,
                perturbation=well.perturbation,
                n_cells=n_cells,
                place=region,
            )
            for site, n_cells, region in results
        ]
        n_done += len(results)
        if progress is not None:
            progress(n_done, len(design.wells) * config.sites_per_well)
    _write_tables(out, design)
    truth = _build_truth(
        config, design, batches, [site for index in sorted(sites_by_well) for site in sites_by_well[index]]
    )
    write_json(out / "truth.json", truth.model_dump(mode="json"))
    return out / "truth.json"


def plate_batches(config: SimulationConfig, design: ScreenDesign) -> dict[tuple[str, int], BatchEffect]:
    """Return the batch effects of every plate, by experiment name and plate number."""
    return {
        (experiment.name, plate): draw_batch_effect(
            config.batch_strength,
            rng_for(config.seed, "batch", experiment.name),
            rng_for(config.seed, "batch", experiment.name, plate),
            optics=config.optics_strength,
        )
        for experiment in design.experiments
        for plate in range(1, config.plates_per_experiment + 1)
    }


def site_spec(
    config: SimulationConfig, design: ScreenDesign, well: PlannedWell, *, site: int, batch: BatchEffect
) -> SiteSpec:
    """Return the specification of one site of a design.

    Args:
        config: Of the screen.
        design: Its design.
        well: One of its wells.
        site: Number of the site, from 1.
        batch: Of the well's plate.
    """
    key = (config.seed, "site", well.experiment.name, well.plate, well.well, site)
    density, intensity = position_factors(well.row, well.column, config.position_strength)
    return SiteSpec(
        key=key,
        cell_type=well.experiment.cell_type,
        size=config.image_size,
        pixels_per_um=config.pixels_per_um,
        batch=batch,
        density=density,
        intensity=intensity,
        effect=design.effects[well.perturbation],
    )


def _plate_folder(out: Path, well: PlannedWell) -> Path:
    split = "test" if well.experiment.is_test else "train"
    return out / split / well.experiment.name / f"Plate{well.plate}"


def _well_job(
    out: Path,
    config: SimulationConfig,
    *,
    design: ScreenDesign,
    index: int,
    batches: dict[tuple[str, int], BatchEffect],
) -> WellJob:
    well = design.wells[index]
    batch = batches[well.experiment.name, well.plate]
    specs = [
        (site, site_spec(config, design, well, site=site, batch=batch)) for site in range(1, config.sites_per_well + 1)
    ]
    return index, str(_plate_folder(out, well)), well.well, specs


def _draw_well(job: WellJob) -> tuple[int, list[tuple[int, int, Place | None]]]:
    """Draw and write all sites of a well; runs in a worker process."""
    index, folder, name, specs = job
    results: list[tuple[int, int, Place | None]] = []
    for number, spec in specs:
        site = draw_site(spec)
        for channel, plane in enumerate(site.image, start=1):
            # No fsync for each of thousands of images: truth.json, written last, shows that all are complete.
            PillowImage.fromarray(plane).save(
                Path(folder) / f"{name}_s{number}_w{channel}.png", format="PNG", compress_level=4
            )
        region = None
        if site.place is not None:
            region = Place(row=site.place.row, column=site.place.column, radius=site.place.radius)
        results.append((number, site.n_cells, region))
    return index, results


def _run_jobs(jobs: list[WellJob], workers: int) -> Iterator[tuple[int, list[tuple[int, int, Place | None]]]]:
    if workers == 1:
        yield from map(_draw_well, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        pending: set[Future[tuple[int, list[tuple[int, int, Place | None]]]]] = set()
        remaining = iter(jobs)
        try:
            for job in remaining:
                pending.add(pool.submit(_draw_well, job))
                if len(pending) >= 4 * workers:
                    finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in finished)
            yield from (future.result() for future in pending)
        finally:
            for future in pending:
                with suppress(Exception):
                    future.cancel()


def _to_csv(columns: list[str], rows: Iterable[list[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _write_tables(out: Path, design: ScreenDesign) -> None:
    """Write the tables of wells and controls of the training and test experiments."""
    splits = ["train"] + ["test"] * any(experiment.is_test for experiment in design.experiments)
    for split in splits:
        wells = [well for well in design.wells if well.experiment.is_test == (split == "test")]
        well_columns = {well: [well.id_code, well.experiment.name, str(well.plate), well.well] for well in wells}
        columns = ["id_code", "experiment", "plate", "well"]
        treatment_wells = [well for well in wells if well.role == "treatment"]
        if split == "train":
            rows = [[*well_columns[well], well.perturbation] for well in treatment_wells]
            write_text(out / "train.csv", _to_csv([*columns, "sirna"], rows))
        else:
            write_text(out / "test.csv", _to_csv(columns, [well_columns[well] for well in treatment_wells]))
        controls = [[*well_columns[well], well.perturbation, well.role] for well in wells if well.role != "treatment"]
        write_text(out / f"{split}_controls.csv", _to_csv([*columns, "sirna", "well_type"], controls))


def _build_truth(
    config: SimulationConfig,
    design: ScreenDesign,
    batches: dict[tuple[str, int], BatchEffect],
    sites: list[PlantedSite],
) -> Truth:
    names = (*design.treatments, *design.positive_controls, NEGATIVE_CONTROL)
    perturbations = {
        name: PlantedPerturbation.model_validate(
            {
                "role": design.role(name),
                "kind": design.effects[name].name,
                "channels": list(design.effects[name].channels),
                "local": design.effects[name].local,
                "strength": round(design.effects[name].strength, 4),
                "description": design.effects[name].description,
            }
        )
        for name in names
    }
    perturbations_on: dict[tuple[str, int], set[str]] = {}
    for well in design.wells:
        perturbations_on.setdefault((well.experiment.name, well.plate), set()).add(well.perturbation)
    experiment_of: dict[str, PlannedExperiment] = {experiment.name: experiment for experiment in design.experiments}
    plates = [
        PlantedPlate(
            experiment=name,
            plate=plate,
            cell_type=experiment_of[name].cell_type,
            split="test" if experiment_of[name].is_test else "train",
            perturbations=[perturbation for perturbation in names if perturbation in perturbations_on[name, plate]],
            batch=batch,
        )
        for (name, plate), batch in batches.items()
    ]
    return Truth(config=config, perturbations=perturbations, plates=plates, sites=sites)
