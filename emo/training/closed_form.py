"""Heads that are fitted in closed form, at every epoch's end before validation.

Their fitted parts are buffers: the epoch's checkpoint holds them, and nothing in training reads
them, so that a resumed run goes on as if it had never stopped.
"""

from __future__ import annotations

import torch

from emo.distributed.state import bare
from emo.evaluation.outputs import outputs_of
from emo.models.classic import Elm
from emo.runs.run import Run


def fit_head(run: Run) -> None:
    """Fit the model's extreme learning machine, if it has one to fit, to the training rows.

    A collective: every rank gets the statistics of all rows, in the order of rows, and so the same
    solution, whatever the number of ranks.

    Raises:
        StopRequested: a rank was asked to stop.
    """
    if not run.config.model.likelihoods:
        return
    head = bare(run.model).get_submodule("audio.head")
    assert isinstance(head, Elm)
    head.open = True
    try:
        given = outputs_of(run, run.experiment.rows)
    finally:
        head.open = False
    target_NC = torch.from_numpy(run.samples.targets[given.rows])
    for name, value in head.fit(torch.from_numpy(given.values), target_NC).items():
        head.get_buffer(name).copy_(value)
