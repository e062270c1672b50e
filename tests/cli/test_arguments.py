"""Parsers of command-line values: what they accept, and the errors that they raise."""

import re
from pathlib import Path

import pytest

from distangle.cli.arguments import (
    check_exclusive,
    check_minimum,
    expand_setting_flags,
    parse_choices,
    parse_filters,
    parse_int_list,
    parse_key_values,
    settings,
)
from distangle.cli.runs import train
from distangle.errors import ConfigError


def error(text: str) -> str:
    """Return the pattern of a whole error message."""
    return f"^{re.escape(text)}$"


@pytest.mark.parametrize("number", [1, 7])
def test_a_count_at_or_above_its_minimum_is_returned(number: int) -> None:
    assert check_minimum(number, 1, flag="--workers") == number


@pytest.mark.parametrize(("number", "minimum"), [(0, 1), (-1, 0)])
def test_a_count_below_its_minimum_is_refused(number: int, minimum: int) -> None:
    with pytest.raises(ConfigError, match=error(f"--sample {number}: expected {minimum} or more.")):
        check_minimum(number, minimum, flag="--sample")


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        ([], {}),
        (["plate=P"], {"plate": "P"}),
        (["plate=P,well=W", "site=S"], {"plate": "P", "well": "W", "site": "S"}),
        ([" plate = P , well = W ,"], {"plate": "P", "well": "W"}),
        (["perturbation="], {"perturbation": ""}),
        (["pattern=a=b"], {"pattern": "a=b"}),
    ],
)
def test_pairs_are_read_as_text(arguments: list[str], values: dict[str, str]) -> None:
    assert parse_key_values(arguments, flag="--map") == values


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("x=3", 3),
        ("x=0.5", 0.5),
        ("x=true", True),
        ("x=null", None),
        ("x=HUVEC", "HUVEC"),
        ("x=[1, 2]", [1, 2]),
        ("x=[HUVEC,RPE]", ["HUVEC", "RPE"]),
    ],
)
def test_a_parsed_pair_has_a_typed_value_and_keeps_its_commas(word: str, value: object) -> None:
    value_read = parse_key_values([word], flag="--set", parse=True)["x"]
    assert value_read == value
    assert type(value_read) is type(value)


@pytest.mark.parametrize(
    ("arguments", "parse", "message"),
    [
        (["plate"], False, "--map 'plate': expected NAME=VALUE."),
        (["=P"], False, "--map '=P': expected NAME=VALUE."),
        (["plate=P,well"], False, "--map 'well': expected NAME=VALUE."),
        (["a=1", "a=2"], False, "--map: 'a' occurs twice. Expected every name once."),
        (["a=1,a=2"], False, "--map: 'a' occurs twice. Expected every name once."),
        (["a"], True, "--map 'a': expected NAME=VALUE."),
    ],
)
def test_a_wrong_pair_is_refused(arguments: list[str], parse: bool, message: str) -> None:  # noqa: FBT001
    with pytest.raises(ConfigError, match=error(message)):
        parse_key_values(arguments, flag="--map", parse=parse)


@pytest.mark.parametrize("value", ["[1, 2", "&a 3", "!!python/name:os.system x"])
def test_a_value_that_is_no_plain_yaml_is_refused_with_what_is_expected(value: str) -> None:
    expected = r"^--set x: .*\. Expected a number, a word, true or false, or a list\.$"
    with pytest.raises(ConfigError, match=re.compile(expected, re.DOTALL)):
        parse_key_values([f"x={value}"], flag="--set", parse=True)


@pytest.mark.parametrize(
    ("arguments", "filters"),
    [
        ([], {}),
        (["well=B02"], {"well": ["B02"]}),
        (["well=B02,B03", "plate=2"], {"well": ["B02", "B03"], "plate": ["2"]}),
        (["well=B02", "well=B03"], {"well": ["B02", "B03"]}),
        (["well= B02 ,,"], {"well": ["B02"]}),
        (["gene=a=b"], {"gene": ["a=b"]}),
    ],
)
def test_filters_collect_the_values_of_a_column(arguments: list[str], filters: dict[str, list[str]]) -> None:
    assert parse_filters(arguments, flag="--only") == filters


