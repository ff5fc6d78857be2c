"""The sidecar of a shard: what lies where in the tar, and the mark that the tar is committed.

`shard-00007.tar` is described by `shard-00007.json`. A tar without a sidecar is unfinished work. A
sidecar holds the digest of its own content, so that damage to it is noticed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shards import atomic
from shards.configfile import digest
from shards.errors import UserError
from shards.store.schema import SCHEMA_VERSION


class BadSidecar(UserError):
    """A sidecar is missing, damaged, or belongs to another shard or build."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a member's bytes lie in the tar: offset of the first byte, count, CRC32."""

    offset: int
    size: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One sample of a shard: its key, its metadata (`schema.metadata`), its members' places.

    `recording` is the identity of its sound; None without sound, and in shards of older programs.
    `recording_bytes` is the size of the file; None also for a cell of a Parquet file. `content` is
    a hash of the file's bytes, and of which part of it the turn is; `unknown` is that of
    `schema.Sample`. The clean sample alone has these two, and in shards of older programs none.
    """

    key: str
    meta: dict[str, Any]
    members: dict[str, Place]
    recording: str | None = None
    recording_bytes: int | None = None
    content: str | None = None
    unknown: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Remark:
    """A note on one turn of the corpus, for `rejected.jsonl` or `flagged.jsonl`.

    `kind` is a short class of reasons ("silent", "empty text") to count by; `source` says where
    the turn comes from.
    """

    utterance: str
    kind: str
    reason: str
    source: str


@dataclass(frozen=True, slots=True)
class Rejection(Remark):
    """A turn that is in no shard, and why.

    `recording_bytes` is the size of the file that was turned away. None where there was none, where
    the text was the reason, and in shards of older programs. `content` is as in `Entry`.
    """

    recording_bytes: int | None = None
    content: str | None = None


class Flag(Remark):
    """A turn that was kept, and what is odd about it."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Sidecar:
    """All that is known of one committed shard.

    `build` is the digest of the settings that made it; `utterances` counts the turns of its slice
    of the corpus, rejected ones included; `size` and `sha256` are the tar file's. `unknown` is the
    sum of `schema.Sample.unknown` over its turns; None without text and in shards of older
    programs.
    """

    shard: int
    build: str
    utterances: int
    size: int
    sha256: str
    entries: tuple[Entry, ...]
    rejected: tuple[Rejection, ...]
    flagged: tuple[Flag, ...]
    unknown: tuple[int, int] | None = None


def remark_facts(remark: Remark) -> dict[str, Any]:
    """`remark` as it is stored: facts that are not known are left out."""
    return {name: value for name, value in asdict(remark).items() if value is not None}


def shard_name(number: int) -> str:
    """The tar's file name."""
    return f"shard-{number:05d}.tar"


def sidecar_path(folder: Path, number: int) -> Path:
    """The sidecar beside the tar."""
    return folder / f"shard-{number:05d}.json"


def save(folder: Path, sidecar: Sidecar) -> None:
    """Write `sidecar` beside its shard, atomically."""
    content = {
        "schema": SCHEMA_VERSION,
        "shard": shard_name(sidecar.shard),
        "build": sidecar.build,
        "utterances": sidecar.utterances,
        "bytes": sidecar.size,
        "sha256": sidecar.sha256,
        "samples": [
            {
                "key": entry.key,
                "members": {
                    name: [place.offset, place.size, place.crc32]
                    for name, place in entry.members.items()
                },
                "meta": entry.meta,
                **{
                    name: value
                    for name in ("recording", "recording_bytes", "content", "unknown")
                    if (value := getattr(entry, name)) is not None
                },
            }
            for entry in sidecar.entries
        ],
        "rejected": [remark_facts(rejection) for rejection in sidecar.rejected],
        "flagged": [remark_facts(flag) for flag in sidecar.flagged],
        **({"unknown": sidecar.unknown} if sidecar.unknown is not None else {}),
    }
    content["digest"] = digest(content)
    atomic.write(sidecar_path(folder, sidecar.shard), json.dumps(content).encode())


def load(folder: Path, number: int) -> Sidecar:
    """The sidecar of shard `number`.

    Raises:
        BadSidecar: it is missing, damaged, or another shard's. Whether it fits a build is for the
            caller to compare.
    """
    path = sidecar_path(folder, number)
    try:
        content = json.loads(path.read_bytes())
        # The left side is evaluated first: it takes the digest out, the right side hashes the rest.
        if not isinstance(content, dict) or content.pop("digest") != digest(content):
            raise BadSidecar(f"{path} is damaged: its content does not fit its digest")
    except FileNotFoundError:
        raise BadSidecar(f"{path} is missing: the shard was never committed") from None
    except OSError as error:
        raise BadSidecar(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError) as error:
        if isinstance(error, BadSidecar):  # a UserError is a ValueError as well
            raise
        raise BadSidecar(f"{path} is damaged: it is no sidecar ({error})") from None
    if content["schema"] != SCHEMA_VERSION:
        raise BadSidecar(
            f"{path} has schema version {content['schema']}, this program writes {SCHEMA_VERSION}"
        )
    if content["shard"] != shard_name(number):
        raise BadSidecar(f"{path} describes {content['shard']}: it is another shard's sidecar")
    return _parse(number, content)


def _parse(number: int, content: Mapping[str, Any]) -> Sidecar:
    return Sidecar(
        shard=number,
        build=content["build"],
        utterances=content["utterances"],
        size=content["bytes"],
        sha256=content["sha256"],
        entries=tuple(
            Entry(
                sample["key"],
                sample["meta"],
                {name: Place(*place) for name, place in sample["members"].items()},
                sample.get("recording"),
                sample.get("recording_bytes"),
                sample.get("content"),
                tuple(sample["unknown"]) if "unknown" in sample else None,
            )
            for sample in content["samples"]
        ),
        rejected=tuple(Rejection(**rejection) for rejection in content["rejected"]),
        flagged=tuple(Flag(**flag) for flag in content["flagged"]),
        unknown=tuple(content["unknown"]) if "unknown" in content else None,
    )
