import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter

from distangle.errors import ConfigError, ScreenError
from distangle.images import measure_planes, probe_image, sample_sites
from distangle.images.quality.measure import measure_plane, sharpness
from distangle.images.quality.run import check_pixels
from distangle.screen import Screen, hold_out, index
from distangle.screen.checks import CheckReport
from distangle.screen.problems import Problem

CHANNELS = ("dna", "actin")
Edit = Callable[[np.ndarray], np.ndarray]


def cells(rng: np.random.Generator, *, dtype: str = "uint8") -> np.ndarray:
    """A field of round cells of a few pixels on a noisy ground."""
    plane = np.zeros((96, 96))
    for row, column in rng.integers(6, 90, size=(25, 2)):
        plane[row - 2 : row + 3, column - 2 : column + 3] += rng.uniform(60, 120)
    field = gaussian_filter(plane, 0.8) + rng.normal(10, 1.5, plane.shape)
    return np.clip(field, 1, 250).astype(np.uint8) if dtype == "uint8" else np.clip(field * 14, 1, 4000).astype(dtype)


class Lab:
    """Sixteen wells of two plates, two channels each, written as files and indexed for real."""

    def __init__(self, root: Path, *, suffix: str = "png", dtype: str = "uint8") -> None:
        self.root, self.suffix, self.dtype = root, suffix, dtype
        self.edits: dict[tuple[str, str], Edit] = {}

    def path(self, plate: int, well: str, channel: str) -> Path:
        return self.root / f"{plate}_{well}_{channel}.{self.suffix}"

    def write(self) -> Screen:
        self.root.mkdir(parents=True, exist_ok=True)
        lines = ["plate,well,perturbation,role,dna,actin"]
        for plate in (1, 2):
            for column in range(1, 9):
                well = f"B{column:02d}"
                for k, channel in enumerate(CHANNELS):
                    plane = cells(np.random.default_rng([plate, column, k]), dtype=self.dtype)
                    edit = self.edits.get((f"{plate}{well}", channel)) or self.edits.get((f"{plate}{well}", ""))
                    self.save(self.path(plate, well, channel), plane if edit is None else edit(plane))
                names = [self.path(plate, well, channel).name for channel in CHANNELS]
                role = "negative_control" if column < 4 else "treatment"
                lines.append(",".join([str(plate), well, "DMSO" if column < 4 else "a", role, *names]))
        (self.root / "wells.csv").write_text("\n".join(lines) + "\n")
        return self.index()

    def index(self) -> Screen:
        return index(self.root / "wells.csv", layout="table", channels=list(CHANNELS), probe=probe_image)

    def save(self, path: Path, plane: np.ndarray) -> None:
        if self.suffix == "png":
            Image.fromarray(plane).save(path)
        else:
            tifffile.imwrite(path, plane)


def check_all(screen: Screen, **options: Any) -> CheckReport:
    return check_pixels(screen, range(len(screen.sites)), **options)[0]


def single_problem(report: CheckReport, kind: str | None = None) -> Problem:
    (problem,) = [finding for finding in report.findings if kind in (None, finding.kind)]
    return problem


