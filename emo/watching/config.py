"""What can be watched of a run: the sections `tracking` and `watch`. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeInt

from shards.configfile import Config

Tracking = Literal["tensorboard", "wandb", "mlflow"]


class WatchConfig(Config):
    """What is shown besides the numbers; rank 0 makes it, after each validation.

    `pictures` turns all pictures and curves on or off. `turns` is how many validation turns are
    shown with spectrogram and sound, always the same ones, and `embeddings` how many are put into
    the projector when training has ended (0: none). `profile_steps` steps are traced by
    torch.profiler, from the fourth of a launch on.
    """

    pictures: bool = True
    turns: NonNegativeInt = 5
    embeddings: NonNegativeInt = 1000
    profile_steps: NonNegativeInt = 0
