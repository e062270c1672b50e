"""Write a synthetic screen as RxRx1 came on Kaggle: PNG, tables and the truth."""

import csv
import io
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

from PIL import Image as Picture

from distangle.core.io import write_json, write_text
from distangle.core.random import rng_for
from distangle.errors import ConfigError, ScreenError
from distangle.synthetic.acquisition import BatchEffect, draw_batch_effect, position_factors
from distangle.synthetic.design import (
    UNTREATED,
    PlannedExperiment,
    PlannedWell,
    ScreenDesign,
    SimulationConfig,
    plan_screen,
)
from distangle.synthetic.site import SiteSpec, draw_site
from distangle.synthetic.truth import Place, PlantedPerturbation, PlantedPlate, PlantedSite, Truth

Job = tuple[int, str, str, list[tuple[int, SiteSpec]]]
"""Index of the well, its folder, its name, and the orders of its sites by number."""


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
        config: What to make.
        workers: Processes that draw; above 1 they are spawned, so a script calling this needs an
            `if __name__ == "__main__":` around the call.
        progress: Called in this process with (sites written, sites in all) as wells are finished.

    Returns:
        The path of `truth.json`, which is written last: a folder without it is unfinished.

    Raises:
        ConfigError: A cell type is unknown, or `workers` is below 1.
        ScreenError: `out` is not empty, or the design does not fit the plates.
    """
    if workers < 1:
        raise ConfigError(f"workers is {workers}; at least one process has to draw.")
    plan = plan_screen(config)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ScreenError(
            f"{out} is not empty, and a synthetic screen never mixes with other files. Name another folder, or "
            "remove it first (a screen without truth.json is one that was interrupted)."
        )
    batches = plate_batches(config, plan)
    jobs = [_job(out, config, plan=plan, index=index, batches=batches) for index in range(len(plan.wells))]
    for folder in sorted({job[1] for job in jobs}):
        Path(folder).mkdir(parents=True, exist_ok=True)
    drawn: dict[int, list[PlantedSite]] = {}
    done = 0
    for index, found in _run(jobs, workers):
        well = plan.wells[index]
        drawn[index] = [
            PlantedSite(
                experiment=well.experiment.name,
                plate=well.plate,
                well=well.well,
                site=site,
                perturbation=well.perturbation,
                n_cells=n_cells,
                place=place,
            )
            for site, n_cells, place in found
        ]
        done += len(found)
        if progress is not None:
            progress(done, len(plan.wells) * config.sites_per_well)
    _write_tables(out, plan)
    truth = _truth(config, plan, batches, [site for index in sorted(drawn) for site in drawn[index]])
    write_json(out / "truth.json", truth.model_dump(mode="json"))
    return out / "truth.json"


def plate_batches(config: SimulationConfig, plan: ScreenDesign) -> dict[tuple[str, int], BatchEffect]:
    """Return the batch effects of every plate, by experiment name and plate number."""
    return {
        (experiment.name, plate): draw_batch_effect(
            config.batch_strength,
            rng_for(config.seed, "batch", experiment.name),
            rng_for(config.seed, "batch", experiment.name, plate),
            optics=config.optics_strength,
        )
        for experiment in plan.experiments
        for plate in range(1, config.plates_per_experiment + 1)
    }


def site_spec(
    config: SimulationConfig, plan: ScreenDesign, well: PlannedWell, *, site: int, batch: BatchEffect
) -> SiteSpec:
    """Return all that decides one site of a plan.

    Args:
        config: Of the screen.
        plan: Its design.
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
        effect=plan.effects[well.perturbation],
    )


def _folder(out: Path, well: PlannedWell) -> Path:
    split = "test" if well.experiment.is_test else "train"
    return out / split / well.experiment.name / f"Plate{well.plate}"


def _job(
    out: Path, config: SimulationConfig, *, plan: ScreenDesign, index: int, batches: dict[tuple[str, int], BatchEffect]
) -> Job:
    well = plan.wells[index]
    batch = batches[well.experiment.name, well.plate]
    orders = [
        (site, site_spec(config, plan, well, site=site, batch=batch)) for site in range(1, config.sites_per_well + 1)
    ]
    return index, str(_folder(out, well)), well.well, orders


