"""Heads that are fitted in closed form, at the end of every epoch, before validation.

Their fitted parts are buffers, so the epoch's checkpoint holds them. Training does not read them:
a resumed run therefore goes on exactly as an uninterrupted one.
"""

from __future__ import annotations

import torch

from emo.distributed.state import bare
from emo.evaluation.outputs import outputs_of
from emo.models.audio.elm import ElmBranch
from emo.runs.run import Run


def fit_head(run: Run) -> None:
    """Fit the model's extreme learning machine, if it has one, to the training rows.

    A collective: every rank gets the statistics of all rows, in the order of rows. So the solution
    is the same on all ranks, and for any number of ranks.

    Raises:
        StopRequested: a rank was asked to stop.
    """
    if not run.config.model.fits_head:
        return
    given = outputs_of(run, run.experiment.rows, output="statistics")
    target_NC = torch.from_numpy(run.samples.targets[given.rows])
    [branch] = bare(run.model).children()
    assert isinstance(branch, ElmBranch)
    branch.fit(torch.from_numpy(given.values), target_NC)
