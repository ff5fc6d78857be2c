"""Publish a dataset: check its limits, write its index and lists, and last of all the manifest."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shards import atomic
from shards.build.claim import BuildFile
from shards.configfile import digest
from shards.corpora.labels import LabelSet, label_set
from shards.errors import UserError
from shards.store.index import (
    FLAGGED,
    INDEX,
    MANIFEST,
    REJECTED,
    SNR_BIN,
    Manifest,
    ShardEntry,
    Summary,
)
from shards.store.schema import ATTRIBUTES, CLEAN, SCHEMA_VERSION, VARIANTS
from shards.store.sidecar import Flag, Rejection, Remark, remark_facts
from shards.store.tokenizer import tokenizer_facts

OUTSIDE = "outside the set"
LATER_COLUMNS = ("recording", "content", ATTRIBUTES)  # left out of an index where no row has one


class TooManyRejected(UserError):
    """More turns were rejected than the configuration allows."""


class TooManyUnknown(UserError):
    """The tokenizer does not know more of the words than the configuration allows."""


@dataclass(frozen=True)
class Content:
    """All that is in the shards: the index (`SCHEMA`), and what the manifest says of each shard."""

    table: pa.Table
    shards: list[ShardEntry]
    rejected: list[Rejection]
    flagged: list[Flag]


def publish(
    folder: Path,
    build: BuildFile,
    content: Content,
    max_rejected: float,
    max_unknown: float | None,
) -> Manifest:
    """Write everything that readers need of the dataset in `folder`, whose shards are there.

    Raises:
        TooManyRejected, TooManyUnknown: see `merge`.
    """
    check_rejected(content.rejected, build.utterances, max_rejected)
    chosen = label_set(build.settings["labels"])
    table = content.table
    unknown = _unknown(content) if build.settings["text"] is not None else None
    if max_unknown is not None:
        _check_unknown(unknown, max_unknown)
    summary = _summary(content, chosen, build.utterances, unknown)
    for name in LATER_COLUMNS:
        if table[name].null_count == len(table):  # shards of older programs: their index stays
            table = table.drop_columns([name])
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
                [one.sha256 for one in content.shards],
            ]
        ),
        settings=build.settings,
        software=build.software,
        labels=labels,
        label_set=chosen.name,
        tokenizer=tokenizer,
        features=_feature_settings(build.settings),
        summary=summary,
        shards=content.shards,
        index_sha256=hashlib.sha256(index).hexdigest(),
        home=build.home,
        history=[*build.history],
    )
    # The manifest comes last: a folder without one, or with one that does not fit the index, is no
    # dataset to any reader.
    home = folder / build.home
    atomic.write(home / REJECTED, _lines(content.rejected))
    atomic.write(home / FLAGGED, _lines(content.flagged))
    atomic.write(home / INDEX, index)
    if build.home:  # if the manifest is damaged one day, this tells which version was the last
        atomic.write(home / MANIFEST, manifest.dump())
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


def _unknown(content: Content) -> float | None:
    """Share of tokens that stand for unknown words; None if a shard with text does not tell."""
    counts = [one.unknown for one in content.shards if one.unknown is not None]
    untold = [number for number, one in enumerate(content.shards) if one.unknown is None]
    with_text = content.table.filter(pc.greater(content.table["tokens"], 0))
    if untold and pc.any(pc.is_in(with_text["shard"], pa.array(untold))).as_py():
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


def _lines(remarks: Iterable[Remark]) -> bytes:
    lines = (json.dumps(remark_facts(one), ensure_ascii=False) + "\n" for one in remarks)
    return "".join(lines).encode()


def _feature_settings(settings: dict[str, Any]) -> dict[str, Any] | None:
    if settings["features"] is None:
        return None
    return {"sample_rate": settings["audio"]["sample_rate"], **settings["features"]}


def _summary(content: Content, labels: LabelSet, utterances: int, unknown: float | None) -> Summary:
    table = content.table
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
        rejected=dict(sorted(Counter(one.kind for one in content.rejected).items())),
        flagged=dict(sorted(Counter(one.kind for one in content.flagged).items())),
        bytes=sum(shard.bytes for shard in content.shards),
        snr={name: ratios[name] for name in sorted(ratios, key=_bin_order)},
        same_recordings=len(recordings) - len(set(recordings)),
        unknown=unknown,
    )


def _snr_bin(ratio: float | None) -> str:
    return "unknown" if ratio is None else str(math.floor(ratio / SNR_BIN) * SNR_BIN)


def _bin_order(name: str) -> float:
    return math.inf if name == "unknown" else float(name)
