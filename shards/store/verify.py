"""Find damage in a finished dataset: quickly by sizes and hashes of the small files, or deeply."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from shards import atomic
from shards.build.vocabulary import tokenizer_facts
from shards.corpora.utterance import CODES, NO_MAJORITY
from shards.errors import UserError
from shards.extract import waveform
from shards.extract.lowlevel import KIND as LLD
from shards.extract.lowlevel import WIDTH
from shards.extract.waveform import KIND as WAVEFORM
from shards.progress import progress
from shards.store import sidecar
from shards.store.index import (
    FLAGGED,
    REJECTED,
    TOKENIZER,
    Dataset,
    Manifest,
    ShardEntry,
    open_dataset,
    remedy,
    shard_path,
)
from shards.store.read import decode
from shards.store.schema import DTYPES, VARIANTS
from shards.store.sidecar import MEMBERS, BadSidecar, shard_name


class DamagedDataset(UserError):
    """`verify` has found something; the message lists all of it, and how to repair it."""


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
        np.maximum.at(ends, dataset.column("shard"), offset + size)
    for number, entry in enumerate(manifest.shards):
        yield from _quick_shard(folder, number, entry, manifest.build)
        if rows[number] != entry.samples:
            yield Fault(entry.name, f"{rows[number]} index rows, {entry.samples} in the manifest")
        if ends[number] > entry.bytes:
            yield Fault(entry.name, "index rows point beyond its end")
    known = {entry.name for entry in manifest.shards}
    for path in sorted(folder.glob("shard-*.tar")):
        if path.name not in known:
            yield Fault(path.name, "the manifest knows no such shard: remove it")
    for path in atomic.temporaries(folder):
        yield Fault(path.name, "a temporary file: a build is at work, or was killed")
    for name in (REJECTED, FLAGGED):
        if not (folder / name).is_file():
            yield Fault(name, "missing")
    if manifest.tokenizer is not None:
        try:
            if tokenizer_facts(folder).items() - manifest.tokenizer.items():
                yield Fault(TOKENIZER, "not the tokenizer that the samples were made with")
        except UserError as error:
            yield Fault(TOKENIZER, str(error))


def _quick_shard(folder: Path, number: int, entry: ShardEntry, build: str) -> Iterator[Fault]:
    try:
        size = shard_path(folder, number).stat().st_size
        if size != entry.bytes:
            yield Fault(entry.name, f"{size} bytes, {entry.bytes} in the manifest")
    except OSError as error:
        yield Fault(entry.name, error.strerror or str(error))
    try:
        found = sidecar.load(folder, number)
    except BadSidecar as error:
        yield Fault(sidecar.sidecar_path(folder, number).name, str(error))
        return
    ours = (found.build, found.size, found.sha256, len(found.entries), found.utterances)
    if ours != (build, entry.bytes, entry.sha256, entry.samples, entry.utterances):
        name = sidecar.sidecar_path(folder, number).name
        yield Fault(name, "it does not describe the shard that the manifest was published with")


def _deep(dataset: Dataset, workers: int) -> list[Fault]:
    shards = dataset.manifest.shards
    numbers = dataset.column("shard")
    # Rows of one shard lie together: a worker gets its slice of the index, not the whole.
    begin = np.searchsorted(numbers, np.arange(len(shards)))
    units = [
        (number, entry, dataset.table.slice(int(start), entry.samples).to_pylist())
        for number, (entry, start) in enumerate(zip(shards, begin, strict=True))
    ]
    widths = _widths(dataset.manifest)
    check = partial(_deep_shard, dataset.folder, widths)
    faults: list[Fault] = []
    with progress("verify", len(units), "shards") as advance:
        for found in _each(check, units, workers):
            faults += found
            advance(1)
    return faults


def _each(check: Any, units: Sequence[Any], workers: int) -> Iterator[list[Fault]]:
    if workers == 1 or len(units) == 1:
        yield from map(check, units)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["shards.store.verify"])
    with ProcessPoolExecutor(min(workers, len(units)), context) as pool:
        yield from pool.map(check, units)


def _widths(manifest: Manifest) -> dict[str, int]:
    """The last axis of each kind of array; of the waveform, the samples a second."""
    chosen = manifest.features or {}
    widths = {"logmel": chosen.get("mels", 0), "mfcc": chosen.get("coefficients", 0)}
    widths[WAVEFORM] = chosen.get("sample_rate", 0)
    return widths | manifest.settings.get("vectors", {}).get("widths", {})


def _deep_shard(
    folder: Path, widths: dict[str, int], unit: tuple[int, ShardEntry, list[dict[str, Any]]]
) -> list[Fault]:
    number, entry, rows = unit
    name = shard_name(number)
    try:
        data = shard_path(folder, number).read_bytes()
    except OSError as error:
        return [Fault(name, error.strerror or str(error))]
    faults = []
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        faults.append(Fault(name, "its SHA-256 is not the manifest's"))
    faults += _headers(name, data, rows)
    for row in rows:
        faults += _members(name, memoryview(data), row, widths)
    return faults


def _headers(name: str, data: bytes, rows: list[dict[str, Any]]) -> Iterator[Fault]:
    """Compare the tar's own list of members with the index."""
    found: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                if member.name in found:
                    yield Fault(f"{name}: {member.name}", "there are two of this name")
                found[member.name] = (member.offset_data, member.size)
    except (tarfile.TarError, ValueError) as error:
        yield Fault(name, f"its tar headers are damaged ({error})")
    for row in rows:
        for kind, ending in MEMBERS.items():
            if row[f"{kind}.size"] is None:
                continue
            place = found.pop(f"{row['key']}.{ending}", None)
            if place != (row[f"{kind}.offset"], row[f"{kind}.size"]):
                where = f"{name}: {row['key']}, {kind}"
                yield Fault(where, "the tar header and the index do not agree")
    for extra in found:
        yield Fault(f"{name}: {extra}", "the index knows no such member")


