"""File systems that are really full or really small: a tmpfs of a few MB, and 64 kB of shared memory."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from distangle.results import RunFolder, verify_run
from tiny_run import fingerprints, finish_run, tiny_screen, tiny_start

ROOT = Path(__file__).resolve().parents[3]
EPOCHS = 20
TRAIN = f'"{sys.executable}" -m distangle train --resume'


def privately(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in its own mount namespace: its mounts are private and end with it."""
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", script, "bash", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")},
    )


pytestmark = pytest.mark.skipif(
    shutil.which("unshare") is None or privately("mount -t tmpfs -o size=64k tmpfs /dev/shm").returncode != 0,
    reason="nothing can be mounted here: needs `unshare` and user namespaces",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """screen/, runs/whole (trained) and runs/fresh (not trained), and an empty mounted/."""
    root = tmp_path_factory.mktemp("mounted")
    screen = tiny_screen(root)
    for name in ("whole", "fresh"):
        tiny_start(screen, root / "runs" / name, epochs=EPOCHS)
    finish_run(RunFolder.open(root / "runs/whole"))
    (root / "mounted").mkdir()
    return root


def test_64_kb_of_shared_memory_are_enough(folder: Path) -> None:
    run = Path(shutil.copytree(folder / "runs/fresh", folder / "runs/shared memory"))
    process = privately(f'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec {TRAIN} "$1"', str(run))
    assert process.returncode == 0, process.stderr[-3000:]
    assert fingerprints(run) == fingerprints(folder / "runs/whole")


# The run lies on the small disk; when an epoch is done, another program fills it to the last byte.
FILL = f"""
mount -t tmpfs -o size=48m tmpfs "$1/mounted" || exit 99
cp -r "$1/runs/fresh" "$1/mounted/run"
sed -i 's#"screen": .*#"screen": "../../screen",#' "$1/mounted/run/run.json"
{TRAIN} "$1/mounted/run" &
until [ -e "$1/mounted/run/checkpoints/epoch-0001.json" ]; do sleep .01; kill -0 $! || exit 98; done
cat /dev/zero > "$1/mounted/other" 2> /dev/null
wait $!
status=$?
cp -r "$1/mounted/run" "$1/runs/filled"
exit $status
"""


def test_a_disk_that_another_program_fills_ends_the_run_with_path_needed_and_free_and_no_state_is_lost(
    folder: Path,
) -> None:
    process = privately(FILL, str(folder))
    message = " ".join(process.stderr.split())
    assert process.returncode == 1, (process.returncode, message)
    assert f"{folder}/mounted/run/" in message
    assert "was not written: no space left on device. Needed: " in message
    assert "; free: 0 bytes." in message
    assert "The earlier file is untouched; free some space and try again." in message
    assert "The last good state is after epoch " in message
    run = RunFolder.open(folder / "runs/filled")
    assert not run.describe()["finished"]
    finish_run(run)
    assert fingerprints(run.root) == fingerprints(folder / "runs/whole")
    assert verify_run(run).differences == ()


def test_a_disk_too_small_is_refused_before_the_first_step(folder: Path) -> None:
    script = f"""
        mount -t tmpfs -o size=2m tmpfs "$1/mounted" && cp -r "$1/runs/fresh" "$1/mounted/run" || exit 99
        {TRAIN} "$1/mounted/run" "$1/screen"
        status=$?
        ls "$1/mounted/run"
        exit $status
    """
    process = privately(script, str(folder))
    message = " ".join(process.stderr.split())
    assert process.returncode == 1, message
    assert "has no room for the checkpoints of this training: about " in message
    assert "Make room, or name a folder on another disk." in message
    assert "checkpoints" not in process.stdout
