"""The audio branch over a pretrained speech encoder: wav2vec 2.0, HuBERT or WavLM.

The paper tried wav2vec (Schneider et al. 2019), whose weights are not available in this form; its
successor wav2vec 2.0 (Baevski et al. 2020) stands in for it. The three share one architecture:
strided convolutions over the waveform, then a transformer. Most of what they know of emotion is in
their middle layers, so a weighted sum of all layers is read, with learnt weights (Yang et al. 2021,
"SUPERB").
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emo.models.audio.config import SpeechEncoderConfig
from emo.models.branch import Branch, BranchOutput, ModelError
from emo.models.fusion.config import Reads
from emo.models.numerics import at_least_float32, mean_valid, wide
from emo.models.pooling import make_pooling
from emo.models.pretrained import (
    Preprocessing,
    build_encoder,
    describe_encoder,
    load_encoder,
    read_preprocessing,
)

# Architectures (`model_type`) that the code below was read and tested against.
ENCODERS = ("wav2vec2", "hubert", "wavlm")
SLOPE = 0.01  # of the LeakyReLU, as in the CNN


class SpeechBranch(Branch):
    """Waveforms to class scores: layers weighted, mean over frames, linear, LeakyReLU, linear.

    A clip's scores do not depend on how far its batch is padded: normalisation, attention and
    pooling see only its own samples. The group normalisation of the published base models also sees
    the padding; ours (`ClipNorm`) does not.

    LayerDrop and SpecAugment are off (`_prepare` says why); dropout is as the checkpoint has it.

    Args:
        config: its settings.
        classes: how many scores.
        size: not read: a waveform has no bins.
        architecture: what `describe` gave; builds that encoder without reading its weights.

    Raises:
        ModelError: the encoder cannot be loaded, or is of another kind.
    """

    behind: ClassVar = {"logits": (), "vector": ("head",), "states": ("pool", "hidden", "head")}

    def __init__(
        self,
        config: SpeechEncoderConfig,
        classes: int,
        size: int = 0,
        architecture: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if architecture is not None:
            encoder = build_encoder(architecture["encoder"])
            preprocessing = Preprocessing(**architecture["preprocessing"])
        else:
            encoder = load_encoder(config.encoder, "model.audio.encoder")
            preprocessing = read_preprocessing(config.encoder, "model.audio.encoder")
        self.kind = str(encoder.config.model_type)
        if self.kind not in ENCODERS or getattr(encoder.config, "add_adapter", False):
            raise ModelError(
                f"model.audio.encoder: {config.encoder!r} is a {self.kind}"
                + (" with an adapter" if self.kind in ENCODERS else "")
                + f": give one of {', '.join(ENCODERS)} without an adapter"
            )
        self.config, self.preprocessing = config, preprocessing
        self.normalises = preprocessing.normalise if config.normalise is None else config.normalise
        self.encoder = encoder
        self.clip_norm = _prepare(encoder)
        if config.activation_checkpointing:
            # The reentrant kind gives no gradients at all where the input needs none.
            encoder.gradient_checkpointing_enable({"use_reentrant": False})
        if config.tune == "nothing":
            encoder.requires_grad_(False)
        elif config.tune == "transformer":
            # Private, as of transformers 5.23: besides freezing the weights it stops the extractor
            # from asking for a gradient of the waveform, which would cost its whole backward pass.
            encoder.feature_extractor._freeze_parameters()
        layers = encoder.config.num_hidden_layers + 1  # the transformer's input is one of them
        self.layer_weights = nn.Parameter(torch.zeros(layers))
        self.states_width = encoder.config.hidden_size
        self.pool = make_pooling(config.pooling, self.states_width, "model.audio.pooling")
        self.hidden = nn.Linear(self.pool.width, config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden, classes)
        self.width = config.hidden
        # On demand only: they keep all layers in memory for the gradients of the layer weights.
        self.gives_states = False

    def serve(self, reads: Reads) -> None:
        super().serve(reads)
        self.gives_states = reads == "states"

    def train(self, mode: bool = True) -> SpeechBranch:
        """As in torch, except that an encoder that learns nothing stays in evaluation mode."""
        super().train(mode)
        if self.config.tune == "nothing":
            self.encoder.eval()
        return self

    def forward(self, audio_BS: Tensor, mask_BS: Tensor) -> BranchOutput:
        """Scores of `audio_BS` (float, in ±1), valid where `mask_BS` (bool) is set.

        Valid samples come first in every row; any number of them will do, none included.
        """
        present_B = mask_BS.any(dim=1)
        layers_LBTD, mask_BT = self.listen(audio_BS, mask_BS)
        weights_L = torch.softmax(self.layer_weights, dim=0)
        if self.config.pooling == "mean":
            # The mean comes before the weights: one vector a layer to keep for the backward pass.
            means_LBD = torch.stack([mean_valid(states, mask_BT) for states in layers_LBTD])
            pooled_BD = torch.einsum("l,lbd->bd", weights_L, means_LBD)
        else:
            states_BTD = torch.einsum("l,lbtd->btd", weights_L, torch.stack(layers_LBTD))
            pooled_BD = self.pool(states_BTD, mask_BT)
        vector_BD = self.dropout(F.leaky_relu(self.hidden(pooled_BD), SLOPE))
        output = BranchOutput(self.head(vector_BD), vector_BD, present_B)
        if not self.gives_states:
            return output
        if self.config.pooling == "mean":
            states_BTD = torch.einsum("l,lbtd->btd", weights_L, torch.stack(layers_LBTD))
        return output._replace(states_BTD=states_BTD, mask_BT=mask_BT & present_B[:, None])

    def listen(self, audio_BS: Tensor, mask_BS: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """The states of each layer, float [B, T, D], its input first; bool [B, T], valid frames.

        A row has at least one frame, even where it has no sample.
        """
        lacking = max(0, self.smallest - audio_BS.shape[1])
        audio_BS, mask_BS = F.pad(audio_BS, (0, lacking)), F.pad(mask_BS, (0, lacking))
        wave_BS = at_least_float32(audio_BS).masked_fill(~mask_BS, 0.0)
        if self.normalises:
            wave_BS = normalised(wave_BS, mask_BS)
        attended_BS = mask_BS.clone()
        # A clip too short for one frame counts as one of zeros: no row may attend to nothing.
        attended_BS[:, : self.smallest] = True
        samples_B = attended_BS.sum(dim=1)
        if self.clip_norm is not None:
            self.clip_norm.frames_B = self._frames(samples_B, 1)
        # A frozen encoder keeps no activations; inside `torch.no_grad` nothing is turned on again.
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.tune != "nothing"):
            heard = self.encoder(
                wave_BS.to(self.head.weight.dtype),
                attention_mask=attended_BS.long(),
                output_hidden_states=True,
            )
        # The large models end in a norm, which not all of them count among the layers.
        layers = (*heard.hidden_states[:-1], heard.last_hidden_state)
        frames = torch.arange(layers[0].shape[1], device=mask_BS.device)
        return layers, frames < self._frames(samples_B)[:, None]

    @property
    def smallest(self) -> int:
        """The samples that the convolutions need to give one frame."""
        samples = 1
        config = self.encoder.config
        for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
            samples = (samples - 1) * stride + kernel
        return int(samples)

    def _frames(self, samples_B: Tensor, layers: int | None = None) -> Tensor:
        """How many frames the first `layers` convolutions (all) give of so many samples."""
        config = self.encoder.config
        for kernel, stride in list(zip(config.conv_kernel, config.conv_stride, strict=True))[
            :layers
        ]:
            samples_B = (samples_B - kernel) // stride + 1
        return samples_B

    def describe(self) -> dict[str, Any]:
        """The encoder's architecture and preprocessing as plain JSON."""
        return {
            "encoder": describe_encoder(self.encoder),
            "preprocessing": self.preprocessing.to_json(),
        }


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


