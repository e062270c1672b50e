import hashlib

import pytest
from pydantic import ValidationError

from distangle.screen import Channel, Role, natural_sort_key, ordered_classes, ordered_classes_sha256
from distangle.screen.readers.rxrx import CHANNELS
from distangle.screen.roles import named_channels, role_of


@pytest.mark.parametrize(
    ("word", "role"),
    [
        ("treatment", Role.TREATMENT),
        ("trt", Role.TREATMENT),
        ("negcon", Role.NEGATIVE_CONTROL),
        ("Negative Control", Role.NEGATIVE_CONTROL),
        ("poscon_diverse", Role.POSITIVE_CONTROL),
        ("positive-control", Role.POSITIVE_CONTROL),
        ("untreated", Role.UNTREATED),
        ("", Role.UNKNOWN),
        ("control", None),
        ("poscons", None),
    ],
)
def test_the_words_of_rxrx1_and_jump_mean_roles(word: str, role: Role | None) -> None:
    assert role_of(word) == role


def test_classes_are_in_natural_order_each_once_without_the_unknown() -> None:
    names = ["sirna_10", "sirna_2", "", "UNTREATED", "sirna_2", "1138", "7"]
    assert ordered_classes(names) == ("7", "1138", "sirna_2", "sirna_10", "UNTREATED")


def test_names_that_differ_only_in_case_or_zeros_keep_one_order() -> None:
    assert sorted(["b", "A01", "a1", "B", "a01"], key=natural_sort_key) == ["A01", "a01", "a1", "B", "b"]


def test_the_class_list_hash_sees_order_and_borders_of_names() -> None:
    assert ordered_classes_sha256(["a", "b"]) == hashlib.sha256(b'["a", "b"]').hexdigest()
    assert ordered_classes_sha256(["a", "b"]) != ordered_classes_sha256(["b", "a"])
    assert ordered_classes_sha256(["a, b"]) != ordered_classes_sha256(["a", "b"])


def test_a_color_is_six_hexadecimal_figures_or_nothing() -> None:
    assert Channel(name="DAPI").color == ""
    with pytest.raises(ValidationError, match="pattern"):
        Channel(name="DAPI", color="blue")
    with pytest.raises(ValidationError, match="at least 1 character"):
        Channel(name="")


def test_named_channels_have_colors_of_their_own_and_known_organelles() -> None:
    channels = named_channels(["DAPI", "actin", "tubulin", "x", "y", "OrigMito"])
    assert len({channel.color for channel in channels}) == 6
    assert channels[0].organelle == "nuclei"
    assert channels[5].organelle == "mitochondria"
    assert channels[3].organelle == ""


def test_the_stains_of_rxrx1_stand_in_the_order_of_its_file_names() -> None:
    assert [channel.stain for channel in CHANNELS] == [
        "Hoechst 33342",
        "concanavalin A",
        "phalloidin",
        "SYTO 14",
        "MitoTracker",
        "wheat germ agglutinin",
    ]
    assert CHANNELS[0].color == "#1300F9"
    assert len({channel.color for channel in CHANNELS}) == 6
