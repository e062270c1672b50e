"""Read YAML of settings: numbers, text, lists and names, without anchors or tags."""

from typing import Any

import yaml

from distangle.core.untrusted_files import UnexpectedContent

MAX_CHARACTERS = 200_000  # the longest configuration that distangle writes has a fortieth of it
MAX_DEPTH = 12
_START_EVENTS = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_END_EVENTS = (yaml.MappingEndEvent, yaml.SequenceEndEvent)


def compose(text: str) -> yaml.Node | None:
    """Return the YAML nodes of a text, with their lines; None for an empty text.

    Args:
        text: Content of a file, or the value of one setting.

    Raises:
        UnexpectedContent: The text is not YAML, too long, nested too deeply, or uses an anchor.
    """
    if len(text) > MAX_CHARACTERS:
        raise UnexpectedContent(f"it has {len(text):,} characters; a configuration has at most {MAX_CHARACTERS:,}")
    depth = 0
    try:
        # Checked before nodes are built: a few lines of anchors expand to more nodes than fit in memory.
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise UnexpectedContent(f"line {line} uses an anchor (& or *); write the value out")
            depth += isinstance(event, _START_EVENTS) - isinstance(event, _END_EVENTS)
            if depth > MAX_DEPTH:
                raise UnexpectedContent(f"line {line} is nested deeper than {MAX_DEPTH} levels")
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise UnexpectedContent(" ".join(str(error).split())) from error


def load(text: str) -> Any:
    """Return the value of a text: numbers, text, lists and names, nothing else.

    Args:
        text: Content of a file, or the value of one setting.

    Raises:
        UnexpectedContent: As for `compose`, or the type of a value is not supported.
    """
    node = compose(text)
    return None if node is None else value_of(node)


def value_of(node: yaml.Node) -> Any:
    """Return the value of a node.

    Args:
        node: A node from `compose`, or one below it.

    Raises:
        UnexpectedContent: The type is not supported, such as an object of a program.
    """
    try:
        return yaml.SafeLoader("").construct_object(node, deep=True)
    except yaml.constructor.ConstructorError as error:
        raise UnexpectedContent(f"{str(error.problem or 'its tag')[:120]}; write a number, a text or a list") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise UnexpectedContent("expected a number, a text or a list") from error
