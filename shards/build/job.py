"""The preprocessing job: corpus -> shards, over all cores, resumable, whole or one array task.

The unit of work is a shard: a fixed slice of the turns, sorted by id. Which process makes it, when,
and beside which others decides nothing about its bytes.
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
from shards.build import claim
from shards.build.claim import BuildFile
from shards.build.merge import check_rejected, merge
from shards.build.vocabulary import commit_tokenizer, draft_tokenizer
from shards.build.worker import Job, committed, make_shard, start_worker
from shards.config import ShardConfig
from shards.corpora.base import Corpus
from shards.corpora.read import read_corpus
from shards.corpora.utterance import Utterance
from shards.errors import UserError
from shards.extract.features import Extractor
from shards.progress import progress
from shards.store.index import TRUTH, Manifest
from shards.store.sidecar import Rejection, Sidecar, sidecar_path

QUEUE = 2  # shards handed out ahead for each worker
END_SECONDS = 30.0  # a killed process may hang in a slow disk's fsync
Todo = dict[int, list[Utterance]]  # turns by the number of their shard
# What a worker imports when it first needs it: loaded once, before the workers are forked.
PRELOAD = ("shards.build.worker", "webdataset.writer")
PRELOAD_FEATURES, PRELOAD_TEXT = ("librosa.filters", "soundfile", "soxr"), ("transformers",)


class WorkerDied(UserError):
    """The system ended a worker process, most often for want of memory."""


def build(
    config: ShardConfig,
    task: int | None = None,
    tasks: int = 1,
    workers: int | None = None,
    deep: bool = False,
) -> Manifest | None:
    """Make all shards of `config` that are not there, or those of one array task; then merge.

    Args:
        task: of `tasks` array tasks the one to do, from 0: the shards whose number has this
            remainder. None does everything and publishes the dataset.
        workers: processes; by default one a core that we may use. 1 works in this process.
        deep: check shards that are already there by their whole content, not only by their size.

    Returns:
        The published manifest; None for an array task.

    Raises:
        UserError: the corpus, the disk, or a folder of another build; what was committed stays.
    """
    if task is not None and not 0 <= task < tasks:
        raise UserError(f"task={task} with tasks={tasks}: tasks are numbered from 0 to {tasks - 1}")
    corpus = read_corpus(config.corpus)
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
    return merge(folder, build_file, config.output.max_rejected)


def _prepare(config: ShardConfig, corpus: Corpus) -> BuildFile:
    """Claim the folder and put the tokenizer there; what cannot be done leaves nothing behind."""
    folder = config.output.folder
    if config.features is not None:
        Extractor(config.features, config.audio.sample_rate)  # settings that do not fit: say so now
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

    def collect(one: Sidecar) -> None:
        rejected.extend(one.rejected)
        # What is past the limit of the whole set already cannot come right: stop now.
        check_rejected(rejected, len(corpus.utterances), job.config.output.max_rejected)

    with ThreadPoolExecutor(workers) as pool:  # hashing releases the interpreter's lock
        there = dict(zip(mine, pool.map(lambda n: committed(job, n, deep), mine), strict=True))
    for number, one in there.items():
        if one is not None:
            collect(one)
        else:  # no worker shall take a broken shard for a committed one
            sidecar_path(job.folder, number).unlink(missing_ok=True)
    todo = {number: turns[number] for number in mine if there[number] is None}
    if len(todo) < len(mine):
        kept = f"{len(mine) - len(todo)} of {len(mine)} shards are there already"
        print(kept, file=sys.stderr)
    total = sum(map(len, todo.values()))
    workers = min(workers, len(todo))
    made = _in_process(job, todo) if workers <= 1 else _in_pool(job, todo, workers)
    with progress("shards", total, "turns") as advance, closing(made):
        for one in made:
            advance(one.utterances)
            collect(one)


def _in_process(job: Job, todo: Todo) -> Generator[Sidecar]:
    for number, turns in todo.items():
        yield make_shard(job, number, turns)


def _in_pool(job: Job, todo: Todo, workers: int) -> Generator[Sidecar]:
    """Make shards in worker processes; whatever ends this early ends them at once.

    Workers come from a server process that has loaded the libraries once (fork of this process
    would copy its threads' locks, spawn would load torch in each).
    """
    os.environ.update(
        {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    )
    context = multiprocessing.get_context("forkserver")
    modules = [*PRELOAD, *(PRELOAD_FEATURES if job.config.features else ())]
    context.set_forkserver_preload([*modules, *(PRELOAD_TEXT if job.config.text else ())])
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, initializer=start_worker)
    waiting = iter(todo.items())
    running: set[Future[Sidecar]] = set()
    workers_now: set[int] = set()  # process ids
    try:
        while True:
            while len(running) < QUEUE * workers and (unit := next(waiting, None)) is not None:
                running.add(pool.submit(make_shard, job, *unit))
            alive = set(multiprocessing.active_children()) - others
            workers_now |= {child.pid for child in alive if child.pid is not None}
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
        pool.shutdown()
        workers_now.clear()
    except BrokenProcessPool:
        raise WorkerDied(
            "a worker process was ended from outside, most often for want of memory: run the same "
            "command again with fewer (workers=N); what was committed stays"
        ) from None
    finally:
        _end(workers_now)
        pool.shutdown(wait=False, cancel_futures=True)
        atomic.remove_stale(job.folder)  # the killed ones' drafts


def _end(workers: Collection[int]) -> None:
    """Kill the processes `workers` and wait until they are gone.

    Waiting by process id, not by `join`: when a signal went to the whole group, the server that
    would tell us of its children's end is gone before a child that hangs in fsync.
    """
    for worker in workers:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    deadline = time.monotonic() + END_SECONDS
    while any(map(atomic.alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.01)


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Treat SIGTERM (a scheduler's request) as Ctrl-C: workers ended, drafts removed."""
    try:
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:  # not the main thread: signals are somebody else's business
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
