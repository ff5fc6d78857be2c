"""The module that is trained on dialogues.

It reads one vector for each turn and modality, which trained branches have written before. A batch
has D dialogues of up to T turns; valid turns come first. Scores are flattened to [D·T, C]: the loop
that trains on utterances then also trains on turns, where padding and turns outside the label set
are rows that are not valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from emo.models.branch import ModelError, Output
from emo.models.config import ModelConfig
from emo.models.registry import CONTEXTS, lookup


class ContextModel(nn.Module):
    """Dialogues to class scores, through the one child `context`.

    Args:
        config: its `context` is set.
        classes: how many scores.
        widths: of each modality's vectors.
    """

    def __init__(self, config: ModelConfig, classes: int, widths: Mapping[str, int]) -> None:
        super().__init__()
        chosen = config.context
        assert chosen is not None
        missing = [name for name in chosen.modalities if name not in widths]
        if missing:
            raise ModelError(
                f"there are no vectors of {' and '.join(missing)}: take it out of "
                "model.context.modalities, or make features of a run with that branch"
            )
        self.config, self.classes = config, classes
        self.widths: dict[str, int] = {name: widths[name] for name in chosen.modalities}
        self.branches = chosen.modalities
        self.turn_dropout = chosen.turn_dropout
        kind = lookup(CONTEXTS, chosen.kind, "model.context.kind")
        self.context = kind(chosen, classes, self.widths)

    def forward(self, batch: Mapping[str, Tensor], output: Output = "scores") -> Tensor:
        """`logits_NC` of the N = D·T places of a batch; there is no other `output` here.

        Reads per modality, under its name, float [D,T,W], `turn_mask` bool [D,T] (valid turns come
        first) and `speaker` int64 [D,T], any numbers that are different for each speaker of a
        dialogue. Scores of padding are finite but meaningless.
        """
        assert output == "scores", output
        dtype = next(self.parameters()).dtype
        mask_DT = heard_DT = batch["turn_mask"]
        if self.training and self.turn_dropout:
            heard_DT = mask_DT & (torch.rand(mask_DT.shape, device=mask_DT.device)
                                  >= self.turn_dropout)  # fmt: skip
        vectors = {
            # Padding may hold anything, even NaN, and must not get into a sum.
            name: batch[name].to(dtype).masked_fill(~heard_DT.unsqueeze(-1), 0.0)
            for name in self.widths
        }
        logits_DTC = self.context(vectors, mask_DT, batch["speaker"])
        return logits_DTC.flatten(0, 1)

    def describe(self) -> dict[str, Any]:
        """Plain JSON from which `emo.models.model.rebuild` makes this model again."""
        return {
            "model": self.config.model_dump(mode="json"),
            "classes": self.classes,
            "widths": self.widths,
        }
