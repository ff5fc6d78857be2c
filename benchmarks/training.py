"""Our training loop against a bare loop, and against the Hugging Face Trainer, in one run.

Each is a process of its own with one thread, with the same first weights and the same batch size;
they take turns, a piece of an epoch each, so that what else the machine does meets all alike.
"ours" is `emo.train.loop` itself: real loader, checks, log, TensorBoard. "bare" is forward,
backward, clip, step over the very batches that ours has just used, already in memory. "Trainer"
fine-tunes the same module on the same texts, tokenized beforehand, with its defaults: its own fused
AdamW (without decay the same as our Adam), DataCollatorWithPadding, no reports.

    python benchmarks/training.py [--shards data/sample/shards] [--workers N] [--markdown FILE]

Reads what `make demo` builds. The first piece warms up and is not counted. "overhead" is the median
over pieces of ours / bare - 1; "waiting" is the share of our time in which the loop had no batch.
Targets: 5 % and 2 %, and ahead of Trainer at equal accuracy (test turns, weights of the last epoch:
nobody selects). Peak memory: of the process, + of its loader's worker. Ours validates and saves at
every epoch's end, whose time is not counted, but whose memory is. With a GPU everything is on it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import active_children, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, here and in the processes started

import torch
from safetensors.torch import load_file, save_file
from table import Table  # this folder's
from torch import nn
from torch.nn import functional as F

from emo import checkpoint, optim
from emo.checkpoint import Progress
from emo.config import ExperimentConfig
from emo.data import TrainingSteps
from emo.evaluate import predict_part, scores
from emo.experiment import Experiment, open_run
from emo.plan import Plan
from emo.runtime import Runtime
from emo.trackers import Tracker
from emo.train import loop
from shards.configfile import load
from shards.index import TOKENIZER

ROOT = Path(__file__).parent.parent
PIECE = 40  # steps in a turn, about; a multiple of train.log_steps
CUDA = torch.cuda.is_available()


class Turns:
    """One contestant's end of the pipe: it works only while it has the word."""

    def __init__(self, pipe: Connection, experiment: Experiment, epochs: int) -> None:
        self.pipe, self.plan, self.begun, self.memory = pipe, experiment.plan, 0, (0.0, 0.0)
        self.ends = piece_ends(self.plan.steps_per_epoch, epochs)
        weights = hashlib.sha256()
        for tensor in experiment.model.state_dict().values():
            weights.update(tensor.detach().cpu().numpy().tobytes())
        pipe.send(weights.hexdigest())

    def wait(self) -> None:
        assert self.pipe.recv() == "go"

    def give(self, step: int, seconds: float, waited: float = 0.0) -> None:
        """Hand in the piece that ended with optimizer step `step`."""
        samples = consumed(self.plan, step) - consumed(self.plan, self.begun)
        self.begun = step
        self.memory = max(self.memory, peak_memory())
        piece = {"seconds": seconds, "samples": samples, "waited": waited}
        self.pipe.send({"step": step, **piece})

    def end(self, module: nn.Module, file: Path) -> None:
        """The last word: the trained weights, and the peak memory in MB."""
        save_file({name: t.detach().cpu().contiguous() for name, t in module.state_dict().items()},
                  file)  # fmt: skip
        self.pipe.send({"memory": self.memory})


def piece_ends(steps_per_epoch: int, epochs: int) -> list[int]:
    """Optimizer steps after which the word goes on: every PIECE, and where an epoch ends."""
    ends = []
    for step in range(1, steps_per_epoch * epochs + 1):
        inside = (step - 1) % steps_per_epoch + 1
        near_an_end = min(inside, steps_per_epoch - inside) < PIECE // 2
        if inside == steps_per_epoch or (step % PIECE == 0 and not near_an_end):
            ends.append(step)
    return ends


def consumed(plan: Plan, step: int) -> int:
    """Samples of the first `step` steps."""
    epochs, inside = divmod(step, plan.steps_per_epoch)
    return epochs * plan.units + min(plan.units, inside * plan.global_batch)


def peak_memory() -> tuple[float, float]:
    """MB: the most this process held (on a GPU: of its memory), and its workers' own now."""
    if CUDA:
        return torch.cuda.max_memory_allocated() / 1e6, 0.0
    status = Path("/proc/self/status").read_text()
    most = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1000  # type: ignore[index]
    own = 0
    for child in active_children():
        rollup = Path(f"/proc/{child.pid}/smaps_rollup").read_text()
        own += sum(int(kb) for kb in re.findall(r"Private_\w+:\s+(\d+) kB", rollup))
    return most, own / 1000


def finish_work() -> float:
    """The time, once the device has done what it was given."""
    if CUDA:
        torch.cuda.synchronize()
    return time.perf_counter()


def set_up(config: ExperimentConfig) -> tuple[Runtime, Experiment]:
    settings = config.train
    runtime = Runtime.start(
        config.runtime, accumulation=1, micro_batch=settings.global_batch,
        clip=config.optim.clip or 0.0,
    )  # fmt: skip
    experiment = Experiment.build(runtime, config)
    checkpoint.seed_rank(settings.seed, 0, 0)
    return runtime, experiment


