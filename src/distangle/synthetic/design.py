"""Configure and design a synthetic screen: the treatment of each well."""

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from distangle.core.random import rng_for
from distangle.errors import ConfigError, ScreenError, did_you_mean
from distangle.screen.plates import well_name
from distangle.synthetic.cells import CELL_TYPES
from distangle.synthetic.effects import Effect, draw_effects


class SimulationConfig(BaseModel):
    """Configuration of a synthetic screen; equal values give equal bytes.

    `effect_strength`, `batch_strength`, `optics_strength` and `position_strength` are factors: 0 is none, 1 is clearly
    visible.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, description="Seed of all random numbers.")
    image_size: int = Field(128, ge=32, le=2048, description="Height and width of an image, pixels.")
    magnification: float = Field(
        1.0, gt=0.2, le=5.0, description="Factor on the size of cells in pixels; see `pixels_per_um`."
    )
    cell_types: tuple[str, ...] = Field(("HUVEC", "RPE"), min_length=1, description="HUVEC, RPE, HEPG2, U2OS.")
    experiments_per_cell_type: int = Field(2, ge=1, le=99, description="Experiments with each cell type.")
    n_test_experiments: int = Field(
        0, ge=0, description="How many of all experiments go to test/, without treatment labels."
    )
    plates_per_experiment: int = Field(2, ge=1, le=4, description="Plates of an experiment.")
    plate_groups: bool = Field(
        default=True,
        description="Treatments in disjoint groups, one group per plate; else all treatments on all plates.",
    )
    n_treatments: int = Field(12, ge=1, description="Perturbations without the controls.")
    n_inactive_treatments: int = Field(0, ge=0, description="How many of them have no effect, the last ones.")
    wells_per_treatment: int = Field(1, ge=1, description="On each plate that carries the treatment.")
    n_positive_controls: int = Field(4, ge=0, description="One well each on every plate.")
    n_negative_controls: int = Field(4, ge=1, description="Negative-control wells on every plate; one is always B02.")
    sites_per_well: int = Field(2, ge=1, le=9, description="Images of a well.")
    effect_strength: float = Field(1.0, ge=0.0, le=2.0, description="How much a treatment changes its cells.")
    local_share: float = Field(
        0.25, ge=0.0, le=1.0, description="Share of the treatments whose effect is local, in one region of the image."
    )
    batch_strength: float = Field(1.0, ge=0.0, le=3.0, description="How much experiments and plates differ.")
    optics_strength: float = Field(
        0.0,
        ge=0.0,
        le=3.0,
        description="Strength of camera response, halo, defocus and background texture, which standardization keeps.",
    )
    position_strength: float = Field(
        0.5, ge=0.0, le=2.0, description="How much the position of a well changes its cells."
    )
    null: bool = Field(default=False, description="Plant no effect: labels stay, all wells are like negative controls.")

    @property
    def pixels_per_um(self) -> float:
        """Pixels per micrometer.

        A larger image shows both more field and more detail: 1 px/um at 128 pixels, 1.5 px/um at 512 (where a HUVEC
        nucleus is as large as in RxRx1), times `magnification`.
        """
        return float(self.magnification * (self.image_size / 128) ** 0.3)


NEGATIVE_CONTROL = "UNTREATED"
INNER_WELLS = tuple((row, column) for row in range(1, 15) for column in range(1, 23))  # rows B-O, columns 02-23


@dataclass(frozen=True)
class PlannedExperiment:
    """One experiment: name, cell type, index, and whether it is for testing.

    The name is such as 'HUVEC-01'.
    """

    name: str
    cell_type: str
    index: int
    is_test: bool


@dataclass(frozen=True)
class PlannedWell:
    """One well and its perturbation; row and column zero based, plates from 1."""

    experiment: PlannedExperiment
    plate: int
    row: int
    column: int
    perturbation: str
    role: str

    @property
    def well(self) -> str:
        """Well name, such as 'B02'."""
        return well_name(self.row, self.column)

    @property
    def id_code(self) -> str:
        """Name in the tables, such as 'HUVEC-01_1_B02'."""
        return f"{self.experiment.name}_{self.plate}_{self.well}"


@dataclass(frozen=True)
class ScreenDesign:
    """The design of a screen: names, effects, experiments and wells in order."""

    treatments: tuple[str, ...]
    positive_controls: tuple[str, ...]
    effects: dict[str, Effect]
    experiments: tuple[PlannedExperiment, ...]
    wells: tuple[PlannedWell, ...]

    def role(self, perturbation: str) -> str:
        """Return treatment, positive_control or negative_control."""
        if perturbation == NEGATIVE_CONTROL:
            return "negative_control"
        return "positive_control" if perturbation in self.positive_controls else "treatment"


def plan_screen(config: SimulationConfig) -> ScreenDesign:
    """Design the screen of a configuration.

    The treatments are divided into disjoint groups of about equal size, one per plate of an experiment (or all are on
    every plate); the assignment of groups to plates rotates from experiment to experiment. Well positions are random
    on every plate, except that B02 is always a negative control and the positive controls share the same few wells, in
    turn.

    Raises:
        ConfigError: A cell type is unknown.
        ScreenError: The plates have too few wells, or too few experiments remain for training.
    """
    _check(config)
    treatments = tuple(f"sirna_{i + 1}" for i in range(config.n_treatments))
    controls = tuple(f"sirna_{config.n_treatments + i + 1}" for i in range(config.n_positive_controls))
    effects = draw_effects(
        treatments,
        controls,
        strength=config.effect_strength,
        local_share=config.local_share,
        rng=rng_for(config.seed, "effects"),
    )
    effects |= dict.fromkeys(treatments[len(treatments) - config.n_inactive_treatments :], Effect())
    effects[NEGATIVE_CONTROL] = Effect()
    if config.null or config.effect_strength == 0:
        effects = dict.fromkeys(effects, Effect())
    experiments = _plan_experiments(config)
    wells: list[PlannedWell] = []
    groups = _group_treatments(config, treatments)
    permutation = rng_for(config.seed, "control wells").permutation(len(INNER_WELLS) - 1)
    control_wells = [INNER_WELLS[1 + int(i)] for i in permutation[: len(controls)]]
    other_wells = [INNER_WELLS[1 + int(i)] for i in permutation[len(controls) :]]
    for experiment in experiments:
        for plate in range(1, config.plates_per_experiment + 1):
            group = groups[(plate - 1 - experiment.index) % len(groups)]
            rng = rng_for(config.seed, "wells", experiment.name, plate)
            free_wells = [other_wells[int(i)] for i in rng.permutation(len(other_wells))]
            perturbations = [name for name in group for _ in range(config.wells_per_treatment)]
            perturbations += [NEGATIVE_CONTROL] * (config.n_negative_controls - 1)
            perturbation_of = {INNER_WELLS[0]: NEGATIVE_CONTROL}
            perturbation_of.update(zip(free_wells, perturbations, strict=False))
            plate_index = experiment.index * config.plates_per_experiment + plate - 1
            for i, position in enumerate(control_wells):
                perturbation_of[position] = controls[(i + plate_index) % len(controls)]
            for row, column in sorted(perturbation_of):
                name = perturbation_of[row, column]
                role = "negative_control" if name == NEGATIVE_CONTROL else "treatment"
                role = "positive_control" if name in controls else role
                wells.append(PlannedWell(experiment, plate, row, column, name, role))
    return ScreenDesign(treatments, controls, effects, experiments, tuple(wells))


def _check(config: SimulationConfig) -> None:
    for name in config.cell_types:
        if name not in CELL_TYPES:
            raise ConfigError(f"Cell type {name!r} is unknown to the simulation. {did_you_mean(name, CELL_TYPES)}")
    if len(set(config.cell_types)) < len(config.cell_types):
        raise ConfigError(
            f"cell_types has duplicates: {', '.join(config.cell_types)}. For more experiments of a cell type, "
            "increase experiments_per_cell_type."
        )
    n_experiments = len(config.cell_types) * config.experiments_per_cell_type
    if config.n_test_experiments >= n_experiments:
        raise ScreenError(
            f"n_test_experiments is {config.n_test_experiments}, expected at most {n_experiments - 1}: at least one of "
            f"{n_experiments} experiments must remain for training. Decrease it, or increase "
            "experiments_per_cell_type."
        )
    if config.n_inactive_treatments > config.n_treatments:
        raise ScreenError(
            f"n_inactive_treatments is {config.n_inactive_treatments}, but n_treatments is {config.n_treatments}: "
            "expected at most as many. Decrease it, or increase n_treatments."
        )
    n_groups = config.plates_per_experiment if config.plate_groups else 1
    if n_groups > config.n_treatments:
        raise ScreenError(
            f"{config.n_treatments} treatments cannot be divided over {n_groups} plates with at least one on each. "
            f"Set plates_per_experiment to at most {config.n_treatments}, or plate_groups to false."
        )
    controls = config.n_positive_controls + config.n_negative_controls
    max_group = -(-config.n_treatments // n_groups)
    n_wells = max_group * config.wells_per_treatment + controls
    if n_wells > len(INNER_WELLS):
        max_treatments = max(0, (len(INNER_WELLS) - controls) // config.wells_per_treatment * n_groups)
        raise ScreenError(
            f"A plate has {len(INNER_WELLS)} inner wells (rows B-O, columns 02-23), but the design needs {n_wells}: "
            f"{max_group} treatments in {config.wells_per_treatment} well(s) each and {controls} controls. At most "
            f"{max_treatments} treatments fit; or use fewer controls, fewer wells_per_treatment, or more plates with "
            "plate_groups."
        )


def _plan_experiments(config: SimulationConfig) -> tuple[PlannedExperiment, ...]:
    """Number the experiments of each cell type.

    The last ones of the cell types, in turn, are for testing.
    """
    numbered = [
        (kind, number) for kind in config.cell_types for number in range(1, config.experiments_per_cell_type + 1)
    ]
    last_first = sorted(numbered, key=lambda item: (-item[1], config.cell_types.index(item[0])))
    test_experiments = set(last_first[: config.n_test_experiments])
    return tuple(
        PlannedExperiment(f"{kind}-{number:02d}", kind, index, (kind, number) in test_experiments)
        for index, (kind, number) in enumerate(numbered)
    )


def _group_treatments(config: SimulationConfig, treatments: tuple[str, ...]) -> list[list[str]]:
    """Divide the treatments into groups whose sizes differ by at most one."""
    n_groups = config.plates_per_experiment if config.plate_groups else 1
    order = rng_for(config.seed, "groups").permutation(len(treatments))
    parts = np.array_split(order, n_groups)
    return [[treatments[int(i)] for i in sorted(part)] for part in parts]
