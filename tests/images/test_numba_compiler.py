"""Compiled loops work even where the compiler cannot write its cache to disk."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

READ = """
import resource, signal, sys
from pathlib import Path
if sys.argv[2] == "no room":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # every write fails, as on a full disk
from distangle.images import channel_statistics, read_image
from distangle.images.jit_threshold import JIT_THRESHOLD, load_kernels, pixel_kernels
JIT_THRESHOLD.count(1 << 40)
image = read_image([Path(sys.argv[1])] * 2, [None, None])
again = read_image([Path(sys.argv[1])] * 2, [None, None])
assert (image == again).all()
assert load_kernels("distangle.images.readers.png_kernels") is not None and pixel_kernels() is not None
print(image.shape, int(image.sum()), channel_statistics(image, transform="none")[0].tolist())
"""


@pytest.mark.parametrize("kind", ["no folder", "no room"])
def test_without_a_folder_for_compiled_loops_images_are_still_read(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("numba")
    path = tmp_path / "x.png"
    pixels = np.arange(1024, dtype=np.uint8).reshape(32, 32)
    Image.fromarray(pixels).save(path)
    cache = path / "below a file" if kind == "no folder" else tmp_path / "cache"
    process = subprocess.run(
        [sys.executable, "-c", READ, str(path), kind],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache), "HOME": str(path), "XDG_CACHE_HOME": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.split(")")[0] == "(2, 32, 32"
    assert f" {2 * int(pixels.sum())} [127.5, 127.5]" in process.stdout
    assert not list(tmp_path.rglob("*.nbc"))


def test_a_module_of_loops_that_cannot_be_imported_is_none() -> None:
    from distangle.images.jit_threshold import load_kernels

    assert load_kernels("distangle.images.no_such_loops") is None
