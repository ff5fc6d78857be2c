"""Settings of the audio branches. Importing this file loads neither torch nor transformers.

A new kind is a configuration here and in `AudioConfig`, a file beside this one, and an entry in
`emo.models.registry`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from emo.models.parts import BranchConfig, Dropout, LoraConfig, PoolingName, check_tuning
from shards.configfile import Config


class CnnConfig(BranchConfig):
    """Audio: convolutions in the VGG manner over a spectrogram, then two linear layers.

    One block for each entry of `channels`: convolution, max pooling by 2 in time and frequency,
    LeakyReLU with `slope`. `pooling` over time is the mean of the valid frames, that and their
    maximum side by side, or one of `emo.models.pooling`. `hidden` is the width between the linear
    layers; `dropout` acts there, and `pooled_dropout` on what the pooling gives.
    """

    kind: Literal["cnn"] = "cnn"
    channels: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (8, 16, 32, 64, 64), min_length=1, max_length=8
    )
    kernel: int = Field(3, ge=1, le=9)
    slope: float = Field(0.01, ge=0, lt=1)
    pooling: PoolingName | Literal["mean_max"] = "mean"
    hidden: int = Field(64, gt=0)
    dropout: Dropout = 0.2
    pooled_dropout: Dropout = 0.0
    channels_last: bool = True
    activation_checkpointing: bool = False

    @model_validator(mode="after")
    def _odd_kernel(self) -> CnnConfig:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, to keep the frames aligned, not {self.kernel}")
        return self


class ElmConfig(Config):
    """An extreme learning machine: `hidden` random units, least squares with `ridge` behind them.

    `ridge` is the penalty on the squared output weights, as a share of the number of utterances.
    """

    hidden: int = Field(120, gt=0)
    ridge: float = Field(1e-4, gt=0)


class ElmBranchConfig(BranchConfig):
    """Settings of both classic systems: windows of `context` frames of low-level descriptors.

    A window begins every `stride` frames. The `elm` reads statistics of posteriors, one of which is
    each class' fraction above `threshold`.
    """

    gives_states: ClassVar[bool] = False
    fits_head: ClassVar[bool] = True

    context: int = Field(25, ge=1)
    stride: int = Field(1, ge=1)
    threshold: float = Field(0.2, gt=0, lt=1)
    elm: ElmConfig = ElmConfig()

    @model_validator(mode="after")
    def _odd_context(self) -> ElmBranchConfig:
        if self.context % 2 == 0:
            raise ValueError(f"context must be odd, to have a middle frame, not {self.context}")
        return self


class BiLstmNullConfig(ElmBranchConfig):
    """Lee & Tashev's BiLSTM with NULL frames; `hidden` is the width of each direction."""

    kind: Literal["bilstm_null"]
    hidden: int = Field(128, gt=0)
    layers: int = Field(2, gt=0)
    dropout: Dropout = 0.0


class DnnElmConfig(ElmBranchConfig):
    """Han's DNN-ELM: `layers` of `hidden` units over the `loudest` share of the segments."""

    kind: Literal["dnn_elm"]
    hidden: int = Field(256, gt=0)
    layers: int = Field(3, gt=0)
    loudest: float = Field(0.1, gt=0, le=1)
    dropout: Dropout = 0.0


class SpeechEncoderConfig(BranchConfig):
    """Audio: a pretrained speech encoder over the waveform, then two linear layers.

    `encoder` is a name on the Hugging Face hub, or a folder: wav2vec 2.0 (XLS-R), HuBERT, WavLM,
    data2vec and their kin, the encoder of Whisper, or w2v-BERT. `tune` says which part of it is
    trained: nothing (only a weighting of its layers is learnt), the transformer after its
    convolutions, or everything; the lowest `frozen_layers` are then left as they are. `lora`
    trains adapters beside an encoder of which nothing is tuned. `normalise` scales every clip to
    mean 0 and variance 1; None follows the encoder's own preprocessing. `pooling` over time is one
    of `emo.models.pooling`. `hidden` is the width between the linear layers; `dropout` acts there.
    """

    reads_waveform: ClassVar[bool] = True

    kind: Literal["speech_encoder"]
    encoder: str
    tune: Literal["nothing", "transformer", "everything"] = "nothing"
    frozen_layers: int = Field(0, ge=0)
    lora: LoraConfig | None = None
    normalise: bool | None = None
    pooling: PoolingName = "mean"
    hidden: int = Field(256, gt=0)
    dropout: Dropout = 0.2
    activation_checkpointing: bool = False

    @model_validator(mode="after")
    def _tuned_in_one_way(self) -> SpeechEncoderConfig:
        check_tuning(self.tune, self.frozen_layers, self.lora)
        return self


def _kind_named(given: Any) -> Any:
    # Configurations and descriptions that are older than the other kinds do not name one.
    return {"kind": "cnn"} | given if isinstance(given, dict) else given


AudioConfig = Annotated[
    CnnConfig | BiLstmNullConfig | DnnElmConfig | SpeechEncoderConfig,
    Field(discriminator="kind"),
    BeforeValidator(_kind_named),
]