def blur(plane: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(5)
    return np.clip(gaussian_filter(plane.astype(float), 3) + rng.normal(0, 1.0, plane.shape), 0, 255).astype(np.uint8)


def empty(plane: np.ndarray) -> np.ndarray:
    return np.random.default_rng(5).normal(10, 1.0, plane.shape).clip(0, 255).astype(plane.dtype)


def saturate(plane: np.ndarray) -> np.ndarray:
    return np.minimum(plane.astype(int) * 12, 255).astype(np.uint8)


def tail(plane: np.ndarray) -> np.ndarray:
    plane[80:] = 0
    return plane


def hole(plane: np.ndarray) -> np.ndarray:
    plane.reshape(-1)[1000:3100] = 0
    return plane


def test_a_clean_screen_has_no_findings_and_every_plane_is_accounted_for(tmp_path: Path) -> None:
    report = check_all(Lab(tmp_path).write())
    assert report.findings == ()
    assert report.invariants[0].equation == "planes 32 = read 32 + unreadable 0 + not looked at 0"
    assert report.scope["planes_compared_with_their_like"] == 32
    part, measurements = check_pixels(Lab(tmp_path).write(), [0, 5])
    assert part.invariants[0].equation == "planes 32 = read 4 + unreadable 0 + not looked at 28"
    assert part.scope["planes_without_enough_like_them"] == 4
    assert measurements.planes["well"].tolist() == ["B01", "B01", "B06", "B06"]


@pytest.mark.parametrize(
    ("edit", "channel", "kind", "expected"),
    [
        (tail, "actin", "constant tail", ("error", "the last 16 rows have one value")),
        (hole, "actin", "run of one value", ("error", "2100 pixels from pixel 1000 on have one value")),
        (lambda plane: np.full_like(plane, 7), "dna", "constant plane", ("error", "every pixel is 7")),
        (saturate, "dna", "saturated", ("warning", "at 255")),
        (empty, "dna", "empty field", ("warning", "above the median")),
    ],
)
def test_a_planted_fault_of_one_plane_is_found_there_and_nowhere_else(
    tmp_path: Path, edit: Edit, channel: str, kind: str, expected: tuple[str, str]
) -> None:
    lab = Lab(tmp_path)
    lab.edits["2B05", channel] = edit
    report = check_all(lab.write())
    problem = single_problem(report, kind)
    assert (problem.severity, problem.plate, problem.well, problem.channel) == (expected[0], "2", "B05", channel)
    assert problem.file == f"2_B05_{channel}.png"
    assert expected[1] in problem.what
    assert {(other.plate, other.well) for other in report.findings} == {("2", "B05")}


def test_a_field_out_of_focus_differs_from_one_channel_without_structure(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.edits["1B06", ""] = blur
    lab.edits["2B02", "actin"] = blur
    report = check_all(lab.write())
    assert {finding.kind for finding in report.findings} == {"out of focus", "little fine structure in a channel"}
    field, stain = single_problem(report, "out of focus"), single_problem(report, "little fine structure in a channel")
    assert (field.severity, field.plate, field.well, field.channel) == ("warning", "1", "B06", "dna, actin")
    assert (stain.severity, stain.plate, stain.well, stain.channel) == ("note", "2", "B02", "actin")


def test_one_truncated_file_is_named_and_its_siblings_are_measured(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    screen = lab.write()
    path = lab.path(1, "B03", "actin")
    path.write_bytes(path.read_bytes()[:-400])
    report, measurements = check_pixels(screen, range(16))
    problem = single_problem(report, "unreadable image")
    assert (problem.well, problem.channel, problem.file) == ("B03", "actin", "1_B03_actin.png")
    assert "damaged or truncated" in problem.what
    row = measurements.planes[(measurements.planes["well"] == "B03") & (measurements.planes["plate"] == "1")]
    assert row["reason"].eq("").tolist() == [True, False]
    assert report.invariants[0].equation == "planes 32 = read 31 + unreadable 1 + not looked at 0"


def test_files_changed_since_indexing_are_named_by_size_by_hash_and_by_time(tmp_path: Path) -> None:
    lab = Lab(tmp_path, suffix="tif", dtype="uint16")
    screen = lab.write()
    path = lab.path(1, "B03", "dna")
    blob = bytearray(path.read_bytes())
    blob[-1000] ^= 4
    path.write_bytes(blob)  # one bit of the raw pixels, which no decoder detects
    problem = single_problem(check_all(screen))
    assert (problem.severity, problem.kind, problem.well) == ("error", "file changed since indexing", "B03")
    assert "1_B03_dna.tif" in problem.file
    assert "the SHA-256 of its 2 files differs from the index" in problem.what
    screen.sites.loc[2, "mtime"] -= 60
    by_time = single_problem(check_all(screen, hash_files=False))
    assert by_time.severity == "warning"
    assert "with the same size" in by_time.what
    path.write_bytes(blob + b"\x00")
    assert "bytes now" in single_problem(check_all(screen, hash_files=False)).what


def test_a_copied_folder_has_new_times_and_is_not_changed(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab")
    screen = lab.write()
    screen.sites["mtime"] -= 100
    assert check_all(screen).findings == ()


def test_a_file_that_is_gone_is_named_once(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    screen = lab.write()
    lab.path(2, "B08", "dna").unlink()
    problem = single_problem(check_all(screen))
    assert (problem.kind, problem.well, problem.channel) == ("unreadable image", "B08", "dna")


def test_a_nearly_empty_plane_is_not_reported_as_rescaled(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    hot, two = np.full((96, 96), 3, np.uint8), np.zeros((96, 96), np.uint8)
    hot[40, 40], two[::2] = 44, 5
    lab.edits["1B04", "dna"], lab.edits["1B05", "dna"] = (lambda _: hot), (lambda _: two)
    assert "planes rescaled" not in {finding.kind for finding in check_all(lab.write()).findings}
    lab.edits["1B05", "dna"] = lambda plane: plane // 8 * 8
    assert single_problem(check_all(lab.write()), "planes rescaled").well == "B05"


def test_the_same_pixels_in_another_format_or_channel_are_found(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    screen = lab.write()
    tifffile.imwrite(lab.path(2, "B07", "dna"), np.asarray(Image.open(lab.path(1, "B04", "dna"))), compression="zlib")
    shutil.copy(lab.path(1, "B02", "dna"), lab.path(1, "B02", "actin"))
    screen = lab.index()
    report = check_all(screen)
    copy_problem = single_problem(report, "same pixels at two places")
    assert copy_problem.severity == "warning"
    assert "plate 1 well B04 site 1 dna = " in copy_problem.what
    assert "plate 2 well B07 site 1 dna" in copy_problem.what
    channel_problem = single_problem(report, "two channels with the same pixels")
    assert (channel_problem.severity, channel_problem.well) == ("error", "B02")
    screen.sites["split"] = ["train" if plate == "1" else "test" for plate in screen.sites["plate"]]
    assert single_problem(check_all(screen), "same pixels on both sides of the split").severity == "error"
    screen.sites["split"] = ""
    folds_by_plate = hold_out(screen, column="plate", values=["2"])
    leak_problem = single_problem(check_all(screen, folds=folds_by_plate), "same pixels on both sides of the folds")
    assert (leak_problem.severity, leak_problem.fix) == ("error", "Index without the copy, or hold out both.")
    folds_by_well = hold_out(screen, column="well", values=["B03"], force=True)
    assert single_problem(check_all(screen, folds=folds_by_well), "same pixels at two places").severity == "warning"


@pytest.mark.parametrize(
    ("edit", "kind", "text"),
    [
        (lambda plane: plane + np.uint16(32768), "signed and unsigned planes", "1 of 16 planes begin at 32768"),
        (
            lambda plane: (plane >> 4) * np.uint16(257),
            "planes rescaled",
            "the values of 1 of 16 planes have steps of 257",
        ),
        (
            lambda plane: np.minimum(plane, 1023),
            "mixed bit depth",
            "1 of 16 planes of dna clip at 1023 (10 bits), 15 others",
        ),
    ],
)
def test_planes_written_with_another_depth_are_named(tmp_path: Path, edit: Edit, kind: str, text: str) -> None:
    lab = Lab(tmp_path, suffix="tif", dtype="uint16")
    lab.edits["2B05", "dna"] = edit
    problem = single_problem(check_all(lab.write()), kind)
    assert (problem.severity, problem.plate, problem.well, problem.channel) == ("error", "2", "B05", "dna")
    assert text in problem.what


def test_masked_images_are_reported_once_and_not_as_damaged(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    for plate in (1, 2):
        for column in range(1, 9):
            lab.edits[f"{plate}B{column:02d}", "dna"] = tail
    problem = single_problem(check_all(lab.write()))
    assert (problem.severity, problem.kind, problem.count) == ("note", "constant tail in many planes", 16)


def test_the_measures_of_a_plane_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    for dtype, top in (("uint8", 256), ("uint16", 65536)):
        plane = rng.integers(0, top, (40, 30)).astype(dtype)
        measurements = measure_plane(plane)
        assert measurements.mean == pytest.approx(plane.mean(), rel=1e-12)
        assert measurements.std == pytest.approx(plane.std(), rel=1e-12)
        assert (measurements.min, measurements.max) == (plane.min(), plane.max())
        assert measurements.median == np.quantile(plane, 0.5, method="inverted_cdf")
        assert measurements.p1 == np.quantile(plane, 0.01, method="inverted_cdf")
        assert measurements.p99_9 == np.quantile(plane, 0.999, method="inverted_cdf")
    steps = measure_plane(np.array([[3, 6], [9, 15]], dtype=np.uint8))
    assert (steps.value_step, steps.longest_constant_run, steps.tail_rows, steps.clipped) == (3, 1, 0, 0.0)
    flat = measure_plane(np.array([[1, 2, 2], [2, 5, 5], [5, 5, 5]], dtype=np.uint8))
    assert (flat.longest_constant_run, flat.longest_constant_run_start, flat.tail_rows) == (5, 4, 1)
    assert measure_plane(np.full((9, 9), 4, dtype=np.uint16)).tail_rows == 9


def test_a_large_bright_plane_does_not_overflow_its_measures() -> None:
    plane = np.random.default_rng(0).integers(20_000, 65_535, (1200, 1080), dtype=np.uint16)
    measurements = measure_plane(plane)
    assert measurements.mean == pytest.approx(plane.mean(), rel=1e-12)
    assert measurements.std == pytest.approx(plane.std(dtype=np.float64), rel=1e-9)


def test_sharpness_falls_with_blur_and_does_not_rise_with_brightness() -> None:
    plane = cells(np.random.default_rng(1)).astype(np.float64)
    sharp = [sharpness(gaussian_filter(plane, sigma)) for sigma in (0, 1, 2, 4)]
    assert sharp == sorted(sharp, reverse=True)
    assert sharpness(plane * 2 + 10) == pytest.approx(sharpness(plane), rel=1e-6)
    assert sharpness(np.ones((20, 20))) == sharpness(np.ones((4, 4))) == 0.0


def test_the_illumination_profile_is_the_planted_one(tmp_path: Path) -> None:
    lab = Lab(tmp_path, suffix="tif", dtype="uint16")
    ramp = np.linspace(0.5, 1.5, 96)[None, :]
    lit = (1000 * ramp * np.ones((96, 1))).astype(np.uint16)
    for plate in (1, 2):
        for column in range(1, 9):
            lab.edits[f"{plate}B{column:02d}", "actin"] = lambda _: lit
    profile = measure_planes(lab.write(), range(16)).illumination
    assert profile.shape == (2, 16, 16)
    expected = ramp.reshape(16, 6).mean(axis=1)
    assert np.abs(profile[1] - expected[None, :]).max() < 2e-3
    assert np.allclose(profile.mean(axis=(1, 2)), 1)


def test_every_pixel_counts_in_the_illumination_of_a_field_of_any_size() -> None:
    plane = np.random.default_rng(0).integers(1, 200, (31, 37)).astype(np.uint16)
    plane[15:] = plane[15:] // 10
    (profile,) = profiles_of(plane)
    rows, columns = ([k * side // 16 for k in range(17)] for side in plane.shape)
    for i in range(16):
        for k in range(16):
            part = plane[rows[i] : rows[i + 1], columns[k] : columns[k + 1]]
            assert profile[i, k] == pytest.approx(part.mean() / plane.mean(), rel=1e-12)


def profiles_of(*planes: np.ndarray) -> list[np.ndarray]:
    from distangle.images.quality.measure import _profile

    return [profile for plane in planes if (profile := _profile(plane, (16, 16))) is not None]


def test_a_sample_covers_plates_and_wells_evenly_and_is_reproducible(tmp_path: Path) -> None:
    screen = Lab(tmp_path).write()
    rows = sample_sites(screen, 6)
    assert rows == sample_sites(screen, 6) == sorted(rows)
    assert screen.sites["plate"].iloc[rows].value_counts().tolist() == [3, 3]
    assert sample_sites(screen, 6, seed=1) != rows
    assert sample_sites(screen, 0) == sample_sites(screen, 99) == list(range(16))
    with pytest.raises(ConfigError, match="A sample of -1 sites: expected a number from 1, or 0 for all"):
        sample_sites(screen, -1)


def test_without_images_there_are_no_pixels_to_check(tmp_path: Path) -> None:
    Lab(tmp_path).write()
    screen = index(tmp_path / "wells.csv", layout="table", tables_only=True)
    with pytest.raises(ScreenError, match="--tables-only"):
        measure_planes(screen, [0])


@pytest.mark.real
def test_the_real_images_are_undamaged_and_too_few_of_a_kind_to_compare(real_data: Path, tmp_path: Path) -> None:
    complete = pd.read_csv(real_data / "rxrx1_kaggle/v2_current/train_controls.csv", dtype=str, keep_default_na=False)
    in_copy = complete["experiment"].str.endswith("-01") & (complete["well"] == "B02") & (complete["plate"] != "4")
    complete[in_copy].to_csv(tmp_path / "train_controls.csv", index=False)
    screen = index(real_data / "rxrx1_images", layout="rxrx1", tables=tmp_path, probe=probe_image)
    report = check_all(screen)
    assert report.scope["planes_without_enough_like_them"] == 72
    # Mitochondria of HEPG2-01 plate 2 are the one plane where more than a percent of the pixels are at 255.
    assert [(finding.kind, finding.experiment, finding.plate, finding.channel) for finding in report.findings] == [
        ("saturated", "HEPG2-01", "2", "mitochondria")
    ]
