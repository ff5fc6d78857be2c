"""A speech branch over a checkpoint on the disk, and clips for it to hear."""

import torch

from emo.models.audio.config import SpeechEncoderConfig
from emo.models.audio.speech_encoder import SpeechBranch


def loaded(folder, **settings):
    torch.manual_seed(0)
    config = SpeechEncoderConfig(kind="speech_encoder", encoder=str(folder), **settings)
    return SpeechBranch(config, 5).eval()


def four_clips(*lengths):
    """Waves [4, T] of these lengths (samples) and of several levels, padded with noise; masks."""
    generator = torch.Generator().manual_seed(3)
    longest = max(lengths)
    mask = torch.arange(longest)[None] < torch.tensor(lengths)[:, None]
    waves = torch.randn(4, longest, generator=generator)
    return waves * torch.tensor([[0.1], [0.3], [0.2], [0.05]]) + 0.02, mask
