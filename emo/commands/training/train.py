"""`emo train`: one of the launched processes; how it ends, for launch/train.sh and for people."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import traceback
from pathlib import Path

from emo.commands.command import Command
from emo.distributed import launcher
from emo.distributed.launch_files import EXIT_SAVED, EXIT_TRANSIENT, TRAIN
from shards import atomic
from shards.errors import EXIT_USER_ERROR, UserError
from shards.processes import raise_file_limit

EXIT_OTHER = 1


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", type=Path, metavar="CONFIG",
        help="an experiment, such as configs/sample/text.yaml",
    )  # fmt: skip
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a setting")


def train(path: Path, overrides: list[str]) -> int:
    """Train as one of the launched processes; returns the exit code.

    The first process to fail prints its error and writes its exit code for launch/train.sh, because
    the launcher turns every code into 1. Rank 0 writes to the run folder how the launch ended, for
    people.
    """
    launcher.die_with_parent()
    launcher.watch(("INT",))
    raise_file_limit()
    run: Path | None = None
    code, reason = EXIT_OTHER, "error"
    try:
        from emo.config import ExperimentConfig
        from shards.configfile import load

        config = load(ExperimentConfig, path, overrides)
        run = config.run
        from emo.training.train import train as run_training

        reason = run_training(config)
        code = 0 if reason == "done" else EXIT_SAVED
        if code:
            launcher.write_exit_code(code)
    except UserError as error:
        from emo.distributed.collectives import OtherRankFailed

        code, reason = EXIT_USER_ERROR, str(error)
        if not isinstance(error, OtherRankFailed) and launcher.write_exit_code(code):
            print(f"error: {error}", file=sys.stderr, flush=True)
    except Exception as error:
        code, message = explain(error)
        reason = message or f"{type(error).__name__}: {error}"
        if launcher.write_exit_code(code):
            if message is None:
                traceback.print_exc()
            print(f"error: {reason}", file=sys.stderr, flush=True)
    if launcher.is_main():
        write_outcome(code, reason, run)
    if code in (0, EXIT_SAVED):
        launcher.stop_watching()
        end_process_group()
        return code
    # Not sys.exit: Python would run exit handlers. Those of the process group wait for the other
    # ranks, which may be waiting in a collective for this one.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def explain(error: Exception) -> tuple[int, str | None]:
    """The exit code for `error`, and a message with a remedy; None if it is a bug of ours."""
    from emo.distributed.collectives import RankError
    from emo.distributed.environment.device_errors import meaning

    said = f"{type(error).__name__}: {error}".splitlines()[0]
    means = None if isinstance(error, RankError) else meaning(error)
    if means == "memory":
        return EXIT_USER_ERROR, (
            "the GPU's memory is full. What helps, in this order: train.accumulation (twice as "
            "many, smaller micro-batches, the same result), model.*.activation_checkpointing=true, "
            "runtime.precision=bf16, strategy zero2 or fsdp over more GPUs, runtime.offload=true "
            f"with zero2. ({said})"
        )
    if means == "card":
        return EXIT_USER_ERROR, (
            "the installed torch has nothing for this GPU: it was built for compute capability 7.5 "
            f"(Turing) and newer; train on another one, or with strategy cpu. ({said})"
        )
    if means == "transient":
        return EXIT_TRANSIENT, (
            "a GPU, or the connection between GPUs, failed: `nvidia-smi` and `dmesg` may say more. "
            f"The last checkpoint is whole: resume=auto. ({said})"
        )
    if isinstance(error, OSError) and error.errno in atomic.FULL:
        return EXIT_USER_ERROR, (
            f"no room left on the disk ({said}): free some space; the last checkpoint is whole: "
            "resume=auto"
        )
    if isinstance(error, RankError):
        return EXIT_TRANSIENT, str(error)
    return EXIT_OTHER, None


def write_outcome(code: int, reason: str, run: Path | None) -> None:
    """Write into the run folder how this launch ended."""
    if run is not None and run.is_dir():
        from emo.runs import files

        with contextlib.suppress(OSError):  # a full disk, which the exit code has reported
            outcome = json.dumps({"code": code, "reason": reason})
            (run / files.EXIT).write_text(outcome + "\n")


def end_process_group() -> None:
    """Leave the process group. Without this, ranks may abort in torch's exit handlers."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


COMMAND = Command(
    "train",
    "train one experiment (launch/train.sh starts several processes)",
    arguments,
    lambda args: train(args.config, args.overrides),
    examples=(
        "emo train configs/sample/text.yaml",
        "emo train configs/sample/text.yaml train.epochs=3 optim.lr=1e-4 run=runs/try",
        "emo train configs/sample/text.yaml resume=auto",
        f"{TRAIN} zero2 configs/paper/text.yaml runtime.precision=bf16",
    ),
    own_errors=True,
)
