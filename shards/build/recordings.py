"""Whether the corpus' recordings are still those that a folder's shards were made from.

A plain build compares the size of each file, a deep one the sound. Times of files are not compared:
a copy of a corpus has others.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from shards.build import claim
from shards.corpora.base import listing, printable
from shards.corpora.utterance import Utterance
from shards.errors import UserError
from shards.extract.audio import AudioConfig, AudioError
from shards.extract.audio.turn import load_turn
from shards.store.schema import CLEAN
from shards.store.sidecar import Entry, Sidecar

# What decodes and resamples. Another version may change a last bit, and so the sound's hash.
DECODERS = ("numpy", "scipy", "soxr", "soundfile")
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


def compare(
    folder: Path,
    config: AudioConfig,
    sidecars: Sequence[Sidecar],
    utterances: Sequence[Utterance],
    deep: bool,
    pool: ThreadPoolExecutor,
) -> str:
    """Compare the recordings of `utterances` with what `sidecars`, shards of `folder`, know.

    Rejected turns are in no shard, so theirs are not compared.

    Returns:
        The end of a sentence that says what was compared.

    Raises:
        OtherRecordings: some differ; the message names their turns.
    """
    turns = {one.id: one for one in utterances if one.audio is not None}
    made = {entry.meta["utterance"]: entry for one in sidecars for entry in one.entries
            if entry.meta["variant"] == CLEAN and entry.meta["seconds"] is not None}  # fmt: skip
    pairs = [(turns[name], entry) for name, entry in made.items() if name in turns]
    if not pairs:
        return ""
    others = _other_decoders(folder) if deep else []
    deep = deep and not others

    def difference(pair: tuple[Utterance, Entry]) -> str | None:
        one, entry = pair
        return _size_differs(one, entry) or (_sound_differs(one, entry, config) if deep else None)

    differences = [line for line in pool.map(difference, pairs) if line is not None]
    if differences:
        raise OtherRecordings(
            f"{len(differences)} of {len(pairs)} recordings are not those that the shards in "
            f"{folder} were made from:\n{listing(differences)}\n"
            "put the old recordings back, or build into another output.folder"
        )
    if deep and all(entry.recording is not None for _, entry in pairs):
        return ", and so is the sound of each recording in them"
    if all(entry.recording_bytes is not None for _, entry in pairs):
        why = f"not the sound: {others[0]} has another version now" if others else DEEPER
        return f", and so is the size of each recording in them ({why})"
    return (
        f", and so are {claim.PROBES} of its recordings, or all where there are fewer; a recording "
        "replaced since is not noticed otherwise: build into another output.folder"
    )


def _other_decoders(folder: Path) -> list[str]:
    software = claim.load(folder).software
    return [name for name in DECODERS if software.get(name) != version(name)]


def _size_differs(one: Utterance, entry: Entry) -> str | None:
    now = file_size(one)
    if entry.recording_bytes in (None, now):
        return None
    found = "cannot be read" if now is None else f"has {now:,} bytes"
    return printable(f"{one.id}: {one.audio} {found}, not {entry.recording_bytes:,}")


def _sound_differs(one: Utterance, entry: Entry, config: AudioConfig) -> str | None:
    if entry.recording is None:
        return None
    try:
        if load_turn(one, config).identity == entry.recording:
            return None
        return printable(f"{one.id}: {one.audio} has another sound")
    except AudioError as error:
        return printable(f"{one.id}: {error}")
