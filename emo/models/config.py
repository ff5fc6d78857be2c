"""What a model is made of. Importing this file loads neither torch nor transformers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from shards.configfile import Config

Dropout = Annotated[float, Field(ge=0, lt=1)]


class SmallBertConfig(Config):
    """A BERT of these sizes, its weights drawn at random; the vocabulary is the dataset's."""

    hidden: int = Field(128, gt=0)
    layers: int = Field(2, gt=0)
    heads: int = Field(4, gt=0)
    intermediate: int = Field(256, gt=0)
    positions: int = Field(128, gt=1, description="longest line in tokens, special ones included")
    dropout: Dropout = 0.1

    @model_validator(mode="after")
    def _heads_divide_hidden(self) -> SmallBertConfig:
        if self.hidden % self.heads:
            raise ValueError(
                f"hidden must be a multiple of heads, not {self.hidden} for {self.heads}"
            )
        return self


class TextBranchConfig(Config):
    """Text: an encoder over word pieces, pooled to one vector, dropout, one linear layer.

    Exactly one of `encoder` (a name on the Hugging Face hub, or a folder) and `build` is set.
    `pooling` takes the first position's vector (cls) or the mean over a line's word pieces.
    """

    encoder: str | None = None
    build: SmallBertConfig | None = None
    pooling: Literal["cls", "mean"] = "cls"
    dropout: Dropout = 0.1
    activation_checkpointing: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> TextBranchConfig:
        if (self.encoder is None) == (self.build is None):
            raise ValueError("set either encoder (a hub name or a folder) or build (its sizes)")
        return self


class AudioBranchConfig(Config):
    """Audio: convolutions in the VGG manner over a spectrogram, then two linear layers.

    One block for each entry of `channels`: convolution, max pooling by 2 in time and frequency,
    LeakyReLU with `slope`. `pooling` over time is the mean of the valid frames, or that and their
    maximum side by side. `hidden` is the width between the linear layers; `dropout` acts there.
    """

    kind: Literal["cnn"] = "cnn"
    channels: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (8, 16, 32, 64, 64), min_length=1, max_length=8
    )
    kernel: int = Field(3, ge=1, le=9)
    slope: float = Field(0.01, ge=0, lt=1)
    pooling: Literal["mean", "mean_max"] = "mean"
    hidden: int = Field(64, gt=0)
    dropout: Dropout = 0.2
    channels_last: bool = True
    activation_checkpointing: bool = False

    @model_validator(mode="after")
    def _odd_kernel(self) -> AudioBranchConfig:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, to keep the frames aligned, not {self.kernel}")
        return self


class ElmConfig(Config):
    """An extreme learning machine: `hidden` random units, least squares with `ridge` behind them.

    `ridge` is the penalty on the squared output weights, as a share of the number of utterances.
    """

    hidden: int = Field(120, gt=0)
    ridge: float = Field(1e-4, gt=0)


class _ClassicConfig(Config):
    """What the classic systems share: windows of `context` frames of low-level descriptors.

    Windows begin every `stride` frames. Statistics of posteriors go to the `elm`, among them each
    class' fraction above `threshold`.
    """

    context: int = Field(25, ge=1)
    stride: int = Field(1, ge=1)
    threshold: float = Field(0.2, gt=0, lt=1)
    elm: ElmConfig = ElmConfig()

    @model_validator(mode="after")
    def _odd_context(self) -> _ClassicConfig:
        if self.context % 2 == 0:
            raise ValueError(f"context must be odd, to have a middle frame, not {self.context}")
        return self


class BiLstmNullConfig(_ClassicConfig):
    """Lee & Tashev's BiLSTM whose frames say an emotion or NULL; `hidden` is a direction's."""

    kind: Literal["bilstm_null"]
    hidden: int = Field(128, gt=0)
    layers: int = Field(2, gt=0)
    dropout: Dropout = 0.0


class DnnElmConfig(_ClassicConfig):
    """Han's DNN-ELM: `layers` of `hidden` over the `loudest` share of an utterance's segments."""

    kind: Literal["dnn_elm"]
    hidden: int = Field(256, gt=0)
    layers: int = Field(3, gt=0)
    loudest: float = Field(0.1, gt=0, le=1)
    dropout: Dropout = 0.0


class SpeechEncoderConfig(Config):
    """Audio: a pretrained speech encoder over the waveform, then two linear layers.

    `encoder` is a name on the Hugging Face hub, or a folder: wav2vec 2.0, HuBERT or WavLM. `tune`
    says what of it learns: nothing (its layers are weighted by what is learnt), the transformer
    behind its convolutions, or everything. `normalise` brings every clip to mean 0 and variance 1;
    None does as the encoder's own preprocessing does. `hidden` is the width between the linear
    layers; `dropout` acts there.
    """

    kind: Literal["speech_encoder"]
    encoder: str
    tune: Literal["nothing", "transformer", "everything"] = "nothing"
    normalise: bool | None = None
    hidden: int = Field(256, gt=0)
    dropout: Dropout = 0.2
    activation_checkpointing: bool = False


def _audio_kind(given: Any) -> str:
    return str(given.get("kind", "cnn") if isinstance(given, dict) else given.kind)


AnyAudioConfig = Annotated[
    Annotated[AudioBranchConfig, Tag("cnn")]
    | Annotated[BiLstmNullConfig, Tag("bilstm_null")]
    | Annotated[DnnElmConfig, Tag("dnn_elm")]
    | Annotated[SpeechEncoderConfig, Tag("speech_encoder")],
    Discriminator(_audio_kind),
]


class _FusionConfig(Config):
    """What fusions share.

    `modality_dropout` is the share of training rows that lose one of their two modalities, either
    with the same chance, so that the fusion learns to do with the other.
    """

    modality_dropout: Dropout = 0.0


