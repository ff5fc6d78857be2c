"""Find damage in a finished dataset: quickly by sizes and hashes of the small files, or deeply."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from shards import atomic
from shards.corpora.words import code_of
from shards.errors import UserError
from shards.extract.features import FEATURES
from shards.progress import progress
from shards.store import sidecar
from shards.store.codecs import CODECS
from shards.store.index import (
    FLAGGED,
    REJECTED,
    TOKENIZER,
    Dataset,
    Manifest,
    ShardEntry,
    open_dataset,
    place_of,
    remedy,
)
from shards.store.schema import MEMBERS, VARIANTS, Member
from shards.store.sidecar import BadSidecar
from shards.store.tokenizer import tokenizer_facts


class DamagedDataset(UserError):
    """`verify` has found faults; the message lists them, and how to repair the dataset."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. `where` is a file, or `file: key, member`."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def check_dataset(folder: str | Path, deep: bool = False, workers: int | None = None) -> Manifest:
    """Check the dataset in `folder` and return its manifest.

    Raises:
        BadDataset: there is no finished dataset, or manifest or index are damaged.
        DamagedDataset: anything else is wrong.
    """
    dataset, faults = find_faults(folder, deep, workers)
    if faults:
        lines = [str(fault) for fault in faults[:50]]
        if len(faults) > 50:
            lines.append(f"… and {len(faults) - 50} more")
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise DamagedDataset(
            f"{count} in {folder}:\n  " + "\n  ".join(lines) + f"\n{remedy(dataset.folder)}"
        )
    return dataset.manifest


def find_faults(
    folder: str | Path, deep: bool = False, workers: int | None = None
) -> tuple[Dataset, list[Fault]]:
    """The opened dataset and all its faults.

    Quick: every file is there and has its size, sidecars are whole and agree with the manifest,
    index rows lie inside their shards, the tokenizer is the manifest's. Deep: besides, every byte
    of every shard is read: SHA-256, tar headers, each member's CRC32, dtype, shape, NaN, label.

    Raises:
        BadDataset: as `open_dataset`; with a damaged manifest or index nothing can be compared.
    """
    dataset = open_dataset(folder)
    faults = list(_quick(dataset))
    if deep:
        faults += _deep(dataset, workers or len(os.sched_getaffinity(0)))
    return dataset, list(dict.fromkeys(faults))


def _quick(dataset: Dataset) -> Iterator[Fault]:
    folder, manifest = dataset.folder, dataset.manifest
    rows = np.bincount(dataset.column("shard"), minlength=len(manifest.shards))
    ends = np.zeros(len(rows), np.int64)
    for name in MEMBERS:
        offset, size = (
            np.nan_to_num(dataset.column(f"{name}.{what}")).astype(np.int64)
            for what in ("offset", "size")
        )
        # `ends[shard] = np.maximum(...)` would keep one row a shard; `.at` takes every one.
        np.maximum.at(ends, dataset.column("shard"), offset + size)
    for number, entry in enumerate(manifest.shards):
        yield from _quick_shard(folder, entry, manifest.build)
        if rows[number] != entry.samples:
            yield Fault(entry.name, f"{rows[number]} index rows, {entry.samples} in the manifest")
        if ends[number] > entry.bytes:
            yield Fault(entry.name, "index rows point beyond its end")
    known = {entry.name for entry in manifest.shards}
    for path in sorted(folder.glob("shard-*.tar")):
        # After an update shards of the version before may be left over: the next build clears up.
        if path.name not in known and not manifest.history:
            yield Fault(path.name, "the manifest knows no such shard: remove it")
    for path in atomic.temporaries(folder):
        yield Fault(path.name, "a temporary file: a build is at work, or was killed")
    for name in (REJECTED, FLAGGED):
        if not (folder / manifest.home / name).is_file():
            yield Fault(name, "missing")
    if manifest.tokenizer is not None:
        try:
            # A difference of sets, not inequality: the manifest also holds `max_tokens`.
            if tokenizer_facts(folder).items() - manifest.tokenizer.items():
                yield Fault(TOKENIZER, "not the tokenizer that the samples were made with")
        except UserError as error:
            yield Fault(TOKENIZER, str(error))


def _quick_shard(folder: Path, entry: ShardEntry, build: str) -> Iterator[Fault]:
    place = place_of(folder, entry.name)
    described = sidecar.sidecar_path(*place).relative_to(folder).as_posix()
    try:
        size = (folder / entry.name).stat().st_size
        if size != entry.bytes:
            yield Fault(entry.name, f"{size} bytes, {entry.bytes} in the manifest")
    except OSError as error:
        yield Fault(entry.name, error.strerror or str(error))
    try:
        beside = sidecar.load(*place)
    except BadSidecar as error:
        yield Fault(described, str(error))
        return
    facts = (beside.build, beside.size, beside.sha256, len(beside.entries), beside.utterances)
    if facts != (entry.build or build, entry.bytes, entry.sha256, entry.samples, entry.utterances):
        yield Fault(
            described, "it does not describe the shard that the manifest was published with"
        )


def _deep(dataset: Dataset, workers: int) -> list[Fault]:
    shards = dataset.manifest.shards
    numbers = dataset.column("shard")
    # The index is sorted by shard, so each worker gets one slice of it instead of the whole.
    begin = np.searchsorted(numbers, np.arange(len(shards)))
    units = [
        (entry, dataset.table.slice(int(start), entry.samples).to_pylist())
        for entry, start in zip(shards, begin, strict=True)
    ]
    check = partial(_deep_shard, dataset.folder, _expected(dataset.manifest))
    faults: list[Fault] = []
    with progress("verify", len(units), "shards") as advance:
        for of_shard in _each(check, units, workers):
            faults += of_shard
            advance(1)
    return faults


