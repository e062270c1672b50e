import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from distangle.core.io import atomic_write, sha256_of, write_json, write_text
from distangle.core.random import rng_for
from distangle.errors import brief, did_you_mean


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="half way"), atomic_write(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        message = "half way"
        raise RuntimeError(message)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_file_has_the_mode_of_any_new_file(tmp_path: Path, mask: int, mode: int) -> None:
    """Also a file of safetensors, whose writer makes files that only their owner can read."""
    before = os.umask(mask)
    try:
        with atomic_write(tmp_path / "weights") as temporary:
            os.close(os.open(temporary, os.O_CREAT, 0o600))
        with atomic_write(tmp_path / "a.safetensors") as temporary:
            save_file({"a": np.zeros(3)}, temporary)
        write_text(tmp_path / "text", "x")
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == dict.fromkeys(
        ("weights", "a.safetensors", "text"), mode
    )


def test_a_long_name_is_cut_in_a_message() -> None:
    assert brief("taxol") == "taxol"
    assert brief("x" * 5000) == "x" * 59 + "…"
    message = did_you_mean("y" * 4000, ["x" * 5000, "y" * 5000])
    assert len(message) < 400


def test_json_with_nan_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant|Out of range"):
        write_json(tmp_path / "x.json", {"value": float("nan")})
    assert list(tmp_path.iterdir()) == []
    write_json(tmp_path / "x.json", {"value": "Grün"})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"value": "Grün"}


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_random_numbers_depend_on_every_part_of_the_key_and_on_nothing_else() -> None:
    keys = [(0, 1, "a"), (0, 2, "a"), (1, 1, "a"), (0, 1, "b"), (0, "1", "a"), (0, 11, "a"), (0, 1, 1, "a")]
    values = [tuple(rng_for(*key).integers(0, 2**60, 4)) for key in keys]
    assert len(set(values)) == len(keys)
    assert tuple(rng_for(0, 1, "a").integers(0, 2**60, 4)) == values[0]
    assert np.mean([rng_for(k, "mean").random() for k in range(2000)]) == pytest.approx(0.5, abs=0.02)


def test_the_nearest_names_are_offered_first() -> None:
    assert did_you_mean("Wel", ["plate", "well", "site"]).startswith("Did you mean 'well'? Known: plate, site, well.")
    assert did_you_mean("zzz", ["plate"]) == "Known: plate."