def _members(
    name: str, data: memoryview, row: dict[str, Any], widths: dict[str, int]
) -> Iterator[Fault]:
    """Check the content of one sample's members against the index and the schema."""
    for member in MEMBERS:
        offset, size = row[f"{member}.offset"], row[f"{member}.size"]
        if size is None:
            continue
        where = f"{name}: {row['key']}, {member} at byte {offset}"
        body = data[offset : offset + size]
        if zlib.crc32(body) != row[f"{member}.crc32"]:
            yield Fault(where, "checksum (CRC32) differs")
        elif member == "json":
            meta = json.loads(bytes(body))
            if any(row[key] != value for key, value in meta.items()):
                yield Fault(where, "its metadata is not the index row's")
        else:
            yield from _array(where, member, body, row, widths)
    if row["label"] not in (*CODES, NO_MAJORITY):
        yield Fault(f"{name}: {row['key']}", f"unknown label {row['label']!r}")
    if row["variant"] not in VARIANTS:
        yield Fault(f"{name}: {row['key']}", f"unknown variant {row['variant']!r}")


def _array(
    where: str, member: str, body: memoryview, row: dict[str, Any], widths: dict[str, int]
) -> Iterator[Fault]:
    try:
        if member == WAVEFORM:
            array, rate = waveform.decode(body)
            if rate != widths[WAVEFORM]:
                yield Fault(where, f"{rate} samples a second, not {widths[WAVEFORM]}")
        else:
            array = decode(body)
    except ValueError as error:
        yield Fault(where, str(error))
        return
    if member == "tokens":
        shape: tuple[int, ...] = (row["tokens"],)
    elif member.endswith(("_vector", "_scores")):
        shape = (widths[member],)
    elif member == WAVEFORM:
        shape = (round(row["seconds"] * widths[WAVEFORM]),)
    elif member == LLD:
        shape = (len(array), WIDTH)
    else:
        shape = (row["frames"], widths[member])
    if array.dtype != DTYPES[member]:
        yield Fault(where, f"dtype {array.dtype}, not {DTYPES[member]}")
    if array.shape != shape or 0 in shape:
        yield Fault(where, f"shape {array.shape}, not {shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        yield Fault(where, "it holds NaN or infinite values")
