"""Test a simulated screen on disk: layout, tables, ground truth and determinism."""

import csv
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from pydantic import ValidationError

from distangle.errors import ConfigError, ScreenError
from distangle.screen.plates import well_name
from distangle.synthetic import SimulationConfig, read_truth, simulate
from distangle.synthetic.design import INNER_WELLS, plan_screen
from distangle.synthetic.effects import Effect
from distangle.synthetic.simulate import plate_batches, site_spec
from distangle.synthetic.site import draw_site

SMALL = SimulationConfig(
    seed=7,
    image_size=48,
    cell_types=("HUVEC", "HEPG2"),
    experiments_per_cell_type=2,
    n_test_experiments=1,
    plates_per_experiment=2,
    n_treatments=5,
    n_positive_controls=2,
    n_negative_controls=2,
    sites_per_well=2,
    local_share=0.4,
)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "screen"
    simulate(folder, SMALL)
    return folder


def test_bytes_depend_on_the_configuration_and_not_on_the_workers(screen, tmp_path):
    simulate(tmp_path / "two", SMALL, workers=2)
    assert digests(tmp_path / "two") == digests(screen)


def test_another_seed_gives_other_images(screen, tmp_path):
    simulate(tmp_path / "other", SMALL.model_copy(update={"seed": 8}))
    name = "train/HUVEC-01/Plate1/B02_s1_w1.png"
    assert digests(tmp_path / "other")[name] != digests(screen)[name]


def test_files_lie_as_in_rxrx1(screen):
    truth = read_truth(screen)
    expected = {"train.csv", "train_controls.csv", "test.csv", "test_controls.csv", "truth.json"}
    split = {(plate.experiment, plate.plate): plate.split for plate in truth.plates}
    for site in truth.sites:
        for channel in range(1, 7):
            expected.add(
                f"{split[site.experiment, site.plate]}/{site.experiment}/Plate{site.plate}/"
                f"{site.well}_s{site.site}_w{channel}.png"
            )
    assert set(digests(screen)) == expected
    # 4 experiments x 2 plates x (2 or 3 treatments + 2 + 2 controls): 5 treatments an experiment
    assert len(truth.sites) == 4 * (5 + 2 * 4) * 2
    with Picture.open(screen / "train/HUVEC-01/Plate1/B02_s1_w1.png") as picture:
        assert (picture.mode, picture.size, picture.format) == ("L", (48, 48), "PNG")


def test_no_two_images_are_alike(screen):
    pictures = [digest for name, digest in digests(screen).items() if name.endswith(".png")]
    assert len(pictures) == len(set(pictures)) == 4 * 13 * 2 * 6


def test_tables_name_every_well_once_and_hide_the_labels_of_the_test(screen):
    train, test = rows(screen / "train.csv"), rows(screen / "test.csv")
    controls, test_controls = rows(screen / "train_controls.csv"), rows(screen / "test_controls.csv")
    assert list(train[0]) == ["id_code", "experiment", "plate", "well", "sirna"]
    assert list(test[0]) == ["id_code", "experiment", "plate", "well"]
    assert list(controls[0]) == ["id_code", "experiment", "plate", "well", "sirna", "well_type"]
    codes = [row["id_code"] for table in (train, test, controls, test_controls) for row in table]
    assert len(codes) == len(set(codes)) == 4 * 13
    assert {row["experiment"] for row in test} == {"HUVEC-02"} == {row["experiment"] for row in test_controls}
    assert {row["experiment"] for row in train} == {"HUVEC-01", "HEPG2-01", "HEPG2-02"}
    assert controls[0] == {
        "id_code": "HUVEC-01_1_B02",
        "experiment": "HUVEC-01",
        "plate": "1",
        "well": "B02",
        "sirna": "UNTREATED",
        "well_type": "negative_control",
    }
    truth = read_truth(screen)
    for row in [*train, *controls, *test_controls]:
        assert truth.site(row["experiment"], row["plate"], row["well"], 1).perturbation == row["sirna"]
    hidden = {truth.site(row["experiment"], row["plate"], row["well"], 1).perturbation for row in test}
    assert hidden == {f"sirna_{i}" for i in range(1, 6)}


def test_the_truth_describes_what_is_planted(screen):
    truth = read_truth(screen / "truth.json")
    assert truth.config == SMALL
    assert truth.perturbations["UNTREATED"].channels == []
    assert truth.perturbations["UNTREATED"].role == "negative_control"
    assert {truth.perturbations[f"sirna_{i}"].role for i in (6, 7)} == {"positive_control"}
    local = [name for name, effect in truth.perturbations.items() if effect.local]
    assert len(local) == 2
    for site in truth.sites:
        place = truth.place(site.experiment, str(site.plate), site.well, site.site)
        assert (place is not None) == (site.perturbation in local)
    assert all(effect.channels for name, effect in truth.perturbations.items() if name != "UNTREATED")


