"""Make one dataset of all committed shards: index, rejected turns, and finally the manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from shards.build.claim import BuildFile
from shards.build.publish import Content, publish
from shards.corpora.labels import LabelSet, label_set
from shards.errors import UserError
from shards.store import sidecar
from shards.store.index import COLUMNS, SCHEMA, Manifest, ShardEntry, place_of
from shards.store.schema import ATTRIBUTES, MEMBERS
from shards.store.sidecar import BadSidecar, Entry, Sidecar


class IncompleteDataset(UserError):
    """Shards are missing; the message names them, and the array tasks that would make them."""


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
    chosen = label_set(build.settings["labels"])
    places = zip(build.places, sidecars, strict=True)
    content = Content(
        table=pa.concat_tables(rows_of(one, n, chosen) for n, one in enumerate(sidecars)),
        shards=[entry_of(name, one, build) for (name, _), one in places],
        rejected=[rejection for one in sidecars for rejection in one.rejected],
        flagged=[flag for one in sidecars for flag in one.flagged],
    )
    return publish(folder, build, content, max_rejected, max_unknown)


def _load_all(folder: Path, build: BuildFile, tasks: int | None) -> list[Sidecar]:
    sidecars, missing = [], []
    for number, (name, made_by) in enumerate(build.places):
        try:
            place, path = place_of(folder, name), folder / name
            one = sidecar.load(*place)
            if one.build != made_by:
                raise BadSidecar(f"{sidecar.sidecar_path(*place)} is of another build")
            if not path.is_file():
                raise BadSidecar(f"{path} is missing")
            if path.stat().st_size != one.size:
                raise BadSidecar(f"{path} has another size than recorded")
            sidecars.append(one)
        except BadSidecar as problem:
            missing.append((number, name, str(problem)))
    if missing:
        shown = [f"{name}: {problem}" for _, name, problem in missing[:20]]
        if len(missing) > 20:
            shown.append(f"… and {len(missing) - 20} more")
        if tasks:
            repeat = sorted({number % tasks for number, _, _ in missing})
            how = f"run these of the {tasks} array tasks again: task={','.join(map(str, repeat))}"
        else:
            how = "run `emo-shards build` again (with tasks=N here, the array tasks are named)"
        raise IncompleteDataset(
            f"{len(missing)} of {build.shards} shards are not there:\n  "
            + "\n  ".join(shown)
            + f"\n{how}"
        )
    return sidecars


def rows_of(one: Sidecar, shard: int, labels: LabelSet) -> pa.Table:
    """The index rows of a shard, which is number `shard` of the manifest."""
    return pa.Table.from_pylist([_row(shard, entry, labels) for entry in one.entries], SCHEMA)


def entry_of(name: str, one: Sidecar, build: BuildFile) -> ShardEntry:
    """What the manifest of `build` says of a shard."""
    return ShardEntry(
        name=name,
        bytes=one.size,
        sha256=one.sha256,
        samples=len(one.entries),
        utterances=one.utterances,
        build=None if one.build == build.digest else one.build,
        unknown=one.unknown,
    )


def _row(shard: int, entry: Entry, labels: LabelSet) -> dict[str, Any]:
    row = dict(entry.meta)
    row |= {"key": entry.key, "shard": shard, "dropped": labels.distribution(row["votes"])[1]}
    row.setdefault(ATTRIBUTES, None)
    row |= {"recording": entry.recording, "content": entry.content}
    for name in MEMBERS:
        place = entry.members.get(name)
        row[f"{name}.offset"] = place and place.offset
        row[f"{name}.size"] = place and place.size
        row[f"{name}.crc32"] = place and place.crc32
    assert row.keys() == COLUMNS.keys(), row.keys() ^ COLUMNS.keys()
    return row
