"""How a waveform becomes a speech encoder's input, and which of its frames hold the clip.

There are three ways. wav2vec 2.0 and its kin read the waveform through strided convolutions;
Whisper reads a log-mel spectrogram of always the same length; w2v-BERT reads pairs of frames of
Kaldi's filter bank. Spectrograms are computed here, on the device, as the encoders' own extractors
compute them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emo.models.numerics import wide

HOP, WINDOW = 160, 400  # samples, at 16 kHz, of both kinds of spectrogram


class Front:
    """Base of the three. `encoder` is the loaded model, which `__init__` may prepare.

    Attributes:
        smallest: the samples that give one frame; shorter clips are filled up with zeros.
        normalises: whether the waveform may be scaled to mean 0 and variance 1 before.
    """

    smallest: int
    normalises = True

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder

    def inputs(self, wave_BS: Tensor, heard_BS: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
        """The encoder's arguments for waveforms (at least float32, zeros where not `heard_BS`)."""
        raise NotImplementedError

    def frames(self, samples_B: Tensor) -> Tensor:
        """How many frames the encoder gives of so many samples, int64 [B]."""
        raise NotImplementedError


class WaveFront(Front):
    """wav2vec 2.0, HuBERT, WavLM, data2vec, UniSpeech and others of their architecture."""

    def __init__(self, encoder: Any) -> None:
        super().__init__(encoder)
        self.clip_norm = _own_clip_norm(encoder)
        self.beyond_BT: Tensor | None = None
        samples = 1
        for kernel, stride in reversed(self._convolutions()):
            samples = (samples - 1) * stride + kernel
        self.smallest = int(samples)
        # data2vec has several convolutions for positions, one behind the other: each would read
        # what the one before it wrote into the padding.
        positions = getattr(getattr(encoder, "encoder", None), "pos_conv_embed", None)
        for layer in getattr(positions, "layers", ()):
            layer.register_forward_hook(self._clear)

    def inputs(self, wave_BS: Tensor, heard_BS: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
        samples_B = heard_BS.sum(dim=1)
        if self.clip_norm is not None:
            self.clip_norm.frames_B = self._count(samples_B, self._convolutions()[:1])
        length = torch.arange(
            int(self._count(torch.tensor([wave_BS.shape[1]]), self._convolutions())),
            device=wave_BS.device,
        )
        self.beyond_BT = length >= self.frames(samples_B)[:, None]
        return {"input_values": wave_BS.to(dtype), "attention_mask": heard_BS.long()}

    def frames(self, samples_B: Tensor) -> Tensor:
        return self._count(samples_B, self._convolutions())

    def _clear(self, layer: nn.Module, given: Any, output_BDT: Tensor) -> Tensor:
        assert self.beyond_BT is not None
        return output_BDT.masked_fill(self.beyond_BT[:, None], 0.0)

    def _convolutions(self) -> list[tuple[int, int]]:
        """Kernel and stride of each."""
        config = self.encoder.config
        return list(zip(config.conv_kernel, config.conv_stride, strict=True))

    @staticmethod
    def _count(samples_B: Tensor, convolutions: list[tuple[int, int]]) -> Tensor:
        for kernel, stride in convolutions:
            samples_B = (samples_B - kernel) // stride + 1
        return samples_B


class WhisperFront(Front):
    """The encoder of Whisper (Radford et al. 2022): log-mel, always as long as it has positions.

    Those are 30 s in the published models; longer clips are cut there. Whisper knows no mask: it
    was trained on clips filled up with silence, and hears the same here. Poolings read only the
    clip's own frames.
    """

    smallest = 2 * HOP
    normalises = False

    def __init__(self, encoder: Any) -> None:
        from transformers.audio_utils import mel_filter_bank

        super().__init__(encoder)
        config = encoder.config
        self.length = int(config.max_source_positions) * 2 * HOP
        filters_KM = mel_filter_bank(
            1 + WINDOW // 2, config.num_mel_bins, 0.0, 8000.0, 16000, norm="slaney",
            mel_scale="slaney",
        )  # fmt: skip
        self.table = _Tables(filters=filters_KM, window=np.hanning(WINDOW + 1)[:-1])

    def inputs(self, wave_BS: Tensor, heard_BS: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
        wave_BS = F.pad(wave_BS, (0, self.length - wave_BS.shape[1]))  # cuts where negative
        tables = self.table.like(wave_BS)
        spectrum_BKT = torch.stft(
            wave_BS, WINDOW, HOP, window=tables["window"], return_complex=True
        )[..., :-1]
        mel_BMT = torch.einsum("km,bkt->bmt", tables["filters"], spectrum_BKT.abs().square())
        log_BMT = mel_BMT.clamp(min=1e-10).log10()
        log_BMT = torch.maximum(log_BMT, log_BMT.amax(dim=(1, 2), keepdim=True) - 8.0)
        return {"input_features": ((log_BMT + 4.0) / 4.0).to(dtype)}

    def frames(self, samples_B: Tensor) -> Tensor:
        return samples_B.clamp(max=self.length) // (2 * HOP)


class FilterBankFront(Front):
    """w2v-BERT 2.0: Kaldi's 80 log-mel bins, each scaled over the clip, two frames to one."""

    smallest = WINDOW + HOP
    normalises = False

    def __init__(self, encoder: Any) -> None:
        from transformers.audio_utils import mel_filter_bank, window_function

        super().__init__(encoder)
        bins = encoder.config.feature_projection_input_dim // 2
        filters_KM = mel_filter_bank(
            257, bins, 20, 8000, 16000, norm=None, mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )  # fmt: skip
        self.table = _Tables(
            filters=filters_KM, window=window_function(WINDOW, "povey", periodic=False)
        )

    def inputs(self, wave_BS: Tensor, heard_BS: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
        tables = self.table.like(wave_BS)
        x_BTW = (wave_BS * 2.0**15).unfold(1, WINDOW, HOP)
        x_BTW = x_BTW - x_BTW.mean(dim=-1, keepdim=True)
        before_BTW = torch.cat([x_BTW[..., :1], x_BTW[..., :-1]], dim=-1)
        x_BTW = (x_BTW - 0.97 * before_BTW) * tables["window"]
        power_BTK = torch.fft.rfft(x_BTW, 512).abs().square()
        log_BTM = (power_BTK @ tables["filters"]).clamp(min=1.192092955078125e-07).log()
        count_B = (heard_BS.sum(dim=1) - WINDOW) // HOP + 1
        beyond_BT1 = (
            torch.arange(log_BTM.shape[1], device=wave_BS.device) >= count_B[:, None]
        ).unsqueeze(-1)
        log_BTM = log_BTM.masked_fill(beyond_BT1, 0.0)
        log_BTM = log_BTM - log_BTM.sum(dim=1, keepdim=True) / count_B[:, None, None]
        log_BTM = log_BTM.masked_fill(beyond_BT1, 0.0)
        variance_B1M = log_BTM.square().sum(dim=1, keepdim=True) / (count_B - 1)[:, None, None]
        log_BTM = log_BTM * torch.rsqrt(variance_B1M + 1e-7)
        pairs = log_BTM.shape[1] // 2
        paired_BPx = log_BTM[:, : 2 * pairs].unflatten(1, (pairs, 2)).flatten(2)
        valid_BP = torch.arange(pairs, device=wave_BS.device) < (count_B // 2)[:, None]
        # Half a pair at the end of a clip is no frame: what stands there is not to be read.
        paired_BPx = paired_BPx.masked_fill(~valid_BP.unsqueeze(-1), 0.0)
        return {"input_features": paired_BPx.to(dtype), "attention_mask": valid_BP.long()}

    def frames(self, samples_B: Tensor) -> Tensor:
        return ((samples_B - WINDOW) // HOP + 1) // 2


# By `model_type`; every other encoder with convolutions over the waveform is a `WaveFront`.
FRONTS: dict[str, Callable[[Any], Front]] = {
    "whisper": WhisperFront,
    "wav2vec2-bert": FilterBankFront,
}


def front_of(encoder: Any) -> Front | None:
    """The front of a loaded encoder; None for an architecture that is not known here.

    LayerDrop and SpecAugment of the encoder are turned off: LayerDrop leaves layers without a
    gradient, for which DDP would wait for ever, and masking draws from numpy's global generator,
    which no checkpoint holds.
    """
    settings = encoder.config
    for name in ("layerdrop", "encoder_layerdrop", "mask_time_prob", "mask_feature_prob"):
        if hasattr(settings, name):
            setattr(settings, name, 0.0)
    if hasattr(encoder, "layerdrop"):
        encoder.layerdrop = 0.0
    settings.apply_spec_augment = False
    if hasattr(encoder, "masked_spec_embed"):
        del encoder.masked_spec_embed  # a weight that nothing uses any more
    if settings.model_type in FRONTS:
        return FRONTS[settings.model_type](encoder)
    if hasattr(encoder, "feature_extractor") and hasattr(settings, "conv_kernel"):
        return WaveFront(encoder)
    return None


class _Tables:
    """Constant arrays, copied once to each device and dtype; no part of a model's state."""

    def __init__(self, **arrays: np.ndarray) -> None:
        self.arrays = arrays
        self.copies: dict[tuple[torch.device, torch.dtype], dict[str, Tensor]] = {}

    def like(self, x: Tensor) -> dict[str, Tensor]:
        key = (x.device, x.dtype)
        if key not in self.copies:
            self.copies[key] = {
                name: torch.from_numpy(array).to(*key) for name, array in self.arrays.items()
            }
        return self.copies[key]


class ClipNorm(nn.GroupNorm):
    """One group a channel, over each row's first `frames_B` frames alone.

    A plain `GroupNorm` takes its mean and variance over the padding too, so that a clip's scores
    would depend on the batch that it is in. Over the valid frames alone, they do not.
    """

    frames_B: Tensor

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Normalised `x_BCT` (changed in place); zero times the weight, plus bias, beyond."""
        frames = torch.arange(x_BCT.shape[-1], device=x_BCT.device)
        beyond_B1T = (frames >= self.frames_B[:, None])[:, None]
        # Sums and counts over frames are taken in float32 even where the layer runs in float16:
        # that ends at 65,504, and 20.5 s have more frames here.
        dtype = wide(x_BCT.dtype)
        count_B11 = self.frames_B[:, None, None].to(dtype)
        # In place, because this is the longest of all layers. It is safe: for its backward pass a
        # convolution keeps its input and not its output, and a difference keeps neither.
        x_BCT = x_BCT.masked_fill_(beyond_B1T, 0.0)
        mean_BC1 = x_BCT.sum(dim=-1, keepdim=True, dtype=dtype) / count_B11
        x_BCT = x_BCT - mean_BC1.to(x_BCT.dtype)
        x_BCT = x_BCT.masked_fill_(beyond_B1T, 0.0)
        norm_BC1 = torch.linalg.vector_norm(x_BCT, dim=-1, keepdim=True, dtype=dtype)
        scale_BC1 = torch.rsqrt(norm_BC1.square() / count_B11 + self.eps).to(x_BCT.dtype)
        return x_BCT * scale_BC1 * self.weight[:, None] + self.bias[:, None]


def _own_clip_norm(encoder: Any) -> ClipNorm | None:
    """The group normalisation that took the place of the encoder's own; None if it has none."""
    first = encoder.feature_extractor.conv_layers[0]
    old = getattr(first, "layer_norm", None)
    if not isinstance(old, nn.GroupNorm):
        return None
    first.layer_norm = ClipNorm(old.num_groups, old.num_channels, eps=old.eps)
    first.layer_norm.load_state_dict(old.state_dict())
    return first.layer_norm
