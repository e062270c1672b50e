"""Images that are links out of their source, and what refusals reveal of a file."""

from pathlib import Path

import pytest

from distangle.errors import ScreenError
from distangle.images import probe_image
from distangle.screen import Screen, allow_source, allowed_sources, index, read_screen, write_screen
from distangle.screen.origin import links_leading_out
from tiny_run import tiny_screen


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    tiny_screen(tmp_path, n_wells=3)
    return tmp_path


def index_lab(lab: Path) -> Screen:
    return index(lab / "plates" / "table.csv", layout="table", channels=("DNA", "actin"), probe=probe_image)


def link_images(lab: Path, *names: str) -> None:
    """Move images elsewhere, and leave links in their place."""
    (lab / "archive").mkdir()
    for name in names:
        path = lab / "plates" / "images" / name
        path.rename(lab / "archive" / name)
        path.symlink_to(lab / "archive" / name)


def test_links_out_of_the_source_are_taken_and_said_once(lab: Path) -> None:
    assert "links_out" not in index_lab(lab).metadata.provenance
    link_images(lab, "E1_0_0.png", "E1_0_1.png", "E2_1_0.png")
    screen = index_lab(lab)
    assert len(screen.sites) == 9
    message = screen.problems[screen.problems["kind"] == "links out of the source"]
    assert message["found"].tolist() == ["3 image file(s) are reached over a link that leads out of the source"]
    assert message["severity"].tolist() == ["warning"]
    assert screen.metadata.provenance["links_out"] == 3


def test_a_folder_that_is_a_link_counts_for_all_its_files(lab: Path) -> None:
    (lab / "plates" / "images").rename(lab / "archive")
    (lab / "plates" / "images").symlink_to(lab / "archive", target_is_directory=True)
    assert index_lab(lab).metadata.provenance["links_out"] == 18


def test_links_inside_the_source_are_no_matter(lab: Path) -> None:
    (lab / "plates" / "images").rename(lab / "plates" / "moved")
    (lab / "plates" / "images").symlink_to("moved", target_is_directory=True)
    assert "links_out" not in index_lab(lab).metadata.provenance
    assert links_leading_out(lab / "plates", ["images/E1_0_0.png", "table.csv"]) == []


def test_a_folder_that_cannot_be_listed_is_asked_file_by_file(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link_images(lab, "E1_0_0.png")

    def refuse(folder: str) -> None:
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr("os.scandir", refuse)
    names = ["images/E1_0_0.png", "images/E1_0_1.png"]
    assert links_leading_out(lab / "plates", names) == ["images/E1_0_0.png"]


def test_who_indexed_links_reads_them_and_who_got_the_screen_does_not(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link_images(lab, "E1_0_0.png")
    monkeypatch.setenv("DISTANGLE_CACHE", str(lab / "own cache"))
    write_screen(index_lab(lab), lab / "screen")
    own_screen = allowed_sources(read_screen(lab / "screen"))
    assert own_screen.image_paths(0)[0].exists()
    monkeypatch.setenv("DISTANGLE_CACHE", str(lab / "cache of a colleague"))
    other_screen = allowed_sources(read_screen(lab / "screen"))
    with pytest.raises(ScreenError, match=r"lies behind a link out of the screen's source.*distangle trust"):
        other_screen.image_paths(0)
    assert other_screen.image_paths(1)[0].exists()
    allow_source(other_screen)
    assert allowed_sources(read_screen(lab / "screen")).image_paths(0)[0].exists()


@pytest.mark.parametrize(
    "content", [b"root:x:0:0:root:/root", b"-----BEGIN KEY-----", b"\x00\x01secret", b"\xff\xd8\xffjpeg"]
)
def test_no_byte_of_a_file_that_is_no_image_is_quoted(lab: Path, content: bytes) -> None:
    (lab / "secret").write_bytes(content)
    image = lab / "plates" / "images" / "E1_0_0.png"
    image.unlink()
    image.symlink_to(lab / "secret")
    screen = index_lab(lab)
    message = " ".join(screen.problems.astype(str).to_numpy().ravel())
    assert "does not start like an image" in message
    assert not any(word in message for word in ("root:", "BEGIN", "secret'", "b'", "\\x"))


def test_a_screen_whose_images_lie_elsewhere_is_read_by_who_indexed_it(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTANGLE_CACHE", str(lab / "own cache"))
    write_screen(index_lab(lab), lab / "deep" / "er" / "screen")
    assert allowed_sources(read_screen(lab / "deep" / "er" / "screen")).confined is False
    monkeypatch.setenv("DISTANGLE_CACHE", str(lab / "cache of a colleague"))
    with pytest.raises(ScreenError, match="Nothing was read or downloaded from there.*`distangle trust"):
        allowed_sources(read_screen(lab / "deep" / "er" / "screen"))
