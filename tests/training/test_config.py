import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from distangle.errors import ConfigError
from distangle.model import ModelConfig
from distangle.network_settings import NETWORK_FIELDS
from distangle.training import PRESETS, read_config, resolve_config, settings, values_of, write_config
from distangle.training.config import Network


def test_the_paper_and_its_ancestor_differ_in_what_they_say() -> None:
    seed, ancestor = resolve_config("seed"), resolve_config("rcic1st")
    assert (seed.loss.margin_share, seed.loss.scale, seed.loss.margin, seed.cutmix.alpha) == (0.2, 30.0, 0.5, 1.0)
    assert (seed.loss.arc_scale, ancestor.loss.arc_scale) == (1.0, 0.5)
    assert (seed.network.final_relu, ancestor.network.final_relu) == (True, False)
    assert seed.network.backbone == ancestor.network.backbone == "densenet161"
    assert seed.network.embedding_size == 1024


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_written_configuration_is_read_back_equal(tmp_path: Path, preset: str) -> None:
    config = resolve_config(preset, ["optim.lr=1e-4", "augmentation.gain=0.3"], epochs=3)
    (tmp_path / "config.yaml").write_text(write_config(config))
    assert read_config(tmp_path / "config.yaml") == config
    assert (config.optim.lr, config.augmentation.gain, config.epochs) == (1e-4, 0.3, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optim.lrr=1", "No setting 'optim.lrr'. Did you mean 'optim.lr'"),
        ("optim=1", "No setting 'optim'"),
        ("optim.second_stage.from_epoch=200", "until_epoch (150) must lie after from_epoch (200)"),
        ("loggers=[neptune]", "loggers.0 = 'neptune'"),
        ("epochs=-1", "epochs = -1: input should be greater than or equal to 1"),
        ("optim.lr", "'optim.lr' is not a setting. Expected KEY=VALUE"),
        ("optim.name=sgd", "optim.name = 'sgd'"),
        ("lr=1", "No setting 'lr'. Did you mean 'optim.lr' or 'optim.second_stage.lr'? `distangle settings` lists"),
        ("optim=1", "it is a section. Expected one of optim.name, optim.lr,"),
        ("optim.lr=[1", "optim.lr=[1: the value is not valid YAML"),
        ("optim.lr=.inf", "optim.lr = inf: input should be a finite number"),
        ("preset=smal", "No preset 'smal'. Did you mean 'small'"),
    ],
)
def test_a_setting_that_nothing_understands_is_refused_with_advice(change: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve_config("scratch", [change])
    assert message in str(error.value)


def test_an_unknown_preset_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="No preset 'smal'. Did you mean 'small'"):
        resolve_config("smal")


def n_leaves(value: object) -> int:
    return sum(map(n_leaves, value.values())) if isinstance(value, dict) else 1


