"""Modality dropout: training rows lose one of their modalities."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from emo.models.branch import BranchOutput


def drop_modalities(outputs: Mapping[str, BranchOutput], share: float) -> dict[str, BranchOutput]:
    """`outputs`, in which a `share` (on average) of the rows with several modalities lost one.

    Rows and modalities are drawn from torch's generator, each with the same probability.
    """
    if len(outputs) < 2:
        return dict(outputs)
    present_BM = torch.stack([one.present_B for one in outputs.values()], dim=1)
    several_B = present_BM.sum(dim=1) > 1
    # One number a row decides: the share is cut into equal intervals, one for each modality. So a
    # row never loses two.
    chance_B = torch.rand(len(several_B), device=several_B.device)
    kept = {}
    for number, (name, one) in enumerate(outputs.items()):
        low, high = (share * edge / len(outputs) for edge in (number, number + 1))
        kept[name] = one.without(several_B & (chance_B >= low) & (chance_B < high))
    return kept
