"""From a recording and a transcript to class probabilities, preprocessed as the shards are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emo.data import normalise
from emo.data.normalise.base import Normaliser, longest, model_input
from emo.evaluation.config import PriorSpec
from emo.evaluation.posthoc.prior import at_prior, prior_ratio
from emo.models.context.model import ContextModel
from emo.models.model import CONFIG as EXPORT_CONFIG
from emo.models.model import EmotionModel, rebuild
from emo.runs import files
from emo.runs.finished import best_weights, is_finished, read_record, read_results
from shards.configfile import parse
from shards.errors import UserError
from shards.extract import audio, text
from shards.extract.audio import AudioConfig
from shards.extract.features import Extractor, FeatureConfig
from shards.store.schema import DTYPES


class CannotPredict(UserError):
    """The input does not fit what the model reads."""


class Predictor:
    """A trained model with its preprocessing.

    Args:
        recipe: as `emo.runs.experiment.recipe` wrote it.
        tokenizer: a tokenizer folder; only read by models with text.
        temperature: scores are divided by it; 1 if none has been fitted.
        prior: the class shares to assume, as in `EvaluationConfig`.
    """

    def __init__(
        self,
        model: EmotionModel | ContextModel,
        classes: list[str],
        recipe: dict[str, Any],
        tokenizer: Path,
        temperature: float,
        prior: PriorSpec = "trained",
    ) -> None:
        if isinstance(model, ContextModel):
            raise CannotPredict(
                "this is a model over whole dialogues, it cannot predict a turn alone: give the "
                "run of one of its branches"
            )
        self.model, self.classes, self.recipe = model.eval(), classes, recipe
        self.temperature = temperature
        self.assume(prior)
        self.audio_config = self.extract = self.tokens = None
        self.statistics: Normaliser | None = None
        self.remark = ""  # how the input is not as in training
        if "audio" in model.branches:
            self.audio_config = parse(AudioConfig, recipe["audio"], "the run's audio settings")
            features = parse(FeatureConfig, recipe["features"], "the run's feature settings")
            self.extract = Extractor(features, self.audio_config.sample_rate)
            if recipe["statistics"] is not None:
                measured = normalise.from_json(recipe["statistics"])
                self.statistics, self.remark = measured.alone(), measured.remark
        if "text" in model.branches:
            self.tokens = text.Tokens(tokenizer, recipe["max_tokens"])

    @classmethod
    def from_run(cls, run: Path) -> Predictor:
        """The best checkpoint of a run folder; the shards are not needed.

        Before training has ended no temperature has been fitted, and 1 is used.
        """
        facts = read_record(run)
        model = rebuild(facts["recipe"]["description"])
        model.load_state_dict(best_weights(run))
        results: dict[str, Any] = read_results(run) if is_finished(run) else {"temperature": 1.0}
        folder, temperature = run / files.TOKENIZER, results["temperature"]
        prior = results.get("prior", "trained")  # older runs have none
        return cls(model, facts["classes"], facts["recipe"], folder, temperature, prior)

    @classmethod
    def from_export(cls, folder: Path) -> Predictor:
        """The model in a folder that `emo export` wrote."""
        folder = Path(folder)
        model = EmotionModel.from_pretrained(folder)
        config = json.loads((folder / EXPORT_CONFIG).read_text())
        tokenizer = folder / files.TOKENIZER
        temperature, prior = config["temperature"], config.get("prior", "trained")
        return cls(model, config["classes"], config["recipe"], tokenizer, temperature, prior)

    def assume(self, prior: PriorSpec) -> None:
        """Correct all probabilities from now on to these class shares.

        Raises:
            CannotPredict: the model does not say which shares it was trained on: it is older.
            UserError: a map that does not name each class.
        """
        trained = self.recipe.get("prior")
        if trained is None and prior != "trained":
            raise CannotPredict(
                "this model is of an older version, which did not record the class shares of its "
                "training: its probabilities cannot be corrected to others"
            )
        self.ratio_C = prior_ratio(prior, trained or {}, self.classes)

    @torch.no_grad()
    def predict(self, sound: Path | None, words: str | None) -> dict[str, float]:
        """The probability of each class, by name. Of a model's two inputs, one may be None.

        Features are rounded as in the shards, so that results equal those of evaluation.

        Raises:
            AudioError: the recording cannot be used.
            CannotPredict: the model reads none of the inputs given, or the cleaned text is empty.
        """
        batch: dict[str, Tensor] = {}
        if sound is not None and self.extract is not None:
            batch |= self._audio(sound)
        if words is not None and self.tokens is not None:
            batch |= self._text(words)
        if not batch:
            raise CannotPredict(
                f"this model reads {' and '.join(self.model.branches)} only: give that as input"
            )
        scores_C = self.model(batch).double()[0] / self.temperature
        probabilities = at_prior(torch.softmax(scores_C, -1).numpy(), self.ratio_C)
        return dict(zip(self.classes, probabilities.tolist(), strict=True))

    def _audio(self, sound: Path) -> dict[str, Tensor]:
        assert self.extract is not None
        assert self.audio_config is not None
        kind = self.recipe["kind"]
        wave = audio.read(sound, self.audio_config)
        # To the dtype of the shards and back: half precision rounds, and training saw it rounded.
        stored = self.extract(wave)[kind].astype(DTYPES[kind])[: longest(kind)]
        frames = self.recipe["frames"] or len(stored)
        stored = stored[:frames]
        padded = np.zeros((1, frames, *stored.shape[1:]), stored.dtype)
        padded[0, : len(stored)] = stored
        mask = torch.arange(frames)[None] < len(stored)
        x = model_input(torch.from_numpy(padded), mask, self.statistics)
        return {"audio": x, "audio_mask": mask}

    def _text(self, words: str) -> dict[str, Tensor]:
        assert self.tokens is not None
        cleaned = text.clean(words)
        if not cleaned:
            raise CannotPredict(f"nothing is left of the text {words!r} after cleaning: give words")
        ids, _ = self.tokens(cleaned)
        tokens = torch.from_numpy(ids.astype(np.int64))[None]
        return {"tokens": tokens, "token_mask": torch.ones_like(tokens, dtype=torch.bool)}
