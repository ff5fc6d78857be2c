"""The audio branch over a pretrained speech encoder.

The paper tried wav2vec (Schneider et al. 2019), whose weights are not available in this form; its
successor wav2vec 2.0 (Baevski et al. 2020) stands in for it. Most encoders share one architecture:
strided convolutions over the waveform, then a transformer; `fronts` has the others. Most of what
they know of emotion is in their middle layers, so a weighted sum of all layers is read, with learnt
weights (Yang et al. 2021, "SUPERB").
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emo.models.audio.config import SpeechEncoderConfig
from emo.models.audio.fronts import Front, WaveFront, front_of
from emo.models.branch import Branch, BranchOutput, ModelError
from emo.models.fusion.config import Reads
from emo.models.numerics import at_least_float32, mean_valid
from emo.models.pooling import make_pooling
from emo.models.pretrained import (
    Preprocessing,
    build_encoder,
    describe_encoder,
    load_encoder,
    read_preprocessing,
)
from emo.models.tuning import add_lora, freeze_before, freeze_lowest

SLOPE = 0.01  # of the LeakyReLU, as in the CNN


class SpeechBranch(Branch):
    """Waveforms to class scores: layers weighted, mean over frames, linear, LeakyReLU, linear.

    A clip's scores do not depend on how far its batch is padded: normalisation, attention and
    pooling see only its own samples. The group normalisation of the published base models also sees
    the padding; ours (`ClipNorm`) does not.

    LayerDrop and SpecAugment are off (`front_of` says why); dropout is as the checkpoint has it.

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
        front = front_of(encoder)
        _check_fits(encoder, front, config.encoder)
        assert front is not None
        self.front = front
        self.config, self.preprocessing = config, preprocessing
        wanted = preprocessing.normalise and front.normalises
        self.normalises = wanted if config.normalise is None else config.normalise
        self.encoder = encoder
        if config.activation_checkpointing:
            # The reentrant kind gives no gradients at all where the input needs none.
            encoder.gradient_checkpointing_enable({"use_reentrant": False})
        if config.tune == "nothing":
            encoder.requires_grad_(False)
        elif config.tune == "transformer":
            # Private, as of transformers 5.23: besides freezing the weights it stops the extractor
            # from asking for a gradient of the waveform, which would cost its whole backward pass.
            if isinstance(front, WaveFront):
                encoder.feature_extractor._freeze_parameters()
            else:
                freeze_before(encoder)
        freeze_lowest(encoder, config.frozen_layers, "model.audio")
        add_lora(encoder, config.lora, "model.audio")
        self.learns = config.tune != "nothing" or config.lora is not None
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
        if not self.learns:
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
        smallest = self.front.smallest
        lacking = max(0, smallest - audio_BS.shape[1])
        audio_BS, mask_BS = F.pad(audio_BS, (0, lacking)), F.pad(mask_BS, (0, lacking))
        wave_BS = at_least_float32(audio_BS).masked_fill(~mask_BS, 0.0)
        if self.normalises:
            wave_BS = normalised(wave_BS, mask_BS)
        attended_BS = mask_BS.clone()
        # A clip too short for one frame counts as one of zeros: no row may attend to nothing.
        attended_BS[:, :smallest] = True
        # A frozen encoder keeps no activations; inside `torch.no_grad` nothing is turned on again.
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.learns):
            heard = self.encoder(
                **self.front.inputs(wave_BS, attended_BS, self.head.weight.dtype),
                output_hidden_states=True,
            )
        # The large models end in a norm, which not all of them count among the layers.
        layers = (*heard.hidden_states[:-1], heard.last_hidden_state)
        frames = torch.arange(layers[0].shape[1], device=mask_BS.device)
        return layers, frames < self.front.frames(attended_BS.sum(dim=1))[:, None]

    def describe(self) -> dict[str, Any]:
        """The encoder's architecture and preprocessing as plain JSON."""
        return {
            "encoder": describe_encoder(self.encoder),
            "preprocessing": self.preprocessing.to_json(),
        }


def normalised(wave_BS: Tensor, mask_BS: Tensor) -> Tensor:
    """Every row's valid samples with mean 0 and variance 1, zeros beyond.

    As transformers' `Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm` does it.
    """
    count_B1 = mask_BS.sum(dim=1, keepdim=True).clamp(min=1).to(wave_BS.dtype)
    wave_BS = (wave_BS - wave_BS.sum(dim=1, keepdim=True) / count_B1).masked_fill(~mask_BS, 0.0)
    return wave_BS / (wave_BS.square().sum(dim=1, keepdim=True) / count_B1 + 1e-7).sqrt()


def _check_fits(encoder: Any, front: Front | None, name: str) -> None:
    """Raise ModelError for an encoder that this branch cannot read, or not exactly."""
    kind = encoder.config.model_type
    reason = ""
    if front is None:
        reason = (
            "which reads neither waveforms nor one of the spectrograms known here: give a speech "
            "encoder such as wav2vec 2.0, HuBERT, WavLM, data2vec, Whisper or w2v-BERT"
        )
    elif getattr(encoder.config, "add_adapter", False):
        reason = "with an adapter: give one without an adapter"
    elif getattr(encoder.config, "squeeze_factor", 1) != 1:
        reason = "which squeezes its frames: give another one"
    elif any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in encoder.modules()):
        reason = "with batch normalisation, whose results depend on the batch: give another one"
    if reason:
        raise ModelError(f"model.audio.encoder: {name!r} is a {kind} {reason}")
