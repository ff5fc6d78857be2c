"""From recordings and transcripts to class probabilities, preprocessed as the shards are."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emo.data import normalise
from emo.data.normalise.base import Normaliser, longest, model_input
from emo.evaluation.config import PriorSpec
from emo.modalities import MODALITIES
from emo.models.context.model import ContextModel
from emo.models.model import CONFIG as EXPORT_CONFIG
from emo.models.model import EmotionModel, rebuild
from emo.runs import files
from emo.runs.finished import best_weights, is_finished, read_record, read_results
from emo.serving.items import Item, Refusal, Result, Sound
from emo.serving.many.batches import Padded, Prepared, in_batches, one_by_one, padded
from emo.serving.scores import CannotPredict, Numbers, Probabilities
from shards.configfile import parse
from shards.extract import audio, text
from shards.extract.audio import AudioConfig
from shards.extract.features import Extractor, FeatureConfig
from shards.store.schema import DTYPES

TOKENS = np.dtype(np.int64)


class Predictor:
    """A trained model with its preprocessing. Call it with a recording, a text, or both.

    Args:
        recipe: as `emo.runs.experiment.recipe` wrote it.
        tokenizer: a tokenizer folder; only read by models with text.
        results: of the evaluation: the temperature, and the class shares that were assumed.
    """

    def __init__(
        self,
        model: EmotionModel | ContextModel,
        classes: list[str],
        recipe: dict[str, Any],
        tokenizer: Path,
        results: Mapping[str, Any],
    ) -> None:
        if isinstance(model, ContextModel):
            raise CannotPredict(
                "this is a model over whole dialogues, it cannot predict a turn alone: give the "
                "run of one of its branches, or a table of a dialogue's turns"
            )
        self.model, self.classes, self.recipe = model.eval(), classes, recipe
        self.scores = Probabilities(classes, results, recipe.get("prior"))
        # By attribute that the model predicts, the ends of the corpus' scale.
        self.scales: dict[str, tuple[float, float]] = recipe.get("attributes", {})
        self.device = torch.device("cpu")
        self.reads = tuple(model.branches)
        self.audio_config = self.extract = self.tokens = None
        self.statistics: Normaliser | None = None
        self.remark = ""  # how the input is not as in training
        if "audio" in self.reads:
            self.audio_config = parse(AudioConfig, recipe["audio"], "the run's audio settings")
            features = parse(FeatureConfig, recipe["features"], "the run's feature settings")
            self.extract = Extractor(features, self.audio_config.sample_rate)
            if recipe["statistics"] is not None:
                measured = normalise.from_json(recipe["statistics"])
                self.statistics, self.remark = measured.alone(), measured.remark
        if "text" in self.reads:
            self.tokens = text.Tokens(tokenizer, recipe["max_tokens"])
        self._tokenizing = threading.Lock()  # a text that is cut sets the tokenizer's limit

    @classmethod
    def from_run(cls, run: Path) -> Predictor:
        """The best checkpoint of a run folder; the shards are not needed.

        Before training has ended no temperature has been fitted, and 1 is used.
        """
        facts = read_record(run)
        model = rebuild(facts["recipe"]["description"])
        model.load_state_dict(best_weights(run))
        results = read_results(run) if is_finished(run) else {}
        return cls(model, facts["classes"], facts["recipe"], run / files.TOKENIZER, results)

    @classmethod
    def from_export(cls, folder: Path) -> Predictor:
        """The model in a folder that `emo export` wrote."""
        folder = Path(folder)
        model = EmotionModel.from_pretrained(folder)
        config = json.loads((folder / EXPORT_CONFIG).read_text())
        return cls(model, config["classes"], config["recipe"], folder / files.TOKENIZER, config)

    def to(self, device: str | torch.device) -> Predictor:
        """Compute there from now on, such as on "cuda"; returns itself."""
        self.device = torch.device(device)
        self.model.to(self.device)
        return self

    def assume(self, prior: PriorSpec) -> None:
        """Correct all probabilities from now on to these class shares; see `Probabilities`."""
        self.scores.assume(prior)

    # --- for people -------------------------------------------------------------------------------

    def __call__(self, audio: Any = None, text: Any = None, *, rate: int | None = None) -> Any:
        """A `Prediction`, or a list of them where a list of inputs is given.

        Args:
            audio: an audio file's path; or samples, an array or tensor [samples] or
                [samples, channels] of floats in ±1 or integers, with their `rate` in Hz; or a list
                of those.
            text: what is said, or a list of that, as long as the list of audio.

        Raises:
            CannotPredict: an input is missing or cannot be used; of a list, all reasons.
        """
        many = isinstance(audio, list | tuple) or isinstance(text, list | tuple)
        items = _items(audio, text, rate)
        results = list(self.predictions(items)) if many else [self._one(items[0])]
        refused = [one for one in results if isinstance(one, Refusal)]
        if refused:
            raise CannotPredict("\n".join(one.reason for one in refused))
        return results if many else results[0]

    def predict(self, sound: Path | None, words: str | None) -> dict[str, float]:
        """The probability of each class, by name. Of a model's two inputs, one may be None.

        Raises:
            AudioError: the recording cannot be used.
            CannotPredict: the model reads none of the inputs given, or the cleaned text is empty.
        """
        prepared = self.prepare(Item("", sound, words))
        return self.scores.named(self.probabilities([prepared])[0])

    def predictions(
        self, items: Iterable[Item], batch: int = 64, workers: int | None = None
    ) -> Iterator[Result]:
        """A result for every item, in their order: what cannot be predicted is a `Refusal`.

        Args:
            items: may be endless: a few hundred are held at a time.
            batch: how many go through the model at once.
            workers: threads that read and prepare; by default one for each core.
        """
        return in_batches(self, items, batch, workers)

    def _one(self, item: Item) -> Result:
        return next(one_by_one(self, [item]))

    # --- the two halves ---------------------------------------------------------------------------

    def prepare(self, item: Item) -> Prepared:
        """The model's input of one item, by modality, stored as in shards; for any thread.

        Features are rounded as in the shards, so that results equal those of evaluation.

        Raises:
            AudioError: the recording cannot be used.
            CannotPredict: the model reads none of the inputs given, or the cleaned text is empty.
        """
        values: dict[str, np.ndarray] = {}
        notes = [self.remark] if self.remark and item.audio is not None else []
        for name, given in (("audio", item.audio), ("text", item.text)):
            if given is not None and name not in self.reads:
                notes.append(f"the {name} was not used: this model reads {self._reads()}")
        if item.audio is not None and self.extract is not None:
            values["audio"], more = self._audio(item)
            notes += more
        if item.text is not None and self.tokens is not None:
            values["text"] = self._text(item.text)
        if not values:
            raise CannotPredict(f"this model reads {self._reads()} only: give that as input")
        missing = [name for name in self.reads if name not in values]
        if missing:
            notes.append(f"without {' and '.join(missing)}: predicted from {', '.join(values)}")
        return Prepared(values, tuple(notes))

    @torch.inference_mode()
    def probabilities(self, prepared: Sequence[Prepared]) -> np.ndarray:
        """float64 [B, C] for B prepared items, at the fitted temperature."""
        return self.scores(self.model(self.batch(prepared)))

    @torch.inference_mode()
    def results(self, prepared: Sequence[Prepared]) -> list[Numbers]:
        """Probabilities and attributes of prepared items, by name."""
        if not self.scales:
            return [Numbers(self.scores.named(one), {}) for one in self.probabilities(prepared)]
        parts = self.model(self.batch(prepared), "parts")
        shares_BA = parts["attributes"].double().cpu().numpy()
        low, high = np.array([*self.scales.values()]).T
        values = (low + shares_BA * (high - low)).tolist()
        return [
            Numbers(self.scores.named(table), dict(zip(self.scales, row, strict=True)))
            for table, row in zip(self.scores(parts["scores"]), values, strict=True)
        ]

    def batch(self, prepared: Sequence[Prepared]) -> dict[str, Tensor]:
        """The batch that `EmotionModel.forward` reads; a modality that no item has is left out."""
        inputs: dict[str, Tensor] = {}
        for name in self.reads:
            values = padded([one.values.get(name) for one in prepared], self._padding(name))
            if values is None:
                continue
            x, mask = (torch.from_numpy(array).to(self.device) for array in values)
            key, mask_key = MODALITIES[name].keys
            inputs[key] = model_input(x, mask, self.statistics) if name == "audio" else x
            inputs[mask_key] = mask
        return inputs

    def _padding(self, name: str) -> Padded:
        if name == "text":
            assert self.tokens is not None
            return Padded(TOKENS, (), self.tokens.pad, None)
        width = () if self.statistics is None else (self.statistics.bins,)
        return Padded(DTYPES[self.recipe["kind"]], width, 0, self.recipe["frames"])

    def _reads(self) -> str:
        return " and ".join(self.reads)

    def _audio(self, item: Item) -> tuple[np.ndarray, list[str]]:
        assert self.extract is not None
        assert self.audio_config is not None
        kind, rate = self.recipe["kind"], self.audio_config.sample_rate
        wave = _recording(item, self.audio_config).wave
        # To the dtype of the shards and back: half precision rounds, and training saw it rounded.
        stored = self.extract(wave)[kind].astype(DTYPES[kind])
        most = min(longest(kind), self.recipe["frames"] or longest(kind))
        if len(stored) <= most:
            return stored, []
        seconds = len(wave) / rate
        return stored[:most], [
            f"only the first {seconds * most / len(stored):.1f} of {seconds:.1f} s were read: "
            "long recordings need windows (--window SECONDS)"
        ]

    def _text(self, words: str) -> np.ndarray:
        assert self.tokens is not None
        cleaned = text.clean(words)
        if not cleaned:
            raise CannotPredict(f"nothing is left of the text {words!r} after cleaning: give words")
        with self._tokenizing:
            return self.tokens(cleaned)[0].astype(TOKENS)


def _recording(item: Item, config: AudioConfig) -> audio.Recording:
    source = item.audio
    if isinstance(source, Sound):
        return audio.of_samples(as_float(source.samples), source.rate, config, item.name)
    assert source is not None
    whole = item.start is None and item.end is None
    return audio.load(source, config, None if whole else (item.start or 0.0, item.end))


def as_float(samples: np.ndarray) -> np.ndarray:
    """`samples` as float32 [samples, channels]; integers are divided by their full scale.

    Raises:
        CannotPredict: an array of another kind or shape.
    """
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "fiu":
        raise CannotPredict(
            f"an array of {samples.dtype} {list(samples.shape)} is no sound: give numbers "
            "[samples] or [samples, channels]"
        )
    if samples.ndim == 2 and samples.shape[0] < samples.shape[1]:
        samples = samples.T  # torchaudio's order
    if samples.dtype.kind in "iu":
        limits = np.iinfo(samples.dtype)
        half = (float(limits.max) + float(limits.min) + 1) / 2  # 8-bit WAV is unsigned
        samples = (samples.astype(np.float64) - half) / (limits.max + 1 - half)
    return np.ascontiguousarray(samples.reshape(len(samples), -1), np.float32)


def _items(audio: Any, text: Any, rate: int | None) -> list[Item]:
    """What a person gave as a list of items."""
    sounds = list(audio) if isinstance(audio, list | tuple) else [audio]
    words = list(text) if isinstance(text, list | tuple) else [text]
    if audio is None or text is None:
        sounds, words = (
            sounds if audio is not None else [None] * len(words),
            words if text is not None else [None] * len(sounds),
        )
    if len(sounds) != len(words):
        raise CannotPredict(f"{len(sounds)} recordings and {len(words)} texts: give as many")
    return [
        Item(_name(sound, number), _source(sound, rate), line)
        for number, (sound, line) in enumerate(zip(sounds, words, strict=True))
    ]


def _name(sound: Any, number: int) -> str:
    return str(sound) if isinstance(sound, str | Path) else f"input {number}"


def _source(sound: Any, rate: int | None) -> Path | Sound | None:
    if sound is None or isinstance(sound, str | Path):
        return None if sound is None else Path(sound)
    if isinstance(sound, Tensor):
        sound = sound.detach().cpu().numpy()
    if rate is None:
        raise CannotPredict("samples come with their rate: model(samples, rate=16000)")
    return Sound(np.asarray(sound), rate)
