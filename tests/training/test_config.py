from pathlib import Path

import pytest

from distangle.errors import ConfigError
from distangle.training import PRESETS, read_config, resolve_config, write_config


def test_the_paper_and_its_ancestor_differ_in_what_they_say() -> None:
    seed, ancestor = resolve_config("seed"), resolve_config("rcic1st")
    assert (seed.loss.margin_share, seed.loss.scale, seed.loss.margin, seed.cutmix.alpha) == (0.2, 30.0, 0.5, 1.0)
    assert (seed.loss.arc_scale, ancestor.loss.arc_scale) == (1.0, 0.5)
    assert (seed.network.final_relu, ancestor.network.final_relu) == (True, False)
    assert seed.network.backbone == ancestor.network.backbone == "densenet161"
    assert seed.network.embedding_size == 1024


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_written_configuration_is_read_back_equal(tmp_path: Path, preset: str) -> None:
    config = resolve_config(preset, ["optim.lr=1e-4", "views.gain=0.3"], epochs=3)
    (tmp_path / "config.yaml").write_text(write_config(config))
    assert read_config(tmp_path / "config.yaml") == config
    assert (config.optim.lr, config.views.gain, config.epochs) == (1e-4, 0.3, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("optim.lrr=1", "No setting 'optim.lrr'. Did you mean 'optim.lr'"),
        ("optim=1", "No setting 'optim'"),
        ("optim.second_stage.from_epoch=200", "until_epoch (150) must lie after from_epoch (200)"),
        ("loggers=[neptune]", "loggers.0 = 'neptune'"),
        ("epochs=-1", "epochs = -1: input should be greater than or equal to 1"),
        ("optim.lr", "'optim.lr' is not a setting. Expected KEY=VALUE"),
        ("optim.name=sgd", "optim.name = 'sgd'"),
    ],
)
def test_a_setting_that_nothing_understands_is_refused_with_advice(change: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        resolve_config("small", [change])
    assert said in str(refused.value)


def test_an_unknown_preset_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="No preset 'smal'. Did you mean 'small'"):
        resolve_config("smal")


def test_an_unknown_key_in_a_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(write_config(resolve_config("small")) + "epoch: 3\n")
    with pytest.raises(ConfigError, match="epoch"):
        read_config(tmp_path / "config.yaml")
