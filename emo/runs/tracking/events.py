"""TensorBoard's event files of a run: where they are, and cutting off what is repeated.

TensorBoard drops repeated events by itself when a writer names the step from which on it repeats
(`purge_step`), but not of every kind: its Python reader keeps the old texts and curves. So they are
also taken out of the files. A TensorBoard that is reading meanwhile does not mind.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path

from emo.runs import files
from shards import atomic

PATTERN = "events.out.tfevents.*"
# A record: its length (uint64), a checksum of that, its bytes, and a checksum of those.
HEAD, TAIL = 12, 4


def event_files(run: Path) -> list[Path]:
    """The run's event files, oldest first; those of earlier versions are moved to the others."""
    for path in (run / files.OLD_TENSORBOARD).glob(PATTERN):
        path.replace(run / path.name)
    return sorted(run.glob(PATTERN))


def cut_off(paths: list[Path], step: int) -> None:
    """Take all events from `step` on out of event files, and what a killed writer left unfinished.

    Raises:
        shards.atomic.DiskFull, CannotWrite: the files are as they were.
    """
    from tensorboard.compat.proto.event_pb2 import Event

    for path in paths:
        data = path.read_bytes()
        kept = []
        for record in _records(data):
            event = Event.FromString(record[HEAD:-TAIL])
            if event.HasField("file_version") or event.step < step:
                kept.append(record)
        whole = b"".join(kept)
        if whole != data:
            atomic.write(path, whole)


def wait_for_a_later_name(paths: list[Path]) -> None:
    """Wait until a new event file would be sorted behind these: TensorBoard reads them by name.

    Names hold the seconds of the clock. A clock that is far behind is not waited for.
    """
    newest = int(paths[-1].name.split(".")[3]) if paths else 0
    end = time.monotonic() + 5
    while int(time.time()) <= newest and time.monotonic() < end:
        time.sleep(0.05)


def _records(data: bytes) -> Iterator[bytes]:
    """The whole records of an event file, with their lengths and checksums."""
    place = 0
    while place + HEAD <= len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        end = place + HEAD + length + TAIL
        if end > len(data):
            return
        yield data[place:end]
        place = end
