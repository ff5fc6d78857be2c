"""A model's outputs for every row of a part, each exactly once, under any strategy."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from emo.data.loader import Loader
from emo.data.plan import Share
from emo.data.source import check_skipped
from emo.data.steps import EvaluationSteps
from emo.distributed.collectives import Votes, lost_ranks_named
from emo.evaluation.posthoc.prior import prior_ratio
from emo.modalities import MODALITIES
from emo.models.attributes.targets import AttributeTargets
from emo.models.branch import Output
from emo.models.config import ModelConfig
from emo.models.losses.cross_entropy import emotion_loss
from emo.models.losses.objective import NEVER
from emo.runs.run import Run
from shards.errors import UserError


@dataclass(frozen=True)
class Predictions:
    """Predictions for one part, in the order of `rows`.

    `rows` int64 [N], `labels` int [N], `probabilities` float64 [N, C]; `loss` is the mean over
    rows, and `skipped` the number of rows left out as damaged. `attributes` has what is predicted
    and what is true of each, float64 [N] both, on the corpus' scale; NaN where a turn lacks it.
    """

    rows: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    loss: float
    skipped: int
    attributes: dict[str, tuple[np.ndarray, np.ndarray]] | None = None


@dataclass(frozen=True)
class Outputs:
    """A model's outputs `values`, float64 [N, K], for `rows`, int64 [N], ascending."""

    rows: np.ndarray
    values: np.ndarray
    skipped: int  # rows left out as damaged


class StopRequested(UserError):
    """The run was asked to stop during an evaluation."""


def each_alone(model: ModelConfig) -> dict[str, tuple[str, ...]]:
    """For each modality of a fusion: the others, to be masked. Empty for models without fusion."""
    if model.fusion is None:
        return {}
    return {kept: tuple(one for one in model.branches if one != kept) for kept in model.branches}


def correction(run: Run) -> np.ndarray | None:
    """The factor of each class' probability that `evaluation.prior` asks for, float64 [C].

    Raises:
        UserError: `evaluation.prior` does not name the run's classes.
    """
    classes, facts = run.experiment.view.label_set.classes, run.experiment.objective.facts()
    return prior_ratio(run.config.evaluation.prior, facts["prior"], classes)


def predict_part(run: Run, rows: np.ndarray, without: Collection[str] = ()) -> Predictions:
    """The model's class probabilities for `rows`; a collective, the same result on every rank.

    `without` names modalities to mask in all rows; only a fusion can predict without one.

    Raises:
        StopRequested: a rank was asked to stop; nothing is lost but this evaluation.
        TooMuchDamage: more samples were skipped than `data.max_skipped` allows.
    """
    targets = run.experiment.attributes
    given = outputs_of(run, rows, without, "scores" if targets is None else "all")
    check_skipped(given.skipped, len(rows), run.config.data)
    classes = len(run.experiment.view.label_set.classes)
    logits_NC = torch.from_numpy(given.values[:, :classes])
    if run.samples.masks is not None:
        logits_NC[torch.from_numpy(~run.samples.masks.of(given.rows))] = NEVER
    target_NC = torch.from_numpy(run.samples.targets[given.rows])
    loss = emotion_loss(logits_NC, target_NC, torch.ones(len(given.rows), dtype=torch.bool))
    return Predictions(
        rows=given.rows,
        labels=run.samples.labels[given.rows],
        probabilities=torch.softmax(logits_NC, -1).numpy(),
        loss=float(loss) / max(1, len(given.rows)),
        skipped=given.skipped,
        attributes=_attributes(given, classes, targets),
    )


def _attributes(
    given: Outputs, classes: int, targets: AttributeTargets | None
) -> dict[str, tuple[np.ndarray, np.ndarray]] | None:
    if targets is None:
        return None
    predicted_AN = targets.on_scale(given.values[:, classes:]).T
    true_AN = targets.on_scale(targets.values[given.rows]).T
    return dict(zip(targets.scales, zip(predicted_AN, true_AN, strict=True), strict=True))


@lost_ranks_named()
@torch.no_grad()
def outputs_of(
    run: Run, rows: np.ndarray, without: Collection[str] = (), output: Output = "scores"
) -> Outputs:
    """The model's `output` in evaluation mode for `rows`: a collective, the same on every rank.

    Every rank does the same number of steps, filled up with invalid rows, because a forward pass is
    a collective under ZeRO-3 and FSDP. That each row was seen exactly once is checked. Of "parts",
    the vector is given.

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
    rows_seen, valid, skipped, outputs = [], [], [], []
    source = iter(batches)
    for _ in range(len(steps)):
        batch, error = fetch(source)
        votes = runtime.vote(Votes(failed=error is not None, stop=runtime.stop_requested))
        if votes.failed:
            runtime.fail_together(error)
        if votes.stop:
            raise StopRequested("asked to stop while evaluating")
        inputs = samples.to_model(batch, runtime.device, runtime.dtype)
        for name in without:  # masked, not left out: ZeRO-3 needs every child module to be called
            mask = MODALITIES[name].mask
            inputs[mask] = torch.zeros_like(inputs[mask])
        # float64 from here on: probabilities and loss then add no rounding of their own.
        given = run.model(inputs, output)
        table = (given["vector"] if isinstance(given, dict) else given).double().cpu()
        rows_seen.append(batch.row.numpy())
        valid.append(batch.valid.numpy())
        skipped.append(batch.skipped.numpy())
        outputs.append(table.numpy())

    def of_all_ranks(mine: list[np.ndarray]) -> np.ndarray:
        return runtime.gather(np.concatenate(mine)).reshape(-1, *mine[0].shape[1:])

    counts = of_all_ranks(valid)
    seen, values = of_all_ranks(rows_seen)[counts], of_all_ranks(outputs)[counts]
    damaged = int(of_all_ranks(skipped).sum())
    if len(seen) + damaged != len(rows) or len(np.unique(seen)) != len(seen):
        raise AssertionError(
            f"evaluation saw {len(seen)} rows ({len(np.unique(seen))} distinct, {damaged} skipped) "
            f"of {len(rows)}"
        )
    # In the order of rows: then every sum over rows is the same for any number of ranks.
    order = np.argsort(seen)
    return Outputs(seen[order], values[order], damaged)


def fetch(source: Iterator[Any]) -> tuple[Any, Exception | None]:
    """The next item, or the error instead of it: all ranks must learn of it before any goes on."""
    try:
        return next(source), None
    except Exception as error:  # a damaged sample, or a worker that died
        return [], error
