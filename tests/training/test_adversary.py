"""Gradient reversal: its sign and ramp, its effect on a planted experiment, and what is saved."""

import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from torch.nn import functional

from distangle.results import RunFolder
from distangle.training.adversary import DomainClassifier, adversary_loss, adversary_weight
from distangle.training.config import Adversary
from tiny_run import fingerprints, finish_run, stop_at_save, tiny_screen, tiny_start


def reader(size: int = 6, *, seed: int = 0) -> DomainClassifier:
    return DomainClassifier(size, 3, hidden=8, seed=seed)


def test_the_reader_descends_and_the_network_ascends_by_lambda() -> None:
    classifier, rng = reader(), torch.Generator().manual_seed(0)
    embedding = torch.randn(10, 6, generator=rng, requires_grad=True)
    experiments = torch.eye(3)[torch.arange(10) % 3]
    plain = functional.cross_entropy(classifier(embedding), experiments)
    of_embedding, *of_reader = torch.autograd.grad(plain, [embedding, *classifier.parameters()])
    loss, accuracy = adversary_loss(classifier, embedding, experiments, weight=0.3)
    reversed_, *other_gradients = torch.autograd.grad(loss, [embedding, *classifier.parameters()])
    assert float(loss.detach()) == pytest.approx(float(plain.detach()))
    torch.testing.assert_close(reversed_, -0.3 * of_embedding)
    for one, other in zip(other_gradients, of_reader, strict=True):
        torch.testing.assert_close(one, other)
    best = classifier(embedding.detach()).argmax(1)
    assert accuracy == pytest.approx(float((best == torch.arange(10) % 3).float().mean()))


def test_lambda_rises_from_nothing_to_its_final_value() -> None:
    settings = Adversary(weight=0.5)
    assert adversary_weight(settings, 0.0) == 0
    assert adversary_weight(settings, 0.1) == pytest.approx(0.5 * (2 / (1 + math.exp(-1)) - 1))
    assert adversary_weight(settings, 1.0) == pytest.approx(0.5, abs=1e-4)


def test_first_values_are_a_function_of_the_seed_and_move_no_global_stream() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one, two, other = reader(), reader(), reader(seed=1)
    assert torch.equal(one.hidden.weight, two.hidden.weight)
    assert not torch.equal(one.hidden.weight, other.hidden.weight)
    # nn.Linear draws before it is overwritten: the stream of dropout is seeded per batch and does not notice.
    torch.random.set_rng_state(before)


def test_a_planted_experiment_is_no_longer_readable_and_the_label_still_is() -> None:
    # Two numbers: the first predicts the experiment, the second the label. Neither exactly, or the classifier would
    # be so certain that it has no gradient to reverse.
    rng = torch.Generator().manual_seed(0)
    experiment, label = torch.arange(240) % 2, (torch.arange(240) // 2) % 2
    features = torch.stack([2.0 * experiment - 1.0, 2.0 * label - 1.0], 1) + 0.8 * torch.randn(240, 2, generator=rng)

    def trained(weight: float) -> tuple[float, float]:
        torch.manual_seed(0)
        embed, classify = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
        domain_classifier = DomainClassifier(2, 2, hidden=16, seed=0)
        optimiser = torch.optim.SGD(
            [*embed.parameters(), *classify.parameters(), *domain_classifier.parameters()], lr=0.1
        )
        for step in range(400):
            optimiser.zero_grad()
            embedding = embed(features)
            domain_loss, domain_accuracy = adversary_loss(
                domain_classifier,
                embedding,
                torch.eye(2)[experiment],
                weight=adversary_weight(Adversary(weight=weight or 1e-9), step / 400),
            )
            (functional.cross_entropy(classify(embedding), label) + domain_loss).backward()
            optimiser.step()
        accuracy = (classify(embed(features)).argmax(1) == label).float().mean()
        return domain_accuracy, float(accuracy)

    domain_accuracy, accuracy = trained(0.0)
    assert domain_accuracy > 0.9
    assert accuracy > 0.85
    domain_accuracy, accuracy = trained(1.0)
    assert domain_accuracy < 0.6  # chance is one half
    assert accuracy > 0.85


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("adversary")
    screen = tiny_screen(root)
    tiny_start(screen, root / "runs/fresh", "adversary.weight=0.5", "checkpointing.every_steps=1", epochs=2)
    finish_run(RunFolder(Path(shutil.copytree(root / "runs/fresh", root / "runs/a"))))
    return root


def test_its_accuracy_is_a_column_and_its_weights_are_in_the_checkpoint_only(folder: Path) -> None:
    run = RunFolder.open(folder / "runs/a")
    metrics = pd.read_csv(run.metrics)
    assert metrics["adversary_accuracy"].between(0, 1).all()
    assert metrics["adversary_weight"].is_monotonic_increasing
    assert np.isfinite(metrics["adversary_loss"]).all()
    with safe_open(run.checkpoints / "epoch-0002.safetensors", framework="pt") as file:
        assert {"reader.hidden.weight", "reader.answer.bias"} <= set(file.keys())
    with safe_open(run.checkpoints / "model.safetensors", framework="pt") as file:
        assert not any("reader" in name for name in file.keys())  # noqa: SIM118 (not a dict)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_a_training_with_an_adversary_resumes_byte_for_byte(folder: Path, n: int) -> None:
    run = RunFolder(Path(shutil.copytree(folder / "runs/fresh", folder / f"runs/stopped {n}")))
    stop_at_save(run, n)
    finish_run(run)
    assert fingerprints(run.root) == fingerprints(folder / "runs/a")
