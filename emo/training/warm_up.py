"""Two passes without a step before the first step: the largest batch, and a loss of zero."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from emo.data.plan import Share
from emo.data.source import Batch
from emo.data.steps import TrainingSteps
from emo.distributed.collectives import lost_ranks_named
from emo.distributed.runtime import Runtime
from emo.runs.experiment import Experiment
from emo.training import whole_batch

PASSES = 2


@lost_ranks_named()
def warm_up(
    runtime: Runtime, experiment: Experiment, model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Run `PASSES` windows of micro-batches forward and backward; no weight and no moment moves.

    Call it before the random generators are seeded or restored: dropout draws from them.

    DDP sorts its buckets anew at the second forward pass, by the order in which gradients came.
    From then on it adds up other elements together, and three or more addends give another last bit
    in another order. Without these passes a resumed run would take its first step with the first
    layout, and end with other bits than one that was never stopped. They also show before the first
    epoch, and not in its middle, that the memory does not hold the longest batch.
    """
    settings = experiment.config.train
    steps = TrainingSteps(
        experiment.samples,
        experiment.rows,
        experiment.plan,
        experiment.plan.start(),
        epochs=settings.epochs,
        share=Share(runtime.world, runtime.rank, settings.accumulation),
    )
    micro = [_all_present(batch) for batch in steps.largest_item()]
    objective = experiment.objective
    model.train()
    for _ in range(PASSES):
        for batch in micro:
            inputs = experiment.samples.to_model(batch, runtime.device, runtime.dtype)
            # Rows that do not count add exactly zero to the loss and to every gradient.
            counted = torch.zeros_like(batch.valid).to(runtime.device)
            with runtime.accumulate(model):
                outputs = objective.ask(model, inputs)
                loss = objective.of_rows(outputs, batch.target.to(runtime.device), counted)
                if objective.whole:
                    nothing = {name: torch.zeros_like(x) for name, x in outputs.items()}
                    loss = loss + whole_batch.pulled(outputs, nothing, counted)
                runtime.backward_without_step(model, loss)
    optimizer.zero_grad()


def _all_present(batch: Batch) -> Batch:
    """`batch` as if every place held a unit of full length: some layers skip what is padding."""

    def present(x: torch.Tensor) -> torch.Tensor:
        if x.dtype == torch.bool:  # a mask
            return torch.ones_like(x)
        return x if x.is_floating_point() else x.clamp(min=0)  # -1 stands for no speaker

    return replace(batch, inputs={key: present(x) for key, x in batch.inputs.items()})
