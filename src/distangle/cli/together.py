"""Which verbs several ranks may run as one, and joining them for the length of a verb."""

import contextlib
import os
from collections.abc import Iterator

from distangle.errors import ConfigError

TOGETHER = ("train", "predict")


@contextlib.contextmanager
def joined_for(verb: str) -> Iterator[None]:
    """Join the ranks that a launcher such as `torchrun` started; alone, do nothing.

    Args:
        verb: The first word of the command line.

    Raises:
        ConfigError: The verb runs as one process.
        RunError: The other ranks did not come.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield
        return
    if verb not in TOGETHER:
        raise ConfigError(
            f"`distangle {verb}` runs as one process, and WORLD_SIZE is {os.environ['WORLD_SIZE']}. Several ranks can "
            f"{' and '.join(TOGETHER)}; start the others without torchrun."
        )
    from distangle.ranks import joined

    with joined():
        yield
