"""A speech branch over a checkpoint on the disk."""

import torch

from emo.models.audio.config import SpeechEncoderConfig
from emo.models.audio.speech_encoder import SpeechBranch


def loaded(folder, **settings):
    torch.manual_seed(0)
    config = SpeechEncoderConfig(kind="speech_encoder", encoder=str(folder), **settings)
    return SpeechBranch(config, 5).eval()
