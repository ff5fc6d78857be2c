"""How the branches' evidence becomes one prediction. A modality that is absent adds nothing.

A new kind is a configuration in `emo.models.config`, a class here with `reads`, and its entry in
`FUSIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from emo.losses import at_least_float32
from emo.models.branch import Evidence
from emo.models.config import GatedFusionConfig, PaperFusionConfig


class PaperFusion(nn.Module):
    """The paper's fusion (section 5.3): class probabilities, a Linear each, summed.

    The softmax of the sum is left to the loss. Where the branches' errors are independent given the
    emotion, scores that add up are what Bayes' rule asks for.
    """

    reads: ClassVar[Literal["logits", "vector"]] = "logits"

    def __init__(self, config: PaperFusionConfig, classes: int, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.linear = nn.ModuleDict({name: nn.Linear(classes, classes) for name in widths})
        if config.identity_start:
            for layer in self.linear.values():
                assert isinstance(layer, nn.Linear)
                nn.init.eye_(layer.weight)
                layer.weight.data.mul_(config.scale)
                nn.init.zeros_(layer.bias)

    def forward(self, evidence: Mapping[str, Evidence]) -> Tensor:
        """`logits_BC` from one or more branches' evidence."""
        parts = []
        for name, branch in evidence.items():
            layer = self.linear[name]
            assert isinstance(layer, nn.Linear)
            # In half precision a softmax would lose the small probabilities.
            probabilities_BC = torch.softmax(at_least_float32(branch.logits_BC), dim=-1)
            scores_BC = layer(probabilities_BC.to(layer.weight.dtype))
            parts.append(scores_BC * _column(branch.present_B, scores_BC))
        return torch.stack(parts).sum(dim=0)


class GatedFusion(nn.Module):
    """A gate for each branch, seeing all of them, weights its vector (after Arevalo et al. 2017).

    Unlike there the gates are independent and do not sum to one, so that any subset of the
    modalities, none included, gives a finite result.
    """

    reads: ClassVar[Literal["logits", "vector"]] = "vector"

    def __init__(self, config: GatedFusionConfig, classes: int, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.widths = dict(widths)
        both, hidden = sum(widths.values()), config.hidden
        self.value = nn.ModuleDict({name: nn.Linear(n, hidden) for name, n in widths.items()})
        self.gate = nn.ModuleDict({name: nn.Linear(both, hidden) for name in widths})
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(hidden, classes)

    def forward(self, evidence: Mapping[str, Evidence]) -> Tensor:
        """`logits_BC` from one or more branches' evidence."""
        dtype = self.head.weight.dtype
        given = next(iter(evidence.values())).vector_BD
        vectors = {}
        for name, width in self.widths.items():
            if name in evidence:
                vector_BD = evidence[name].vector_BD.to(dtype)
                vectors[name] = vector_BD * _column(evidence[name].present_B, vector_BD)
            else:
                vectors[name] = given.new_zeros(given.shape[0], width, dtype=dtype)
        all_BD = torch.cat(list(vectors.values()), dim=1)
        parts = []
        for name, branch in evidence.items():
            value_BD = torch.tanh(self.value[name](vectors[name]))
            gate_BD = torch.sigmoid(self.gate[name](all_BD))
            parts.append(gate_BD * value_BD * _column(branch.present_B, value_BD))
        return self.head(self.dropout(torch.stack(parts).sum(dim=0)))


FUSIONS: dict[str, type[PaperFusion] | type[GatedFusion]] = {
    "paper": PaperFusion,
    "gated": GatedFusion,
}


def build_fusion(config: Any, classes: int, widths: Mapping[str, int]) -> nn.Module:
    """The fusion of `config.kind` over branches whose vectors have these `widths`."""
    return FUSIONS[config.kind](config, classes, widths)


def _column(present_B: Tensor, like: Tensor) -> Tensor:
    return present_B.unsqueeze(-1).to(like.dtype)
