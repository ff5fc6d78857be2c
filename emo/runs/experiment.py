"""What a run consists of, built before the first step: data, view, statistics, model, plan."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emo.config import ExperimentConfig
from emo.data import normalise
from emo.data.corpora.agreement import disagreements
from emo.data.corpora.union import Corpora, mixture_of, open_data
from emo.data.dialogues import Dialogues, check_vectors
from emo.data.normalise.base import Normaliser
from emo.data.normalise.sums import feature_sums, in_chunks, moments_of
from emo.data.plan import Plan, UnitFacts
from emo.data.source import DataError, SampleSource, Supervision
from emo.data.utterances import Utterances, training_rows
from emo.distributed.runtime import Runtime
from emo.models.attributes.targets import AttributeTargets
from emo.models.audio.config import SpeechEncoderConfig
from emo.models.context.model import ContextModel
from emo.models.losses.objective import Objective
from emo.models.model import EmotionModel, architectures_of
from emo.models.pretrained import is_folder, load_encoder, read_preprocessing
from emo.runs import files
from emo.runs.finished import best_weights, read_record
from emo.runs.start.init import check_init
from shards.configfile import parse
from shards.extract.features import FEATURES, FeatureConfig
from shards.extract.features.waveform import WAVEFORM
from shards.extract.text import Tokens, stay_offline
from shards.store.index import TOKENIZER, Dataset
from shards.views.protocols.base import PARTS
from shards.views.view import View, columns_of, make_view


@dataclass(frozen=True)
class Experiment:
    """Everything that a run consists of, the same on every rank."""

    config: ExperimentConfig
    dataset: Dataset
    view: View
    rows: np.ndarray  # units trained on, int64: rows, or numbers of dialogues
    samples: SampleSource
    plan: Plan
    model: EmotionModel | ContextModel
    objective: Objective
    parameters: int  # trained
    attributes: AttributeTargets | None = None

    @property
    def size(self) -> int:
        """Parameters of the model, frozen ones included; before a strategy cuts them up."""
        return sum(one.numel() for one in self.model.parameters())

    @classmethod
    def build(
        cls, runtime: Runtime, config: ExperimentConfig, *, trained: Path | None = None
    ) -> Experiment:
        """Open the data, check that it fits the model, and build the model.

        Args:
            trained: the run folder whose weights will be loaded. What it took from the `init` runs
                and from a pretrained encoder is in there, so that those are not read.

        Raises:
            UserError: the shards were made with another tokenizer or lack the feature, a class has
                no training samples, or an `init` run was trained on another view.
        """
        dataset = open_data(config.data.shards)
        view = view_of(dataset, config)
        if config.model.context is not None:
            return cls.of_dialogues(dataset, view, config)
        names = {} if trained else hub_encoders(config)
        if names and runtime.world > 1:
            # The hub would turn away 64 ranks that all ask for the same files at once.
            runtime.once_a_node(lambda: fetch(names))
            stay_offline()
        tokens = open_tokens(dataset, config, trained=trained is not None)
        rows = training_rows(dataset, view, config.data, audio=config.model.audio is not None)
        statistics = load_statistics(trained) if trained else None
        if statistics is None:
            statistics = measure(runtime, dataset, rows, config)
        samples = Utterances(
            dataset,
            config.inputs,
            supervision_of(dataset, view, config),
            statistics=statistics,
            pad_token=tokens.pad if tokens else 0,
            config=config.data,
        )
        torch.manual_seed(config.train.seed)  # the same first weights on every rank
        model = EmotionModel(
            config.model,
            classes=len(view.label_set.classes),
            sizes={
                "text": tokens.size if tokens else 0,
                "audio": statistics.bins if statistics else 0,
            },
            architectures=_described(trained) if trained else None,
        )
        if config.model.text is not None:
            used = np.concatenate([view.rows(part) for part in PARTS])
            model.branch("text").check_length(int(samples.tokens[used].max(initial=0)))
        for branch, run in ({} if trained else config.init).items():
            told = check_init(branch, run, view, dataset)
            if told and runtime.main:
                print(told, flush=True)
            model.load_branch(branch, best_weights(run))
        plan = Plan(
            config.data.plan,
            units=len(rows),
            global_batch=config.train.global_batch,
            seed=config.train.seed,
            dataset_hash=dataset.manifest.dataset_hash,
            facts=UnitFacts(
                shards=dataset.column("shard")[rows],
                lengths=(samples.sizes if config.model.audio else samples.tokens)[rows],
                labels=_cells(dataset, view)[rows],
                mixture=mixture_of(dataset, rows, config.data),
            ),
        )
        parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        objective = objective_of(config, view, samples, rows)
        chosen = config.model.attributes
        return cls(
            config,
            dataset,
            view,
            rows,
            samples,
            plan,
            model,
            objective,
            parameters,
            None if chosen is None else AttributeTargets.of(dataset, chosen.names),
        )

    @classmethod
    def of_dialogues(cls, dataset: Dataset, view: View, config: ExperimentConfig) -> Experiment:
        """The experiment of a context model, which reads dialogues of vectors.

        Raises:
            DataError: `dataset` does not hold these vectors, or they come from branches that were
                trained on other parts.
            ViewError: the view splits a dialogue.
        """
        if isinstance(dataset, Corpora):
            raise DataError(
                "a context model reads one dataset of vectors (emo features): data.shards names "
                f"{len(dataset.parts)}"
            )
        view.dialogues("train")  # raises if the view splits a dialogue: the error to report first
        widths = check_vectors(dataset, view, config.inputs)
        samples = Dialogues(
            dataset, view, config.inputs, widths, supervision_of(dataset, view, config), config.data
        )
        units = samples.units(view.train)
        torch.manual_seed(config.train.seed)  # the same first weights on every rank
        model = ContextModel(config.model, len(view.label_set.classes), widths)
        groups = [samples.dialogues[unit] for unit in units]
        plan = Plan(
            config.data.plan,
            units=len(units),
            global_batch=config.train.global_batch,
            seed=config.train.seed,
            dataset_hash=dataset.manifest.dataset_hash,
            facts=UnitFacts(groups=groups),
        )
        parameters = sum(p.numel() for p in model.parameters())
        objective = objective_of(config, view, samples, units)
        return cls(config, dataset, view, units, samples, plan, model, objective, parameters)


def supervision_of(dataset: Dataset, view: View, config: ExperimentConfig) -> Supervision:
    """Labels and targets, as `config.data` has them."""
    data = config.data
    return Supervision.of(
        dataset,
        view,
        data.targets,
        primary=data.primary,
        dropout=data.annotation_dropout,
        seed=config.train.seed,
    )


def _cells(dataset: Dataset, view: View) -> np.ndarray:
    """What the order `balanced` spreads evenly: the class of each row, within its corpus."""
    if not isinstance(dataset, Corpora):
        return view.labels
    return view.labels + len(view.label_set.classes) * dataset.corpus


def objective_of(
    config: ExperimentConfig, view: View, samples: SampleSource, units: np.ndarray
) -> Objective:
    """The loss; class weights and priors come from the training `units` alone.

    Raises:
        ModelError: a class that must have training turns has none, or weights name other classes.
    """
    rows = samples.rows_of(units)
    counted = rows[np.isin(rows, view.train)]  # a dialogue has turns of no class as context
    return Objective(
        config.loss,
        view.label_set.classes,
        samples.targets[counted].sum(axis=0, dtype=np.float64),
        smoothing=config.train.label_smoothing,
        output=config.model.trained_on,
        attributes=config.model.attributes,
    )


def hub_encoders(config: ExperimentConfig) -> dict[str, str]:
    """The encoders that are names on the hub, by the setting that names them."""
    text, audio = config.model.text, config.model.audio
    named = {
        "model.text.encoder": text.encoder if text else None,
        "model.audio.encoder": audio.encoder if isinstance(audio, SpeechEncoderConfig) else None,
    }
    return {key: name for key, name in named.items() if name and not is_folder(name)}


def fetch(encoders: dict[str, str]) -> None:
    """Put all that is read of these encoders into the cache of this node."""
    for setting, name in encoders.items():
        load_encoder(name, setting)
        if setting == "model.text.encoder":
            Tokens(name, max_tokens=8, setting=setting)
        else:
            read_preprocessing(name, setting)


def view_of(dataset: Dataset, config: ExperimentConfig) -> View:
    """The parts of the configured protocol, as rows of `dataset`."""
    return make_view(columns_of(dataset), config.data.view)


def open_tokens(
    dataset: Dataset, config: ExperimentConfig, *, trained: bool = False
) -> Tokens | None:
    """The dataset's tokenizer, or None if the model reads no text; also checks shards and model.

    Of a `trained` model the pretrained encoders are not looked for: they may be gone.

    Raises:
        DataError: the shards do not fit the model; the message lists every reason.
    """
    audio = config.data.audio if config.model.audio else None
    problems = disagreements(dataset, feature=audio, text=config.model.text is not None)
    if problems:
        raise DataError(
            "data.shards: one model cannot read these datasets, which were made differently:\n  "
            + "\n  ".join(problems)
        )
    manifest, text = dataset.manifest, config.model.text
    kinds = (manifest.features or {}).get("kinds", ())
    if config.model.audio and config.data.audio not in kinds:
        problems.append(
            f"the audio branch reads {config.data.audio}, the shards hold "
            f"{', '.join(kinds) or 'no audio feature'}: set data.audio or build with features.kinds"
        )
    elif isinstance(config.model.audio, SpeechEncoderConfig) and not trained:
        encoder, rate = config.model.audio.encoder, (manifest.features or {})["sample_rate"]
        wanted = read_preprocessing(encoder, "model.audio.encoder").rate
        if rate != wanted:
            problems.append(
                f"the waveforms have {rate} samples a second, the encoder {encoder} expects "
                f"{wanted}: build the shards with audio.sample_rate={wanted}"
            )
    tokens = None
    if text and manifest.tokenizer is None:
        problems.append("the text branch reads tokens, the shards hold none: build them with text")
    elif text and manifest.tokenizer:
        tokens = Tokens(dataset.folder / TOKENIZER, manifest.tokenizer["max_tokens"])
        theirs = None
        if text.encoder and not trained:
            theirs = Tokens(text.encoder, tokens.max_tokens, "model.text.encoder")
        if theirs is not None and theirs.identity != tokens.identity:
            problems.append(
                f"the shards were tokenized by {manifest.tokenizer['source']}, the encoder "
                f"{text.encoder} has another tokenizer: build shards with text.tokenizer="
                f"{text.encoder}"
            )
    if problems:
        raise DataError(f"{dataset.folder} does not fit the model:\n  " + "\n  ".join(problems))
    return tokens


def _described(run: Path) -> dict[str, dict[str, Any] | None]:
    """The encoders of a trained model, to be built without the files that they came from."""
    return architectures_of(read_record(run)["recipe"]["description"])


def load_statistics(run: Path) -> Normaliser | None:
    """The feature statistics that a run was trained with; None for a model without audio."""
    path = run / files.STATISTICS
    return normalise.from_json(json.loads(path.read_text())) if path.is_file() else None


def measure(
    runtime: Runtime, dataset: Dataset, rows: np.ndarray, config: ExperimentConfig
) -> Normaliser | None:
    """The statistics by which features are normalised: a collective, over all ranks."""
    if config.model.audio is None or config.data.audio == WAVEFORM.name:
        return None
    if "audio" in config.init:  # the branch expects what it was trained on
        return load_statistics(config.init["audio"])
    kind = normalise.NORMALISERS[config.data.normalise]
    groups = kind.groups(dataset, rows)
    chunks = in_chunks(groups)
    if not chunks:
        return kind.of({}, feature_bins(dataset, config.data.audio))
    mine = feature_sums(
        dataset,
        config.data.audio,
        [rows for _, rows in chunks],
        world=runtime.world,
        rank=runtime.rank,
    )
    # Each rank has every world-th chunk. They are padded to one shape, because `gather` needs equal
    # shapes, and put back into the order of rows, because float sums depend on their order.
    most = -(-int(runtime.total(len(mine))) // runtime.world)
    width = int(runtime.gather(np.array([mine.shape[1] if len(mine) else 0])).max())
    padded = np.zeros((most, width))
    padded[: len(mine), : mine.shape[1]] = mine
    gathered = runtime.gather(padded)  # [world, most, width]
    sums = gathered.transpose(1, 0, 2).reshape(-1, width)[: len(chunks)]
    owner = np.array([name for name, _ in chunks])
    measured = {name: moments_of(sums[owner == name]) for name in groups}
    return kind.of(measured, len(next(iter(measured.values())).mean))


def feature_bins(dataset: Dataset, feature: str) -> int:
    """Values a frame of `feature`, as the shards hold it."""
    settings = {k: v for k, v in (dataset.manifest.features or {}).items() if k != "sample_rate"}
    one, config = FEATURES[feature], parse(FeatureConfig, settings, "the shards' feature settings")
    assert one.width is not None, f"{feature} has no frames"
    return one.width(config.of(one))
