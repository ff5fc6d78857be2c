"""The learnt weights of encoders that read a weighted sum of their layers."""

from __future__ import annotations

import torch

from emo.distributed.state import gather_weights
from emo.figures.bars import bars_picture
from emo.runs.run import Run

NAME = "layer_weights"  # of the parameter, before its softmax


def show_layers(run: Run, step: int) -> None:
    """Their shares, as scalars and as a picture; a collective."""
    for name, weights_L in gather_weights(run.runtime, run.model, NAME).items():
        shares = torch.softmax(weights_L.double(), 0).numpy()
        branch = name.removesuffix(f".{NAME}")
        names = ["input", *(f"layer {number}" for number in range(1, len(shares)))]
        image = bars_picture(names, shares, f"{branch}: weights of the encoder's layers")
        run.tracker.picture(f"layers/{branch}", image, step)
        run.tracker.show(
            {f"layer_weights/{branch}_{n:02d}": float(one) for n, one in enumerate(shares)}, step
        )
