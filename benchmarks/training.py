"""Our training loop against a bare loop, and against the Hugging Face Trainer, in one run.

Each is a process of its own with one thread, with the same first weights and the same batch size.
They take turns, a piece of an epoch each, so that other work on the machine slows all of them
alike. "ours" is `emo.training.train.loop` itself: real loader, checks, log, TensorBoard. "bare" is
forward, backward, clip, step over the same batches that ours has just used, already in memory.
"Trainer" fine-tunes the same module on the same texts, tokenized beforehand, with its defaults: its
own fused AdamW (without decay the same as our Adam), DataCollatorWithPadding, no reports.

    python benchmarks/training.py [--shards data/sample/shards] [--precision bf16] [--markdown FILE]

Reads what `make demo` builds. The first piece warms up and is not counted. "over bare" is the
median over pieces of the time against the bare loop's same piece, by the clock and by the CPU's
work in the process, which other work on the machine disturbs less; "waiting" is the share of our
time in which the loop had no batch. Targets: 5 % and 2 %, and ahead of Trainer at equal accuracy
(on test turns, with the weights of the last epoch: no checkpoint is selected). Peak memory: of the
process + of its loader's worker. Ours validates and saves at the end of every epoch: that time is
not counted, but that memory is. With a GPU, everything runs on it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, here and in the processes started

import torch
from safetensors.torch import load_file
from table import Table  # this folder's
from torch import nn
from torch.nn import functional as F
from turns import CUDA, Contestant, Turns, consumed, finish_work, race  # this folder's

import emo.training.train
from emo.config import ExperimentConfig
from emo.data.plan import Share
from emo.data.steps import TrainingSteps
from emo.distributed.runtime import Runtime
from emo.evaluation.outputs import predict_part
from emo.evaluation.results import validation_scores
from emo.runs import random_state
from emo.runs.checkpoint import Progress
from emo.runs.experiment import Experiment
from emo.runs.folder import open_run
from emo.runs.run import Run
from emo.runs.tracking.tracker import Tracker
from emo.training import optim
from shards.configfile import load
from shards.store.index import TOKENIZER

ROOT = Path(__file__).parent.parent


def set_up(config: ExperimentConfig) -> tuple[Runtime, Experiment]:
    settings = config.train
    runtime = Runtime.start(
        config.runtime, accumulation=1, micro_batch=settings.global_batch,
        clip=config.optim.clip or 0.0,
    )  # fmt: skip
    experiment = Experiment.build(runtime, config)
    random_state.seed_rank(settings.seed, 0, 0)
    return runtime, experiment


def ours(pipe: Connection, config: ExperimentConfig, file: Path, workers: int) -> None:
    """The loop as it is; its tracker, which it calls after every piece, passes the word."""
    config = config.model_copy(update={"data": config.data.model_copy(update={"workers": workers})})
    runtime, experiment = set_up(config)
    turns = Turns(pipe, experiment, config.train.epochs)

    class Pieces(Tracker):
        logged, seconds, cpu, waited = 0, 0.0, 0.0, 0.0

        def write(self, step: int, group: str, values: dict[str, float]) -> None:
            before = finish_work()
            super().write(step, group, values)
            if group != "train":
                return
            samples = consumed(turns.plan, step) - consumed(turns.plan, self.logged)
            elapsed = samples / values["samples_per_second"]
            self.logged = step
            self.seconds += elapsed + time.perf_counter() - before
            self.cpu += time.process_time() - CpuClock.begun
            self.waited += elapsed * values["data_wait_share"]
            if step in turns.ends:
                turns.give(step, self.seconds, self.cpu, self.waited)
                self.seconds = self.cpu = self.waited = 0.0
                turns.wait()

        def say(self, text: str) -> None:
            """Nothing: the terminal is for the table."""

    class CpuClock(emo.training.train.Clock):
        """Begins where the loop's own clock begins: validation and saving are in neither."""

        begun = 0.0

        def __init__(self) -> None:
            super().__init__()
            CpuClock.begun = time.process_time()

    emo.training.train.Clock = CpuClock  # type: ignore[misc]
    with open_run(runtime, config):
        optimizer = optim.build_optimizer(experiment.model, config.optim)
        model, optimizer = runtime.prepare(experiment.model, optimizer)
        tracker = Pieces(config.run, main=True, step=0)
        progress = Progress(step=0, data=experiment.plan.start())
        turns.wait()
        run = Run(runtime, experiment, model, tracker, optimizer)
        emo.training.train.loop(run, progress, time.monotonic())
        tracker.close()
    turns.end(experiment.model, file)


