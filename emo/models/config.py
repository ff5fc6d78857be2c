"""The parts of a model, and whether they fit together.

Importing this file, or the `config.py` of any part, loads neither torch nor transformers.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from emo.modalities import MODALITIES
from emo.models.attributes.config import AttributesConfig
from emo.models.audio.config import AudioConfig
from emo.models.context.config import ContextConfig
from emo.models.fusion.config import FusionConfig
from emo.models.text.config import TextBranchConfig
from shards.configfile import Config
from shards.errors import suggestion


class ModelConfig(Config):
    """Which parts the model has, and which of them are not trained (`freeze`).

    `attributes` predicts arousal and the like from what the classes are predicted from.

    The branch of a modality has its name. `context` is a model over whole dialogues, without any
    other part: it reads the outputs of branches that were trained before.
    """

    text: TextBranchConfig | None = None
    audio: AudioConfig | None = None
    fusion: FusionConfig | None = None
    context: ContextConfig | None = None
    attributes: AttributesConfig | None = None
    freeze: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _parts_fit(self) -> ModelConfig:
        branches, names = self.branches, ", ".join(MODALITIES)
        if self.context is not None:
            if branches or self.fusion or self.freeze or self.attributes:
                raise ValueError("a context model stands alone: leave out the other parts")
            return self
        if not branches:
            raise ValueError(f"a model needs a branch ({names}), several with a fusion, or context")
        if self.attributes is not None and self.fits_head:
            raise ValueError("attributes need a branch that is trained by its gradient")
        if len(branches) > 1 and self.fusion is None:
            raise ValueError(
                f"{' and '.join(branches)} together need fusion, such as {{kind: paper}}"
            )
        if len(branches) == 1 and self.fusion is not None:
            raise ValueError(f"fusion needs more than one branch of {names}")
        for name, branch in branches.items():
            where = f"model.{name}.kind {branch.kind}"
            if branch.fits_head and len(branches) > 1 and name not in self.freeze:
                raise ValueError(
                    f"{where} is trained by itself: freeze [{name}] here and start from its run "
                    f"with init.{name}"
                )
            if self.fusion and self.fusion.reads == "states" and not branch.gives_states:
                raise ValueError(
                    f"{where} gives no frames for fusion.kind {self.fusion.kind}: take paper or "
                    "gated"
                )
        present = self.children()
        for name in self.freeze:
            if name not in present:
                raise ValueError(
                    f"freeze names {name}, but the model has only {', '.join(present)}"
                    + suggestion(name, present)
                )
        if set(self.freeze) == set(present):
            raise ValueError("freeze leaves nothing to train")
        return self

    @property
    def branches(self) -> dict[str, Any]:
        """The settings of each branch, a `BranchConfig`, by modality."""
        return {name: getattr(self, name) for name in MODALITIES if getattr(self, name) is not None}

    @property
    def trained_on(self) -> Literal["scores", "log_likelihoods"]:
        """The output of the model that the loss reads; log-likelihoods get no softmax."""
        branches = self.branches.values()
        fitted = len(branches) == 1 and all(branch.fits_head for branch in branches)
        return "log_likelihoods" if fitted else "scores"

    @property
    def fits_head(self) -> bool:
        """Whether a head is fitted when an epoch ends (`emo.training.epoch_end.closed_form`)."""
        return self.trained_on == "log_likelihoods"

    def children(self) -> tuple[str, ...]:
        """The names of the parts: branches, then `fusion`.

        For a context model: the modalities that it reads, then its kind.
        """
        if self.context is not None:
            return (*self.context.modalities, self.context.kind)
        return (
            *self.branches,
            *(("fusion",) if self.fusion else ()),
            *(("attributes",) if self.attributes else ()),
        )
