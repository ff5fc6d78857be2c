"""The preprocessing job: corpus -> shards, over all cores, resumable, whole or one array task.

The unit of work is a shard: a fixed slice of the turns, sorted by id. Its bytes do not depend on
which process makes it, when, or what else runs at that time.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Collection, Generator, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress

from shards import atomic
from shards.build import claim, recordings
from shards.build.claim import BuildFile
from shards.build.merge import check_rejected, merge
from shards.build.vocabulary import commit_tokenizer, draft_tokenizer
from shards.build.worker import Job, committed, make_shard, start_worker
from shards.config import ShardConfig
from shards.corpora.base import Corpus
from shards.corpora.read import read_corpus
from shards.corpora.utterance import Utterance
from shards.errors import UserError
from shards.extract.features import FEATURES, Extractor
from shards.progress import progress
from shards.store.index import TRUTH, Manifest
from shards.store.sidecar import Rejection, Sidecar, sidecar_path

QUEUE = 2  # shards in each worker's queue: the one it makes, and the next
END_SECONDS = 30.0  # a process that was killed may hang in fsync on a slow disk for as long
Todo = dict[int, list[Utterance]]  # turns by the number of their shard
# What a worker would import when it first needs it: loaded once, before the workers are forked.
# The modules are named by strings: a wrong one is no error, but makes every worker start slowly.
PRELOAD = ("shards.build.worker", "webdataset.writer")
PRELOAD_FEATURES = ("scipy.fft", "scipy.sparse", "soundfile", "soxr")
PRELOAD_TEXT = ("transformers",)


class WorkerDied(UserError):
    """A worker process was killed, most often because memory ran out."""


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
    build_file = _prepare(config, corpus)
    if corpus.truth is not None:
        atomic.write(folder / TRUTH, corpus.truth.read_bytes())
    mine = [number for number in range(build_file.shards) if task is None or number % tasks == task]
    job = Job(config, folder, build_file.digest)
    with _stopped_by_sigterm():
        _make_all(job, corpus, mine, workers or len(os.sched_getaffinity(0)), deep)
    atomic.remove_stale(folder)
    if task is not None:
        return None
    return merge(folder, build_file, config.output.max_rejected, max_unknown=config.max_unknown)


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
    except BaseException:
        if not any(folder.iterdir()):
            folder.rmdir()
        raise
    return build_file


def _make_all(job: Job, corpus: Corpus, mine: Sequence[int], workers: int, deep: bool) -> None:
    size = job.config.output.utterances_per_shard
    turns = {n: corpus.utterances[n * size : (n + 1) * size] for n in mine}
    rejected: list[Rejection] = []

    def collect(sidecar: Sidecar) -> None:
        rejected.extend(sidecar.rejected)
        # The limit is a share of the whole set: once it is passed, no further shard can help.
        check_rejected(rejected, len(corpus.utterances), job.config.output.max_rejected)

    with ThreadPoolExecutor(workers) as pool:  # threads: hashing releases the interpreter's lock
        present = dict(zip(mine, pool.map(lambda n: committed(job, n, deep), mine), strict=True))
        there = [sidecar for sidecar in present.values() if sidecar is not None]
        compared = recordings.compare(
            job.folder, job.config.audio, there, corpus.utterances, deep, pool
        )
    for number, sidecar in present.items():
        if sidecar is not None:
            collect(sidecar)
        else:  # else a worker, which checks sizes only, might take a broken shard for a good one
            sidecar_path(job.folder, number).unlink(missing_ok=True)
    todo = {number: turns[number] for number in mine if present[number] is None}
    if len(todo) < len(mine):
        kept = f"{len(there)} of {len(mine)} shards are there already"
        # Nobody must take "published" for "as the corpus is now".
        same = "all labels, texts and times of the corpus are as they were"
        print(f"{kept}: {same}{compared}", file=sys.stderr)
    total = sum(map(len, todo.values()))
    workers = min(workers, len(todo))
    sidecars = _in_process(job, todo) if workers <= 1 else _in_pool(job, todo, workers)
    # `closing`: if the loop ends early, the generator's `finally` kills its workers at once, not
    # whenever it is collected.
    with progress("shards", total, "turns") as advance, closing(sidecars):
        for sidecar in sidecars:
            advance(sidecar.utterances)
            collect(sidecar)


def _in_process(job: Job, todo: Todo) -> Generator[Sidecar]:
    for number, turns in todo.items():
        yield make_shard(job, number, turns)


def _in_pool(job: Job, todo: Todo, workers: int) -> Generator[Sidecar]:
    """Make shards in worker processes; if this ends early, for any reason, they are killed.

    Workers are forked from a server process that has loaded the libraries once. Forking this
    process would copy locks that its threads hold; spawning would load torch in each worker.
    """
    # One thread for each worker: with a worker a core, more threads only wait for one another. The
    # server hands this environment on, so it must be set before the server starts.
    atomic.short_temporary_folder()
    os.environ.update(
        {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    )
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(preloaded(job.config))
    others = set(multiprocessing.active_children())  # the caller's: never to be killed here
    pool = ProcessPoolExecutor(workers, context, initializer=start_worker)
    waiting = iter(todo.items())
    running: set[Future[Sidecar]] = set()
    workers_now: set[int] = set()  # process ids
    try:
        while True:
            while len(running) < QUEUE * workers and (unit := next(waiting, None)) is not None:
                running.add(pool.submit(make_shard, job, *unit))
            # Looked up each time: the pool starts workers only when work is submitted, and does not
            # tell their ids, by which `_end` kills them.
            alive = set(multiprocessing.active_children()) - others
            workers_now |= {child.pid for child in alive if child.pid is not None}
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
        pool.shutdown()
        # They have ended. The kernel may give their ids to strangers, which must not be killed.
        workers_now.clear()
    except BrokenProcessPool:
        raise WorkerDied(
            "a worker process was killed, most often because memory ran out: run the same command "
            "again with fewer workers (workers=N); what was committed stays"
        ) from None
    finally:
        _end(workers_now)
        pool.shutdown(wait=False, cancel_futures=True)
        atomic.remove_stale(job.folder)  # drafts of workers that were killed


def preloaded(config: ShardConfig) -> list[str]:
    """The modules that workers of a build need."""
    modules = [*PRELOAD]
    if config.features is not None:
        modules += PRELOAD_FEATURES
        modules += [name for kind in config.features.kinds for name in FEATURES[kind].preload]
    if config.text is not None:
        modules += PRELOAD_TEXT
    return modules


def _end(workers: Collection[int]) -> None:
    """Kill the processes `workers` and wait until they are gone.

    They are waited for by process id, not by `join`. `join` learns of a worker's end from the
    forkserver; if a signal killed the whole process group, the server may be gone while a worker
    still hangs in fsync.
    """
    for worker in workers:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    deadline = time.monotonic() + END_SECONDS
    while any(map(atomic.alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.01)


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