def test_any_image_can_be_drawn_again_from_the_truth_alone(screen):
    truth = read_truth(screen)
    plan = plan_screen(truth.config)
    batches = plate_batches(truth.config, plan)
    assert {(p.experiment, p.plate): p.batch for p in truth.plates} == batches
    for well in plan.wells[:: len(plan.wells) // 5]:
        batch = batches[well.experiment.name, well.plate]
        image = draw_site(site_spec(truth.config, plan, well, site=2, batch=batch)).image
        split = "test" if well.experiment.is_test else "train"
        folder = screen / split / well.experiment.name / f"Plate{well.plate}"
        for channel in range(6):
            with Picture.open(folder / f"{well.well}_s2_w{channel + 1}.png") as picture:
                assert (np.asarray(picture) == image[channel]).all()


def test_no_labels_of_the_test_lie_in_the_tables(screen):
    assert "sirna" not in (screen / "test.csv").read_text(encoding="utf-8")


def test_groups_of_treatments_are_disjoint_complete_and_rotate():
    config = SimulationConfig(
        cell_types=("U2OS",), experiments_per_cell_type=4, plates_per_experiment=4, n_treatments=18
    )
    plan = plan_screen(config)
    groups: dict[tuple[str, int], set[str]] = {}
    for well in plan.wells:
        if well.role == "treatment":
            groups.setdefault((well.experiment.name, well.plate), set()).add(well.perturbation)
    for experiment in plan.experiments:
        plates = [groups[experiment.name, plate] for plate in (1, 2, 3, 4)]
        assert sum(len(group) for group in plates) == 18
        assert set.union(*plates) == set(plan.treatments)
        assert {len(group) for group in plates} == {4, 5}
    assert groups["U2OS-01", 1] == groups["U2OS-02", 2] == groups["U2OS-03", 3] == groups["U2OS-04", 4]
    assert groups["U2OS-01", 1] != groups["U2OS-02", 1]


def test_without_groups_every_treatment_is_on_every_plate():
    plan = plan_screen(SimulationConfig(plate_groups=False, n_treatments=9, wells_per_treatment=2))
    for experiment in plan.experiments:
        for plate in (1, 2):
            counts = Counter(
                well.perturbation
                for well in plan.wells
                if well.role == "treatment" and (well.experiment, well.plate) == (experiment, plate)
            )
            assert counts == dict.fromkeys(plan.treatments, 2)


def test_every_plate_has_its_controls_and_b02_is_untreated():
    config = SimulationConfig(n_positive_controls=5, n_negative_controls=3, n_treatments=20)
    plan = plan_screen(config)
    seats = set()
    for experiment in plan.experiments:
        for plate in (1, 2):
            wells = [well for well in plan.wells if (well.experiment, well.plate) == (experiment, plate)]
            assert len({(well.row, well.column) for well in wells}) == len(wells) == 18
            assert Counter(well.role for well in wells) == {
                "treatment": 10,
                "positive_control": 5,
                "negative_control": 3,
            }
            assert [well.perturbation for well in wells if well.well == "B02"] == ["UNTREATED"]
            assert all((well.row, well.column) in INNER_WELLS for well in wells)
            seats.add(frozenset(well.well for well in wells if well.role == "positive_control"))
    assert len(seats) == 1


def test_positions_of_treatments_are_drawn_anew_in_every_experiment():
    plan = plan_screen(SimulationConfig(cell_types=("RPE",), experiments_per_cell_type=8, n_treatments=10))
    wells = {well.well for well in plan.wells if well.perturbation == "sirna_3"}
    assert len(wells) >= 6


def test_inner_wells_are_those_of_rxrx1():
    names = [well_name(row, column) for row, column in INNER_WELLS]
    assert len(names) == 308
    assert (names[0], names[-1]) == ("B02", "O23")


def test_the_full_design_of_rxrx1_fits_a_plate():
    config = SimulationConfig(plates_per_experiment=4, n_treatments=1108, n_positive_controls=30, n_negative_controls=1)
    assert len(plan_screen(config).wells) == 4 * 4 * 308


def test_null_plants_nothing_and_keeps_the_labels(tmp_path):
    config = SMALL.model_copy(update={"null": True, "experiments_per_cell_type": 1, "n_test_experiments": 0})
    truth = read_truth(simulate(tmp_path / "null", config))
    assert all(effect.kind == "none" and not effect.channels for effect in truth.perturbations.values())
    assert all(effect.strength == 0 and not effect.local for effect in truth.perturbations.values())
    assert all(site.place is None for site in truth.sites)
    assert {row["sirna"] for row in rows(tmp_path / "null" / "train.csv")} == {f"sirna_{i}" for i in range(1, 6)}
    plan = plan_screen(config)
    assert set(plan.effects.values()) == {Effect()}
    with_effects = plan_screen(config.model_copy(update={"null": False}))
    assert [well.perturbation for well in plan.wells] == [well.perturbation for well in with_effects.wells]


def test_progress_counts_every_site(tmp_path):
    calls: list[tuple[int, int]] = []
    config = SMALL.model_copy(update={"cell_types": ("RPE",), "experiments_per_cell_type": 1, "n_test_experiments": 0})
    simulate(tmp_path / "screen", config, progress=lambda n_done, total: calls.append((n_done, total)))
    assert calls[-1] == (26, 26)
    assert [n_done for n_done, _ in calls] == sorted(n_done for n_done, _ in calls)


def test_a_folder_with_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(ScreenError, match=r"is not empty; a synthetic screen needs its own folder") as error:
        simulate(tmp_path, SMALL)
    assert str(tmp_path) in str(error.value)
    assert list(tmp_path.iterdir()) == [tmp_path / "keep.txt"]


def test_an_empty_folder_is_taken(tmp_path):
    config = SMALL.model_copy(
        update={"cell_types": ("U2OS",), "experiments_per_cell_type": 1, "n_test_experiments": 0, "sites_per_well": 1}
    )
    assert simulate(tmp_path, config) == tmp_path / "truth.json"


def test_an_unknown_cell_type_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match=r"Cell type 'HUVAC' is unknown.*Did you mean 'HUVEC'"):
        simulate(tmp_path / "out", SMALL.model_copy(update={"cell_types": ("HUVAC",)}))
    assert not (tmp_path / "out").exists()


