"""The lock of a run folder: one live writer, whoever dies how."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from emo import experiment
from shards.errors import UserError

HOLD = """
import sys, time
from pathlib import Path
from emo.experiment import _lock
handle = _lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def test_a_second_writer_is_refused_until_the_first_is_dead(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"another process .process {holder.pid} on "):
            experiment._lock(tmp_path)
    finally:
        holder.kill()
        holder.wait()
    os.close(experiment._lock(tmp_path))  # the kernel has given it up


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, capsys):
    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    os.close(experiment._lock(tmp_path))
    assert "file system without locks (No locks available)" in capsys.readouterr().out
