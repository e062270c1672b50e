"""Decoders that hang or crash: file, well and channel are named, all other sites are checked, nothing hangs."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import stub_readers
from distangle.errors import ImageError
from distangle.images import measure_planes, probe_image
from distangle.images.quality.decode_pool import DecodePool
from distangle.images.quality.measure import from_json, measure_site, to_json
from distangle.images.quality.run import check_pixels
from distangle.images.readers.read import read_image
from distangle.screen import Screen, index
from distangle.screen.problems import Problem

CHANNELS = ("dna", "actin")


def lab(folder: Path, suffixes: Sequence[str] = (), n: int = 8) -> Screen:
    """Sites of two channels, on plate P1 from B02 on; each word is in the name of the actin file of one site."""
    folder.mkdir(exist_ok=True)
    lines = ["plate,well,perturbation,dna,actin"]
    for k in range(n):
        file_of_channel = {"dna": f"{k}_dna.png", "actin": f"{k}_actin_{suffixes[k] if k < len(suffixes) else ''}.png"}
        for seed, name in enumerate(file_of_channel.values()):
            pixels = np.random.default_rng([k, seed]).integers(1, 200, (40, 48)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name)
        lines.append(f"P1,B{k + 2:02d},a,{file_of_channel['dna']},{file_of_channel['actin']}")
    (folder / "wells.csv").write_text("\n".join(lines) + "\n")
    return index(folder / "wells.csv", layout="table", channels=list(CHANNELS), probe=probe_image)


def unreadable(screen: Screen, *, limit: float = 60.0) -> list[Problem]:
    report, survey = check_pixels(
        screen, range(len(screen.sites)), limit=limit, read=stub_readers.crash_or_read, hash_files=False
    )
    assert all(law.holds for law in report.invariants)
    good = survey.readable
    assert (good["mean"] > 50).all()
    assert len(good) + (survey.planes["reason"] != "").sum() == 2 * len(screen.sites)
    return [finding for finding in report.findings if finding.kind == "unreadable image"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("abort", "its decoder was killed by SIGABRT, so it crashed"),
        ("segv", "its decoder was killed by SIGSEGV, so it crashed"),
        ("oom", "its decoder was killed by SIGKILL: memory may have run out"),
        ("exit", "its decoder ended its process with status 3"),
        ("raise", "its decoder failed (KeyError: '2_actin_raise.png')"),
    ],
)
def test_a_decoder_that_dies_costs_one_plane_named_with_file_well_channel_and_fix(
    tmp_path: Path, word: str, message: str
) -> None:
    screen = lab(tmp_path, ["", "", word])
    (problem,) = unreadable(screen)
    assert (problem.severity, problem.plate, problem.well, problem.site, problem.channel) == (
        "error",
        "P1",
        "B04",
        "1",
        "actin",
    )
    assert problem.file == f"2_actin_{word}.png"
    assert problem.what == f"{tmp_path / problem.file}: {message}"
    assert problem.fix == "Copy it again, or index without this site."


def test_a_decoder_that_hangs_is_stopped_and_its_siblings_are_read(tmp_path: Path) -> None:
    screen = lab(tmp_path, ["", "sleep", "", "abort"])
    start = time.monotonic()
    hung, crashed = unreadable(screen, limit=2.0)
    assert time.monotonic() - start < 60
    assert (hung.well, hung.channel) == ("B03", "actin")
    assert hung.what == f"{tmp_path}/1_actin_sleep.png: its decoder did not come to an end in 2 s and was stopped"
    assert (crashed.well, crashed.channel) == ("B05", "actin")


def test_what_processes_measure_is_what_this_one_does_to_the_last_bit(tmp_path: Path) -> None:
    screen = lab(tmp_path, ["chatty"])  # output of a library must not be taken for a reply
    paths, pages = screen.image_paths(0), screen.pages(0)
    direct = measure_site(read_image, paths, pages, grid=(16, 16))
    with DecodePool(stub_readers.crash_or_read) as decoders:
        decoders.measure_sites([(paths, pages)], grid=(16, 16))
        (pooled_measurements,) = decoders.measure_sites([(paths, pages)], grid=(16, 16))
        assert len(decoders._decoders) == 1  # one process serves again
    for one, other in zip(direct, pooled_measurements, strict=True):
        assert one.measures == other.measures
        assert one.profile is not None
        assert other.profile is not None
        assert np.array_equal(one.profile, other.profile)
        assert to_json(from_json(to_json(one))) == to_json(one)


def test_many_files_that_hang_get_less_time_each(tmp_path: Path) -> None:
    screen = lab(tmp_path, n=4)
    start = time.monotonic()
    with DecodePool(stub_readers.hang, limit=1.2) as decoders:
        sites = [(screen.image_paths(row), screen.pages(row)) for row in range(4)]
        planes = [plane for site in decoders.measure_sites(sites, grid=(8, 8)) for plane in site]
    assert ["in 1.2 s" in plane.reason for plane in planes] == [True] * 5 + [False] * 3
    assert all("in 0.2 s and was stopped" in plane.reason for plane in planes[5:])
    assert time.monotonic() - start < 90


def test_of_a_file_that_hangs_no_other_page_is_tried(tmp_path: Path) -> None:
    path = tmp_path / "abort.png"
    Image.fromarray(np.ones((8, 8), np.uint8)).save(path)
    with DecodePool(stub_readers.crash_or_read) as decoders:
        (planes,) = decoders.measure_sites([([path] * 6, list(range(6)))], grid=(8, 8))
        assert len({plane.reason for plane in planes}) == 1
        assert len(decoders._decoders) == 2  # for the site, and for its first page


def test_a_shortage_of_memory_is_not_blamed_on_a_file(tmp_path: Path) -> None:
    with pytest.raises(MemoryError, match=r"0_actin_shortage\.png"):
        measure_planes(lab(tmp_path, ["shortage"]), range(8), read=stub_readers.crash_or_read)


def test_processes_that_cannot_start_and_readers_that_cannot_be_imported_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="cannot be imported by another process. Expected a function of a module"):
        DecodePool(lambda paths, pages: read_image(paths, pages))
    screen = lab(tmp_path)
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(ImageError, match=r"No process that decodes images can be started \(ended .* status 1\)"):
        measure_planes(screen, [0])


def test_nothing_is_left_running(tmp_path: Path) -> None:
    with DecodePool() as decoders:
        screen = lab(tmp_path)
        decoders.measure_sites([(screen.image_paths(0), screen.pages(0))], grid=(8, 8))
        (decoder,) = decoders._decoders
        assert decoder._process.poll() is None
    assert decoder._process.poll() is not None


def test_retried_reads_are_counted_over_all_processes_and_reported(tmp_path: Path) -> None:
    screen = lab(tmp_path)
    report, survey = check_pixels(screen, range(8), read=stub_readers.fail_twice)
    assert survey.n_retries == report.scope["reads_tried_again"] == 16
    (problem,) = [finding for finding in report.findings if finding.kind == "reads tried again"]
    assert (problem.severity, problem.count) == ("note", 16)
    assert "16 reads failed with a transient error" in problem.what
    report, _ = check_pixels(screen, range(8))
    assert report.scope["reads_tried_again"] == 0
    assert "reads tried again" not in {finding.kind for finding in report.findings}
