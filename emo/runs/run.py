"""One run, as training and evaluation see it: what trains, on what, where, and where it logs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from emo.config import ExperimentConfig
from emo.data.source import SampleSource
from emo.distributed.runtime import Runtime
from emo.runs.experiment import Experiment
from emo.runs.tracking.tracker import Tracker


@dataclass(frozen=True)
class Run:
    """The argument of everything that trains, evaluates or records.

    Attributes:
        model: the experiment's, as the strategy wrapped it.
        optimizer: wrapped likewise; None where a run is only evaluated.
    """

    runtime: Runtime
    experiment: Experiment
    model: nn.Module
    tracker: Tracker
    optimizer: torch.optim.Optimizer | None = None

    @property
    def config(self) -> ExperimentConfig:
        return self.experiment.config

    @property
    def samples(self) -> SampleSource:
        return self.experiment.samples

    @cached_property
    def trained(self) -> list[nn.Parameter]:
        """The parameters that have gradients, in the model's order.

        Cached: looking them up at each step would take as long as computing their norm.
        """
        return [p for p in self.model.parameters() if p.requires_grad]
