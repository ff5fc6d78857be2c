"""The preprocessing job: corpus -> shards, over all cores, resumable, whole or one array task.

The unit of work is a shard: a fixed slice of the turns, sorted by id. Its bytes do not depend on
which process makes it, when, or what else runs at that time.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import (
    ThreadPoolExecutor,
)
from contextlib import contextmanager

from shards import atomic
from shards.build import claim, recordings
from shards.build.claim import BuildFile, OtherBuild
from shards.build.merge import merge
from shards.build.pool import each_made
from shards.build.publish import check_rejected
from shards.build.update.update import changed_corpus, clear, update
from shards.build.vocabulary import commit_tokenizer, draft_tokenizer
from shards.build.worker import Job, Place, committed, make_shard
from shards.config import ShardConfig
from shards.corpora.base import Corpus
from shards.corpora.read import read_corpus
from shards.corpora.utterance import Utterance
from shards.errors import UserError
from shards.extract.features import Extractor
from shards.progress import progress
from shards.store.index import TRUTH, Manifest, home_of, place_of
from shards.store.sidecar import Rejection, Sidecar, sidecar_path

Todo = Sequence[tuple[Place, list[Utterance]]]  # shards, and their turns


def build(
    config: ShardConfig,
    task: int | None = None,
    tasks: int = 1,
    workers: int | None = None,
    deep: bool = False,
) -> Manifest | None:
    """Make the missing shards of `config`, or those of one array task; then merge.

    Args:
        task: the array task to do, 0 to `tasks` - 1: it makes the shards whose number leaves this
            remainder when divided by `tasks`. None makes all of them and publishes the dataset.
        workers: number of processes; by default one for each core that may be used. With 1 the
            work is done in this process.
        deep: check the shards that are there by their whole content, not only by their size.

    Returns:
        The published manifest; None for an array task.

    Raises:
        UserError: the corpus cannot be used, the disk cannot be written, or the folder belongs to
            another build. What was committed stays.
    """
    if task is not None and not 0 <= task < tasks:
        raise UserError(f"task={task} with tasks={tasks}: tasks are numbered from 0 to {tasks - 1}")
    corpus = read_corpus(config.corpus, config.output.incomplete == "keep")
    for note in corpus.notes:
        print(note, file=sys.stderr)
    if not corpus.utterances:
        raise UserError(f"the corpus has no usable turns: check {config.corpus}")
    folder = config.output.folder
    workers = workers or len(os.sched_getaffinity(0))
    if config.output.update:
        if task is not None:
            raise UserError("output.update=yes is one job: leave out task= and tasks=")
        with _stopped_by_sigterm():
            manifest = update(config, corpus, workers)
        if manifest is not None:
            return manifest
    build_file = _prepare(config, corpus)
    if corpus.truth is not None:
        atomic.write(home_of(folder) / TRUTH, corpus.truth.read_bytes())
    made = [
        (place, turns)
        for number, (place, turns) in enumerate(
            zip(build_file.places, build_file.turns(corpus.utterances), strict=True)
        )
        if task is None or number % tasks == task
    ]
    job = Job(config, folder, build_file.digest)
    with _stopped_by_sigterm():
        _make_all(job, corpus, made, workers, deep)
    atomic.remove_stale(folder)
    if task is not None:
        return None
    limits = config.output.max_rejected, None, config.max_unknown
    manifest = merge(folder, build_file, *limits)
    clear(folder, manifest)
    return manifest


def _prepare(config: ShardConfig, corpus: Corpus) -> BuildFile:
    """Claim the folder and put the tokenizer there; if that fails, leave no empty folder behind."""
    folder = config.output.folder
    if config.features is not None:
        # Only to raise now, before anything is written, if the settings do not fit together.
        Extractor(config.features, config.audio.sample_rate)
    with atomic.disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        atomic.remove_stale(folder)
        with draft_tokenizer(folder, config, corpus.utterances) as draft:
            build_file = claim.claim(folder, config, corpus.utterances)
            if draft is not None:
                commit_tokenizer(draft, folder)
    except OtherBuild:
        changed = changed_corpus(config, corpus)
        if changed is None:
            raise
        raise OtherBuild(
            f"{folder} was built of this corpus before it changed:\n{changed}\n"
            "set output.update=yes to redo only this; runs that were trained on the dataset as it "
            "was stay with it, so build into another output.folder to keep both"
        ) from None
    except BaseException:
        if not any(folder.iterdir()):
            folder.rmdir()
        raise
    return build_file


def _make_all(job: Job, corpus: Corpus, mine: Todo, workers: int, deep: bool) -> None:
    rejected: list[Rejection] = []

    def collect(sidecar: Sidecar) -> None:
        rejected.extend(sidecar.rejected)
        # The limit is a share of the whole set: once it is passed, no further shard can help.
        check_rejected(rejected, len(corpus.utterances), job.config.output.max_rejected)

    with ThreadPoolExecutor(workers) as pool:  # threads: hashing releases the interpreter's lock
        present = [*pool.map(lambda unit: committed(job.folder, unit[0], deep), mine)]
        there = [sidecar for sidecar in present if sidecar is not None]
        compared = recordings.compare(
            job.folder, job.config.audio, there, corpus.utterances, deep, pool
        )
    todo = []
    for (place, turns), sidecar in zip(mine, present, strict=True):
        if sidecar is not None:
            collect(sidecar)
            continue
        # Else a worker, which checks sizes only, might take a broken shard for a good one.
        sidecar_path(*place_of(job.folder, place[0])).unlink(missing_ok=True)
        todo.append((place, turns))
    if len(todo) < len(mine):
        kept = f"{len(there)} of {len(mine)} shards are there already"
        # Nobody must take "published" for "as the corpus is now".
        same = "all labels, texts and times of the corpus are as they were"
        print(f"{kept}: {same}{compared}", file=sys.stderr)
    total = sum(len(turns) for _, turns in todo)
    workers = min(workers, len(todo))
    with progress("shards", total, "turns") as advance:
        for sidecar in each_made(make_shard, job, todo, workers):
            advance(sidecar.utterances)
            collect(sidecar)


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Treat SIGTERM, which a scheduler sends, as Ctrl-C: workers are killed, drafts removed."""
    try:
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:  # only the main thread may set handlers: leave signals to the caller
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
