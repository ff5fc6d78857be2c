"""An experiment, whole: data, model, optimizer, training, and where it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from emo.data.config import DataConfig
from emo.distributed.config import RuntimeConfig
from emo.models.config import ModelConfig, SpeechEncoderConfig
from emo.training.optim import OptimConfig
from shards.configfile import Config

Branch = Literal["text", "audio"]


class TrainConfig(Config):
    """How long, in which batches, and what is kept.

    `global_batch` counts over all processes and accumulation steps; it must be divisible by their
    product. Both batches count dialogues for a context model. `select` is the validation score
    whose best checkpoint is evaluated. `checkpoint_steps` saves inside epochs too. `max_minutes`
    stops as a preemption does. `nonfinite` skip leaves out up to `max_nonfinite` steps whose loss
    is not finite; stop ends the run at the first.
    """

    epochs: PositiveInt = 15
    global_batch: PositiveInt = 64
    accumulation: PositiveInt = 1
    evaluation_batch: PositiveInt = 128
    seed: NonNegativeInt = 1
    select: Literal["ua", "wa", "f1", "loss"] = "ua"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    checkpoint_steps: PositiveInt | None = None
    keep: int = Field(2, ge=2)
    log_steps: PositiveInt = 10
    max_minutes: PositiveFloat | None = None
    nonfinite: Literal["stop", "skip"] = "stop"
    max_nonfinite: PositiveInt = 10


class ExperimentConfig(Config):
    """One run. `init` names trained runs whose branches this one starts from."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    run: Path = Path("runs")
    resume: Literal["never", "auto"] = "never"
    data: DataConfig
    model: ModelConfig
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    init: dict[Branch, Path] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _branches_exist(self) -> ExperimentConfig:
        for branch in self.init:
            if getattr(self.model, branch) is None:
                raise ValueError(f"init names the {branch} branch, which the model does not have")
        return self

    @model_validator(mode="after")
    def _dialogues_are_planned(self) -> ExperimentConfig:
        if (self.model.context is None) == (self.data.plan.order == "dialogues"):
            raise ValueError("data.plan.order=dialogues belongs to context models, which need it")
        return self

    @model_validator(mode="after")
    def _waveforms_are_encoded(self) -> ExperimentConfig:
        speech = isinstance(self.model.audio, SpeechEncoderConfig)
        if self.model.audio is not None and speech != (self.data.audio == "waveform"):
            raise ValueError(
                "data.audio=waveform belongs to model.audio.kind=speech_encoder, which reads "
                "nothing else"
            )
        return self

    @model_validator(mode="after")
    def _zero_cannot_skip(self) -> ExperimentConfig:
        if self.train.nonfinite == "skip" and self.runtime.strategy.startswith("zero"):
            raise ValueError("train.nonfinite=skip is not to be had under ZeRO: use stop")
        return self

    @property
    def inputs(self) -> tuple[str, ...]:
        """The members of a sample that the model reads."""
        if self.model.context is not None:
            return tuple(f"{m}_{self.model.context.reads}" for m in self.model.context.modalities)
        audio = (self.data.audio,) if self.model.audio else ()
        text = ("tokens",) if self.model.text else ()
        return (*audio, *text)
