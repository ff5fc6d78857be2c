"""The attribute head: one linear layer beside that of the classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from emo.models.attributes.config import AttributesConfig
from emo.models.numerics import at_least_float32


class AttributeHead(nn.Module):
    """Attributes from the vector that the classes are predicted from.

    Args:
        width: of the vector.
    """

    def __init__(self, config: AttributesConfig, width: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.linear = nn.Linear(width, len(config.names))

    def forward(self, vector_BD: Tensor) -> Tensor:
        """[B, A] from 0 to 1, the ends of each attribute's scale; float32 or more."""
        scores_BA = self.linear(self.dropout(vector_BD.to(self.linear.weight.dtype)))
        return torch.sigmoid(at_least_float32(scores_BA))
