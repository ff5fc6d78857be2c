"""Terms of the loss that need all turns of a global batch, whatever ranks and micro-batches it has.

Such a term is no sum over turns. Its gradient by one turn's output depends on the outputs of all
turns, and is the same on every rank. So the outputs, a few numbers a turn, are gathered first;
every rank computes the term and its gradients by its own outputs, and multiplies these into its
backward pass. With several micro-batches the outputs are computed once before, without a graph:
the memory stays that of one micro-batch (Gao et al. 2021, "Scaling deep contrastive learning batch
size under memory limited setup").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from emo.data.source import Batch
from emo.models.losses.objective import WholeBatchTerm
from emo.runs.run import Run

Parts = dict[str, Tensor]  # a model's output "parts" for one micro-batch


def outputs_before(run: Run, micro: Sequence[Batch]) -> list[Parts]:
    """The outputs for each micro-batch, without a graph; later passes draw the same random numbers.

    A collective under ZeRO-3 and FSDP.
    """
    runtime = run.runtime
    cuda = [runtime.device] if runtime.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), torch.no_grad():
        return [
            run.experiment.objective.ask(
                run.model, run.samples.to_model(batch, runtime.device, runtime.dtype)
            )
            for batch in micro
        ]


def pulls(run: Run, outputs: Sequence[Parts], micro: Sequence[Batch]) -> tuple[float, list[Parts]]:
    """The sum of the terms, and for each micro-batch their gradients by its outputs; a collective.

    The gradients are of the term itself: nothing in them has been divided by ranks or turns.
    """
    value, result = 0.0, [dict[str, Tensor]() for _ in micro]
    valid_N = torch.cat([batch.valid for batch in micro])
    wanted = {"target": torch.cat([batch.target for batch in micro])}
    if (attributes := run.experiment.attributes) is not None:
        row_N = torch.cat([batch.row for batch in micro])  # -1 where nothing counts
        wanted["attributes"] = torch.from_numpy(attributes.values[row_N.numpy()])
    for term in run.experiment.objective.whole:
        mine = torch.cat([one[term.reads].detach().double().cpu() for one in outputs])
        worth, gradient = _of_term(run, term, (mine, wanted[term.against], valid_N))
        value += worth
        sizes = [len(batch.valid) for batch in micro]
        for place, part in zip(result, gradient.split(sizes), strict=True):
            place[term.reads] = place[term.reads] + part if term.reads in place else part
    return value, result


def pulled(outputs: Parts, pull: Parts, valid_B: Tensor) -> Tensor:
    """A scalar whose gradient by the outputs is `pull`, and 0 for rows that do not count."""
    total = torch.zeros((), device=valid_B.device)
    for name, gradient in pull.items():
        given = outputs[name]
        shape = (-1,) + (1,) * (given.ndim - 1)
        # Before the product: what does not count may be NaN, and 0 times NaN is NaN.
        given = given.masked_fill(~valid_B.reshape(shape), 0.0)
        total = total + (given * gradient.to(given.device, given.dtype)).sum()
    return total


def _of_term(
    run: Run, term: WholeBatchTerm, mine: tuple[Tensor, Tensor, Tensor]
) -> tuple[float, Tensor]:
    """The term, and its gradient by this rank's outputs, in float64, zero where nothing counts."""
    everyone = [torch.from_numpy(run.runtime.gather(np.asarray(one))) for one in mine]
    outputs_RNx, target_RNC, valid_RN = everyone
    x = outputs_RNx[valid_RN].requires_grad_()
    if len(x) == 0:
        return 0.0, torch.zeros_like(mine[0])
    worth = term.weight * term.function(x, target_RNC[valid_RN].double())
    [gradient] = torch.autograd.grad(worth, x)
    whole = torch.zeros_like(outputs_RNx)
    whole[valid_RN] = gradient
    return float(worth.detach()), whole[run.runtime.rank]
