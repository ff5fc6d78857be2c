"""Files that exist completely or not at all: temporary name, fsync, rename, fsync of the folder.

A temporary file is named `<final name>.tmp.<host>.<pid>`, so that whoever finds it later can tell
whether the process that wrote it may still be running.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shards.errors import UserError

TEMPORARY = re.compile(r"\.tmp\.(?P<host>.+)\.(?P<pid>\d+)$")
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
STALE_SECONDS = 24 * 3600.0  # no file takes a day to write: older temporaries are left-overs


class DiskFull(UserError):
    """The file could not be written completely; nothing under its final name has changed."""


class CannotWrite(UserError):
    """The file cannot be written (permissions, read-only mount, a file in the way)."""


def temporary(path: Path) -> Path:
    """The name under which this process writes what will become `path`."""
    return path.with_name(f"{path.name}.tmp.{socket.gethostname()}.{os.getpid()}")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write `path` into user errors."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull(
                f"no room left while writing {path} ({error.strerror}): free some space, or move "
                "the folder, and run the same command again; what was committed stays"
            ) from None
        raise CannotWrite(f"cannot write {path}: {error.strerror or error}") from None


def write(path: Path, data: bytes) -> None:
    """Make `path` hold exactly `data`, atomically; untouched when it already does.

    Raises:
        DiskFull, CannotWrite: as the disk says; the old content is still there.
    """
    if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
        return
    draft = temporary(path)
    try:
        with disk_errors(path):
            _write_draft(draft, data)
            commit(draft, path)
    finally:
        discard(draft)


def create(path: Path, data: bytes) -> bool:
    """Write `path` unless it exists; True if this call has made it.

    If several processes try at the same time, exactly one makes it: unlike a rename, a hard link
    fails if the name is taken.
    """
    draft = temporary(path)
    try:
        with disk_errors(path):
            _write_draft(draft, data)
            try:
                os.link(draft, path)
            except FileExistsError:
                return False
            sync_folder(path.parent)
            return True
    finally:
        discard(draft)


def discard(draft: Path) -> None:
    """Remove the temporary `draft` if it exists. Raises nothing, so as not to hide a real error."""
    with suppress(OSError):
        draft.unlink()


def commit(draft: Path, path: Path) -> None:
    """Rename `draft`, already fsynced, to `path`, and make the rename durable."""
    # fsync before the rename: otherwise, after a power failure, the final name could hold an empty
    # file. And fsync of the folder after it: otherwise the old file could come back.
    os.replace(draft, path)
    sync_folder(path.parent)


def commit_folder(draft: Path, path: Path) -> bool:
    """Rename the folder `draft` to `path`; if `path` exists, remove `draft` and return False."""
    with disk_errors(path):
        for file in sorted(draft.rglob("*")):
            if file.is_file():
                sync_file(file)
        sync_folder(draft)
        try:
            os.rename(draft, path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            shutil.rmtree(draft)
            return False
        sync_folder(path.parent)
        return True


def sync_file(path: Path) -> None:
    """Wait until the data of `path` is on the device."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Wait until the names in folder `path` are on the device."""
    sync_file(path)


def temporaries(folder: Path) -> list[Path]:
    """Every temporary in `folder`, of any process, sorted."""
    return sorted(path for path in folder.iterdir() if TEMPORARY.search(path.name))


def remove_stale(folder: Path) -> list[Path]:
    """Remove temporaries of dead processes on this host, and those that are older than a day.

    Whether a process of another host is alive cannot be known from here, hence the second rule.
    """
    removed = []
    for path in temporaries(folder):
        match = TEMPORARY.search(path.name)
        assert match is not None
        try:
            age = time.time() - path.lstat().st_mtime
        except FileNotFoundError:  # its writer has just renamed it
            continue
        dead = match["host"] == socket.gethostname() and not alive(int(match["pid"]))
        if dead or age > STALE_SECONDS:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _write_draft(draft: Path, data: bytes) -> None:
    with open(draft, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def alive(pid: int) -> bool:
    """Whether process `pid` of this host may still write."""
    try:
        # "pid (name) state ...": cut at the last bracket, because a name may contain one.
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    # A zombie (Z) writes nothing any more; in a container without an init, it may stay for ever.
    return state not in "ZX"


SOCKET_PATH = 107  # bytes that the kernel takes, and Python's own names need some 35 of them


def short_temporary_folder() -> None:
    """Let `multiprocessing` put its sockets into /tmp where the temporary folder is too long.

    Call it before processes are started; they inherit the folder.
    """
    if len(os.fsencode(tempfile.gettempdir())) > SOCKET_PATH - 37:
        tempfile.tempdir = os.environ["TMPDIR"] = "/tmp"
