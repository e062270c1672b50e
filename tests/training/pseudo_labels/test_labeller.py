import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from distangle.training import TrainingConfig, resolve_config
from distangle.training.checkpointing.checkpoints import load_state, save_state
from distangle.training.pseudo_labels.constraints import PlateLayoutConstraint, no_constraint
from distangle.training.pseudo_labels.labeller import PseudoLabeller, summary
from distangle.training.pseudo_labels.rounds import (
    UnlabelledWells,
    accepted_share,
    progressive_round,
    ramp_round,
    well_means,
)
from distangle.training.state import TrainingState

ONCE = PlateLayoutConstraint(unique_per_plate=True, groups=(), unique_group_per_experiment=False, n_classes=4)


def wells_of(n: int, *, sites: int = 1, truth: np.ndarray | None = None, n_classes: int = 4) -> UnlabelledWells:
    """`n` wells, four to a plate."""
    return UnlabelledWells(
        well_of_site=np.repeat(np.arange(n), sites),
        first_position=100,
        plates=tuple(("E", str(k // 4)) for k in range(n)),
        names=tuple(f"B{k:02d}" for k in range(n)),
        possible=np.ones((n, n_classes), bool),
        truth=np.full(n, -1) if truth is None else truth,
        labelled_classes=np.arange(4 * n_classes) % n_classes,
        control_classes=np.empty(0, np.int64),
    )


def certain_logits(labels: np.ndarray, strength: float = 6.0, n_classes: int = 4) -> np.ndarray:
    return strength * np.eye(n_classes)[labels]


def new_state() -> TrainingState:
    model = nn.Linear(2, 2)
    return TrainingState(epochs_done=0, model=model, optimizer=torch.optim.Adam(model.parameters()))


def config_of(strategy: str, *changes: str, epochs: int = 10) -> TrainingConfig:
    settings = [f"pseudo_labels.strategy={strategy}", "pseudo_labels.from_epoch=4", "pseudo_labels.full_epoch=6"]
    return resolve_config("scratch", [*settings, *changes], epochs=epochs)


def labeller_of(
    logits: Callable[[int], np.ndarray],
    wells: UnlabelledWells,
    config: TrainingConfig,
    messages: list[str] | None = None,
) -> PseudoLabeller:
    heard_messages = [] if messages is None else messages
    return PseudoLabeller(
        wells, no_constraint(4), config, site_logits=lambda state: logits(state.epochs_done), say=heard_messages.append
    )


def test_sites_of_a_well_are_averaged_by_hand() -> None:
    sites = np.array([[1, 0], [3, 0], [0, 5]], np.float32)
    np.testing.assert_array_equal(well_means(sites, np.array([0, 0, 1]), n_wells=2), [[2, 0], [0, 5]])


def test_the_ramp_takes_the_likeliest_class_of_what_is_confident() -> None:
    logits = np.log([[0.7, 0.1, 0.1, 0.1], [0.4, 0.3, 0.2, 0.1]])
    settings = config_of("alpha_ramp", "pseudo_labels.confidence=0.5").pseudo_labels
    result, _ = ramp_round(logits, wells_of(2), no_constraint(4), settings)
    assert result.labels.tolist() == [0, 0]
    assert result.accepted.tolist() == [True, False]
    np.testing.assert_allclose(result.confidence, [0.7, 0.4])
    assert (result.columns.tolist(), result.shares.tolist()) == ([[0], [0]], [[1.0], [1.0]])


def test_soft_labels_are_the_probabilities() -> None:
    logits = np.log([[0.1, 0.6, 0.2, 0.1]])
    settings = config_of("alpha_ramp", "pseudo_labels.soft=true").pseudo_labels
    result, _ = ramp_round(logits, wells_of(1), no_constraint(4), settings)
    assert result.columns.tolist() == [[1, 2, 0, 3]]
    np.testing.assert_allclose(result.shares, [[0.6, 0.2, 0.1, 0.1]], rtol=1e-6)


def test_closed_classes_are_never_given() -> None:
    wells = wells_of(2)
    wells = dataclasses.replace(wells, possible=np.array([[False, True, True, True]] * 2))
    settings = config_of("alpha_ramp").pseudo_labels
    result, _ = ramp_round(certain_logits(np.array([0, 0])) + [0, 1, 0, 0], wells, no_constraint(4), settings)
    assert result.labels.tolist() == [1, 1]
    assert result.choices.tolist() == [1, 1]
    soft, _ = ramp_round(
        certain_logits(np.array([0, 0])), wells, no_constraint(4), settings.model_copy(update={"soft": True})
    )
    assert soft.shares[soft.columns == 0].tolist() == [0, 0]


def test_the_plan_of_the_plate_overrules_two_claims_on_one_class() -> None:
    logits = certain_logits(np.array([0, 0, 2, 3])) + np.array([[0, 5, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    settings = config_of("alpha_ramp").pseudo_labels
    result, _ = ramp_round(logits, wells_of(4), ONCE, settings)
    assert result.labels.tolist() == [1, 0, 2, 3]
    assert result.choices.tolist() == [0, 0, 2, 3]
    assert result.confidence[0] < 0.5  # not the first choice of the network, so not confident
    assert result.accepted.tolist() == [False, True, True, True]


def test_the_accepted_share_is_that_of_the_ancestor() -> None:
    ancestor = resolve_config("rcic1st", ["pseudo_labels.from_epoch=90"], epochs=130)
    shares = [accepted_share(epoch, settings=ancestor.pseudo_labels, epochs=130) for epoch in (90, 129)]
    assert shares == pytest.approx([0.4 + 0.6 / 41, 0.4 + 0.6 * 40 / 41])
    assert round(shares[-1], 3) == 0.985


def test_progressive_accepts_the_largest_margins_and_never_lets_go() -> None:
    labels = np.array([0, 1, 2, 3])
    logits = certain_logits(labels) * np.array([4, 3, 2, 1])[:, None]
    first, _ = progressive_round(logits, wells_of(4), no_constraint(4), share=0.5, previous=None)
    assert first.accepted.tolist() == [True, True, False, False]
    # All predictions change: accepted wells keep their labels.
    other = certain_logits(np.array([3, 3, 1, 1])) * np.array([9, 9, 9, 1])[:, None]
    first_labels = (first.labels, first.accepted)
    second, _ = progressive_round(other, wells_of(4), no_constraint(4), share=0.75, previous=first_labels)
    assert second.accepted.tolist() == [True, True, True, False]
    assert second.labels.tolist() == [0, 1, 1, 1]
    assert second.choices.tolist() == [3, 3, 1, 1]
    # One-to-one: the class of an accepted well is taken, on its plate.
    third, _ = progressive_round(other, wells_of(4), ONCE, share=1.0, previous=first_labels)
    assert third.labels[:2].tolist() == [0, 1]
    assert sorted(third.labels) == [0, 1, 2, 3]
    assert third.accepted.all()


def test_nothing_is_assigned_before_t1_and_nothing_without_a_strategy() -> None:
    truth = np.arange(12) % 4
    state = new_state()
    labeller = labeller_of(lambda _: certain_logits(truth), wells_of(12, truth=truth), config_of("alpha_ramp"))
    for epoch in range(4):
        state.epochs_done = epoch
        assert labeller.before_epoch(state) is None
        assert (state.hook_tensors, state.hook_values) == ({}, {})
    state.epochs_done = 4
    assignment = labeller.before_epoch(state)
    assert assignment is not None
    assert assignment.positions.tolist() == list(range(100, 112))
    assert assignment.columns[:, 0].tolist() == truth.tolist()
    without_labels = labeller_of(lambda _: certain_logits(truth), wells_of(12), resolve_config("scratch"))
    assert without_labels.before_epoch(state) is None


def test_all_sites_of_a_well_get_its_label() -> None:
    logits = certain_logits(np.repeat([0, 1, 2, 3] * 2, 2))
    logits[0] = [0, 1, 0, 0]  # one site of the first well disagrees a little
    state = new_state()
    state.epochs_done = 4
    assignment = labeller_of(lambda _: logits, wells_of(8, sites=2), config_of("alpha_ramp")).before_epoch(state)
    assert assignment is not None
    assert assignment.columns[:, 0].tolist() == np.repeat([0, 1, 2, 3] * 2, 2).tolist()


@pytest.mark.parametrize("strategy", ["alpha_ramp", "progressive"])
def test_an_assignment_survives_a_checkpoint_and_is_not_made_again(tmp_path: object, strategy: str) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 2, (12, 12, 4))

    def logits(epoch: int) -> np.ndarray:
        return certain_logits(np.arange(12) % 4, 2.0) + noise[epoch]

    config = config_of(
        strategy,
        "pseudo_labels.every_epochs=2",
        "pseudo_labels.confidence=0.2",
        "pseudo_labels.max_gap=1",
        "pseudo_labels.min_precision=0",
    )
    wells = wells_of(12, truth=np.arange(12) % 4)
    state, assignments = new_state(), []
    for epoch in range(4, 10):
        state.epochs_done = epoch
        assignments.append(labeller_of(logits, wells, config).before_epoch(state))
        save_state(state, folder, fingerprint="f")
        # A resume finds the stored decision, whatever the network would predict now.
        second = new_state()
        load_state(second, folder, fingerprint="f")
        from_nan = labeller_of(lambda _: np.full((12, 4), np.nan), wells, config).before_epoch(second)
        assert from_nan is not None
        assert assignments[-1] is not None
        for name in ("positions", "columns", "shares"):
            assert np.array_equal(getattr(from_nan, name), getattr(assignments[-1], name)), name
        assert second.hook_values == state.hook_values
    assert len(state.hook_values["pseudo_labels"]["rounds"]) == 3  # before the epochs 4, 6 and 8
    assert "pseudo_agreement" in state.hook_values["pseudo_labels"]["counts"]


def test_a_collapse_to_one_class_ends_the_pseudo_labels_aloud() -> None:
    truth, messages = np.arange(12) % 4, []
    wells, config = wells_of(12, truth=truth), config_of("alpha_ramp", "pseudo_labels.max_gap=2")
    state = new_state()
    labeller = labeller_of(lambda epoch: certain_logits(truth if epoch < 6 else truth * 0), wells, config, messages)
    has_labels = []
    for epoch in range(4, 10):
        state.epochs_done = epoch
        has_labels.append(labeller.before_epoch(state) is not None)
    assert has_labels == [True, True, False, False, False, False]
    assert len(messages) == 1
    assert "pseudo labels end before epoch 7: the classes of the accepted labels collapse" in messages[0]
    assert "Training goes on with labels only" in messages[0]
    description = summary(state.hook_values, config.pseudo_labels)
    assert description["stopped"]["epoch"] == 7
    assert description["stopped"]["reason"].startswith("the classes of the accepted labels collapse")
    assert description["rounds"] == 3
    assert state.hook_values["pseudo_labels"]["counts"]["pseudo_stopped"] == 1


@pytest.mark.parametrize("strategy", ["alpha_ramp", "progressive"])
def test_confident_and_wrong_ends_the_pseudo_labels_before_the_first_is_used(strategy: str) -> None:
    truth, messages = np.arange(12) % 4, []
    state = new_state()
    state.epochs_done = 4
    wells = wells_of(12, truth=truth)
    labeller = labeller_of(lambda _: certain_logits((truth + 1) % 4), wells, config_of(strategy), messages)
    assert labeller.before_epoch(state) is None
    assert (
        "confident and wrong: the mean probability of the accepted labels is 0.99, their precision 0.00" in messages[-1]
    )


def test_what_the_plates_do_not_allow_is_said_once() -> None:
    messages: list[str] = []
    structure = dataclasses.replace(ONCE, remarks=("groups do not apply: they overlap",))
    wells = dataclasses.replace(wells_of(5), plates=(("E", "1"),) * 5)
    labeller = PseudoLabeller(
        wells,
        structure,
        config_of("alpha_ramp"),
        site_logits=lambda _: certain_logits(np.arange(5) % 4),
        say=messages.append,
    )
    state = new_state()
    for state.epochs_done in (4, 5):
        labeller.before_epoch(state)
    assert messages == [
        "pseudo labels: groups do not apply: they overlap.",
        "pseudo labels: E plate 1 has 5 wells for 4 classes: its pseudo labels are the most probable ones, "
        "not one-to-one.",
    ]


@pytest.mark.parametrize("soft", ["true", "false"])
def test_controls_of_hidden_plates_come_with_the_label_that_the_plan_gives(soft: str) -> None:
    state = new_state()
    state.epochs_done = 4
    wells = dataclasses.replace(wells_of(8, sites=2), control_classes=np.array([3, 0]))
    config = config_of("alpha_ramp", f"pseudo_labels.soft={soft}")
    assignment = labeller_of(lambda _: certain_logits(np.repeat([0, 1, 2, 3] * 2, 2)), wells, config).before_epoch(
        state
    )
    assert assignment is not None
    assert assignment.positions.tolist() == list(range(100, 118))
    rows = assignment.label_rows(np.array([116, 117, 102]), n_classes=4)
    np.testing.assert_allclose(rows, np.eye(4)[[3, 0, 1]], atol=0.01)
    np.testing.assert_array_equal(rows[:2], np.eye(4)[[3, 0]])
    no_labels = labeller_of(lambda _: np.zeros((16, 4)), wells, config).before_epoch(new_state())
    assert no_labels is None
