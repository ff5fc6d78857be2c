"""The command line `emo`. Heavy imports happen inside the commands: `emo --help` is instant."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from pathlib import Path

from shards.errors import EXIT_USER_ERROR, UserError, run_command_line

EXIT_SAVED = 75  # stopped early with a checkpoint: EX_TEMPFAIL, "try again"


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="emo",
        description="Train, evaluate and compare speech emotion models on shards.",
        epilog="Train over several processes with launch/train.sh STRATEGY CONFIG [key=value ...]",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

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

    command = add("eval", "evaluate a trained run's best checkpoint again and rewrite metrics.json")
    command.add_argument("run", type=Path)

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

    command = add("compare", "a table of runs on the same test turns, with ceilings where known")
    command.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    command.add_argument("--part", choices=("val", "test"), default="test")
    command.add_argument("--markdown", type=Path, metavar="FILE", help="also write Markdown")
    command.add_argument("--csv", type=Path, metavar="FILE", help="also write CSV")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    args = parser().parse_args(arguments)
    if args.command == "train":
        return train(args.config, args.overrides)
    return run_command_line(lambda: COMMANDS[args.command](args))


def train(path: Path, overrides: list[str]) -> int:
    """Train as one of the launched processes and leave word of how it ended.

    `accelerate launch` turns every exit code into 1, so each node's first process writes its own
    into $EMO_EXIT_FILE, for launch/train.sh, and rank 0 one for people into the run folder.
    """
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    main_rank = os.environ.get("RANK", "0") == "0"
    run: Path | None = None
    code, reason = 1, "error"
    try:
        from emo.config import ExperimentConfig
        from shards.configfile import load

        config = load(ExperimentConfig, path, overrides)
        run = config.run
        from emo.train import train as run_training

        outcome = run_training(config)
        code, reason = (0 if outcome == "done" else EXIT_SAVED), outcome
    except UserError as error:
        from emo.runtime import OtherRankFailed

        code, reason = EXIT_USER_ERROR, str(error)
        local = getattr(error, "local", False)
        if (main_rank or local) and not isinstance(error, OtherRankFailed):
            print(f"error: {error}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        code, reason = 130, "interrupted"
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        message = explain(error)
        if message:
            code = EXIT_USER_ERROR
            print(f"error: {message}", file=sys.stderr, flush=True)
        else:
            traceback.print_exc()
    finally:
        leave_word(code, reason, run if main_rank else None, first)
        end_process_group()
    # With the word left for launch/train.sh, a known end is no failure to report: the launcher
    # would bury the one message that matters under a page of its own.
    known = code in (EXIT_USER_ERROR, EXIT_SAVED) and "EMO_EXIT_FILE" in os.environ
    return 0 if known else code


def explain(error: Exception) -> str | None:
    """A message with a remedy for failures that are not bugs, such as a full GPU."""
    import torch

    if isinstance(error, torch.cuda.OutOfMemoryError):
        return (
            "the GPU's memory is full. What helps, in this order: train.accumulation (twice as "
            "many, smaller micro-batches, the same result), model.*.activation_checkpointing=true, "
            "runtime.precision=bf16, strategy zero2 or fsdp over more GPUs, runtime.offload=true "
            f"with zero2. ({str(error).splitlines()[0]})"
        )
    return None


def leave_word(code: int, reason: str, run: Path | None, first: bool) -> None:
    """Write the exit code where launch/train.sh and people look for it."""
    if first and (path := os.environ.get("EMO_EXIT_FILE")):
        Path(path).write_text(str(code))
    if run is not None and run.is_dir():
        from emo import runfiles

        word = {"code": code, "reason": reason, "launch": os.environ.get("EMO_EXIT_FILE", "")}
        try:
            (run / runfiles.EXIT).write_text(json.dumps(word) + "\n")
        except OSError:  # a full disk: the exit code says it already
            return


def end_process_group() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def config_command(args: argparse.Namespace) -> int:
    from emo.config import ExperimentConfig
    from shards.configfile import dump, load

    print(dump(load(ExperimentConfig, args.config, args.overrides)), end="")
    return 0


def eval_command(args: argparse.Namespace) -> int:
    from emo.again import evaluate_again

    evaluate_again(args.run)
    return 0


def predict_command(args: argparse.Namespace) -> int:
    from emo.predict import Predictor

    if args.audio is None and args.text is None:
        raise UserError("give --audio FILE, --text WORDS, or both")
    exported = (args.run / "model.safetensors").is_file()
    load = Predictor.from_export if exported else Predictor.from_run
    found = load(args.run).predict(args.audio, args.text)
    if args.json:
        print(json.dumps(found))
    else:
        for name, probability in sorted(found.items(), key=lambda item: -item[1]):
            print(f"{name:<14} {probability:.4f}")
    return 0


def crossval_command(args: argparse.Namespace) -> int:
    from emo.crossval import crossval

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
    from emo.export import export

    export(args.run, args.folder)
    print(f"exported to {args.folder}")
    return 0


def compare_command(args: argparse.Namespace) -> int:
    from emo.report import compare

    compare(args.runs, args.part, markdown=args.markdown, csv=args.csv)
    return 0


COMMANDS = {
    "config": config_command,
    "eval": eval_command,
    "predict": predict_command,
    "crossval": crossval_command,
    "export": export_command,
    "compare": compare_command,
}

if __name__ == "__main__":
    sys.exit(main())
