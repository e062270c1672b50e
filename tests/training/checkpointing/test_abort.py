"""A decoder that crashes in a thread ends the process at once; the resumed run has the same result."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from distangle.results import RunFolder, verify_run
from tiny_run import fingerprints, finish_run, tiny_screen, tiny_start

ROOT = Path(__file__).resolve().parents[3]
# Without a cache, images are decoded for every batch; the crash comes in the second epoch.
CRASHING = """
import os, signal, sys
from pathlib import Path
from distangle.images import cache
from distangle.results import RunFolder
from distangle.training import setup, train

class Bare(cache.ImageCache):
    def __init__(self, *given, **named):
        super().__init__(*given, **{**named, "workers": 3, "memory": 0})

real = cache.read_image
root = Path(sys.argv[1])

def read_image(*given, **named):
    if (root / "checkpoints/epoch-0001.json").exists():
        os.kill(os.getpid(), signal.SIGSEGV)
    return real(*given, **named)

cache.read_image, setup.ImageCache = read_image, Bare
train(RunFolder.open(root), advance=lambda words: None, say=lambda words: None)
"""


def test_a_decoder_that_crashes_ends_the_run_at_once_and_it_goes_on_byte_for_byte(tmp_path: Path) -> None:
    screen = tiny_screen(tmp_path)
    whole_run = tiny_start(screen, tmp_path / "runs/whole", epochs=3)
    crashed_run = RunFolder(Path(shutil.copytree(whole_run.root, tmp_path / "runs/struck")))
    finish_run(whole_run)
    process = subprocess.run(
        [sys.executable, "-c", CRASHING, str(crashed_run.root)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert process.returncode == -signal.SIGSEGV, process.stderr[-3000:]
    assert [path.stem for path in crashed_run.checkpoints.glob("*.json")] == ["epoch-0001"]
    assert not crashed_run.describe()["finished"]
    messages: list[str] = []
    finish_run(crashed_run, say=messages.append)
    assert "resumed after epoch 1" in messages
    assert any("it is dead" in sentence for sentence in messages), messages
    assert fingerprints(crashed_run.root) == fingerprints(whole_run.root)
    assert verify_run(crashed_run).differences == ()