def config_file(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_stands_above_the_preset_and_below_the_flags(tmp_path: Path) -> None:
    text = "preset: small\noptim:\n  lr: 1e-4\n  max_grad_norm: 2\naugmentation.gain: 0.3\nloss:\n  # all default\n"
    file = config_file(tmp_path, text)
    config = resolve_config(file=file, changes=["optim.max_grad_norm=3", "optim.max_grad_norm=4"], epochs=7)
    small = resolve_config("small")
    assert config.preset == "small"
    assert (config.optim.lr, config.optim.max_grad_norm, config.augmentation.gain, config.epochs) == (1e-4, 4.0, 0.3, 7)
    assert config.optim.weight_decay == small.optim.weight_decay  # a section that is set in part keeps its other values
    assert config.loss == small.loss
    assert resolve_config(file=config_file(tmp_path, "")) == resolve_config("seed")
    assert resolve_config(file=config_file(tmp_path, "optim: {lr: 1}"), changes=["preset=small"]).optim.name == "adamw"


def test_a_file_can_hold_every_setting_there_is(tmp_path: Path) -> None:
    config = resolve_config("scratch", seed=5)
    assert resolve_config(file=config_file(tmp_path, write_config(config))) == config
    flat = "".join(f"{name}: {json.dumps(value)}\n" for name, value in values_of(config).items())
    assert resolve_config(file=config_file(tmp_path, flat)) == config
    assert [name for name, _ in settings()] == list(values_of(config))
    assert n_leaves(yaml.safe_load(write_config(config))) == len(values_of(config))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: 3\noptim:\n  lrr: 1\n", "mine.yaml line 3: No setting 'optim.lrr'. Did you mean 'optim.lr'"),
        ("\nepoch: 3\n", "mine.yaml line 2: No setting 'epoch'. Did you mean 'epochs'"),
        ("lr: 3", "mine.yaml line 1: No setting 'lr'. Did you mean 'optim.lr'"),
        ("seed: 1\nepochs: -1\n", "mine.yaml line 2: epochs = -1: input should be greater than or equal to 1"),
        ("optim.lr: 1\noptim:\n  lr: 2", "line 3: 'optim.lr' occurs twice; the first time at "),
        ("optim: 3", "line 1: expected settings of 'optim', one a line, such as 'name'"),
        ("- 1", "line 1: expected settings by name, one a line, such as 'preset'"),
        ("a: [", "mine.yaml is not valid YAML"),
        ("epochs: &y [*y]", "line 1 uses an anchor"),
        ("epochs: !!python/object/apply:os.getcwd []", "line 1: the value of 'epochs' is not understood"),
        ("preset: tiny", "mine.yaml line 1: No preset 'tiny'"),
    ],
)
def test_what_a_file_says_wrongly_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve_config(file=config_file(tmp_path, text))
    assert message in str(error.value)
    assert "mine.yaml" in str(error.value)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read as a configuration .*No such file"):
        resolve_config(file=tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"bytes\.yaml cannot be read"):
        resolve_config(file=tmp_path / "bytes.yaml")


def test_two_presets_are_one_too_many(tmp_path: Path) -> None:
    file = config_file(tmp_path, "preset: small")
    with pytest.raises(ConfigError, match=r"line 1: the preset is 'small', the command line names 'seed': remove one"):
        resolve_config("seed", file=file)
    assert resolve_config("small", file=file) == resolve_config("small")


def test_an_earlier_configuration_can_stand_in_for_the_preset() -> None:
    earlier = resolve_config("scratch", ["optim.lr=1e-4"], epochs=3)
    assert resolve_config(base=earlier) == earlier
    assert resolve_config(base=earlier, seed=4) == earlier.model_copy(update={"seed": 4})
    with pytest.raises(ConfigError, match="has the preset 'scratch'; leave out `--preset seed`"):
        resolve_config("seed", base=earlier)


def test_settings_are_listed_and_checked_without_torch() -> None:
    script = "import sys, distangle.training as t; t.resolve_config('small'); print('torch' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "False"


def test_a_network_is_bounded_and_starts_alike_in_the_settings_and_in_the_saved_model() -> None:
    for name in NETWORK_FIELDS:
        field, model_field = Network.model_fields[name], ModelConfig.model_fields[name]
        assert (field.annotation, field.default, field.metadata) == (
            model_field.annotation,
            model_field.default,
            model_field.metadata,
        ), name
    shared_fields = set(Network.model_fields) & set(ModelConfig.model_fields)
    assert shared_fields == set(NETWORK_FIELDS)


def test_the_settings_that_the_docs_name_exist() -> None:
    known_settings = {name for name, _ in settings()}
    parts = {name.rpartition(".")[0] for name in known_settings} | {"data"}
    docs = Path(__file__).parents[2] / "docs"
    fields = {
        (path.name, word)
        for path in docs.glob("*.md")
        for word in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?:=[^`]*)?`", path.read_text(encoding="utf-8"))
        if word.rpartition(".")[0] in parts and not word.endswith((".json", ".csv"))
    }
    assert len(fields) > 5
    assert {(page, word) for page, word in fields if word not in known_settings} == set()
