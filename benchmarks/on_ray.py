"""Time a prediction in this process and on workers of Ray, and compare the files byte by byte.

    python benchmarks/on_ray.py RUN --part-sites 72 --workers 1 2

A part is made small, so that a small screen has several. Give one thread to all: OMP_NUM_THREADS=1.
"""

import argparse
import filecmp
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = """
import sys
from distangle.inference import parts
parts.PART_SITES = int(sys.argv[1])
from distangle.cli import main
main(sys.argv[2:])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--part-sites", type=int, default=72)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        cases = {"this process": []} | {f"{n} workers": ["--on", "ray", "--workers", str(n)] for n in arguments.workers}
        for name, flags in cases.items():
            out = Path(temporary) / name
            start = time.monotonic()
            command = ["predict", str(arguments.run), "--out", str(out), *flags]
            subprocess.run(
                [sys.executable, "-c", PROGRAM, str(arguments.part_sites), *command], check=True, capture_output=True
            )
            seconds = time.monotonic() - start
            first = Path(temporary) / next(iter(cases))
            names = sorted(path.name for path in first.iterdir())
            different = filecmp.cmpfiles(first, out, names, shallow=False)[1:]
            comparison = "the same bytes" if different == ([], []) else f"DIFFERENT: {different}"
            print(f"{name}: {seconds:.1f} s wall, {comparison}; load {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    main()
