"""The command line `emo`. Heavy imports happen inside the commands: `emo --help` is instant."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from emo.distributed import launcher
from emo.distributed.launch_files import EXIT_SAVED, TRAIN
from shards import __version__, atomic
from shards.command_line import CommandParser, parse_words
from shards.errors import EXIT_USER_ERROR, UserError, run_command_line
from shards.processes import raise_file_limit

EXIT_TRANSIENT = 76  # another rank was killed, lost or late: the same again may well succeed
EXIT_OTHER = 1


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="emo",
        description="Train, evaluate and compare speech emotion models on shards.",
        epilog=f"Train over several processes with {TRAIN} STRATEGY CONFIG [key=value ...]",
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = top.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=CommandParser
    )

    def add(name: str, help: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help, description=help)

    command = add("train", "train one experiment (launch/train.sh starts several processes)")
    command.add_argument(
        "config", type=Path, help="an experiment, such as configs/sample/text.yaml"
    )
    command.add_argument("overrides", nargs="*", metavar="key=value", help="override a setting")

    command = add("config", "print an experiment's resolved configuration, or what is wrong in it")
    command.add_argument("config", type=Path)
    command.add_argument("overrides", nargs="*", metavar="key=value")

    command = add("eval", "evaluate trained runs' best checkpoints again, rewrite metrics.json")
    command.add_argument(
        "runs", nargs="+", metavar="RUN", help="run folders; data.shards=NEW after the data moved"
    )

    command = add("predict", "class probabilities for one recording, one transcript, or both")
    command.add_argument("run", type=Path, help="a run folder, or an exported one")
    command.add_argument("--audio", type=Path, help="an audio file")
    command.add_argument("--text", help="what is said")
    command.add_argument("--json", action="store_true", help="print JSON")

    command = add("crossval", "train every fold of a protocol (or several seeds) and aggregate")
    command.add_argument("config", type=Path)
    command.add_argument("overrides", nargs="*", metavar="key=value", help="fold=K runs one fold")
    command.add_argument("--strategy", default="cpu", help="as for launch/train.sh (cpu)")
    command.add_argument("--seeds", type=int, metavar="K", help="K random splits instead of folds")

    command = add("export", "write a trained run as one folder that loads anywhere")
    command.add_argument("run", type=Path)
    command.add_argument("folder", type=Path, help="a new folder")

    command = add("features", "write trained branches' outputs for every turn, for context models")
    command.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    command.add_argument("folder", type=Path, help="a new folder: a dataset of vectors")
    command.add_argument(
        "--cross-fit", type=int, default=0, metavar="K", help="train K times, each time without a "
        "K-th of the training dialogues, whose scores then come from that run (scores only)",
    )  # fmt: skip
    command.add_argument("--strategy", default="cpu", help="of those runs, as of launch/train.sh")

    command = add("compare", "a table of runs on the same test turns, with ceilings where known")
    command.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    command.add_argument("--part", default="test", help="val or test (test)")
    command.add_argument("--markdown", type=Path, metavar="FILE", help="also write Markdown")
    command.add_argument("--csv", type=Path, metavar="FILE", help="also write CSV")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    args = parse_words(parser(), arguments, setting_keys)
    if args.command == "train":
        return train(args.config, args.overrides)
    return run_command_line(lambda: COMMANDS[args.command](args))


def setting_keys() -> Iterable[tuple[str, ...]]:
    from emo.config import ExperimentConfig
    from shards.configfile import all_keys

    return all_keys(ExperimentConfig)


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


def config_command(args: argparse.Namespace) -> int:
    from emo.config import ExperimentConfig
    from shards.configfile import dump, load

    print(dump(load(ExperimentConfig, args.config, args.overrides)), end="")
    return 0


def eval_command(args: argparse.Namespace) -> int:
    from emo.evaluation.reevaluate import evaluate_again

    overrides = [word for word in args.runs if "=" in word and not Path(word).is_dir()]
    runs = [Path(word) for word in args.runs if word not in overrides]
    if not runs:
        raise UserError("emo eval: name at least one run folder besides the settings")
    for run in runs:
        evaluate_again(run, overrides)
    return 0


def predict_command(args: argparse.Namespace) -> int:
    from emo.serving.predict import Predictor

    if args.audio is None and args.text is None:
        raise UserError("give --audio FILE, --text WORDS, or both")
    exported = (args.run / "model.safetensors").is_file()
    load = Predictor.from_export if exported else Predictor.from_run
    probabilities = load(args.run).predict(args.audio, args.text)
    if args.json:
        print(json.dumps(probabilities))
    else:
        for name, probability in sorted(probabilities.items(), key=lambda item: -item[1]):
            print(f"{name:<14} {probability:.4f}")
    return 0


def crossval_command(args: argparse.Namespace) -> int:
    from emo.comparison.crossval import crossval

    only = [o.removeprefix("fold=") for o in args.overrides if o.startswith("fold=")]
    rest = [o for o in args.overrides if not o.startswith("fold=")]
    if only and not only[-1].isdigit():
        raise UserError(f"fold={only[-1]}: give the fold's number, counted from 0")
    return crossval(
        args.config,
        rest,
        strategy=args.strategy,
        seeds=args.seeds,
        only=int(only[-1]) if only else None,
    )


def export_command(args: argparse.Namespace) -> int:
    from emo.serving.export import export

    export(args.run, args.folder)
    print(f"exported to {args.folder}")
    return 0


def features_command(args: argparse.Namespace) -> int:
    from emo.serving.turn_vectors import write_vectors

    if args.cross_fit == 1 or args.cross_fit < 0:
        raise UserError(f"--cross-fit {args.cross_fit}: give at least 2")
    manifest = write_vectors(args.runs, args.folder, args.cross_fit, args.strategy)
    widths = manifest.settings["vectors"]["widths"]
    print(
        f"{manifest.summary.samples} turns → {args.folder}: "
        + ", ".join(f"{name} of {width}" for name, width in widths.items())
    )
    return 0


def compare_command(args: argparse.Namespace) -> int:
    from emo.comparison.compare import compare

    compare(args.runs, args.part, markdown=args.markdown, csv=args.csv)
    return 0


COMMANDS = {
    "config": config_command,
    "eval": eval_command,
    "predict": predict_command,
    "crossval": crossval_command,
    "export": export_command,
    "features": features_command,
    "compare": compare_command,
}

if __name__ == "__main__":
    sys.exit(main())
