import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from shards import atomic


def test_write_replaces_whole_files_and_leaves_equal_ones(tmp_path: Path) -> None:
    path = tmp_path / "x"
    atomic.write(path, b"one")
    node = path.stat().st_ino
    atomic.write(path, b"one")
    assert path.stat().st_ino == node
    atomic.write(path, b"two")
    assert path.read_bytes() == b"two"
    assert [item.name for item in tmp_path.iterdir()] == ["x"]


def test_a_failed_write_keeps_the_old_content(tmp_path: Path) -> None:
    """The disk gives out in the middle of the file, in a process that may write 1000 bytes."""
    path = tmp_path / "x"
    path.write_bytes(b"old")
    program = (
        "import resource, sys, pathlib; from shards import atomic\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: atomic.write(pathlib.Path(sys.argv[1]), b'x' * 5000)\n"
        "except atomic.DiskFull as error: print(error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert "no room left" in run.stdout
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["x"]


def test_a_place_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(atomic.CannotWrite, match="Not a directory"):
        atomic.write(tmp_path / "file" / "x", b"1")


def test_of_two_folders_the_first_wins(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    assert atomic.commit_folder(tmp_path / "a", tmp_path / "final")
    assert not atomic.commit_folder(tmp_path / "b", tmp_path / "final")
    assert (tmp_path / "final" / "file").read_text() == "a"
    assert [item.name for item in tmp_path.iterdir()] == ["final"]


def test_a_zombie_is_not_alive() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    while b") Z" not in Path(f"/proc/{process.pid}/stat").read_bytes():
        pass
    assert not atomic.alive(process.pid)
    process.wait()
    assert atomic.alive(os.getpid())


def test_atomic_create_has_one_winner(tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert atomic.create(path, b"first")
    assert not atomic.create(path, b"second")
    assert path.read_bytes() == b"first"
    assert [item.name for item in tmp_path.iterdir()] == ["x"]


def test_stale_temporaries_go_and_live_ones_stay(tmp_path: Path) -> None:
    host = socket.gethostname()
    dead, alive = tmp_path / f"a.tmp.{host}.4194399", tmp_path / f"b.tmp.{host}.{os.getpid()}"
    foreign, old = tmp_path / "c.tmp.other.host.17", tmp_path / "d.tmp.other.host.18"
    for path in (dead, alive, foreign, old, tmp_path / "shard.tar"):
        path.write_bytes(b"x")
    os.utime(old, (1e9, 1e9))
    (tmp_path / f"tokenizer.tmp.{host}.4194398").mkdir()
    assert len(atomic.remove_stale(tmp_path)) == 3
    assert {path.name for path in tmp_path.iterdir()} == {alive.name, foreign.name, "shard.tar"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_has_its_own_message(number: int) -> None:
    expected = pytest.raises(atomic.DiskFull, match="no room left while writing /x")
    with expected, atomic.disk_errors(Path("/x")):
        raise OSError(number, os.strerror(number))
