"""Up to three channels in colors that most readers can tell apart."""

import numpy as np
import pytest

from distangle.report.merging import MERGE_COLORS, merge_channels, merge_sentence, merged_channels
from distangle.screen import Channel


def image_of(*planes: np.ndarray) -> np.ndarray:
    return np.stack(planes).astype(np.uint8)


def test_the_first_channel_and_those_least_like_it_are_merged() -> None:
    y, x = np.mgrid[:16, :16]
    left_side, top, stripes = 200 * (x < 8), 200 * (y < 8), 200 * (x % 2)
    # The second is the first again, the third its negative: both say nothing new.
    image = image_of(left_side, left_side, 200 - left_side, top, stripes, np.zeros((16, 16)))
    assert merged_channels(image) == [0, 3, 4]
    assert merged_channels(image[:3]) == [0, 1, 2]
    assert merged_channels(image[:1]) == [0]


def test_each_channel_has_its_own_color() -> None:
    planes = np.zeros((3, 9, 9))
    for k in range(3):
        planes[k, 3 * k : 3 * k + 3] = 200
    merge = merge_channels(image_of(*planes), [0, 1, 2])
    for k, (color, _) in enumerate(MERGE_COLORS):
        rgb = [int(color[start : start + 2], 16) for start in (1, 3, 5)]
        np.testing.assert_allclose(merge[3 * k + 1, 4], rgb, atol=2)


def test_one_channel_is_grey() -> None:
    merge = merge_channels(image_of(np.tile(np.arange(32), (32, 1)) * 8), [0])
    assert (merge[..., 0] == merge[..., 1]).all()
    assert (merge[..., 1] == merge[..., 2]).all()
    assert merge.max() == 255


@pytest.mark.parametrize(("channel_rows", "text"), [([0, 2], "cyan nuclei (DAPI), magenta w3"), ([1], "actin")])
def test_the_sentence_names_color_and_channel(channel_rows: list[int], text: str) -> None:
    channels = [Channel(name="w1", stain="DAPI", organelle="nuclei"), Channel(name="actin"), Channel(name="w3")]
    assert merge_sentence(channels, channel_rows) == text
