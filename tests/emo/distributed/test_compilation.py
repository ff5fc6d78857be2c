"""Operations that DeepSpeed compiles: what a killed process leaves behind stops nobody."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from emo.distributed import compilation

ROOT = Path(__file__).parents[3]


def test_a_lock_that_a_killed_process_left_is_removed(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv(compilation.FOLDER, str(tmp_path))
    (tmp_path / "some_operation").mkdir()
    left = tmp_path / "some_operation" / "lock"
    left.touch()
    with compilation.compilation_lock():
        assert not left.exists()


def test_a_file_system_without_locks_is_no_error(tmp_path: Path, monkeypatch: Any) -> None:
    """Lustre mounted without `flock`; torch's own file says then who compiles."""

    def flock(*_: Any) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setenv(compilation.FOLDER, str(tmp_path))
    monkeypatch.setattr(compilation.fcntl, "flock", flock)
    (tmp_path / "some_operation").mkdir()
    theirs = tmp_path / "some_operation" / "lock"
    theirs.touch()
    with compilation.compilation_lock():
        assert theirs.exists()


def test_a_turn_ends_with_the_process_that_has_it(tmp_path: Path) -> None:
    environment = os.environ | {compilation.FOLDER: str(tmp_path), "PYTHONPATH": str(ROOT)}
    code = (
        "import sys, time\nfrom emo.distributed.compilation import compilation_lock\n"
        "with compilation_lock():\n    print('in', flush=True)\n    time.sleep(float(sys.argv[1]))"
    )

    def start(seconds: float) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code, str(seconds)],
            env=environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    first = start(300)
    assert first.stdout is not None
    assert first.stdout.readline() == "in\n"
    second = start(0)
    time.sleep(1)
    assert second.poll() is None  # it waits
    first.send_signal(signal.SIGKILL)
    assert second.wait(60) == 0
    first.wait()


def test_zero_starts_where_a_compilation_was_killed(tiny: Path, lab: Any) -> None:
    folder = Path(os.environ.get(compilation.FOLDER, f"{sys.prefix}/torch_extensions"))
    if not list(folder.glob("*/*.so")):  # else another test's ZeRO run has compiled it
        first = lab.settings(tiny, lab.folder / "first", train__epochs=1)
        assert lab.train("zero2", first).process.returncode == 0
    compiled = [path for path in folder.iterdir() if path.is_dir()]
    assert compiled
    for path in compiled:
        (path / "lock").touch()
    second = lab.settings(tiny, lab.folder / "second", train__epochs=1)
    assert lab.train("zero2", second).process.returncode == 0
    assert not any((path / "lock").exists() for path in compiled)
