"""Read YAML of settings: values, lists and names; no anchors, tags or bombs."""

from typing import Any

import yaml

from distangle.core.untrusted_files import UnexpectedContent

MOST_CHARACTERS = 200_000  # the longest configuration that is written has a fortieth of it
MOST_DEPTH = 12
_OPENING = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_CLOSING = (yaml.MappingEndEvent, yaml.SequenceEndEvent)


def compose(text: str) -> yaml.Node | None:
    """Return the nodes of a text, with their lines; None for an empty one.

    Args:
        text: Of a file, or of the value of one setting.

    Raises:
        Unlike: It is no YAML, too long, nested too deeply, or uses an anchor; its words say what and where.
    """
    if len(text) > MOST_CHARACTERS:
        raise UnexpectedContent(f"it has {len(text):,} characters; a configuration has at most {MOST_CHARACTERS:,}")
    depth = 0
    try:
        # Before anything is built: a few lines of anchors make more nodes than any memory holds.
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise UnexpectedContent(f"line {line} uses an anchor (& or *); write the value out")
            depth += isinstance(event, _OPENING) - isinstance(event, _CLOSING)
            if depth > MOST_DEPTH:
                raise UnexpectedContent(f"line {line} is nested deeper than {MOST_DEPTH} levels")
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise UnexpectedContent(" ".join(str(error).split())) from error


def load(text: str) -> Any:
    """Return the value of a text: numbers, words, lists and names, nothing else.

    Args:
        text: Of a file, or of the value of one setting.

    Raises:
        Unlike: As of `compose`; or a value is of a kind that is not understood.
    """
    node = compose(text)
    return None if node is None else value_of(node)


def value_of(node: yaml.Node) -> Any:
    """Return what a node from `compose` stands for.

    Args:
        node: Or one of those below it.

    Raises:
        Unlike: It is of a kind that is not understood, such as an object of a program.
    """
    try:
        return yaml.SafeLoader("").construct_object(node, deep=True)
    except yaml.constructor.ConstructorError as error:
        raise UnexpectedContent(f"{str(error.problem or 'its tag')[:120]}; write a number, a word or a list") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise UnexpectedContent("it is no number, word or list that a setting takes") from error
