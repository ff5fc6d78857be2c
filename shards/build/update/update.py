"""Update a published dataset to its corpus as it is now, at the cost of what has changed.

The new version gets a folder of its own in the dataset's, `v2`, `v3` and so on: its index, the
shards that are new, and all else that belongs to it alone. Shards in which nothing has changed stay
where they are. The one file that readers begin with, the manifest, is replaced last. Until then
readers see the older version whole, and from then on the newer one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pyarrow as pa

from shards import atomic
from shards.build.claim import BuildFile, build_file
from shards.build.merge import entry_of, rows_of
from shards.build.pool import each_made
from shards.build.publish import Content, check_rejected, publish
from shards.build.update.changes import (
    find_changes,
)
from shards.build.update.plan import Before, Plan, flags_of, plan, same_settings
from shards.build.update.rewrite import rewrite_shard
from shards.build.worker import Job
from shards.config import ShardConfig
from shards.configfile import dump
from shards.corpora.base import Corpus
from shards.corpora.labels import label_set
from shards.errors import UserError
from shards.progress import progress
from shards.store import sidecar
from shards.store.index import (
    BUILD,
    CONFIG,
    FLAGGED,
    REJECTED,
    SCHEMA,
    TRUTH,
    Manifest,
    place_of,
)
from shards.store.sidecar import Flag, Rejection, Sidecar, shard_name

FEW = 256  # turns that are made in this process: workers would take as long to start


def changed_corpus(config: ShardConfig, corpus: Corpus) -> str | None:
    """What is different between the dataset in `output.folder` and `corpus`, in words.

    None where there is no finished dataset with the settings of `config`, or nothing is different.
    """
    try:
        before = Before.of(config.output.folder)
        same = same_settings(before.build, build_file(config, corpus.utterances))
        changes = find_changes(config, before.turns, before.rejected, corpus.utterances)
    except UserError:
        return None
    if not same or not changes:
        return None
    return changes.describe(before.turns, {one.id: one for one in corpus.utterances})


def update(config: ShardConfig, corpus: Corpus, workers: int) -> Manifest | None:
    """Bring the dataset in `output.folder` up to date with `corpus`.

    Returns:
        The new manifest. None where there is nothing to update: no finished dataset, other
        settings, or the corpus as it was; then the build goes its usual way.

    Raises:
        NotCopied, DiskFull, TooManyRejected and so on: the old version is still published, whole.
    """
    folder = config.output.folder
    if not (folder / "manifest.json").is_file():
        return None
    before = Before.of(folder)
    now = build_file(config, corpus.utterances)
    if not same_settings(before.build, now):
        return None
    changes = find_changes(config, before.turns, before.rejected, corpus.utterances)
    if not changes and now.digest == before.build.digest:
        return None
    utterances = {one.id: one for one in corpus.utterances}
    print(
        f"{folder}: the corpus has changed:\n{changes.describe(before.turns, utterances)}"
        if changes
        else f"{folder}: the corpus has changed, but no sample of it",
        file=sys.stderr,
    )
    job = Job(config, folder, now.digest)
    planned = plan(job, before, now, changes, utterances)
    new = _make(job, planned, workers)
    manifest = _publish(job, before, planned, new, corpus.truth)
    clear(folder, manifest)
    return manifest


def _make(job: Job, planned: Plan, workers: int) -> dict[str, Sidecar]:
    """Make the new shards; their sidecars by the shards' names."""
    home = job.folder / planned.build.home
    with atomic.disk_errors(home):
        home.mkdir(exist_ok=True)
    atomic.remove_stale(home)
    todo = [
        (place, part)
        for place, part in zip(planned.build.places, planned.parts, strict=True)
        if part is not None
    ]
    made = sum(part.shard is None for _, of_shard in todo for part in of_shard)
    workers = 1 if made <= FEW else min(workers, len(todo))
    new: dict[str, Sidecar] = {}
    with progress("shards", sum(len(part) for _, part in todo), "turns") as advance:
        for one in each_made(rewrite_shard, job, todo, workers):
            advance(one.utterances)
            new[f"{planned.build.home}/{shard_name(one.shard)}"] = one
    atomic.remove_stale(home)
    return new


