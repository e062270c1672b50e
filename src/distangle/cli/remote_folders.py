"""Let every verb take URLs where it takes folders."""

import contextlib
import functools
import inspect
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distangle.cli.console import print_note, show_addresses
from distangle.core.progress import show_action, shows_progress
from distangle.core.remote import SCHEMES, RemotePath, address_of

# Arguments that a verb may write to; the first one that was given is its output.
OUTPUTS: dict[str, tuple[str, ...]] = {
    "train": ("resume", "out"),
    "predict": ("out", "run"),
    "explain": ("run",),
    "profile": ("out", "source"),
    "figures": ("run",),
    "report": ("run",),
    "check": ("out", "screen"),
    **{verb: ("out",) for verb in ("index", "simulate", "statistics", "folds", "pack", "export", "ablate", "demo")},
}
OUTPUT_FILES = ("kaggle",)  # files that a verb writes beside its output
# Files that say by their presence or their content that others are complete.
LAST_FILES = (
    *("screen.json", "run.json", "manifest.json", "scores.json", "profile.json", "explanation.json", "ablation.json"),
    *("statistics.json", "checks.json", "truth.json"),
)
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.DOTALL)


def with_remote_folders(verb: Callable[..., None]) -> Callable[..., None]:
    """Return a verb that also takes URLs for its paths.

    Args:
        verb: Function of the verb; its paths are local.
    """
    signature = inspect.signature(verb)

    @functools.wraps(verb)
    def run(*args: Any, **kwargs: Any) -> None:
        bound = signature.bind(*args, **kwargs)
        urls = {name: _urls(value) for name, value in bound.arguments.items()}
        if not any(urls.values()):
            verb(*args, **kwargs)
            return
        has_screen = "screen" not in signature.parameters or bound.arguments.get("screen") is not None
        show_addresses({str(url.cache_path): str(url) for names in urls.values() for url in names})
        with _local_copies(verb.__name__, urls, bound.arguments, has_screen=has_screen) as copies:
            for name, value in bound.arguments.items():
                bound.arguments[name] = _replace_urls(value, copies)
            verb(*bound.args, **bound.kwargs)

    return run


@contextlib.contextmanager
def _local_copies(
    verb: str, urls: Mapping[str, list[RemotePath]], arguments: Mapping[str, Any], *, has_screen: bool
) -> Iterator[dict[RemotePath, Path]]:
    """Fetch folders, and publish what a verb writes to its output during a `with`.

    Args:
        verb: Name of the verb.
        urls: URLs of each argument.
        arguments: All arguments.
        has_screen: Whether the verb needs no screen of a run beyond its arguments.

    Yields:
        The local path of each URL.
    """
    from distangle.core.mirror import Mirror
    from distangle.core.publication import fetch_copy, publish_while

    copies: dict[RemotePath, Path] = {url: url.cache_path for names in urls.values() for url in names}
    output = next((name for name in OUTPUTS.get(verb, ()) if arguments.get(name) is not None), "")
    written = [url for name in (output, *OUTPUT_FILES) for url in urls.get(name, ())]
    options: dict[str, Any] = {"say": print_note}
    with contextlib.ExitStack() as stack:
        if shows_progress():  # of several ranks the first exchanges files; all read its cache
            for url in written:
                is_alone = url in urls.get(output, ()) and arguments.get("part") is None and verb != "folds"
                mirror = Mirror(url, last=LAST_FILES, is_scratch=_is_scratch)
                stack.enter_context(publish_while(mirror, is_alone=is_alone, report=_report(url), **options))
            for url in copies:
                if url not in written:
                    fetch_copy(Mirror(url, is_scratch=_is_scratch), report=_report(url), **options)
            for url in [] if has_screen else list(copies):
                screen = _screen_of(url)
                if screen is not None and screen not in copies:
                    fetch_copy(Mirror(screen, is_scratch=_is_scratch), report=_report(screen), **options)
                    copies[screen] = screen.cache_path
            show_action("")
        if os.environ.get("WORLD_SIZE", "1") != "1":
            from distangle.core.distributed import wait_for_all

            wait_for_all("the files behind URLs")
        yield copies


def _urls(value: Any) -> list[RemotePath]:
    """Return the URLs in the value of an argument.

    Raises:
        RemoteError: A scheme is not supported.
    """
    values = value if isinstance(value, tuple | list) else (value,)
    return [url for item in values if (url := _url(item)) is not None]


def _url(value: Any) -> RemotePath | None:
    if not isinstance(value, Path):
        return None
    match = _URL.fullmatch(value.as_posix())  # a path has lost one of the two slashes
    if match is None or (match[1] not in SCHEMES and value.exists()):
        return None
    return RemotePath(f"{match[1]}://{match[2]}")


def _replace_urls(value: Any, copies: Mapping[RemotePath, Path]) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(_replace_urls(item, copies) for item in value)
    url = _url(value)
    return value if url is None else copies[url]


def _screen_of(url: RemotePath) -> RemotePath | None:
    """Return the screen of a fetched run or ablation if it lies in the same bucket; None otherwise.

    What a record of unknown origin names elsewhere is not fetched.
    """
    for name in ("run.json", "ablation.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            screen = address_of(url.cache_path / json.loads((url.cache_path / name).read_bytes())["screen"])
            if screen is not None and (screen.scheme, screen.bucket) == (url.scheme, url.bucket):
                return screen
    return None


def _is_scratch(name: str) -> bool:
    """Return whether a file is written in place: the arrays that parts of a prediction are joined in."""
    return name.endswith(".npy") and Path(name).parent.name == "parts"


def _report(url: RemotePath) -> Callable[[int, int], None]:
    action = f"fetching {url}"

    def report(done: int, total: int) -> None:
        show_action(action, f"{done:,} of {total:,} files" if total else "")

    return report
