"""Random screens with one fault or none: every indexed site shows its own pixels, the rest is refused by name."""

import dataclasses
import random
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr
from fuzz_drafts import text_of
from fuzz_faults import KINDS, screen_of
from fuzz_judge import Verdict, judge
from fuzz_pixels import Place, place_of, plane_of, write_array
from fuzz_screens import table_screen, whole_screen
from rebuild import command_of

from distangle.cli import main
from distangle.errors import ScreenError
from distangle.screen import Screen, index, read_screen

N_FAST, N_SLOW = 50, 2000
_MEMORY = Path("/dev/shm")  # noqa: S108 - removing a folder takes long on some disks


def verdicts(seeds: Iterable[int], folder: Path) -> list[tuple[int, Verdict]]:
    pairs = []
    for seed in seeds:
        pairs.append((seed, judge(screen_of(seed), folder / str(seed))))
        shutil.rmtree(folder / str(seed))
    return pairs


def report(verdicts_of_seeds: Iterable[tuple[int, Verdict]]) -> str:
    """Return what is wrong, a paragraph for each kind of fault, with a command that builds one such screen."""
    kinds: dict[tuple[str, str], list[tuple[int, Verdict]]] = defaultdict(list)
    for seed, verdict in verdicts_of_seeds:
        if verdict.wrong:
            kinds[verdict.draft.fault or "no fault", verdict.wrong[0].split(":")[0]].append((seed, verdict))
    lines = []
    for (fault, problem), pairs in sorted(kinds.items()):
        seed, first = pairs[0]
        lines.append(f"{fault}, {problem}: {len(pairs)} screens, seeds {', '.join(str(seed) for seed, _ in pairs[:8])}")
        lines.append(f"  {first.draft.instance}: {first.wrong[0]}")
        lines.append(f"  python tests/fuzz/rebuild.py {seed} FOLDER")
    return "\n".join(lines)


@pytest.fixture
def ram_folder() -> Iterable[Path]:
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        yield Path(folder)


def test_fifty_screens_are_never_indexed_wrongly_in_silence(ram_folder: Path) -> None:
    text = report(verdicts(range(N_FAST), ram_folder))
    assert not text, text


@pytest.mark.slow
def test_two_thousand_screens_are_never_indexed_wrongly_in_silence(ram_folder: Path) -> None:
    pairs = verdicts(range(N_FAST, N_FAST + N_SLOW), ram_folder)
    text = report(pairs)
    assert not text, text
    kinds = Counter(verdict.draft.fault or "none" for _, verdict in pairs)
    assert set(kinds) == set(KINDS)
    # Refusing whole sources proves nothing about the rest, so most kinds of fault need both outcomes.
    outcomes = Counter(verdict.outcome for _, verdict in pairs)
    assert outcomes["whole"] > N_SLOW / 3, outcomes


def test_a_seed_makes_the_same_screen_again(tmp_path: Path) -> None:
    for seed in range(3):
        folders = [screen_of(seed).write(tmp_path / f"{seed}{turn}") for turn in "ab"]
        files = [{str(p.relative_to(f)): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in folders]
        assert files[0] == files[1]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_pixels_say_what_they_show(dtype: str) -> None:
    rng = np.random.default_rng(0)
    place = Place(1, 2, 31, 47, 3, 2, plane=3, time=2, acquisition=1)
    plane = plane_of(place, (8, 9), dtype, rng)
    assert place_of(plane) == place
    for other in (plane[::-1], plane[:, ::-1], np.iinfo(plane.dtype).max - plane, np.zeros_like(plane)):
        assert place_of(other) != place


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("packed", [False, True])
def test_arrays_by_hand_are_arrays_of_zarr(tmp_path: Path, version: str, packed: bool) -> None:
    pixels = np.random.default_rng(0).integers(1, 9000, (2, 3, 8, 9)).astype("uint16")
    for whole in (False, True):
        write_array(tmp_path / str(whole), pixels, version, is_compressed=packed, whole=whole)
        np.testing.assert_array_equal(zarr.open_array(str(tmp_path / str(whole)), mode="r")[...], pixels)


def test_every_kind_of_fault_is_made(tmp_path: Path) -> None:
    for name, kind in KINDS.items():
        d = kind(random.Random(7))
        assert d.fault in (name, "")
        assert d.instance
        assert any(d.write(tmp_path / name).rglob("*"))


def _exchange(screen: Screen) -> Screen:
    metadata = screen.metadata.model_copy(update={"channels": screen.metadata.channels[::-1]})
    return dataclasses.replace(screen, metadata=metadata)


def _drop(screen: Screen) -> Screen:
    metadata = screen.metadata.model_copy(
        update={"found": screen.metadata.found - 1, "indexed": screen.metadata.indexed - 1}
    )
    return dataclasses.replace(screen, metadata=metadata, sites=screen.sites.iloc[:-1])


def _move(name: str) -> Callable[[Screen], None]:
    def sabotage(screen: Screen) -> None:
        screen.sites[name] = screen.sites[name].to_numpy()[::-1]

    return sabotage


PLANTED: dict[str, tuple[Callable[[Screen], Screen | None], str]] = {
    "channels exchanged": (_exchange, "channel "),
    "a row dropped": (_drop, "absent"),
    "labels of other wells": (_move("perturbation"), "label"),
    "wells of other sites": (_move("column"), "well"),
    "plates of other wells": (_move("plate"), "plate"),
    "files of other sites": (_move("path_1"), "pixels"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_in_the_reader_is_seen(name: str, tmp_path: Path) -> None:
    sabotage, kind = PLANTED[name]

    def reader(*source: Any, **options: Any) -> Screen:
        screen = index(*source, **options)
        return sabotage(screen) or screen

    for seed in range(3):
        d, rows = table_screen(random.Random(seed), paged=False, n_plates=2, n_channels=2, n_experiments=1, n_sites=1)
        d.texts["sites.csv"] = text_of(rows)
        verdict = judge(d, tmp_path / str(seed), reader=reader)
        # Exchanging all wells of two plates renames the plates; some of them are merged.
        kinds = ("plate", "merged") if kind == "plate" else (kind,)
        assert any(line.startswith(kinds) for line in verdict.wrong), verdict.wrong


def test_a_remark_of_something_else_excuses_nothing(tmp_path: Path) -> None:
    """A half-copied stack is stitched; a remark on the spelling of a well does not report that."""
    d = KINDS["counting from 0"](random.Random(1))

    def reader(*source: Any, **options: Any) -> Screen:
        raise ScreenError("Nothing is there. Copy it again.")

    assert judge(d, tmp_path, reader=reader).wrong[0].startswith("other reason")


@pytest.mark.parametrize("layout", ["folder", "table", "cellpainting", "ome-zarr"])
def test_the_command_says_the_same(layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = next(seed for seed in range(99) if whole_screen(random.Random(seed)).layout == layout)
    verdict = judge(whole_screen(random.Random(seed)), tmp_path)
    arguments = command_of(verdict.draft, tmp_path / "in", tmp_path / "screen")
    main(arguments)
    assert verdict.screen is not None
    pd.testing.assert_frame_equal(read_screen(tmp_path / "screen").sites, verdict.screen.sites)
    assert f"found {verdict.n_true} = indexed {verdict.n_true} + refused 0" in capsys.readouterr().out