class PaperFusionConfig(_FusionConfig):
    """Each branch's class probabilities through a linear layer of its own, summed (section 5.3).

    `identity_start` begins with `scale` times the identity and no bias, so that the very first
    prediction already is the branches' common one; otherwise the layers start at random.
    """

    kind: Literal["paper"] = "paper"
    identity_start: bool = False
    scale: float = Field(4.0, gt=0)


class GatedFusionConfig(_FusionConfig):
    """Each branch's vector, squeezed by tanh and weighted by a gate that sees every branch."""

    kind: Literal["gated"]
    hidden: int = Field(64, gt=0)
    dropout: Dropout = 0.1


class CrossAttentionConfig(_FusionConfig):
    """Tokens attend to frames and frames to tokens, `hidden` wide, in `heads`; then both means."""

    kind: Literal["cross_attention"]
    hidden: int = Field(64, gt=0)
    heads: int = Field(4, gt=0)
    dropout: Dropout = 0.1

    @model_validator(mode="after")
    def _heads_divide_hidden(self) -> CrossAttentionConfig:
        if self.hidden % self.heads:
            raise ValueError(
                f"hidden must be a multiple of heads, not {self.hidden} for {self.heads}"
            )
        return self


FusionConfig = Annotated[
    PaperFusionConfig | GatedFusionConfig | CrossAttentionConfig, Field(discriminator="kind")
]

Modality = Literal["text", "audio"]


class _ContextConfig(Config):
    """What context models share: which vectors of each turn they read.

    `reads` takes the branch's pooled vector, or its classes' log-probabilities. Whether the vectors
    of both modalities are there is seen when the data is opened. `turn_dropout` silences whole
    turns in training, so that others must speak for them; the published models have none.
    """

    modalities: tuple[Modality, ...] = Field(min_length=1)
    reads: Literal["vector", "scores"] = "vector"
    turn_dropout: Dropout = 0.0

    @field_validator("modalities")
    @classmethod
    def _once_in_order(cls, modalities: tuple[Modality, ...]) -> tuple[Modality, ...]:
        if len(set(modalities)) < len(modalities):
            raise ValueError("a modality is named twice")
        return tuple(name for name in ("text", "audio") if name in modalities)


class BcLstmConfig(_ContextConfig):
    """bc-LSTM: both sides of the dialogue. Widths are a direction's; `dropout` acts behind LSTMs.

    `speakers` reads the dialogue once for each side, own turns apart from the others'; the
    published model is not told who speaks.
    """

    kind: Literal["bclstm"] = "bclstm"
    hidden: int = Field(300, gt=0)
    dense: int = Field(100, gt=0)
    fused: int = Field(500, gt=0)
    dropout: Dropout = 0.6
    speakers: bool = False


class IconConfig(_ContextConfig):
    """ICON: the past of the dialogue alone, at most `past` turns, attended to `hops` times."""

    kind: Literal["icon"] = "icon"
    width: int = Field(100, gt=0)
    past: int = Field(40, gt=0)
    hops: int = Field(3, gt=0)
    dropout: Dropout = 0.7


ContextConfig = Annotated[BcLstmConfig | IconConfig, Field(discriminator="kind")]

Child = Literal["text", "audio", "fusion"]


class ModelConfig(Config):
    """Which parts there are, and which of them stay as they were loaded (`freeze`).

    `context` is a model over whole dialogues, alone: it reads what branches trained before said.
    """

    text: TextBranchConfig | None = None
    audio: AnyAudioConfig | None = None
    fusion: FusionConfig | None = None
    context: ContextConfig | None = None
    freeze: tuple[Child, ...] = ()

    @model_validator(mode="after")
    def _parts_fit(self) -> ModelConfig:
        if self.context is not None:
            if self.text or self.audio or self.fusion or self.freeze:
                raise ValueError("a context model stands alone: leave out the other parts")
            return self
        if self.text is None and self.audio is None:
            raise ValueError("a model needs text, audio or both, or context")
        both = self.text is not None and self.audio is not None
        if both and self.fusion is None:
            raise ValueError("text and audio together need fusion, such as {kind: paper}")
        if self.fusion is not None and not both:
            raise ValueError("fusion needs both text and audio")
        if self.text and isinstance(self.audio, _ClassicConfig) and "audio" not in self.freeze:
            raise ValueError(
                f"model.audio.kind {self.audio.kind} is trained by itself: freeze [audio] here "
                "and start from its run with init.audio"
            )
        if isinstance(self.fusion, CrossAttentionConfig) and isinstance(self.audio, _ClassicConfig):
            raise ValueError(
                f"model.audio.kind {self.audio.kind} gives no frames for fusion.kind "
                "cross_attention: take paper or gated"
            )
        present = self.children()
        for name in self.freeze:
            if name not in present:
                raise ValueError(
                    f"freeze names {name}, but the model has only {', '.join(present)}"
                )
        if set(self.freeze) == set(present):
            raise ValueError("freeze leaves nothing to train")
        return self

    @property
    def likelihoods(self) -> bool:
        """Whether scores in training are log-likelihoods, which no softmax follows.

        The head of such a model is fitted at every epoch's end (`emo.training.closed_form`).
        """
        return isinstance(self.audio, _ClassicConfig) and self.text is None

    def children(self) -> tuple[str, ...]:
        """The names of the parts that there are, in the order text, audio, fusion.

        Of a context model: the modalities that it reads, then its kind.
        """
        if self.context is not None:
            return (*self.context.modalities, self.context.kind)
        return tuple(
            name for name in ("text", "audio", "fusion") if getattr(self, name) is not None
        )