def ours(pipe: Connection, config: ExperimentConfig, file: Path) -> None:
    """`emo.train.loop` as it is; its tracker, which it calls after every piece, passes the word."""
    runtime, experiment = set_up(config)
    turns = Turns(pipe, experiment, config.train.epochs)

    class Pieces(Tracker):
        logged, seconds, waited = 0, 0.0, 0.0

        def write(self, step: int, group: str, values: dict[str, float]) -> None:
            before = finish_work()
            super().write(step, group, values)
            if group != "train":
                return
            samples = consumed(turns.plan, step) - consumed(turns.plan, self.logged)
            elapsed = samples / values["samples_per_second"]
            self.logged = step
            self.seconds += elapsed + time.perf_counter() - before
            self.waited += elapsed * values["data_wait_share"]
            if step in turns.ends:
                turns.give(step, self.seconds, self.waited)
                self.seconds = self.waited = 0.0
                turns.wait()

        def say(self, text: str) -> None:
            """Nothing: the terminal is for the table."""

    with open_run(runtime, config):
        model, optimizer = runtime.prepare(experiment.model, config.optim)
        tracker = Pieces(config.run, main=True, step=0)
        progress = Progress(step=0, data=experiment.plan.start())
        turns.wait()
        loop(runtime, config, experiment, model, optimizer, progress, tracker, time.monotonic())
        tracker.close()
    turns.end(experiment.model, file)


def bare(pipe: Connection, config: ExperimentConfig, file: Path) -> None:
    """What nobody can leave out, over batches that are in memory (on the device) already."""
    runtime, experiment = set_up(config)
    model = experiment.model.to(runtime.device).train()
    optimizer = optim.build_optimizer(model, config.optim, fused=CUDA)
    steps = training_steps(config, experiment)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: optim.learning_rate_factor(min(step, len(steps) - 1), len(steps),
                                                           config.optim)
    )  # fmt: skip
    half = config.runtime.precision == "bf16"
    turns = Turns(pipe, experiment, config.train.epochs)
    begun = 0
    for end in turns.ends:
        batches = [runtime.to_device(steps[number][0]) for number in range(begun, end)]
        begun = end
        turns.wait()
        began = finish_work()
        for batch in batches:
            with torch.autocast(runtime.device.type, torch.bfloat16, enabled=half):
                loss = F.cross_entropy(model(batch), batch["target"])
            loss.backward()
            if config.optim.clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip)
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
        turns.give(end, finish_work() - began)
    turns.wait()
    turns.end(model, file)


def training_steps(config: ExperimentConfig, experiment: Experiment) -> TrainingSteps:
    return TrainingSteps(
        experiment.samples, experiment.rows, experiment.plan, experiment.plan.start(),
        epochs=config.train.epochs, world=1, rank=0, accumulation=1,
    )  # fmt: skip


class ForTrainer(nn.Module):
    """The module with the words that Trainer uses."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        logits = self.model({"tokens": input_ids, "token_mask": attention_mask.bool()})
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def trainer(pipe: Connection, config: ExperimentConfig, file: Path) -> None:
    """The Hugging Face Trainer on the same texts, as its documentation fine-tunes a classifier."""
    import transformers

    _, experiment = set_up(config)
    turns = Turns(pipe, experiment, config.train.epochs)
    folder = config.data.shards / TOKENIZER
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    texts = experiment.dataset.column("text")[experiment.rows].tolist()
    labels = experiment.samples.labels[experiment.rows].tolist()
    lines = tokenizer(texts, truncation=True, max_length=int(experiment.samples.tokens.max()))
    for row, ids in zip(experiment.rows.tolist(), lines["input_ids"], strict=True):
        assert experiment.samples.reader.read(row)["tokens"].tolist() == ids, "other tokens"
    keys = ("input_ids", "attention_mask")
    dataset = [{key: lines[key][i] for key in keys} | {"label": labels[i]}
               for i in range(len(labels))]  # fmt: skip
    settings, optimizer = config.train, config.optim
    assert optimizer.weight_decay == 0, "AdamW is Adam only without weight decay"
    arguments = transformers.TrainingArguments(
        output_dir=str(file.with_suffix(".trainer")), use_cpu=not CUDA,
        bf16=config.runtime.precision == "bf16", seed=settings.seed,
        num_train_epochs=settings.epochs, per_device_train_batch_size=settings.global_batch,
        learning_rate=optimizer.lr, weight_decay=0.0, max_grad_norm=optimizer.clip or 0.0,
        lr_scheduler_type=optimizer.schedule, warmup_steps=optimizer.warmup_fraction,
        save_strategy="no", report_to="none", disable_tqdm=True, label_names=["labels"],
    )  # fmt: skip

    class Pieces(transformers.TrainerCallback):
        began = 0.0

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step in turns.ends:
                turns.give(state.global_step, finish_work() - self.began)
                turns.wait()
                self.began = finish_work()

    pieces = Pieces()
    teacher = transformers.Trainer(
        ForTrainer(experiment.model), arguments, train_dataset=dataset, callbacks=[pieces],
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
    )  # fmt: skip
    turns.wait()
    pieces.began = finish_work()
    with open(os.devnull, "w") as nowhere:
        sys.stdout = nowhere  # its callback prints the logs
        teacher.train()
        sys.stdout = sys.__stdout__
    turns.end(experiment.model, file)


Contestant = Callable[[Connection, ExperimentConfig, Path], None]


def race(contestants: dict[str, Contestant], config: ExperimentConfig, folder: Path) -> dict:
    """All of them to the end, a piece each in turn: their pieces, peak memory and weights."""
    context = get_context("spawn")
    pipes, processes = {}, []
    for name, contestant in contestants.items():
        pipes[name], other = context.Pipe()
        own = config.model_copy(update={"run": folder / name})
        arguments = (other, own, folder / f"{name}.safetensors")
        processes.append(context.Process(target=contestant, args=arguments))
        processes[-1].start()
        other.close()
    assert len({pipe.recv() for pipe in pipes.values()}) == 1, "not the same first weights"
    results: dict[str, dict] = {name: {"pieces": []} for name in pipes}
    waiting = dict(pipes)
    while waiting:
        for name, pipe in list(waiting.items()):
            pipe.send("go")
            word = pipe.recv()
            if "memory" in word:
                results[name] |= word | {"weights": folder / f"{name}.safetensors"}
                del waiting[name]
            else:
                results[name]["pieces"].append(word)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    return results


def judge(results: dict, config: ExperimentConfig) -> None:
    """Adds the test scores of everyone's weights, all by the same evaluation."""
    runtime, experiment = set_up(config)
    view = experiment.view
    for result in results.values():
        experiment.model.load_state_dict(load_file(result["weights"]))
        model = experiment.model.to(runtime.device)
        found = predict_part(runtime, model, experiment.samples, view.test, config)
        result["test"] = scores(found, view)


