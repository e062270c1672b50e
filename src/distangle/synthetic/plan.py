"""Design a synthetic screen: which well of which plate gets what."""

from dataclasses import dataclass

import numpy as np

from distangle.errors import ConfigError, ScreenError, nearest
from distangle.randomness import generator
from distangle.screen.plate import well_name
from distangle.synthetic.cells import CELL_TYPES
from distangle.synthetic.config import SimulationConfig
from distangle.synthetic.effects import Effect, draw_effects

UNTREATED = "UNTREATED"
INNER_WELLS = tuple((row, column) for row in range(1, 15) for column in range(1, 23))  # rows B-O, columns 02-23


@dataclass(frozen=True)
class PlannedExperiment:
    """One experiment: its name, cell type, place in the order, and use.

    The name is such as 'HUVEC-01'; the use is training or testing.
    """

    name: str
    cell_type: str
    index: int
    is_test: bool


@dataclass(frozen=True)
class PlannedWell:
    """One well and what is done to it; row and column zero based, plates from 1."""

    experiment: PlannedExperiment
    plate: int
    row: int
    column: int
    perturbation: str
    role: str

    @property
    def well(self) -> str:
        """Its name, such as 'B02'."""
        return well_name(self.row, self.column)

    @property
    def id_code(self) -> str:
        """Its name in the tables, such as 'HUVEC-01_1_B02'."""
        return f"{self.experiment.name}_{self.plate}_{self.well}"


@dataclass(frozen=True)
class Plan:
    """The design of a screen: names, effects, experiments and wells in order."""

    treatments: tuple[str, ...]
    positive_controls: tuple[str, ...]
    effects: dict[str, Effect]
    experiments: tuple[PlannedExperiment, ...]
    wells: tuple[PlannedWell, ...]

    def role(self, perturbation: str) -> str:
        """Return treatment, positive_control or negative_control."""
        if perturbation == UNTREATED:
            return "negative_control"
        return "positive_control" if perturbation in self.positive_controls else "treatment"


def plan_screen(config: SimulationConfig) -> Plan:
    """Design the screen of a configuration.

    Treatments are spread over the plates of an experiment in disjoint groups of about equal size (or all on every
    plate); which plate carries which group rotates from experiment to experiment. Wells are drawn anew on every
    plate, except that B02 is always untreated and the positive controls share the same few wells, in turn.

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
        rng=generator(config.seed, "effects"),
    )
    effects[UNTREATED] = Effect()
    if config.null or config.effect_strength == 0:
        effects = dict.fromkeys(effects, Effect())
    experiments = _experiments(config)
    wells: list[PlannedWell] = []
    groups = _groups(config, treatments)
    shuffled = generator(config.seed, "control wells").permutation(len(INNER_WELLS) - 1)
    control_wells = [INNER_WELLS[1 + int(i)] for i in shuffled[: len(controls)]]
    others = [INNER_WELLS[1 + int(i)] for i in shuffled[len(controls) :]]
    for experiment in experiments:
        for plate in range(1, config.plates_per_experiment + 1):
            group = groups[(plate - 1 - experiment.index) % len(groups)]
            rng = generator(config.seed, "wells", experiment.name, plate)
            order = [others[int(i)] for i in rng.permutation(len(others))]
            wanted = [name for name in group for _ in range(config.wells_per_treatment)]
            wanted += [UNTREATED] * (config.n_negative_controls - 1)
            seats = {INNER_WELLS[0]: UNTREATED}
            seats.update(zip(order, wanted, strict=False))
            turn = experiment.index * config.plates_per_experiment + plate - 1
            for i, seat in enumerate(control_wells):
                seats[seat] = controls[(i + turn) % len(controls)]
            for row, column in sorted(seats):
                name = seats[row, column]
                role = "negative_control" if name == UNTREATED else "treatment"
                role = "positive_control" if name in controls else role
                wells.append(PlannedWell(experiment, plate, row, column, name, role))
    return Plan(treatments, controls, effects, experiments, tuple(wells))


def _check(config: SimulationConfig) -> None:
    for name in config.cell_types:
        if name not in CELL_TYPES:
            raise ConfigError(f"Cell type {name!r} is unknown to the simulation. {nearest(name, CELL_TYPES)}")
    if len(set(config.cell_types)) < len(config.cell_types):
        raise ConfigError(
            f"cell_types names one twice: {', '.join(config.cell_types)}. For more experiments of a cell type "
            "raise experiments_per_cell_type."
        )
    n_experiments = len(config.cell_types) * config.experiments_per_cell_type
    if config.n_test_experiments >= n_experiments:
        raise ScreenError(
            f"n_test_experiments is {config.n_test_experiments}, but there are only {n_experiments} experiments in "
            "all and at least one must be left for training: ask for at most "
            f"{n_experiments - 1}, or raise experiments_per_cell_type."
        )
    n_groups = config.plates_per_experiment if config.plate_groups else 1
    if n_groups > config.n_treatments:
        raise ScreenError(
            f"{config.n_treatments} treatments cannot be spread over {n_groups} plates with at least one on each: "
            f"take plates_per_experiment {config.n_treatments} or fewer, or switch plate_groups off."
        )
    controls = config.n_positive_controls + config.n_negative_controls
    largest = -(-config.n_treatments // n_groups)
    needed = largest * config.wells_per_treatment + controls
    if needed > len(INNER_WELLS):
        fits = max(0, (len(INNER_WELLS) - controls) // config.wells_per_treatment * n_groups)
        raise ScreenError(
            f"A plate has {len(INNER_WELLS)} inner wells (rows B-O, columns 02-23), but the design needs {needed}: "
            f"{largest} treatments in {config.wells_per_treatment} well(s) each and {controls} controls. At most "
            f"{fits} treatments fit; or take fewer controls, fewer wells_per_treatment, or more plates with "
            "plate_groups."
        )


def _experiments(config: SimulationConfig) -> tuple[PlannedExperiment, ...]:
    """Number the experiments of each cell type; the last ones of the cell types, in turn, are for testing."""
    named = [(kind, number) for kind in config.cell_types for number in range(1, config.experiments_per_cell_type + 1)]
    last_first = sorted(named, key=lambda item: (-item[1], config.cell_types.index(item[0])))
    test = set(last_first[: config.n_test_experiments])
    return tuple(
        PlannedExperiment(f"{kind}-{number:02d}", kind, index, (kind, number) in test)
        for index, (kind, number) in enumerate(named)
    )


def _groups(config: SimulationConfig, treatments: tuple[str, ...]) -> list[list[str]]:
    """Split the treatments in groups whose sizes differ by one at most."""
    n_groups = config.plates_per_experiment if config.plate_groups else 1
    order = generator(config.seed, "groups").permutation(len(treatments))
    parts = np.array_split(order, n_groups)
    return [[treatments[int(i)] for i in sorted(part)] for part in parts]
