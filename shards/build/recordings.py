"""Whether the corpus' recordings are still those that a folder's shards were made from.

A plain build compares the size of each file, a deep one the sound. Times of files are not compared:
a copy of a corpus has others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from shards.build import claim
from shards.corpora.base import listing, printable
from shards.corpora.embedded import read_recording
from shards.corpora.utterance import Utterance
from shards.errors import UserError
from shards.extract.audio import AudioConfig, AudioError
from shards.extract.audio.turn import load_turn
from shards.store.schema import CLEAN
from shards.store.sidecar import Entry, Rejection, Sidecar

# What decodes and resamples. Another version may change a last bit, and so the sound's hash.
DECODERS = ("numpy", "scipy", "soxr", "soundfile")
LOW_SNR = "low SNR"  # the kind of a rejection for what can be read well
Made = Entry | Rejection
CONTENT = 32  # hex digits of `content_of`: 128 bits
DEEPER = "check=deep compares the sound"


class OtherRecordings(UserError):
    """Recordings were replaced since the shards in the folder were made from them."""


def file_size(one: Utterance) -> int | None:
    """Bytes of the recording's file; None where it is a cell of a Parquet file, or gone."""
    if one.audio is None or one.embedded is not None:
        return None
    try:
        return one.audio.stat().st_size
    except OSError:
        return None


def content_of(one: Utterance) -> str | None:
    """A hash of the bytes of the recording's file, and of which part of it the turn is.

    None where there is no recording, or it cannot be read. Raises UserError as `read_recording`.
    """
    if one.audio is None:
        return None
    try:
        if one.embedded is not None:
            content = hashlib.sha256(read_recording(one)).hexdigest()
        else:
            status = one.audio.stat()
            content = _hash_of(_File(one.audio, (status.st_mtime_ns, status.st_size)))
    except OSError:
        return None
    return hashlib.sha256(f"{content} {one.segment}".encode()).hexdigest()[:CONTENT]


class _File(NamedTuple):
    path: Path
    version: tuple[int, int]  # when it was modified, and its size


@lru_cache(maxsize=64)  # the turns of one long recording follow one another
def _hash_of(one: _File) -> str:
    with one.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def compare(
    folder: Path,
    config: AudioConfig,
    sidecars: Sequence[Sidecar],
    utterances: Sequence[Utterance],
    deep: bool,
    pool: ThreadPoolExecutor,
) -> str:
    """Compare the recordings of `utterances` with what `sidecars`, shards of `folder`, know.

    Rejected recordings are compared too: one that was turned away may have been replaced by a good
    one, which the shards would lack for ever.

    Returns:
        The end of a sentence that says what was compared.

    Raises:
        OtherRecordings: some differ; the message names their turns.
    """
    turns = {one.id: one for one in utterances if one.audio is not None}
    made: dict[str, Made] = {
        entry.meta["utterance"]: entry
        for one in sidecars
        for entry in one.entries
        if entry.meta["variant"] == CLEAN and entry.meta["seconds"] is not None
    }
    made |= {
        one.utterance: one
        for sidecar in sidecars
        for one in sidecar.rejected
        if one.recording_bytes is not None or one.kind == "missing"
    }
    pairs = [(turns[name], one) for name, one in made.items() if name in turns]
    if not pairs:
        return ""
    others = _other_decoders(folder) if deep else []
    deep = deep and not others

    def difference(pair: tuple[Utterance, Made]) -> str | None:
        one, before = pair
        return _size_differs(one, before) or (_sound_differs(one, before, config) if deep else None)

    differences = [line for line in pool.map(difference, pairs) if line is not None]
    if differences:
        raise OtherRecordings(
            f"{len(differences)} of {len(pairs)} recordings are not those that the shards in "
            f"{folder} were made from:\n{listing(differences)}\n"
            "set output.update=yes to redo only these, put the old recordings back, or build into "
            "another output.folder"
        )
    entries = [before for _, before in pairs if isinstance(before, Entry)]
    if deep and all(entry.recording is not None for entry in entries):
        return ", and so is the sound of each recording in them"
    if all(entry.recording_bytes is not None for entry in entries):
        why = f"not the sound: {others[0]} has another version now" if others else DEEPER
        return f", and so is the size of each recording in them ({why})"
    return (
        f", and so are {claim.PROBES} of its recordings, or all where there are fewer; a recording "
        "replaced since is not noticed otherwise: output.update=yes compares every one"
    )


def _other_decoders(folder: Path) -> list[str]:
    software = claim.load(folder).software
    return [name for name in DECODERS if software.get(name) != version(name)]


def _size_differs(one: Utterance, before: Made) -> str | None:
    now = file_size(one)
    if before.recording_bytes == now:
        return None
    if before.recording_bytes is None:
        if isinstance(before, Entry):
            return None
        return printable(f"{one.id}: {one.audio} was missing, and is there now")
    found = "cannot be read" if now is None else f"has {now:,} bytes"
    return printable(f"{one.id}: {one.audio} {found}, not {before.recording_bytes:,}")


def _sound_differs(one: Utterance, before: Made, config: AudioConfig) -> str | None:
    if isinstance(before, Entry) and before.recording is None:
        return None
    try:
        now = load_turn(one, config).identity
    except AudioError as error:
        return None if isinstance(before, Rejection) else printable(f"{one.id}: {error}")
    if isinstance(before, Rejection):
        if before.kind == LOW_SNR:
            return None
        return printable(f"{one.id}: {one.audio} was rejected ({before.kind}), and can be used now")
    return (
        None if now == before.recording else printable(f"{one.id}: {one.audio} has another sound")
    )
