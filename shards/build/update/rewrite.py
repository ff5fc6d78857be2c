"""One shard of an updated dataset: samples copied from the old shard, and only what must, made."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shards.build.worker import Job, Place, SampleMaker, committed, sample_maker
from shards.corpora.utterance import Utterance
from shards.errors import UserError
from shards.extract import text
from shards.extract.audio.turn import TurnReader
from shards.store import sidecar
from shards.store.index import place_of, remedy
from shards.store.schema import ATTRIBUTES, CLEAN, MEMBERS, Sample, facts_of
from shards.store.sidecar import Entry, Flag, Rejection, Sidecar
from shards.store.write import Copy, Item, write_shard

CUT = "text cut"  # the remark that depends on the text


class NotCopied(UserError):
    """A sample of the old shard is damaged, or gone since the update began."""


@dataclass(frozen=True)
class Part:
    """A turn of the new shard.

    `shard` is the name of the old shard that has its samples, None for a turn to be made. Of a
    turn that is copied, `variants` says whether the augmented samples stay, `retold` whether its
    text is another one.
    """

    turn: Utterance
    shard: str | None = None
    variants: bool = True
    retold: bool = False


def rewrite_shard(job: Job, place: Place, parts: Sequence[Part]) -> Sidecar:
    """Make and commit the shard at `place` from `parts`.

    If it is there already, from an update that was stopped, it is kept.

    Raises:
        NotCopied: an old shard is damaged.
        UserError: as `make_shard`.
    """
    existing = committed(job.folder, place)
    if existing is not None:
        return existing
    folder, number = place_of(job.folder, place[0])
    old = {name: _Old(job.folder, name) for name in {p.shard for p in parts if p.shard is not None}}
    reader = TurnReader((p.turn for p in parts if p.shard is None), job.config.audio)
    items = (item for part in parts for item in _items(job, part, reader, old))
    return write_shard(folder, number, place[1], len(parts), items)


def _items(job: Job, part: Part, reader: TurnReader, old: dict[str, _Old]) -> Iterator[Item]:
    if part.shard is None:
        yield from sample_maker(job).items(part.turn, reader)
    else:
        yield from old[part.shard].items(job, part)


class _Old:
    """An old shard, to copy from."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.path = folder, folder / name
        described = sidecar.load(*place_of(folder, name))
        self.entries: dict[str, list[Entry]] = {}
        for entry in described.entries:
            self.entries.setdefault(entry.meta["utterance"], []).append(entry)
        self.remarks: dict[str, list[Flag | Rejection]] = {}
        for remarks in (described.flagged, described.rejected):
            for remark in remarks:
                self.remarks.setdefault(remark.utterance, []).append(remark)

    def items(self, job: Job, part: Part) -> Iterator[Item]:
        one = part.turn
        remarks = [replace(remark, source=one.source) for remark in self.remarks.get(one.id, ())]
        if part.retold:
            remarks = [remark for remark in remarks if remark.kind != CUT]
        yield from remarks
        told: dict[str, Any] = {}
        arrays: dict[str, Any] = {}
        if part.retold:
            cleaned = text.clean(one.text or "")
            told = {"text": cleaned}
            if job.config.text is not None:
                arrays, told, flags = _tokens(sample_maker(job), one, cleaned)
                yield from flags
        with self._opened() as handle:
            for entry in self.entries.get(one.id, ()):
                if entry.meta["variant"] != CLEAN and not part.variants:
                    continue
                members = {
                    MEMBERS[name].ending: self._read(handle, entry, name)
                    for name in entry.members
                    if name != "json" and name not in arrays
                }
                kept = {name: value for name, value in entry.meta.items() if name != ATTRIBUTES}
                sample = Sample(
                    entry.key,
                    kept | facts_of(one) | told,
                    arrays,
                    recording=entry.recording,
                    recording_bytes=entry.recording_bytes,
                    unknown=entry.unknown,
                    content=entry.content,
                )
                if job.config.text is not None and (entry.unknown is None or part.retold):
                    sample = _with_unknown(job, sample)
                yield Copy(sample, members)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NotCopied(
                f"{self.path} cannot be opened ({error.strerror}): has the dataset been updated "
                "meanwhile? Run the same command again"
            ) from None
        try:
            yield handle
        finally:
            os.close(handle)

    def _read(self, handle: int, entry: Entry, name: str) -> bytes:
        place = entry.members[name]
        body = os.pread(handle, place.size, place.offset)
        if zlib.crc32(body) != place.crc32:
            raise NotCopied(
                f"{self.path}: {entry.key}, {name} is damaged (checksum differs), and a damaged "
                f"dataset is not updated; with the corpus as it was, {remedy(self.folder)}"
            )
        return body


def _tokens(
    maker: SampleMaker, one: Utterance, cleaned: str
) -> tuple[dict[str, Any], dict[str, Any], list[Flag]]:
    assert maker.tokens is not None
    ids, cut = maker.tokens(cleaned)
    flags = [Flag(one.id, CUT, f"longer by {cut} tokens", one.source)] if cut else []
    return {"tokens": ids}, {"text": cleaned, "tokens": len(ids)}, flags


def _with_unknown(job: Job, sample: Sample) -> Sample:
    """`sample` with the unknown words of its text, which shards of older programs do not have."""
    tokens = sample_maker(job).tokens
    if sample.meta["variant"] != CLEAN or sample.meta["text"] is None or tokens is None:
        return sample
    return replace(sample, unknown=tokens.unknown(sample.meta["text"]))
