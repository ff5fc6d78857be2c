"""The paper's fusion: a linear layer for each branch's class probabilities, and their sum."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from emo.models.branch import BranchOutput, Fused, column
from emo.models.fusion.config import PaperFusionConfig
from emo.models.numerics import at_least_float32


class PaperFusion(nn.Module):
    """The sum of one linear layer for each branch, over its class probabilities (section 5.3).

    The softmax of the sum is left to the loss. If the branches' errors are independent given the
    emotion, adding scores follows from Bayes' rule.
    """

    def __init__(self, config: PaperFusionConfig, classes: int, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.width = classes * len(widths)  # of the vector
        self.linear = nn.ModuleDict({name: nn.Linear(classes, classes) for name in widths})
        if config.identity_start:
            for layer in self.linear.values():
                assert isinstance(layer, nn.Linear)
                nn.init.eye_(layer.weight)
                layer.weight.data.mul_(config.scale)
                nn.init.zeros_(layer.bias)

    def forward(self, outputs: Mapping[str, BranchOutput]) -> Fused:
        """Scores from one or more branches' outputs, and the vector behind them."""
        parts, read = [], []
        for name, branch in outputs.items():
            layer = self.linear[name]
            assert isinstance(layer, nn.Linear)
            # In half precision a softmax would lose the small probabilities.
            probabilities_BC = torch.softmax(at_least_float32(branch.logits_BC), dim=-1)
            scores_BC = layer(probabilities_BC.to(layer.weight.dtype))
            parts.append(scores_BC * column(branch.present_B, scores_BC))
            read.append(probabilities_BC * column(branch.present_B, probabilities_BC))
        return Fused(torch.stack(parts).sum(dim=0), torch.cat(read, dim=1))
