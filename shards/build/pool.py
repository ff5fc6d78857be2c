"""The worker processes of a build."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Collection, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from typing import Any

from shards import atomic
from shards.build.worker import Job, start_worker
from shards.config import ShardConfig
from shards.errors import UserError
from shards.extract.features import FEATURES
from shards.store.sidecar import Sidecar

QUEUE = 2  # shards in each worker's queue: the one it makes, and the next
END_SECONDS = 30.0  # a process that was killed may hang in fsync on a slow disk for as long
# What a worker would import when it first needs it: loaded once, before the workers are forked.
# The modules are named by strings: a wrong one is no error, but makes every worker start slowly.
PRELOAD = ("shards.build.worker",)
PRELOAD_FEATURES = ("scipy.fft", "scipy.sparse", "soundfile", "soxr")
PRELOAD_TEXT = ("transformers",)


class WorkerDied(UserError):
    """A worker process was killed, most often because memory ran out."""


def each_made(
    make: Callable[..., Sidecar], job: Job, todo: Sequence[tuple[Any, ...]], workers: int
) -> Generator[Sidecar]:
    """`make(job, *unit)` for each unit of `todo`, as they are done, in `workers` processes."""
    if workers > 1:
        # `closing`: if the caller ends early, the workers are killed at once, not whenever this is
        # collected.
        with closing(_in_pool(make, job, todo, workers)) as made:
            yield from made
    else:
        for unit in todo:
            yield make(job, *unit)


def _in_pool(
    make: Callable[..., Sidecar], job: Job, todo: Sequence[tuple[Any, ...]], workers: int
) -> Generator[Sidecar]:
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
    waiting = iter(todo)
    running: set[Future[Sidecar]] = set()
    workers_now: set[int] = set()  # process ids
    try:
        while True:
            while len(running) < QUEUE * workers and (unit := next(waiting, None)) is not None:
                running.add(pool.submit(make, job, *unit))
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
