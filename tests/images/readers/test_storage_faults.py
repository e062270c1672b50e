"""Storage that fails for a moment or for good, and files that change between index and read."""

import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distangle.errors import ImageError
from distangle.images import ImageCache, pack_screen, probe_image
from distangle.images.readers.common import n_retries, retry_io, retry_summary
from distangle.images.readers.read import read_image
from distangle.screen import Screen, index, read_screen, write_screen
from distangle.screen.checks.edits import check_provenance


def lab(folder: Path) -> Screen:
    folder.mkdir(exist_ok=True)
    lines = ["plate,well,perturbation,dna"]
    for k in range(1, 4):
        pixels = np.random.default_rng(k).integers(0, 255, (32, 32)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"B0{k}.png")
        lines.append(f"P1,B0{k},a,B0{k}.png")
    (folder / "wells.csv").write_text("\n".join(lines) + "\n")
    return index(folder / "wells.csv", layout="table", channels=["dna"], probe=probe_image)


def test_a_file_rewritten_after_indexing_is_refused_by_well_when_it_is_read(tmp_path: Path) -> None:
    screen = lab(tmp_path / "in")
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "in" / "B02.png")
    store = ImageCache(screen)
    assert store.measure(range(3)) == [0, 2]
    message = store.reasons[1]
    assert "plate P1 well B02 site 1" in message
    assert "B02.png" in message
    assert f"{screen.sites['size'][1]} when it was indexed" in message
    assert "Index the screen again" in message
    store.close()


def fail_to_read(times: int, number: int, tries: list[int], *, path: Path) -> np.ndarray:
    tries.append(1)
    if len(tries) <= times:
        error = OSError(number, "Stale file handle")
        message = f"{path} cannot be opened (Stale file handle)."
        raise ImageError(message) from error
    return read_image([path], [None])


@pytest.mark.parametrize(("number", "n_tries"), [(errno.ESTALE, 3), (errno.EIO, 3)])
def test_a_transient_error_is_retried_and_the_image_is_complete(tmp_path: Path, number: int, n_tries: int) -> None:
    lab(tmp_path)
    tries: list[int] = []
    image = retry_io(lambda: fail_to_read(2, number, tries, path=tmp_path / "B01.png"), pauses=(0.0, 0.0, 0.0))
    assert len(tries) == n_tries
    assert image.shape == (1, 32, 32)


def test_a_lasting_fault_ends_after_a_bounded_number_of_tries_and_names_the_file(tmp_path: Path) -> None:
    tries: list[int] = []
    with pytest.raises(
        ImageError, match=r"B01\.png cannot be opened.*The storage failed 4 times; check the network file system"
    ):
        retry_io(lambda: fail_to_read(99, errno.EIO, tries, path=tmp_path / "B01.png"), pauses=(0.0, 0.0, 0.0))
    assert len(tries) == 4


def test_a_permanent_error_is_not_retried(tmp_path: Path) -> None:
    tries: list[int] = []
    with pytest.raises(ImageError, match="cannot be opened"):
        retry_io(lambda: fail_to_read(99, errno.ENOENT, tries, path=tmp_path / "gone.png"), pauses=(9.0,))
    assert len(tries) == 1


def test_the_reader_itself_retries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab(tmp_path)
    opened_paths, real = [], Path.open

    def raise_stale(self: Path, *args: object, **options: object) -> object:
        opened_paths.append(self.name)
        if len(opened_paths) == 1:
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(self, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", raise_stale)
    assert read_image([tmp_path / "B01.png"], [None]).shape == (1, 32, 32)
    assert len(opened_paths) > 1


def test_a_packed_screen_still_knows_the_table_it_came_from_and_lists_its_edited_rows(tmp_path: Path) -> None:
    screen = lab(tmp_path / "in")
    write_screen(screen, tmp_path / "screen")
    pack_screen(read_screen(tmp_path / "screen"), tmp_path / "packed")
    pack = read_screen(tmp_path / "packed")
    assert pack.metadata.provenance["tables"][0]["path"] == "../in/wells.csv"
    assert list(check_provenance(pack)) == []
    with (tmp_path / "in" / "wells.csv").open("a") as table_file:
        table_file.write("P1,B04,a,B04.png\n")
    edit, addition = check_provenance(pack)
    assert (edit.kind, edit.file) == ("table changed since indexing", "../in/wells.csv")
    assert (addition.kind, addition.well, addition.what) == (
        "row added since indexing",
        "B04",
        "was missing, is 'a' (treatment)",
    )


def test_retried_reads_are_counted_and_reported(tmp_path: Path) -> None:
    lab(tmp_path)
    before = n_retries()
    assert retry_summary(since=before) == []
    tries: list[int] = []
    retry_io(lambda: fail_to_read(2, errno.EIO, tries, path=tmp_path / "B01.png"), pauses=(0.0, 0.0, 0.0))
    assert n_retries() - before == 2
    message = "Retried reads: 2, after transient storage errors. Check the network file system."
    assert retry_summary(since=before) == [message]
