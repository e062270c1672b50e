"""All benchmarks with limits, one after the other, and a closing table of what held; ends with 1 where one did not.

Each runs in a process of its own and prints as it goes; nothing is timed twice. `batch_noise.py` is apart: it trains
for half an hour and measures accuracy, not speed.

    python benchmarks/together.py              # all
    python benchmarks/together.py leaks steps  # some
"""

import subprocess
import sys
import time
from pathlib import Path

NAMES = (
    "training_step",
    "backbone",
    "frozen_features",
    "composite_loss",
    "grad_cam",
    "channel_shapley",
    "leaks",
    "indexing",
    "prediction",
    "reading",
    "steps",
    "retrieval",
    "alignment",
    "maps",
    "embedding",
    "scale",
    "view",
)
WORDS = ("holds ", "BROKEN")  # as `measure.verdict` prints them


def verdicts(name: str) -> tuple[int, list[str]]:
    """Run one benchmark; return its exit status and the lines of its limits."""
    command = [sys.executable, "-u", str(Path(__file__).with_name(f"{name}.py"))]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            if line.startswith(WORDS):
                lines.append(line.rstrip())
    return process.returncode, lines


def main(names: list[str]) -> int:
    if unknown := [name for name in names if name not in NAMES]:
        print(f"No benchmark {unknown[0]!r}. There are: {', '.join(NAMES)}.")
        return 2
    table, failures = [], []
    for name in names or NAMES:
        print(f"--- {name}", flush=True)
        start = time.monotonic()
        status, lines = verdicts(name)
        table += [f"{name:16s} {line}" for line in lines or ["no limit was reached: it did not end"]]
        table.append(f"{name:16s} {time.monotonic() - start:.0f} s")
        if status or not lines or any(line.startswith("BROKEN") for line in lines):
            failures.append(f"{name} (status {status})")
    print("\n--- all\n" + "\n".join(table))
    print(f"NOT ALL HOLD: {', '.join(failures)}" if failures else "All hold.")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