def bare(pipe: Connection, config: ExperimentConfig, file: Path) -> None:
    """What nobody can leave out, over batches that are in memory (on the device) already."""
    runtime, experiment = set_up(config)
    model = experiment.model.to(runtime.device).train()
    optimizer = optim.build_optimizer(model, config.optim)
    steps = training_steps(config, experiment)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: optim.learning_rate_factor(min(step, len(steps) - 1), len(steps),
                                                           config.optim)
    )  # fmt: skip
    half = config.runtime.precision == "bf16"
    turns = Turns(pipe, experiment, config.train.epochs)
    begun = 0
    for end in turns.ends:
        turns.wait()
        batches = []
        for [batch] in map(steps.__getitem__, range(begun, end)):
            inputs = experiment.samples.to_model(batch, runtime.device, runtime.dtype)
            batches.append((inputs, batch.target.to(runtime.device)))
        begun = end
        began, used = finish_work(), time.process_time()
        for inputs, target in batches:
            with torch.autocast(runtime.device.type, torch.bfloat16, enabled=half):
                loss = F.cross_entropy(model(inputs), target)
            loss.backward()
            if config.optim.clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip)
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
        turns.give(end, finish_work() - began, time.process_time() - used)
    turns.wait()
    turns.end(model, file)


def training_steps(config: ExperimentConfig, experiment: Experiment) -> TrainingSteps:
    return TrainingSteps(
        experiment.samples, experiment.rows, experiment.plan, experiment.plan.start(),
        epochs=config.train.epochs, share=Share(),
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
        began = used = 0.0

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step in turns.ends:
                now, used = finish_work(), time.process_time()
                turns.give(state.global_step, now - self.began, used - self.used)
                self.start()

        def start(self) -> None:
            turns.wait()
            self.began, self.used = finish_work(), time.process_time()

    pieces = Pieces()
    teacher = transformers.Trainer(
        ForTrainer(experiment.model), arguments, train_dataset=dataset, callbacks=[pieces],
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
    )  # fmt: skip
    pieces.start()
    with open(os.devnull, "w") as nowhere:
        sys.stdout = nowhere  # its callback prints the logs
        teacher.train()
        sys.stdout = sys.__stdout__
    turns.end(experiment.model, file)


def judge(results: dict, config: ExperimentConfig) -> None:
    """Adds the test scores of everyone's weights, all by the same evaluation."""
    runtime, experiment = set_up(config)
    view = experiment.view
    for result in results.values():
        experiment.model.load_state_dict(load_file(result["weights"]))
        model = experiment.model.to(runtime.device)
        silent = Tracker(config.run, main=False, step=0)
        found = predict_part(Run(runtime, experiment, model, silent), view.test)
        result["test"], _ = validation_scores(found, view)


def row(name: str, result: dict, bare_pieces: list[dict]) -> list[str]:
    """A contestant's line of the table; the first piece is left out."""
    pieces = result["pieces"][1:]
    steps = [b["step"] - a["step"] for a, b in pairwise(result["pieces"])]
    ms, over = [], []
    for what in ("seconds", "cpu"):
        times = [p[what] / count for p, count in zip(pieces, steps, strict=True)]
        ratios = [p[what] / b[what] for p, b in zip(pieces, bare_pieces[1:], strict=True)]
        ms.append(f"{1000 * statistics.median(times):.2f}")
        over.append("" if name == "bare" else f"{100 * statistics.median(ratios) - 100:+.1f} %")
    rate = statistics.median(p["samples"] / p["seconds"] for p in pieces)
    waited = sum(p["waited"] for p in pieces) / sum(p["seconds"] for p in pieces)
    memory, workers = result["memory"]
    return [
        name,
        *ms,
        f"{rate:,.0f}",
        *over,
        f"{100 * waited:.1f} %" if name.startswith("ours") else "",
        f"{memory:,.0f}" + (f" + {workers:,.0f}" if workers else ""),
        f"{100 * result['test']['wa']:.1f}",
        f"{result['test']['loss']:.3f}",
    ]


HEADS = ("loop", "ms a step", "CPU ms a step", "samples/s", "over bare", "over bare, CPU",
         "waiting for data", "peak MB", "test WA %", "test loss")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=Path, default=ROOT / "data/sample/shards")
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
        config = load(ExperimentConfig, ROOT / f"configs/sample/{branch}.yaml", changes)
        contestants: dict[str, Contestant] = {
            "bare": bare, "ours, no worker": partial(ours, workers=0),
            "ours, one worker": partial(ours, workers=1),
        }  # fmt: skip
        if branch == "text":
            contestants["Trainer"] = trainer
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            results = race(contestants, config, folder)
            judge(results, config.model_copy(update={"run": folder / "judge"}))
        pieces = results["bare"]["pieces"]
        title = (
            f"{branch}: {epochs} epochs, batches of {config.train.global_batch}, "
            f"{options.precision}, {torch.cuda.get_device_name() if CUDA else 'one CPU thread'}, "
            f"{len(pieces) - 1} pieces each"
        )
        tables.append(Table(title, HEADS, [row(*one, pieces) for one in results.items()]))
        tables[-1].show()
    if options.markdown:
        options.markdown.write_text("\n".join(table.markdown() for table in tables))


if __name__ == "__main__":
    main()
