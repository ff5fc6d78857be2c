"""Gated fusion: each branch's vector is weighted by a gate that reads all branches."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from emo.models.branch import BranchOutput, Fused, column
from emo.models.fusion.config import GatedFusionConfig


class GatedFusion(nn.Module):
    """Each branch's vector is weighted by a gate that reads all vectors (Arevalo et al. 2017).

    Unlike there, the gates are independent and do not sum to one, so that any subset of the
    modalities, also none, gives a finite result.
    """

    def __init__(self, config: GatedFusionConfig, classes: int, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.widths = dict(widths)
        both, hidden = sum(widths.values()), config.hidden
        self.value = nn.ModuleDict({name: nn.Linear(n, hidden) for name, n in widths.items()})
        self.gate = nn.ModuleDict({name: nn.Linear(both, hidden) for name in widths})
        self.dropout = nn.Dropout(config.dropout)
        self.width = hidden  # of the vector
        self.head = nn.Linear(hidden, classes)

    def forward(self, outputs: Mapping[str, BranchOutput]) -> Fused:
        """Scores from one or more branches' outputs, and the vector behind them."""
        dtype = self.head.weight.dtype
        given = next(iter(outputs.values())).vector_BD
        vectors = {}
        for name, width in self.widths.items():
            if name in outputs:
                vector_BD = outputs[name].vector_BD.to(dtype)
                vectors[name] = vector_BD * column(outputs[name].present_B, vector_BD)
            else:
                vectors[name] = given.new_zeros(given.shape[0], width, dtype=dtype)
        all_BD = torch.cat(list(vectors.values()), dim=1)
        parts = []
        for name, branch in outputs.items():
            value_BD = torch.tanh(self.value[name](vectors[name]))
            gate_BD = torch.sigmoid(self.gate[name](all_BD))
            parts.append(gate_BD * value_BD * column(branch.present_B, value_BD))
        vector_BD = self.dropout(torch.stack(parts).sum(dim=0))
        return Fused(self.head(vector_BD), vector_BD)