def rows_of(results: dict) -> list[list[str]]:
    """A row a contestant; the first piece is left out."""
    counted = {name: result["pieces"][1:] for name, result in results.items()}
    base = [piece["seconds"] for piece in counted["bare"]]
    rows = []
    for name, pieces in counted.items():
        result, seconds = results[name], [piece["seconds"] for piece in pieces]
        steps = [b["step"] - a["step"] for a, b in zip(results[name]["pieces"], pieces,
                                                       strict=False)]  # fmt: skip
        more = statistics.median(own / other for own, other in zip(seconds, base, strict=True)) - 1
        waited = sum(piece["waited"] for piece in pieces) / sum(seconds)
        memory, workers = result["memory"]
        rows.append([
            name,
            f"{1000 * statistics.median(s / n for s, n in zip(seconds, steps, strict=True)):.2f}",
            f"{statistics.median(p['samples'] / p['seconds'] for p in pieces):,.0f}",
            "" if name == "bare" else f"{100 * more:+.1f} %",
            f"{100 * waited:.1f} %" if name == "ours" else "",
            f"{memory:,.0f}" + (f" + {workers:,.0f}" if workers else ""),
            f"{100 * result['test']['wa']:.1f}",
            f"{result['test']['loss']:.3f}",
        ])  # fmt: skip
    return rows


HEADS = ("loop", "ms a step", "samples/s", "over bare", "waiting for data", "peak MB",
         "test WA %", "test loss")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=Path, default=ROOT / "data/sample/shards")
    parser.add_argument("--workers", type=int, help="data.workers; else the configuration's")
    parser.add_argument("--text-epochs", type=int, default=12)
    parser.add_argument("--audio-epochs", type=int, default=2)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--markdown", type=Path, help="also write the tables there")
    options = parser.parse_args()
    if not options.shards.is_dir():
        sys.exit(f"there is no dataset in {options.shards}: run `make demo`, or give --shards")
    tables = []
    for branch, epochs in (("text", options.text_epochs), ("audio", options.audio_epochs)):
        if not epochs:
            continue
        changes = [f"data.shards={options.shards}", f"train.epochs={epochs}",
                   f"runtime.strategy={'gpu' if CUDA else 'cpu'}",
                   f"runtime.precision={options.precision}"]  # fmt: skip
        if options.workers is not None:
            changes.append(f"data.workers={options.workers}")
        config = load(ExperimentConfig, ROOT / f"configs/sample/{branch}.yaml", changes)
        contestants: dict[str, Contestant] = {"ours": ours, "bare": bare}
        if branch == "text":
            contestants["Trainer"] = trainer
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            results = race(contestants, config, folder)
            judge(results, config.model_copy(update={"run": folder / "judge"}))
        count = len(results["ours"]["pieces"]) - 1
        title = (
            f"{branch}: {epochs} epochs, batches of {config.train.global_batch}, "
            f"{options.precision}, {torch.cuda.get_device_name() if CUDA else 'one CPU thread'}, "
            f"workers {config.data.workers}, {count} pieces each"
        )
        tables.append(Table(title, HEADS, rows_of(results)))
        tables[-1].show()
    if options.markdown:
        options.markdown.write_text("\n".join(table.markdown() for table in tables))


if __name__ == "__main__":
    main()
