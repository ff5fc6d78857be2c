"""Datasets and samples in words, for `build`, `verify` and `inspect`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow.compute as pc

from shards.errors import UserError
from shards.store.index import SNR_BIN, Dataset, Manifest
from shards.store.read import ShardReader
from shards.store.schema import CLEAN, MEMBERS


def describe_dataset(manifest: Manifest) -> str:
    """The whole set: counts by class, session and variant, hours, what was rejected, SNR."""
    summary = manifest.summary
    features, tokenizer = manifest.features, manifest.tokenizer
    lines = [
        f"{summary.samples} samples of {summary.utterances} turns in {len(manifest.shards)} shards,"
        f" {summary.bytes / 1e6:.1f} MB, {summary.hours:.2f} h of clean speech",
        f"label set   {manifest.label_set}: {_named(summary.classes)}",
        f"sessions    {_named(summary.sessions)}",
        f"variants    {_named(summary.variants)}",
        f"rejected    {_named(summary.rejected) or 'none'}",
        f"flagged     {_named(summary.flagged) or 'none'}",
        *_same_recordings(summary.same_recordings),
        f"features    {_features(features) if features else 'none'}",
        f"tokenizer   {_tokenizer(tokenizer) if tokenizer else 'none'}",
        *_unknown(summary.unknown),
        f"dataset     {manifest.dataset_hash}",
        *_history(manifest),
    ]
    if summary.snr and list(summary.snr) != ["unknown"]:
        lines += ["SNR of the recordings (blind estimate, dB):", *_histogram(summary.snr)]
    return "\n".join(lines)


def describe_sample(dataset: Dataset, key: str) -> str:
    """One sample: metadata, where it lies, and what its arrays hold.

    Raises:
        UserError: no such key (an utterance id stands for its clean variant).
        DamagedSample: it cannot be read as it was written.
    """
    table = dataset.table
    matches = pc.equal(table["key"], key)
    if not pc.any(matches).as_py():
        matches = pc.and_(pc.equal(table["utterance"], key), pc.equal(table["variant"], CLEAN))
    rows = np.flatnonzero(matches.to_numpy())
    if not len(rows):
        turn = key.split("__")[0]
        near = [name for name in table["key"].to_pylist() if turn in name][:3]
        examples = ", ".join(near or table["key"].slice(0, 3).to_pylist())
        raise UserError(f"no sample {key!r} in {dataset.folder}; for example: {examples}")
    row = int(rows[0])
    facts = table.slice(row, 1).to_pylist()[0]
    shard = dataset.manifest.shards[facts["shard"]].name
    lines = [f"row {row} of {len(dataset)}, {shard}"]
    lines += [f"  {name:11} {value}" for name, value in facts.items() if "." not in name]
    for member, array in ShardReader(dataset, list(MEMBERS)).read(row).items():
        place = f"bytes {facts[f'{member}.offset']} + {facts[f'{member}.size']}"
        if member == "json":
            meta = json.loads(array.tobytes())
            lines.append(f"  {member:11} {len(meta)} fields, {place}")
            continue
        # In float64: numpy would add up float16 and float32 numbers in float32.
        stats = f"{array.min():g} to {array.max():g}, mean {array.mean(dtype=np.float64):.4g}"
        lines.append(f"  {member:11} {array.dtype} {list(array.shape)}, {stats}, {place}")
        if member == "tokens":
            lines.append(f"  {'':11} {array.tolist()}")
    return "\n".join(lines)


def _named(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _same_recordings(count: int) -> list[str]:
    if not count:
        return []
    return [
        f"recordings  {count} are the same sound as another; views keep them on one side, but for "
        "the official split"
    ]


def _unknown(share: float | None) -> list[str]:
    if not share:
        return []
    return [
        f"unknown     {100 * share:.2g} % of the tokens are words that the tokenizer does not know "
        "(text.max_unknown sets a limit)"
    ]


def _history(manifest: Manifest) -> list[str]:
    return [
        f"version {number}   {_named(change.turns) or 'the same turns'}; before: "
        f"{change.dataset_hash[:12]}"
        for number, change in enumerate(manifest.history, start=2)
    ]


def _features(chosen: Mapping[str, Any]) -> str:
    rest = (f"{key} {value}" for key, value in chosen.items() if key != "kinds" and value)
    return f"{' and '.join(chosen['kinds'])} ({', '.join(rest)})"


def _tokenizer(chosen: Mapping[str, Any]) -> str:
    return (
        f"{chosen['source']}, {chosen['size']} ids, at most {chosen['max_tokens']} a turn "
        f"({chosen['identity'][:12]})"
    )


def _histogram(bins: Mapping[str, int], width: int = 50) -> list[str]:
    most = max(bins.values())
    lines = []
    for name, count in bins.items():
        label = name if name == "unknown" else f"{name} to {int(name) + SNR_BIN}"
        lines.append(f"  {label:>10} {'#' * round(width * count / most):{width}} {count}")
    return lines