def _publish(
    job: Job, before: Before, planned: Plan, new: dict[str, Sidecar], truth: Path | None
) -> Manifest:
    folder, config, build = job.folder, job.config, planned.build
    content = _content(before, build, new)
    limit = config.output.max_rejected
    check_rejected(content.rejected, build.utterances, limit)
    home = folder / build.home
    settled = config.output.model_copy(update={"update": False})  # a repair is no update
    atomic.write(home / CONFIG, dump(config.model_copy(update={"output": settled})).encode())
    atomic.write(home / BUILD, build.dump())
    if truth is not None:
        atomic.write(home / TRUTH, truth.read_bytes())
    return publish(folder, build, content, limit, config.max_unknown)


def _content(before: Before, planned: BuildFile, new: dict[str, Sidecar]) -> Content:
    """What is in all shards: of the new ones by their sidecars, of the others by the old index."""
    folder, table = before.dataset.folder, before.dataset.table
    labels = label_set(planned.settings["labels"])
    old_places = {entry.name: number for number, (entry, _) in enumerate(before.slots)}
    old_rows = table["shard"].to_numpy()
    remarks: dict[str, list[Flag | Rejection]] = {}
    for one in flags_of(folder / before.build.home):
        remarks.setdefault(one.utterance, []).append(one)
    for rejection in before.rejected.values():
        remarks.setdefault(rejection.utterance, []).append(rejection)
    tables, shards, now = [], [], []
    assert planned.slots is not None
    for number, slot in enumerate(planned.slots):
        beside = new.get(slot.name)
        if beside is not None:
            tables.append(rows_of(beside, number, labels))
            shards.append(entry_of(slot.name, beside, planned))
            now += [*beside.rejected, *beside.flagged]
            continue
        old = old_places[slot.name]
        rows = (old_rows == old).nonzero()[0]
        part = table.slice(int(rows[0]) if len(rows) else 0, len(rows))
        place = part.schema.get_field_index("shard")
        numbers = pa.array([number] * len(rows), pa.int64())
        # Cast, since Parquet adds numbers to the fields: a merge would write other bytes without.
        tables.append(part.set_column(place, "shard", numbers).cast(SCHEMA))
        entry = before.dataset.manifest.shards[old]
        if entry.unknown is None:  # of an older program: only the sidecar may tell
            told = sidecar.load(*place_of(folder, slot.name)).unknown
            entry = entry.model_copy(update={"unknown": told})
        made_by = None if slot.build == planned.digest else slot.build
        shards.append(entry.model_copy(update={"build": made_by}))
        now += [remark for name in slot.turns for remark in remarks.get(name, ())]
    return Content(
        table=pa.concat_tables(tables),
        shards=shards,
        rejected=[one for one in now if isinstance(one, Rejection)],
        flagged=[one for one in now if isinstance(one, Flag)],
    )


def clear(folder: Path, manifest: Manifest) -> None:
    """Remove what older versions have left in `folder`: shards that were replaced, old indexes."""
    if not manifest.history:
        return
    used = {folder / shard.name for shard in manifest.shards}
    used |= {path.with_suffix(".json") for path in used}
    versions = range(1, len(manifest.history) + 2)
    for place in (folder if number == 1 else folder / f"v{number}" for number in versions):
        own = {*place.glob("shard-*.tar"), *place.glob("shard-*.json")} - used
        if place != folder / manifest.home:
            own |= {place / name for name in OWN}
        if place not in (folder, folder / manifest.home):
            own.add(place / "manifest.json")
        for path in own:
            path.unlink(missing_ok=True)
        if place != folder and place.is_dir() and not any(place.iterdir()):
            os.rmdir(place)


OWN = ("index.parquet", REJECTED, FLAGGED, BUILD, CONFIG, TRUTH)  # of a version alone
