"""Make one dataset of all committed shards: index, rejected turns, and finally the manifest."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shards import atomic
from shards.build.claim import BuildFile
from shards.configfile import digest
from shards.corpora.labels import LabelSet, label_set
from shards.errors import UserError
from shards.store import sidecar
from shards.store.index import (
    COLUMNS,
    FLAGGED,
    INDEX,
    MANIFEST,
    REJECTED,
    SCHEMA,
    SNR_BIN,
    Manifest,
    ShardEntry,
    Summary,
    shard_path,
)
from shards.store.schema import CLEAN, MEMBERS, SCHEMA_VERSION, VARIANTS
from shards.store.sidecar import BadSidecar, Entry, Flag, Rejection, Remark, Sidecar
from shards.store.tokenizer import tokenizer_facts

OUTSIDE = "outside the set"


class IncompleteDataset(UserError):
    """Shards are missing; the message names them, and the array tasks that would make them."""


class TooManyRejected(UserError):
    """More turns were rejected than the configuration allows."""


class TooManyUnknown(UserError):
    """The tokenizer does not know more of the words than the configuration allows."""


def merge(
    folder: Path,
    build: BuildFile,
    max_rejected: float,
    tasks: int | None = None,
    max_unknown: float | None = None,
) -> Manifest:
    """Publish the dataset in `folder`, made by `build`; repeating it changes nothing.

    Args:
        max_rejected: the largest share of turns that may have been rejected.
        tasks: the number of array tasks, to name those whose shards are missing.
        max_unknown: the largest share of tokens that may stand for unknown words; None: no limit.

    Raises:
        IncompleteDataset: shards are missing, damaged or of another build.
        TooManyRejected, TooManyUnknown: as `max_rejected` and `max_unknown` say.
    """
    sidecars = _load_all(folder, build, tasks)
    rejected = [rejection for one in sidecars for rejection in one.rejected]
    check_rejected(rejected, build.utterances, max_rejected)
    flagged = [flag for one in sidecars for flag in one.flagged]
    chosen = label_set(build.settings["labels"])
    shards = [
        ShardEntry(
            name=sidecar.shard_name(one.shard),
            bytes=one.size,
            sha256=one.sha256,
            samples=len(one.entries),
            utterances=one.utterances,
        )
        for one in sidecars
    ]
    table = pa.concat_tables(_table(one, chosen) for one in sidecars)
    unknown = _unknown(sidecars) if build.settings["text"] is not None else None
    if max_unknown is not None:
        _check_unknown(unknown, max_unknown)
    summary = _summary(table, chosen, build.utterances, rejected, flagged, shards)
    summary = summary.model_copy(update={"unknown": unknown})
    if table["recording"].null_count == len(table):  # shards of older programs: their index stays
        table = table.drop_columns(["recording"])
    buffer = io.BytesIO()  # in memory first: the manifest holds the hash of the index
    pq.write_table(table, buffer, compression="zstd")
    index = buffer.getvalue()
    tokenizer = None
    if (text := build.settings["text"]) is not None:
        tokenizer = tokenizer_facts(folder) | {"max_tokens": text["max_tokens"]}
    labels = dict(zip(chosen.classes, map(list, chosen.codes), strict=True))
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        build=build.digest,
        dataset_hash=digest(
            [
                SCHEMA_VERSION,
                list(labels.items()),
                tokenizer and tokenizer["identity"],
                [one.sha256 for one in sidecars],
            ]
        ),
        settings=build.settings,
        software=build.software,
        labels=labels,
        label_set=chosen.name,
        tokenizer=tokenizer,
        features=_feature_settings(build.settings),
        summary=summary,
        shards=shards,
        index_sha256=hashlib.sha256(index).hexdigest(),
    )
    # The manifest comes last: a folder without one, or with one that does not fit the index, is no
    # dataset to any reader.
    atomic.write(folder / REJECTED, _lines(rejected))
    atomic.write(folder / FLAGGED, _lines(flagged))
    atomic.write(folder / INDEX, index)
    atomic.write(folder / MANIFEST, manifest.dump())
    return manifest


def check_rejected(rejected: Sequence[Rejection], turns: int, limit: float) -> None:
    """Raise `TooManyRejected`, with turns and reasons, if they exceed the share `limit`.

    `turns` is the number of turns in the corpus.
    """
    if len(rejected) <= limit * turns:
        return
    kinds = Counter(one.kind for one in rejected)
    lines = [f"{one.kind}: {one.utterance} ({one.source}): {one.reason}" for one in rejected]
    more = [f"… and {len(lines) - 20} more"] if len(lines) > 20 else []
    raise TooManyRejected(
        f"{len(rejected)} of {turns} turns were rejected "
        f"({', '.join(f'{kind}: {count}' for kind, count in sorted(kinds.items()))}), more than "
        f"output.max_rejected={limit:g} allows:\n  " + "\n  ".join(lines[:20] + more) + "\n"
        "correct the corpus, or raise output.max_rejected to leave these turns out"
    )


def _unknown(sidecars: Sequence[Sidecar]) -> float | None:
    """Share of tokens that stand for unknown words; None if a shard with text does not tell."""
    counts = []
    for one in sidecars:
        if one.unknown is not None:
            counts.append(one.unknown)
        elif any(entry.meta["tokens"] for entry in one.entries):
            return None
    tokens = sum(count for _, count in counts)
    return round(sum(count for count, _ in counts) / max(tokens, 1), 6)


def _check_unknown(share: float | None, limit: float) -> None:
    if share is None:
        raise TooManyUnknown(
            "text.max_unknown is set, but shards made by an older program do not tell how many "
            "words are unknown: build into another output.folder, or set text.max_unknown=null"
        )
    if share > limit:
        raise TooManyUnknown(
            f"{100 * share:.3g} % of the tokens are words that the tokenizer does not know, more "
            f"than text.max_unknown={limit:g} allows: check that text.tokenizer fits the language "
            "of the corpus, learn a larger vocabulary (text.learn), or raise text.max_unknown"
        )


def _load_all(folder: Path, build: BuildFile, tasks: int | None) -> list[Sidecar]:
    sidecars, missing = [], []
    for number in range(build.shards):
        try:
            one = sidecar.load(folder, number)
            if one.build != build.digest:
                raise BadSidecar(f"{sidecar.sidecar_path(folder, number)} is of another build")
            if not shard_path(folder, number).is_file():
                raise BadSidecar(f"{shard_path(folder, number)} is missing")
            if shard_path(folder, number).stat().st_size != one.size:
                raise BadSidecar(f"{shard_path(folder, number)} has another size than recorded")
            sidecars.append(one)
        except BadSidecar as problem:
            missing.append((number, str(problem)))
    if missing:
        shown = [f"{sidecar.shard_name(number)}: {problem}" for number, problem in missing[:20]]
        if len(missing) > 20:
            shown.append(f"… and {len(missing) - 20} more")
        if tasks:
            repeat = sorted({number % tasks for number, _ in missing})
            how = f"run these of the {tasks} array tasks again: task={','.join(map(str, repeat))}"
        else:
            how = "run `emo-shards build` again (with tasks=N here, the array tasks are named)"
        raise IncompleteDataset(
            f"{len(missing)} of {build.shards} shards are not there:\n  "
            + "\n  ".join(shown)
            + f"\n{how}"
        )
    return sidecars


def _table(one: Sidecar, labels: LabelSet) -> pa.Table:
    return pa.Table.from_pylist([_row(one.shard, entry, labels) for entry in one.entries], SCHEMA)


def _row(shard: int, entry: Entry, labels: LabelSet) -> dict[str, Any]:
    row = dict(entry.meta)
    row |= {"key": entry.key, "shard": shard, "dropped": labels.distribution(row["votes"])[1]}
    row["recording"] = entry.recording
    for name in MEMBERS:
        place = entry.members.get(name)
        row[f"{name}.offset"] = place and place.offset
        row[f"{name}.size"] = place and place.size
        row[f"{name}.crc32"] = place and place.crc32
    assert row.keys() == COLUMNS.keys(), row.keys() ^ COLUMNS.keys()
    return row


def _lines(remarks: Iterable[Remark]) -> bytes:
    lines = (json.dumps(sidecar.remark_facts(one), ensure_ascii=False) + "\n" for one in remarks)
    return "".join(lines).encode()


def _feature_settings(settings: dict[str, Any]) -> dict[str, Any] | None:
    if settings["features"] is None:
        return None
    return {"sample_rate": settings["audio"]["sample_rate"], **settings["features"]}


def _summary(
    table: pa.Table,
    labels: LabelSet,
    utterances: int,
    rejected: Sequence[Rejection],
    flagged: Sequence[Flag],
    shards: Iterable[ShardEntry],
) -> Summary:
    variants = table["variant"].to_pylist()
    clean = table.filter(pa.array([variant == CLEAN for variant in variants], pa.bool_()))
    names = (*labels.classes, OUTSIDE)
    classes = Counter(names[labels.class_of(code)] for code in clean["label"].to_pylist())
    seconds = [value for value in clean["seconds"].to_pylist() if value is not None]
    ratios = Counter(_snr_bin(value) for value in clean["snr"].to_pylist())
    recordings = [name for name in clean["recording"].to_pylist() if name is not None]
    return Summary(
        utterances=utterances,
        samples=table.num_rows,
        classes={name: classes[name] for name in names},
        sessions=dict(sorted(Counter(clean["session"].to_pylist()).items())),
        variants={name: variants.count(name) for name in VARIANTS if name in variants},
        hours=round(math.fsum(seconds) / 3600, 4),
        rejected=dict(sorted(Counter(one.kind for one in rejected).items())),
        flagged=dict(sorted(Counter(one.kind for one in flagged).items())),
        bytes=sum(shard.bytes for shard in shards),
        snr={name: ratios[name] for name in sorted(ratios, key=_bin_order)},
        same_recordings=len(recordings) - len(set(recordings)),
    )


def _snr_bin(ratio: float | None) -> str:
    return "unknown" if ratio is None else str(math.floor(ratio / SNR_BIN) * SNR_BIN)


def _bin_order(name: str) -> float:
    return math.inf if name == "unknown" else float(name)