def normalised(wave_BS: Tensor, mask_BS: Tensor) -> Tensor:
    """Every row's valid samples with mean 0 and variance 1, zeros beyond.

    As transformers' `Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm` does it.
    """
    count_B1 = mask_BS.sum(dim=1, keepdim=True).clamp(min=1).to(wave_BS.dtype)
    wave_BS = (wave_BS - wave_BS.sum(dim=1, keepdim=True) / count_B1).masked_fill(~mask_BS, 0.0)
    return wave_BS / (wave_BS.square().sum(dim=1, keepdim=True) / count_B1 + 1e-7).sqrt()


def _prepare(encoder: Any) -> ClipNorm | None:
    """Turn off LayerDrop and masking in `encoder`; return its new group normalisation, if any."""
    settings = encoder.config
    # LayerDrop leaves layers without a gradient, for which DDP would wait for ever; masking draws
    # from numpy's global generator, which no checkpoint holds.
    settings.layerdrop = settings.mask_time_prob = settings.mask_feature_prob = 0.0
    settings.apply_spec_augment = False
    if hasattr(encoder, "masked_spec_embed"):
        del encoder.masked_spec_embed  # a weight that nothing uses any more
    first = encoder.feature_extractor.conv_layers[0]
    old = getattr(first, "layer_norm", None)
    if not isinstance(old, nn.GroupNorm):
        return None
    first.layer_norm = ClipNorm(old.num_groups, old.num_channels, eps=old.eps)
    first.layer_norm.load_state_dict(old.state_dict())
    return first.layer_norm