def _each(check: Any, units: Sequence[Any], workers: int) -> Iterator[list[Fault]]:
    if workers == 1 or len(units) == 1:
        yield from map(check, units)
        return
    # Workers are forked from a server that has loaded this module once. Forking this process would
    # copy locks that its other threads hold. The module is named by a string, which no import
    # checks: a wrong name only makes every worker slow to start.
    atomic.short_temporary_folder()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["shards.store.verify"])
    with ProcessPoolExecutor(min(workers, len(units)), context) as pool:
        yield from pool.map(check, units)


@dataclass(frozen=True)
class Expected:
    """What the manifest says of arrays: `widths` of members, `rate` of waveforms (Hz)."""

    widths: dict[str, int]
    rate: int

    def shape(self, member: Member, array: np.ndarray, row: Mapping[str, Any]) -> tuple[int, ...]:
        """The shape that `array`, the `member` of index row `row`, should have."""
        return tuple(_AXES[axis](self, member.name, array, row) for axis in member.axes)


# The size of an axis (see `Member.axes`) from the manifest, the member, the array and its row.
_AXES: dict[str, Callable[[Expected, str, np.ndarray, Mapping[str, Any]], int]] = {
    "frames": lambda manifest, name, array, row: row["frames"],
    "tokens": lambda manifest, name, array, row: row["tokens"],
    "samples": lambda manifest, name, array, row: round(row["seconds"] * manifest.rate),
    "own frames": lambda manifest, name, array, row: len(array),  # recorded nowhere else
    "width": lambda manifest, name, array, row: manifest.widths[name],
}


def _expected(manifest: Manifest) -> Expected:
    config = manifest.feature_config
    widths = {one.name: one.width(config.of(one)) for one in FEATURES.values() if one.width}
    widths |= manifest.settings.get("vectors", {}).get("widths", {})
    return Expected(widths, manifest.sample_rate)


def _deep_shard(
    folder: Path, expected: Expected, unit: tuple[ShardEntry, list[dict[str, Any]]]
) -> list[Fault]:
    entry, rows = unit
    name = entry.name
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        return [Fault(name, error.strerror or str(error))]
    faults = []
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        faults.append(Fault(name, "its SHA-256 is not the manifest's"))
    faults += _headers(name, data, rows)
    for row in rows:
        faults += _members(name, memoryview(data), row, expected)
    return faults


def _headers(name: str, data: bytes, rows: list[dict[str, Any]]) -> Iterator[Fault]:
    """Compare the tar's own list of members with the index."""
    in_tar: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for file in tar:
                if file.name in in_tar:
                    yield Fault(f"{name}: {file.name}", "there are two of this name")
                in_tar[file.name] = (file.offset_data, file.size)
    except (tarfile.TarError, ValueError) as error:
        yield Fault(name, f"its tar headers are damaged ({error})")
    for row in rows:
        for kind, member in MEMBERS.items():
            if row[f"{kind}.size"] is None:
                continue
            place = in_tar.pop(f"{row['key']}.{member.ending}", None)
            if place != (row[f"{kind}.offset"], row[f"{kind}.size"]):
                where = f"{name}: {row['key']}, {kind}"
                yield Fault(where, "the tar header and the index do not agree")
    for extra in in_tar:  # whatever no index row has taken out
        yield Fault(f"{name}: {extra}", "the index knows no such member")


def _members(
    name: str, data: memoryview, row: dict[str, Any], expected: Expected
) -> Iterator[Fault]:
    """Check the content of one sample's members against the index and the schema."""
    for kind, member in MEMBERS.items():
        offset, size = row[f"{kind}.offset"], row[f"{kind}.size"]
        if size is None:
            continue
        where = f"{name}: {row['key']}, {kind} at byte {offset}"
        body = data[offset : offset + size]
        if zlib.crc32(body) != row[f"{kind}.crc32"]:
            yield Fault(where, "checksum (CRC32) differs")
        elif member.dtype is None:
            meta = json.loads(bytes(body))
            if any(row[key] != value for key, value in meta.items()):
                yield Fault(where, "its metadata is not the index row's")
        else:
            yield from _array(where, member, body, row, expected)
    if not row["label"] or code_of(row["label"]) != row["label"]:
        yield Fault(f"{name}: {row['key']}", f"unknown label {row['label']!r}")
    if row["variant"] not in VARIANTS:
        yield Fault(f"{name}: {row['key']}", f"unknown variant {row['variant']!r}")


def _array(
    where: str, member: Member, body: memoryview, row: dict[str, Any], expected: Expected
) -> Iterator[Fault]:
    try:
        array, rate = CODECS[member.codec].decode(body)
    except ValueError as error:
        yield Fault(where, str(error))
        return
    if rate is not None and rate != expected.rate:
        yield Fault(where, f"{rate} samples a second, not {expected.rate}")
    if array.dtype != member.dtype:
        yield Fault(where, f"dtype {array.dtype}, not {member.dtype}")
    shape = expected.shape(member, array, row)
    if array.shape != shape or 0 in shape:
        yield Fault(where, f"shape {array.shape}, not {shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        yield Fault(where, "it holds NaN or infinite values")
