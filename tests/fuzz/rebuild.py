"""Build the screen of a seed in a folder, to look at: `python tests/fuzz/rebuild.py SEED FOLDER`."""

import shlex
import shutil
import sys
from pathlib import Path

from fuzz_drafts import Draft
from fuzz_faults import screen_of
from fuzz_judge import judge


def command_of(d: Draft, source: Path, out: Path) -> list[str]:
    """Return the words of `distangle index` that ask for a screen as the test does."""
    layout = d.options.get("layout", d.layout)
    arguments = ["index", str(source), "--out", str(out), *(["--layout", layout] if layout else [])]
    for name, value in d.options.items():
        if name == "layout":
            continue
        flag = "--map" if name == "mapping" else f"--{name.replace('_', '-')}"
        if name == "mapping":
            text = ",".join(f"{ours}={theirs}" for ours, theirs in value.items())
        elif name == "tables":
            text = str(source / value)
        else:
            text = ",".join(value) if isinstance(value, list) else str(value)
        arguments += [flag, text]
    return arguments


def main(seed: int, folder: Path) -> None:
    shutil.rmtree(folder / "in", ignore_errors=True)
    verdict = judge(screen_of(seed), folder)
    print(f"seed {seed}: {verdict.draft.fault or 'no fault'} ({verdict.draft.instance}): {verdict.outcome}")
    for line in verdict.wrong:
        print(f"  {line}")
    if verdict.error:
        print(f"  raised: {verdict.error}")
    if verdict.screen is not None:
        for row in verdict.screen.problems.to_dict("records"):
            print(f"  {row['severity']}: {row['kind']}: found {row['found']}, expected {row['expected']}. {row['fix']}")
    print(shlex.join(["distangle", *command_of(verdict.draft, folder / "in", folder / "screen")]))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