def _draw_well(job: Job) -> tuple[int, list[tuple[int, int, Place | None]]]:
    """Draw and write all sites of a well; runs in a worker."""
    index, folder, name, orders = job
    found: list[tuple[int, int, Place | None]] = []
    for number, order in orders:
        site = draw_site(order)
        for channel, plane in enumerate(site.image, start=1):
            # No fsync for each of thousands of pictures: truth.json, committed last, says that all are there.
            Picture.fromarray(plane).save(
                Path(folder) / f"{name}_s{number}_w{channel}.png", format="PNG", compress_level=4
            )
        place = None
        if site.place is not None:
            place = Place(row=site.place.row, column=site.place.column, radius=site.place.radius)
        found.append((number, site.n_cells, place))
    return index, found


def _run(jobs: list[Job], workers: int) -> Iterator[tuple[int, list[tuple[int, int, Place | None]]]]:
    if workers == 1:
        yield from map(_draw_well, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        waiting: set[Future[tuple[int, list[tuple[int, int, Place | None]]]]] = set()
        left = iter(jobs)
        try:
            for job in left:
                waiting.add(pool.submit(_draw_well, job))
                if len(waiting) >= 4 * workers:
                    finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in finished)
            yield from (future.result() for future in waiting)
        finally:
            for future in waiting:
                with suppress(Exception):
                    future.cancel()


def _table(columns: list[str], rows: Iterable[list[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _write_tables(out: Path, plan: ScreenDesign) -> None:
    """Write train.csv and train_controls.csv, and those of the test experiments where there are any."""
    splits = ["train"] + ["test"] * any(experiment.is_test for experiment in plan.experiments)
    for split in splits:
        wells = [well for well in plan.wells if well.experiment.is_test == (split == "test")]
        shared = {well: [well.id_code, well.experiment.name, str(well.plate), well.well] for well in wells}
        columns = ["id_code", "experiment", "plate", "well"]
        treated = [well for well in wells if well.role == "treatment"]
        if split == "train":
            rows = [[*shared[well], well.perturbation] for well in treated]
            write_text(out / "train.csv", _table([*columns, "sirna"], rows))
        else:
            write_text(out / "test.csv", _table(columns, [shared[well] for well in treated]))
        controls = [[*shared[well], well.perturbation, well.role] for well in wells if well.role != "treatment"]
        write_text(out / f"{split}_controls.csv", _table([*columns, "sirna", "well_type"], controls))


def _truth(
    config: SimulationConfig, plan: ScreenDesign, batches: dict[tuple[str, int], BatchEffect], sites: list[PlantedSite]
) -> Truth:
    names = (*plan.treatments, *plan.positive_controls, UNTREATED)
    perturbations = {
        name: PlantedPerturbation.model_validate(
            {
                "role": plan.role(name),
                "kind": plan.effects[name].name,
                "channels": list(plan.effects[name].channels),
                "local": plan.effects[name].local,
                "strength": round(plan.effects[name].strength, 4),
                "description": plan.effects[name].words,
            }
        )
        for name in names
    }
    on_plate: dict[tuple[str, int], set[str]] = {}
    for well in plan.wells:
        on_plate.setdefault((well.experiment.name, well.plate), set()).add(well.perturbation)
    by_name: dict[str, PlannedExperiment] = {experiment.name: experiment for experiment in plan.experiments}
    plates = [
        PlantedPlate(
            experiment=name,
            plate=plate,
            cell_type=by_name[name].cell_type,
            split="test" if by_name[name].is_test else "train",
            perturbations=[perturbation for perturbation in names if perturbation in on_plate[name, plate]],
            batch=batch,
        )
        for (name, plate), batch in batches.items()
    ]
    return Truth(config=config, perturbations=perturbations, plates=plates, sites=sites)
