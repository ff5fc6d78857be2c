"""Write one shard: encode samples, put them into a tar, commit tar and sidecar atomically.

The bytes depend on the samples alone: mtime 0, fixed owner and mode, sorted members. So any number
of workers and array tasks in any order makes the same files, and two that make the same shard at
once do no harm.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shards import atomic
from shards.errors import UserError
from shards.store.codecs import CODECS
from shards.store.schema import CLEAN, DTYPES, MEMBERS, Sample
from shards.store.sidecar import Entry, Flag, Place, Rejection, Sidecar, save, shard_name


@dataclass(frozen=True, slots=True)
class Copy:
    """A sample whose members but "json" are there already, as bytes by their endings.

    `sample` has what the members do not say: key, metadata, and the facts of its recording.
    """

    sample: Sample
    members: dict[str, bytes]


# Fixed in every tar header: who ran the build is no part of the data.
OWNER, MODE = "emo", 0o444

Item = Sample | Copy | Rejection | Flag  # what the job makes of a turn


class WriteCheckFailed(UserError):
    """What was read back from the disk is not what was written."""


def encode(sample: Sample) -> dict[str, bytes]:
    """The members of `sample` by name within a tar ("json", "logmel.npy", ...), as bytes.

    Arrays are cast to the schema's dtypes. Raises ValueError for an array that the schema does not
    know, or that holds values which its dtype cannot (NaN, more than float16's 65504).
    """
    text = json.dumps(sample.meta, ensure_ascii=False, sort_keys=True, allow_nan=False)
    members = {"json": text.encode()}
    for name, array in sample.arrays.items():
        if name not in DTYPES:
            raise ValueError(f"{sample.key}: no such member: {name!r}; known: {', '.join(DTYPES)}")
        # What is too large for the dtype becomes inf or wraps around; the checks below refuse both.
        with np.errstate(over="ignore", invalid="ignore"):
            cast = np.ascontiguousarray(array, dtype=DTYPES[name])
        if cast.dtype.kind == "f" and not np.isfinite(cast).all():
            raise ValueError(
                f"{sample.key}: {name} holds values that {cast.dtype} cannot: NaN or huge"
            )
        if cast.dtype.kind == "i" and not np.array_equal(cast, array):
            raise ValueError(f"{sample.key}: {name} holds values that {cast.dtype} cannot")
        member = MEMBERS[name]
        members[member.ending] = CODECS[member.codec].encode(cast, sample.rate)
    return members


def write_shard(
    folder: Path, number: int, build: str, utterances: int, items: Iterable[Item]
) -> Sidecar:
    """Write and commit shard `number` of `folder`; return its sidecar.

    `utterances` and `build` go into the sidecar as they are. The shard counts as unmade until the
    sidecar is renamed to its final name, at the very end.

    Raises:
        DiskFull, CannotWrite: the disk refused; no temporary is left.
        WriteCheckFailed: the bytes on the disk are not those written.
    """
    path = folder / shard_name(number)
    draft = atomic.temporary(path)
    samples: list[tuple[Sample, dict[str, bytes]]] = []
    rejected: list[Rejection] = []
    flagged: list[Flag] = []
    for item in items:  # compute everything first: then the draft exists only while it is written
        if isinstance(item, Rejection):
            rejected.append(item)
        elif isinstance(item, Flag):
            flagged.append(item)
        elif isinstance(item, Copy):
            samples.append((item.sample, encode(item.sample) | item.members))
        else:
            # Without its arrays: the bytes are enough, and both would double the memory.
            samples.append((replace(item, arrays={}), encode(item)))
    try:
        with atomic.disk_errors(path):
            _write_tar(draft, samples)
            data = memoryview(draft.read_bytes())
        places = _check(draft, data, samples)
        sidecar = Sidecar(
            shard=number,
            build=build,
            utterances=utterances,
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            entries=tuple(
                Entry(
                    one.key,
                    one.meta,
                    places[one.key],
                    one.recording,
                    one.recording_bytes,
                    one.content,
                    one.unknown if one.meta["variant"] == CLEAN else None,
                )
                for one, _ in samples
            ),
            rejected=tuple(rejected),
            flagged=tuple(flagged),
            unknown=_unknown(sample for sample, _ in samples),
        )
        # The tar first: a sidecar promises that its tar is there.
        with atomic.disk_errors(path):
            atomic.commit(draft, path)
        save(folder, sidecar)
        return sidecar
    finally:
        atomic.discard(draft)


def _unknown(samples: Iterable[Sample]) -> tuple[int, int] | None:
    counts = [
        sample.unknown
        for sample in samples
        if sample.unknown is not None and sample.meta["variant"] == CLEAN
    ]
    return (sum(n for n, _ in counts), sum(n for _, n in counts)) if counts else None


def _write_tar(draft: Path, samples: list[tuple[Sample, dict[str, bytes]]]) -> None:
    with open(draft, "wb") as file:
        tar = tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        try:
            for sample, members in samples:
                for ending in sorted(members):  # as webdataset's own writer does
                    member = tarfile.TarInfo(f"{sample.key}.{ending}")
                    member.size, member.mode = len(members[ending]), MODE
                    member.uname = member.gname = OWNER
                    tar.addfile(member, io.BytesIO(members[ending]))
            tar.close()
        except OSError:
            with suppress(OSError):
                tar.close()  # else its destructor would report a second error, on a closed file
            raise
        file.flush()
        os.fsync(file.fileno())
        # Drop the cached pages, so that the check that follows reads from the device.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _check(
    draft: Path, data: memoryview, samples: list[tuple[Sample, dict[str, bytes]]]
) -> dict[str, dict[str, Place]]:
    """Where each member lies, by key and member name, after comparing all with `samples`."""
    expected = [
        (f"{sample.key}.{name}", len(members[name]), zlib.crc32(members[name]))
        for sample, members in samples
        for name in sorted(members)  # the writer sorts too
    ]
    names = {member.ending: member.name for member in MEMBERS.values()}
    written = []
    places: dict[str, dict[str, Place]] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                body = data[member.offset_data : member.offset_data + member.size]
                place = Place(member.offset_data, member.size, zlib.crc32(body))
                written.append((member.name, place.size, place.crc32))
                key, _, ending = member.name.partition(".")  # a key holds no dot
                places.setdefault(key, {})[names[ending]] = place
    except (tarfile.TarError, KeyError) as error:
        raise WriteCheckFailed(f"{draft} cannot be read back: {error}") from None
    if written != expected:
        raise WriteCheckFailed(
            f"{draft} reads back other than it was written ({len(written)} members against "
            f"{len(expected)}): the disk or its driver is at fault; nothing was committed"
        )
    return places
