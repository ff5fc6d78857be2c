"""The learnt weights of encoders that read a weighted sum of their layers."""

from __future__ import annotations

import numpy as np
from safetensors import safe_open

from emo.figures.bars import bars_picture
from emo.runs import checkpoint, files
from emo.runs.run import Run

NAME = "layer_weights"  # of the parameter, before its softmax


def show_layers(run: Run, step: int) -> None:
    """Their shares, from the checkpoint of `step`, where every strategy keeps whole weights."""
    path = files.checkpoints(run.config.run) / f"step-{step:08d}" / checkpoint.WEIGHTS
    with safe_open(path, framework="np") as weights:
        for name in [one for one in weights.keys() if one.endswith(NAME)]:  # noqa: SIM118
            raw = weights.get_tensor(name).astype(np.float64)
            shares = np.exp(raw - raw.max())
            shares /= shares.sum()
            branch = name.removesuffix(f".{NAME}")
            names = ["input", *(f"layer {number}" for number in range(1, len(shares)))]
            image = bars_picture(names, shares, f"{branch}: weights of the encoder's layers")
            run.tracker.picture(f"layers/{branch}", image, step)
            run.tracker.show(
                {f"layer_weights/{branch}_{n:02d}": float(x) for n, x in enumerate(shares)}, step
            )
