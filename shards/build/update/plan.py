"""What an update has to do: which shards stay, and of which parts the new ones are made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.build.claim import BuildFile, Slot, load
from shards.build.recordings import content_of
from shards.build.update.changes import (
    RECORDING,
    TEXT,
    TIMES,
    Changes,
    lacks,
    turns_before,
)
from shards.build.update.rewrite import Part
from shards.build.worker import Job
from shards.config import ShardConfig
from shards.configfile import digest
from shards.corpora.labels import label_set
from shards.corpora.utterance import Utterance
from shards.errors import UserError
from shards.store.index import (
    FLAGGED,
    REJECTED,
    Change,
    Dataset,
    ShardEntry,
    open_dataset,
    place_of,
)
from shards.store.sidecar import Flag, Rejection, shard_name


@dataclass(frozen=True)
class Before:
    """The published dataset, and what was made from which turns."""

    dataset: Dataset
    build: BuildFile
    turns: dict[str, dict[str, Any]]
    rejected: dict[str, Rejection]

    @classmethod
    def of(cls, folder: Path) -> Before:
        """Raises BadDataset where there is no whole manifest and index."""
        dataset = open_dataset(folder)
        lines = lines_of(folder / dataset.manifest.home / REJECTED)
        rejected = {line["utterance"]: Rejection(**line) for line in lines}
        return cls(dataset, load(folder), turns_before(dataset), rejected)

    @property
    def slots(self) -> list[tuple[ShardEntry, tuple[str, ...]]]:
        """Every shard, and the ids of its turns."""
        shards = self.dataset.manifest.shards
        if self.build.slots is not None:
            turns = [slot.turns for slot in self.build.slots]
        else:
            size = int(self.build.settings["output"]["utterances_per_shard"])
            ids = sorted(self.turns.keys() | self.rejected.keys())
            turns = [tuple(ids[n : n + size]) for n in range(0, len(ids), size)]
        return [*zip(shards, turns, strict=True)]


def same_settings(before: BuildFile, now: BuildFile) -> bool:
    old, new = (
        {**one.settings, "corpus": one.settings["corpus"]["reader"]} for one in (before, now)
    )
    return json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True)


@dataclass(frozen=True)
class Plan:
    """The new build file, and for each of its shards the parts to make it of; None: it stays."""

    build: BuildFile
    parts: list[Sequence[Part] | None]


def plan(
    job: Job,
    before: Before,
    now: BuildFile,
    changes: Changes,
    utterances: dict[str, Utterance],
) -> Plan:
    """What to do. It depends on the old dataset and the corpus alone.

    So an update that was stopped goes on with the shards that it had made.
    """
    size = job.config.output.utterances_per_shard
    home = f"v{len(before.build.history) + 2}"
    # Of a made turn also the recording: it may have been replaced again while no update ran.
    facts: list[Any] = [
        now.digest,
        before.dataset.manifest.dataset_hash,
        sorted(changes.facts.items()),
    ]
    made = [name for name in (*changes.added, *changes.facts) if name in utterances]
    facts.append([[name, _stamp(utterances[name])] for name in made])
    maker = digest(facts)
    slots: list[Slot] = []
    parts: list[Sequence[Part] | None] = []
    added = [*changes.added]
    last = len(before.slots) - 1
    for number, (entry, names) in enumerate(before.slots):
        kept = [name for name in names if name in utterances]
        more = added[: max(0, size - len(kept))] if number == last else []
        del added[: len(more)]
        if len(kept) == len(names) and not more and changes.facts.keys().isdisjoint(names):
            slots.append(
                Slot(name=entry.name, build=entry.build or before.build.digest, turns=names)
            )
            parts.append(None)
        elif kept or more:
            _, own = place_of(job.folder, entry.name)
            slots.append(_slot(home, own, maker, [*kept, *more]))
            parts.append(
                [_part(job.config, before, changes, utterances[n], entry.name) for n in kept]
                + [Part(utterances[name]) for name in more]
            )
    first = 1 + max(place_of(job.folder, entry.name)[1] for entry, _ in before.slots)
    for number, start in enumerate(range(0, len(added), size), start=first):
        slots.append(_slot(home, number, maker, added[start : start + size]))
        parts.append([Part(utterances[name]) for name in added[start : start + size]])
    change = Change(
        dataset_hash=before.dataset.manifest.dataset_hash,
        build=before.build.digest,
        turns=changes.counts(),
        facts=changes.of_facts(),
        shards=sum(part is not None for part in parts),
        software=now.software,
        recordings=_replaced(changes, utterances),
    )
    history = (*before.build.history, change)
    software = {"software": before.build.software}  # of the first build; the others' are in history
    planned = now.model_copy(update={"slots": tuple(slots), "history": history} | software)
    return Plan(planned, parts)


def _slot(home: str, number: int, maker: str, turns: Iterable[str]) -> Slot:
    return Slot(name=f"{home}/{shard_name(number)}", build=maker, turns=tuple(turns))


def _replaced(changes: Changes, utterances: dict[str, Utterance]) -> str | None:
    turns = [name for name, facts in changes.facts.items() if RECORDING in facts]
    return digest([[name, content_of(utterances[name])] for name in turns]) if turns else None


def _stamp(one: Utterance) -> list[Any]:
    if one.audio is None:
        return []
    try:
        status = one.audio.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _part(
    config: ShardConfig, before: Before, changes: Changes, one: Utterance, shard: str
) -> Part:
    """How a turn gets into the new shard: copied as far as possible, or made."""
    facts = changes.facts.get(one.id, ())
    if one.id in before.rejected:
        return Part(one) if facts else Part(one, shard)
    labels = label_set(config.labels)
    was = labels.class_of(before.turns[one.id]["label"]) >= 0
    varied = labels.class_of(one.label) >= 0
    needs_variants = varied and not was and config.features is not None and config.augment.variants
    sounds_other = RECORDING in facts or (one.audio is not None and any(t in facts for t in TIMES))
    told_before = before.turns[one.id]["text"] is not None
    tells_other = TEXT in facts and (not told_before or lacks(config, one) is not None)
    if sounds_other or tells_other or needs_variants:
        return Part(one)
    return Part(one, shard, variants=varied, retold=TEXT in facts)


def flags_of(home: Path) -> list[Flag]:
    return [Flag(**line) for line in lines_of(home / FLAGGED)]


def lines_of(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): repair the dataset first") from None
