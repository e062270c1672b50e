"""The data card of a screen: its figures are those of the screen, its page points nowhere outside."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distangle.cli import main
from distangle.images import measure_planes, probe_image
from distangle.images.quality.summary import first_readable
from distangle.report.data_card import edge_sentence
from distangle.report.quality_charts import plate_and_light, wells_per_perturbation
from distangle.screen import index, read_screen, write_screen


@pytest.fixture
def screen(tmp_path: Path) -> Path:
    source = tmp_path / "in"
    source.mkdir()
    lines = ["experiment,plate,well,site,perturbation,role,dna,actin"]
    rng = np.random.default_rng(0)
    light = np.linspace(0.5, 1.5, 48)[None, :]
    for experiment, shift in (("E1", 0), ("E2", 60)):
        for plate in "12":
            for row in "BCDE":
                for column in range(2, 6):
                    for site in (1, 2):
                        name = f"{experiment}_{plate}_{row}{column}_{site}"
                        for channel, level in (("dna", 60 + shift), ("actin", 90)):
                            pixels = np.clip(
                                rng.normal(level, 6, (48, 48)) * (light if channel == "actin" else 1), 1, 250
                            )
                            Image.fromarray(pixels.astype(np.uint8)).save(source / f"{name}_{channel}.png")
                        fields = ("DMSO", "negative_control") if row == "B" else (f"<b>t{column}</b>", "treatment")
                        lines.append(",".join([experiment, plate, f"{row}0{column}", str(site), *fields,
                                               f"{name}_dna.png", f"{name}_actin.png"]))  # fmt: skip
    (source / "wells.csv").write_text("\n".join(lines) + "\n")
    write_screen(
        index(source / "wells.csv", layout="table", channels=["dna", "actin"], probe=probe_image), tmp_path / "s"
    )
    return tmp_path / "s"


def test_the_card_counts_wells_sites_and_planes_apart_and_says_where_brightness_varies(
    screen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "card"
    main(["statistics", str(screen), "--out", str(out), "--sample", "0"])
    card = json.loads((out / "card.json").read_text())
    assert {name: card["counts"]["all"][name] for name in ("wells", "sites", "planes")} == {
        "wells": 64,
        "sites": 128,
        "planes": 256,
    }
    assert card["counts"]["class_sets"] == {"12": 4}
    assert card["wells_by_perturbation"] == {"negative_control": [16], "treatment": [12, 12, 12, 12]}
    assert card["controls"][0] == {"experiment": "E1", "plate": "1", "negative": 4, "positive": 0, "wells": 16}
    dna, actin = card["pixels"]["channels"]
    assert dna["components"]["experiment"] > 0.99
    assert actin["components"]["experiment"] < 0.5
    assert actin["darkest_to_brightest"] == pytest.approx(0.5 / 1.5, abs=0.06)
    assert dna["darkest_to_brightest"] > 0.95
    assert dna["edge"]["n_plates"] == 4
    assert dna["by_experiment"]["E2"][2] == pytest.approx(120, abs=3)
    assert "dna: variance of the mean: experiment 100%" in capsys.readouterr().out
    page = (out / "index.html").read_text()
    assert "<b>t2</b>" not in page
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", page)
    for name in re.findall(r'(?:src|href)="((?!#)[^"]+)"', page):
        assert (out / name).is_file(), name
    for output in ("Figure 1", "Figure 2", "Figure 3", "Table 1", "S_12", "light of the brightest"):
        assert output in page, output
    assert "E1 plate 1 well B02 site 1: dna, actin, and merged: cyan dna, magenta actin" in page
    # All perturbations of a role have as many wells: a flat line would say less than a sentence.
    assert "Negative control: 1 perturbation with 16 wells" in page
    assert "Treatment: 4 perturbations with 12 wells each" in page
    assert not (out / "figures" / "wells.svg").exists()


def test_the_example_is_a_key_and_an_image_without_words(screen: Path) -> None:
    stored_screen = read_screen(screen)
    example = first_readable(stored_screen, measure_planes(stored_screen, [5, 6], workers=1))
    assert example is not None
    row = stored_screen.sites.iloc[5]
    assert example[0] == {name: str(row[name]) for name in ("experiment", "plate", "well", "site")}
    assert example[1].shape == (2, 48, 48)


def test_black_planes_count_in_the_mean_and_are_left_out_of_the_logarithms_aloud(
    screen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, n = screen.parent / "in", 0
    for path in sorted(source.glob("E1_1_*_actin.png")):
        Image.fromarray(np.zeros((48, 48), np.uint8)).save(path)
        n += 1
    for path in source.glob("*_dna.png"):
        Image.fromarray(np.zeros((48, 48), np.uint8)).save(path)
    main(["index", str(source / "wells.csv"), "--channels", "dna,actin", "--out", str(tmp_path / "black")])
    main(["statistics", str(tmp_path / "black"), "--out", str(tmp_path / "card"), "--sample", "0"])
    dna, actin = json.loads((tmp_path / "card" / "card.json").read_text())["pixels"]["channels"]
    assert (n, actin["planes"], actin["planes_of_zero"]) == (32, 128, 32)
    means = [np.asarray(Image.open(path)).mean() for path in sorted(source.glob("*_actin.png"))]
    assert actin["mean"] == pytest.approx(np.mean(means), rel=1e-9)
    assert actin["by_experiment"]["E1"][0] == 0
    assert (dna["planes"], dna["planes_of_zero"], dna["mean"], dna["edge"]) == (128, 128, 0, None)
    assert set(dna["components"].values()) == {None}
    rows = re.findall(r"<tr>(.*?)</tr>", (tmp_path / "card" / "index.html").read_text())
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]
    zeros = {row[0]: row[4] for row in cells if row and row[0] in ("dna", "actin")}
    assert zeros == {"dna": "128", "actin": "32"}
    assert sorted(path.name for path in (tmp_path / "card" / "figures").glob("plate-*")) == ["plate-2.svg"]
    output = capsys.readouterr()
    assert "actin: the mean of 32 of 128 planes is zero; its variance shares leave them out" in output.err
    assert "dna: variance" not in output.out


def test_without_pixels_the_card_has_the_tables_alone(screen: Path, tmp_path: Path) -> None:
    main(["statistics", str(screen), "--out", str(tmp_path / "card"), "--no-pixels"])
    card = json.loads((tmp_path / "card" / "card.json").read_text())
    assert "pixels" not in card
    assert json.loads((tmp_path / "card" / "statistics.json").read_text()) == card["counts"]
    assert "Intensity of the channels" not in (tmp_path / "card" / "index.html").read_text()


@pytest.mark.real
def test_the_card_of_rxrx1_has_the_papers_totals(real_data: Path, tmp_path: Path) -> None:
    screen = index(real_data / "rxrx1_kaggle" / "v2_current", layout="rxrx1", tables_only=True)
    write_screen(screen, tmp_path / "s")
    main(["statistics", str(tmp_path / "s"), "--out", str(tmp_path / "card")])
    card = json.loads((tmp_path / "card" / "card.json").read_text())
    assert card["counts"]["class_sets"] == {"29": 2, "31": 2, "32": 35, "33": 1069}
    assert sum(card["wells_by_perturbation"]["treatment"]) == 36517
    assert len(card["wells_by_perturbation"]["positive_control"]) == 30
    assert {row["sites"] for row in card["experiments"]} == {0}  # the tables tell wells


def test_the_sentence_on_edges_names_its_limit() -> None:
    edge = {"in_deviations": 0.4, "n_plates": 6, "p_value": 0.034}
    size = "+0.40 standard deviations at the border of the plate (over 6 plates, p ="
    assert edge_sentence(edge) == f"No edge effect shown at p < 0.01: {size} 0.034)."
    assert edge_sentence(edge | {"p_value": 0.009}) == f"Edge effect: {size} 0.009)."


def test_every_well_of_the_plate_is_drawn_and_a_missing_one_differs_from_the_median() -> None:
    plate = np.full((16, 24), np.nan)
    plate[1:15, 1:23] = 0.0
    channel = {"plate": plate.tolist(), "illumination": [[1.0, 1.0], [1.0, 1.0]]}
    text = plate_and_light(channel, quantity="mean intensity")
    for letter in "ABCDEFGHIJKLMNOP":
        assert f">{letter}</text>" in text
    assert "hatched: no well" in text
    assert "<pattern" in text
    cells = re.findall(r'<path d="[^"]*" clip-path="[^"]*" style="fill: #([0-9a-f]{6})', text)
    assert len(cells) == 14 * 22 + 4  # the wells of the screen, and the light


def test_unequal_numbers_of_wells_are_drawn_with_every_role_visible() -> None:
    text = wells_per_perturbation({"treatment": [50, 20], "positive_control": [50, 20]})
    widths = set(re.findall(r"stroke-width: ([0-9.]+)", text))
    assert {"4", "2.6"} <= widths
