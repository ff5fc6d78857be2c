"""An experiment, whole: data, model, optimizer, training, and where it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from emo.data.config import DataConfig
from emo.distributed.config import RuntimeConfig
from emo.evaluation.config import EvaluationConfig
from emo.modalities import ModalityName
from emo.models.config import ModelConfig
from emo.models.losses.config import CrossEntropyConfig, LossConfig
from emo.training.config import OptimConfig, TrainConfig, check_skipping
from emo.watching.config import Tracking, WatchConfig
from shards.configfile import Config


class ExperimentConfig(Config):
    """One run. `init` names trained runs whose branches this one starts from.

    Without `run`, its folder is `runs/` and the experiment's name. `tracking` names where numbers
    go besides the run's own log; Weights & Biases and MLflow are packages of their own.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    run: Path = Path("runs")
    resume: Literal["never", "auto"] = "never"
    data: DataConfig
    model: ModelConfig
    loss: LossConfig = CrossEntropyConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    init: dict[ModalityName, Path] = Field(default_factory=dict)
    tracking: tuple[Tracking, ...] = ("tensorboard",)
    watch: WatchConfig = WatchConfig()

    @model_validator(mode="before")
    @classmethod
    def _has_a_folder(cls, raw: Any) -> Any:
        # In `runs` itself the next experiment would find this one and be refused.
        if isinstance(raw, dict) and isinstance(raw.get("name"), str) and "run" not in raw:
            return raw | {"run": str(Path("runs") / raw["name"])}
        return raw

    @model_validator(mode="after")
    def _branches_exist(self) -> ExperimentConfig:
        for branch in self.init:
            if branch not in self.model.branches:
                raise ValueError(f"init names the {branch} branch, which the model does not have")
        return self

    @model_validator(mode="after")
    def _dialogues_are_planned(self) -> ExperimentConfig:
        if (self.model.context is None) == (self.data.plan.order == "dialogues"):
            raise ValueError("data.plan.order=dialogues belongs to context models, which need it")
        return self

    @model_validator(mode="after")
    def _waveforms_are_encoded(self) -> ExperimentConfig:
        audio = self.model.audio
        if audio is not None and audio.reads_waveform != (self.data.audio == "waveform"):
            raise ValueError(
                "data.audio=waveform belongs to model.audio.kind=speech_encoder, which reads "
                "nothing else"
            )
        if self.data.normalise != "train" and self.data.audio == "waveform":
            raise ValueError(
                f"data.normalise={self.data.normalise} belongs to features: the encoder normalises "
                "waveforms (model.audio.normalise)"
            )
        return self

    @model_validator(mode="after")
    def _loss_fits(self) -> ExperimentConfig:
        loss, model = self.loss, self.model
        if model.fits_head and (loss.kind == "focal" or loss.adjust or loss.contrastive):
            raise ValueError(
                f"model.audio.kind={model.audio.kind if model.audio else None} is trained on "
                "likelihoods, which are no probabilities: leave out loss.adjust, loss.contrastive "
                "and loss.kind=focal"
            )
        if model.context is not None and loss.contrastive is not None:
            raise ValueError("loss.contrastive compares turns, not dialogues: leave it out here")
        return self

    @model_validator(mode="after")
    def _augmentation_fits(self) -> ExperimentConfig:
        augment, model = self.data.augment, self.model
        if not augment.any:
            return self
        if model.audio is None or model.context is not None:
            raise ValueError("data.augment belongs to models that read audio, turn by turn")
        if model.fits_head:
            raise ValueError(
                "data.augment does not go with a head that is fitted to the training turns as they "
                f"are (model.audio.kind={model.audio.kind})"
            )
        augment.check(self.data.audio == "waveform", list(model.branches) == ["audio"])
        if (
            augment.mixup is not None
            and model.fusion is not None
            and model.fusion.reads == "states"
        ):
            raise ValueError("data.augment.mixup cannot mix what a fusion of states reads")
        return self

    @model_validator(mode="after")
    def _something_is_learnt(self) -> ExperimentConfig:
        if self.loss.scores == 0 and self.model.attributes is None:
            raise ValueError("loss.scores=0 trains attributes alone: set model.attributes")
        if self.model.attributes is None and self.train.select == "ccc":
            raise ValueError("train.select=ccc belongs to model.attributes")
        if self.model.attributes is not None and self.data.augment.mixup is not None:
            raise ValueError("data.augment.mixup mixes classes, not attributes: leave one out")
        return self

    @model_validator(mode="after")
    def _fitted_heads_have_no_average(self) -> ExperimentConfig:
        if self.train.average is not None and self.model.fits_head:
            raise ValueError(
                "train.average does not go with a head that is fitted at the end of every epoch "
                "(model.audio.kind): it is fitted to the last weights, not to their average"
            )
        return self

    @model_validator(mode="after")
    def _zero_cannot_skip(self) -> ExperimentConfig:
        check_skipping(self.train, self.runtime.strategy)
        return self

    @property
    def inputs(self) -> dict[str, str]:
        """By modality, the member of a sample that the model reads."""
        context = self.model.context
        if context is not None:
            return {name: f"{name}_{context.reads}" for name in context.modalities}
        members = {"text": "tokens", "audio": self.data.audio}
        return {name: member for name, member in members.items() if name in self.model.branches}