def test_a_cell_type_named_twice_is_refused():
    with pytest.raises(ConfigError, match="has duplicates: RPE, RPE. For more experiments"):
        plan_screen(SMALL.model_copy(update={"cell_types": ("RPE", "RPE")}))


def test_too_few_wells_are_refused_with_what_fits():
    config = SimulationConfig(n_treatments=700, plates_per_experiment=2, n_positive_controls=4, n_negative_controls=4)
    with pytest.raises(ScreenError, match=r"needs 358: 350 treatments .* At most 600 treatments fit"):
        plan_screen(config)
    plan_screen(config.model_copy(update={"n_treatments": 600}))
    with pytest.raises(ScreenError, match="needs 309"):
        plan_screen(config.model_copy(update={"n_treatments": 601}))


def test_fewer_treatments_than_plates_are_refused():
    with pytest.raises(ScreenError, match="3 treatments cannot be divided over 4 plates"):
        plan_screen(SimulationConfig(n_treatments=3, plates_per_experiment=4))
    plan_screen(SimulationConfig(n_treatments=3, plates_per_experiment=4, plate_groups=False))


def test_no_experiment_left_for_training_is_refused():
    with pytest.raises(ScreenError, match=r"expected at most 3: at least one of 4 experiments must remain"):
        plan_screen(SMALL.model_copy(update={"n_test_experiments": 4}))


def test_no_workers_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="workers is 0, expected at least 1"):
        simulate(tmp_path / "out", SMALL, workers=0)


def test_unknown_settings_and_impossible_values_are_refused():
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        SimulationConfig.model_validate({"wells": 3})
    with pytest.raises(ValidationError, match="less than or equal to 4"):
        SimulationConfig(plates_per_experiment=5)


def test_a_site_that_is_not_in_the_truth_is_named(screen):
    with pytest.raises(ScreenError, match=r"no site 9 in well B02 of HUVEC-01 plate 1"):
        read_truth(screen).place("HUVEC-01", 1, "B02", 9)


def test_a_missing_or_foreign_truth_is_refused(tmp_path):
    with pytest.raises(ScreenError, match=r"truth.json does not exist"):
        read_truth(tmp_path)
    (tmp_path / "truth.json").write_text('{"schema_version": 2}')
    with pytest.raises(ScreenError, match="This version cannot read it"):
        read_truth(tmp_path)


def test_magnification_and_image_size_enlarge_cells():
    assert SimulationConfig(image_size=128).pixels_per_um == pytest.approx(1)
    assert SimulationConfig(image_size=512).pixels_per_um == pytest.approx(1.516, abs=1e-3)
    assert SimulationConfig(image_size=128, magnification=2).pixels_per_um == pytest.approx(2)
