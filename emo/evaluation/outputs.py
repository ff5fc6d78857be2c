"""What a model gives for every row of a part, once each, under any strategy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from emo.config import Branch
from emo.data.loader import Loader
from emo.data.plan import Share
from emo.data.source import check_skipped
from emo.data.steps import EvaluationSteps
from emo.modalities import MODALITIES
from emo.models.losses import emotion_loss
from emo.runs.run import Run
from shards.errors import UserError

ALONE: tuple[tuple[Branch, Branch], ...] = (("text", "audio"), ("audio", "text"))  # kept, lost


@dataclass(frozen=True)
class Predictions:
    """Of one part, in the order of `rows`: labels int [N], probabilities float64 [N, C]."""

    rows: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    loss: float
    skipped: int


class StopRequested(UserError):
    """A preemption came in the middle of an evaluation."""


def predict_part(run: Run, rows: np.ndarray, without: Branch | None = None) -> Predictions:
    """The model's class probabilities for `rows`; a collective, the result is on every rank.

    `without` takes a modality away from all of them, which only a fusion can do with.

    Raises:
        StopRequested: a rank was asked to stop; nothing is lost but this evaluation.
        TooMuchDamage: more samples were skipped than `data.max_skipped` allows.
    """
    seen, logits_NC, skipped = outputs_of(run, rows, without)
    check_skipped(skipped, len(rows), run.config.data)
    logits = torch.from_numpy(logits_NC)
    target = torch.from_numpy(run.samples.targets[seen])
    loss = emotion_loss(logits, target, torch.ones(len(seen), dtype=torch.bool))
    return Predictions(
        rows=seen,
        labels=run.samples.labels[seen],
        probabilities=torch.softmax(logits, -1).numpy(),
        loss=float(loss) / max(1, len(seen)),
        skipped=skipped,
    )


@torch.no_grad()
def outputs_of(
    run: Run, rows: np.ndarray, without: Branch | None = None
) -> tuple[np.ndarray, np.ndarray, int]:
    """What the model in evaluation mode gives for `rows`: a collective, the same on every rank.

    Every rank does the same number of steps, filled up with invalid rows: under ZeRO-3 and FSDP a
    forward pass is a collective. That no row is lost or doubled is asserted.

    Returns the rows that were seen, int64 [N] ascending, the outputs float64 [N, K] in their order,
    and how many rows were skipped as damaged.

    Raises:
        StopRequested: a rank was asked to stop.
    """
    runtime, samples, config = run.runtime, run.samples, run.config
    steps = EvaluationSteps(
        samples,
        samples.units(rows),
        batch=config.train.evaluation_batch,
        share=Share(runtime.world, runtime.rank),
    )
    batches = Loader(
        steps,
        range(len(steps)),
        workers=config.data.workers,
        pin=runtime.device.type == "cuda",
    )
    run.model.eval()
    found = []
    source = iter(batches)
    for _ in range(len(steps)):
        batch, error = fetch(source)
        failed, stops = runtime.agree(error is not None, runtime.stop_requested)
        if failed:
            runtime.fail_together(error)
        if stops:
            raise StopRequested("asked to stop while evaluating")
        inputs = samples.to_model(batch, runtime.device, runtime.dtype)
        if without is not None:  # masked, not left out: under ZeRO-3 every child must be called
            mask = MODALITIES[without].mask
            inputs[mask] = torch.zeros_like(inputs[mask])
        table = run.model(inputs).double().cpu()
        state = torch.stack([batch.row, batch.valid, batch.skipped], 1)
        found.append(np.concatenate((state.double().numpy(), table.numpy()), 1))
    every = runtime.gather(np.concatenate(found)).reshape(-1, found[0].shape[1])
    skipped = int(every[:, 2].sum())
    every = every[every[:, 1] == 1]
    every = every[np.argsort(every[:, 0])]
    seen = every[:, 0].astype(np.int64)
    if len(seen) + skipped != len(rows) or len(np.unique(seen)) != len(seen):
        raise AssertionError(
            f"evaluation saw {len(seen)} rows ({len(np.unique(seen))} distinct, {skipped} skipped) "
            f"of {len(rows)}"
        )
    return seen, every[:, 3:], skipped


def fetch(source: Iterator[Any]) -> tuple[Any, Exception | None]:
    """The next item, or the error instead: every rank must learn of it before it goes on."""
    try:
        return next(source), None
    except Exception as error:  # a damaged sample, or a worker that died
        return [], error