@pytest.mark.parametrize("word", ["well", "well=", "=B02", "well=,"])
def test_a_filter_without_a_column_or_a_value_is_refused(word: str) -> None:
    message = f"--only {word!r}: expected COLUMN=VALUE or COLUMN=VALUE,VALUE, such as well=B02,B03."
    with pytest.raises(ConfigError, match=error(message)):
        parse_filters([word], flag="--only")


PARTS = ("faithfulness", "templates", "filters")


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("filters", ["filters"]),
        ("filters,templates", ["filters", "templates"]),
        (" filters , filters ", ["filters"]),
    ],
)
def test_choices_are_read_in_order_without_repeats(text: str, choices: list[str]) -> None:
    assert parse_choices(text, PARTS, flag="--parts") == choices


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "filter",
            "--parts 'filter': unknown name 'filter'. Did you mean 'filters'? Known: faithfulness, filters, templates.",
        ),
        ("filters,x", "--parts 'filters,x': unknown name 'x'. Known: faithfulness, filters, templates."),
        ("", "--parts '': unknown name ''. Known: faithfulness, filters, templates."),
    ],
)
def test_an_unknown_choice_is_refused_with_the_known_names(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=error(message)):
        parse_choices(text, PARTS, flag="--parts")


@pytest.mark.parametrize(
    ("text", "numbers"), [("", ()), ("0", (0,)), ("0,1,2", (0, 1, 2)), (" 2 , 0,2,", (2, 0)), ("007", (7,))]
)
def test_integers_are_read_in_order_without_repeats(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_int_list(text, flag="--seeds") == numbers


@pytest.mark.parametrize(("text", "part"), [("0,b", "b"), ("-1", "-1"), ("1.5", "1.5"), ("0 1", "0 1"), ("²", "²")])
def test_what_is_not_an_integer_is_refused(text: str, part: str) -> None:
    message = f"--seeds {text!r}: {part!r} is not an integer. Expected integers such as 0,1,2."
    with pytest.raises(ConfigError, match=error(message)):
        parse_int_list(text, flag="--seeds")


def test_flags_that_were_not_given_are_no_conflict() -> None:
    check_exclusive("--resume run", {}, "")
    check_exclusive("--resume run", {"--out": None, "--seed": None}, "")


def test_every_conflicting_flag_is_named_also_where_its_value_is_false() -> None:
    others = {"--out": Path("new"), "--seed": 0, "--epochs": None, "--prune": False}
    message = "Remove --out, --seed, --prune: not allowed with --resume run. A reason."
    with pytest.raises(ConfigError, match=error(message)):
        check_exclusive("--resume run", others, "A reason.")


@pytest.mark.parametrize(
    ("arguments", "expanded"),
    [
        ("screen --optim.lr 1e-4", "screen --set optim.lr=1e-4"),
        ("--optim.lr=1e-4 screen", "--set optim.lr=1e-4 screen"),
        ("--optim.lr -1", "--set optim.lr=-1"),
        ("--batch-size 8", "--set batch_size=8"),
        ("--network.embedding-size 8", "--set network.embedding_size=8"),
        ("--lr 1", "--set lr=1"),  # refused later, with the full name as a suggestion
        ("--epochs 3 --seed 1", "--epochs 3 --seed 1"),
        ("--from run --out new", "--from run --out new"),
        ("--no-force-split", "--no-force-split"),
        ("--nosuch 1", "--nosuch 1"),
        ("--set optim.lr=1", "--set optim.lr=1"),
    ],
)
def test_flags_that_are_settings_become_set(arguments: str, expanded: str) -> None:
    assert expand_setting_flags(arguments.split(), train) == expanded.split()


def test_a_flag_of_one_verb_is_a_setting_of_another() -> None:
    assert expand_setting_flags(["--epochs", "3"], settings) == ["--set", "epochs=3"]


@pytest.mark.parametrize("arguments", [["--optim.lr"], ["--optim.lr", "--epochs", "3"]])
def test_a_setting_without_a_value_is_refused(arguments: list[str]) -> None:
    message = "--optim.lr needs a value, such as `--optim.lr 1`; true or false for a switch."
    with pytest.raises(ConfigError, match=error(message)):
        expand_setting_flags(arguments, train)
