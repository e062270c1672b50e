"""Every real data set at hand is indexed, checked and drawn by the commands of docs/screens.md."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from distangle.cli import main

pytestmark = pytest.mark.real
F, C = "fixtures/cytodataframe_cellpainting", "fixtures/cellprofiler_examples"
BBBC021 = (
    "plate=Image_Metadata_Plate_DAPI,well=Image_Metadata_Well_DAPI,site=ImageNumber,"
    "perturbation=Image_Metadata_Compound"
)
# Source, options, sites indexed, and whether `check` finds an error (something was refused).
SETS: dict[str, tuple[str, list[str], int, bool]] = {
    "rxrx1 images": ("rxrx1_images/images", ["--tables", "@rxrx1_kaggle/v1_original_2019"], 12, True),
    "rxrx1 tables of 2019": ("rxrx1_kaggle/v1_original_2019", ["--tables-only"], 62_755, False),
    "rxrx1 tables of today": ("rxrx1_kaggle/v2_current", ["--tables-only"], 62_759, False),
    "bbbc021 fields": (
        "bbbc021_singlecell/fov_tif",
        ["--layout", "cellpainting", "--tables", "@bbbc021_singlecell/meta/BBBC021_v1_image.csv",
         "--negative-control", "DMSO", "--map", BBBC021],
        2,
        True,
    ),
    "jump": (f"{F}/JUMP_plate_BR00117006", ["--layout", "cellpainting"], 1, False),
    "cell painting": (f"{F}/pediatric_cancer_atlas_profiling", ["--layout", "cellpainting"], 1, False),
    "nf1": (
        f"{F}/NF1_cellpainting_data_shrunken",
        ["--layout", "folder", "--pattern", "{well}_01_{}_{site}_{channel}_001.tif"],
        5,
        False,
    ),
    "cellprofiler human": (
        f"{C}/ExampleHuman",
        ["--layout", "folder", "--pattern", "arrayscan", "--channels", "DNA=0,PH3=1,cells=2"],
        1,
        False,
    ),
    "cellprofiler vitra": (
        f"{C}/ExampleVitraImages",
        ["--layout", "folder", "--pattern", "Channel {channel}-{}-{row}-{column}-{site}.tif"],
        2,
        False,
    ),
    "cellprofiler colocalization": (
        f"{C}/ExampleColocalization",
        ["--layout", "folder", "--pattern", "{well=A01}{dose}_{site}_N_{channel}.png"],
        2,
        False,
    ),
}  # fmt: skip


def checked_and_drawn(screen: Path, *, sites: int, errors: bool) -> None:
    if errors:
        with pytest.raises(SystemExit):
            main(["check", str(screen)])
    else:
        main(["check", str(screen)])
    checks = json.loads((screen / "checks" / "checks.json").read_text())
    assert (checks["coverage"]["sites"], checks["counts"]["error"] > 0) == (sites, errors)
    assert all(law["holds"] for law in checks["invariants"])
    main(["statistics", str(screen), "--out", str(screen / "card")])
    card = json.loads((screen / "card" / "card.json").read_text())
    assert card["indexed"] == sites
    assert (screen / "card" / "index.html").is_file()
    if checks["coverage"].get("planes_read"):
        assert (screen / "card" / "figures" / "channels.png").is_file()
        assert len(card["pixels"]["channels"]) == len(card["channels"])


@pytest.mark.parametrize("name", SETS)
def test_a_real_set_indexes_is_checked_and_drawn(name: str, real_data: Path, tmp_path: Path) -> None:
    source, options, sites, errors = SETS[name]
    if not (real_data / source).exists():
        pytest.skip(f"{source} is not in {real_data}")
    arguments = [str(real_data / word[1:]) if word.startswith("@") else word for word in options]
    main(["index", str(real_data / source), "--out", str(tmp_path / "screen"), *arguments])
    checked_and_drawn(tmp_path / "screen", sites=sites, errors=errors)


def test_the_crops_of_bbbc021_index_are_checked_and_drawn(real_data: Path, tmp_path: Path) -> None:
    tool, source = real_data.parent / "tools" / "bbbc021_screen.py", real_data / "bbbc021_singlecell"
    if not tool.is_file() or not source.is_dir():
        pytest.skip(f"the tool that writes the crops as files is not at {tool}, or the crops not at {source}")
    subprocess.run([sys.executable, str(tool), str(tmp_path / "lab"), str(source)], check=True, capture_output=True)
    main(["index", str(tmp_path / "lab"), "--layout", "table", "--channels", "DAPI,actin,tubulin", "--map",
          "site=cell,experiment=batch", "--out", str(tmp_path / "screen")])  # fmt: skip
    checked_and_drawn(tmp_path / "screen", sites=1360, errors=False)
    shutil.rmtree(tmp_path / "lab")
