import pandas as pd
import pytest

from distangle.cli.words import values_by_column
from distangle.errors import ConfigError, ExplanationError
from distangle.explain import choose_rows, target_of


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame({
        "Metadata_Experiment": "HUVEC-01",
        "Metadata_Plate": ["1", "1", "2", "2", "2", "1"],
        "Metadata_Well": ["B02", "B03", "B02", "B03", "C04", "B02"],
        "Metadata_Site": [1, 1, 1, 1, 1, 2],
        "Metadata_Role": "treatment",
        "Metadata_Fold": ["held_out", "held_out", "held_out", "train", "held_out", "held_out"],
        "perturbation": ["a", "b", "b", "a", "a", "a"],
        "reason": ["", "", "", "", "broken", ""],
    })  # fmt: skip


def test_only_readable_held_out_sites_of_the_values_asked_for(table: pd.DataFrame) -> None:
    assert choose_rows(table, n_sites=9) == [0, 1, 2, 5]
    assert choose_rows(table, n_sites=9, only={"well": ["B02"]}) == [0, 2, 5]
    assert choose_rows(table, n_sites=9, only={"well": ["B02"], "Metadata_Plate": ["2"]}) == [2]
    assert choose_rows(table, n_sites=9, only={"perturbation": ["b"]}) == [1, 2]
    assert choose_rows(table, n_sites=9, only={"site": ["2"]}) == [5]
    assert choose_rows(table, n_sites=9, only={"fold": ["train"]}) == [3]


@pytest.mark.parametrize(
    ("only", "words"),
    [
        ({"wel": ["B02"]}, r"no column 'wel'\. Did you mean 'well'\?"),
        ({"well": ["B2"]}, r"No site has well 'B2'\. Did you mean 'B02'"),
        ({"well": ["C04"]}, r"No held-out site with well C04 can be explained"),
        ({"well": ["B03"], "plate": ["2"]}, r"with well B03 with plate 2 can be explained.*`fold=train`"),
    ],
)
def test_what_is_not_there_is_named(table: pd.DataFrame, only: dict[str, list[str]], words: str) -> None:
    with pytest.raises(ExplanationError, match=words):
        choose_rows(table, n_sites=9, only=only)


def test_a_perturbation_that_the_network_never_saw_is_refused_with_the_nearest() -> None:
    assert target_of("actin", ["mito", "actin"]) == 1
    with pytest.raises(ExplanationError, match=r"never saw a perturbation 'actn'.*Did you mean 'actin'\?"):
        target_of("actn", ["mito", "actin"])


def test_words_with_several_values_of_a_column() -> None:
    assert values_by_column(["well=B02, B03", "well=C04", "plate=1"], flag="--only") == {
        "well": ["B02", "B03", "C04"],
        "plate": ["1"],
    }
    for word in ("well", "=B02", "well="):
        with pytest.raises(ConfigError, match="--only .*expected COLUMN=VALUE"):
            values_by_column([word], flag="--only")
