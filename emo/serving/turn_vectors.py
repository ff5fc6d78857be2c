"""`emo features`: vectors and scores of trained branches for every turn, written as a dataset.

Context models read this dataset instead of running the branches again. It is opened like any other
(`shards.store.index.open_dataset`), has one sample for each clean turn, including turns outside the
label set, and has the metadata of its source. Its manifest records the runs and checkpoints of the
branches, the view that they were trained on, and the dataset that they read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emo.config import ExperimentConfig
from emo.data.config import LeftOut
from emo.data.corpora.union import Corpora, open_data
from emo.data.plan import evaluation_plan
from emo.data.source import Supervision
from emo.data.utterances import Utterances
from emo.distributed.launch_files import EXIT_SAVED, run_training
from emo.models.model import EmotionModel, rebuild
from emo.runs import checkpoint, files
from emo.runs.experiment import load_statistics, open_tokens, view_of
from emo.runs.finished import data_difference, is_finished, read_record
from emo.runs.folder import RunError, load_config
from shards import atomic
from shards.build.claim import BuildFile
from shards.build.merge import merge
from shards.configfile import digest
from shards.errors import UserError
from shards.store.index import BUILD, COLUMNS, TRUTH, Dataset, Manifest, home_of
from shards.store.schema import CLEAN, SCHEMA_VERSION, Sample, sample_key
from shards.store.write import write_shard
from shards.views.view import View

TURNS_PER_SHARD = 2048  # some megabytes


class VectorsError(UserError):
    """Runs whose branches cannot make vectors for one dataset."""


class Unfinished(VectorsError):
    """A training for `--cross-fit` stopped early and saved: the same command goes on."""

    exit_code = EXIT_SAVED


@dataclass(frozen=True)
class Source:
    """A trained run: its configuration, its best checkpoint, and what it recorded."""

    run: Path
    config: ExperimentConfig
    facts: dict[str, Any]
    chosen: Path
    model: EmotionModel

    @classmethod
    def open(cls, run: Path) -> Source:
        """Open the run. Raises UserError: no run folder, no finished epoch, or no branches."""
        config = load_config(run)
        facts = read_record(run)
        chosen = checkpoint.best(files.checkpoints(run))
        model = rebuild(facts["recipe"]["description"])
        if not isinstance(model, EmotionModel):
            raise VectorsError(f"{run} is a context model: name the runs of its branches")
        if model.reads == "states":
            raise VectorsError(
                f"{run} fuses tokens and frames, and trains neither vectors nor scores of its "
                "branches: name the runs of the branches"
            )
        model.load_state_dict(checkpoint.read_weights(chosen))
        return cls(run, config, facts, chosen, model)

    @property
    def scored(self) -> bool:
        """Whether the branches' own scores were trained; a fusion of vectors does not use them."""
        return self.model.reads in (None, "logits")

    def record(self) -> dict[str, Any]:
        manifest = json.loads((self.chosen / checkpoint.MANIFEST).read_text())
        return {
            "run": str(self.run),
            "name": self.facts["name"],
            "checkpoint": self.chosen.name,
            "weights": manifest["files"][checkpoint.WEIGHTS],
            "code": self.facts["code"],
        }


def write_vectors(
    runs: Sequence[Path], folder: Path, folds: int = 0, strategy: str = "cpu"
) -> Manifest:
    """Make the new dataset `folder` from the branches of `runs`, all or nothing.

    Branches are better on turns that they were trained on than on others, so a context model would
    learn to trust them too much. With `folds`, the scores of a training dialogue come from branches
    that were trained without it, with `strategy`. Only scores are written then, because the hidden
    units of two folds' branches do not correspond to one another.

    Raises:
        VectorsError: `folder` exists, or the runs do not fit together.
        ViewError: the runs' view splits dialogues.
        UserError: a run or its shards are missing or damaged.
    """
    if folder.exists():
        raise VectorsError(f"{folder} is there already: name a new folder")
    sources = [Source.open(run) for run in runs]
    _check_alike(sources)
    dataset = open_data(sources[0].config.data.shards)
    if isinstance(dataset, Corpora):
        raise VectorsError(
            f"{sources[0].run} was trained on several corpora: vectors are made of one dataset, by "
            "branches that were trained on that alone"
        )
    if dataset.manifest.dataset_hash != sources[0].facts["dataset"]["hash"]:
        raise RunError(
            f"{sources[0].run} was trained on other shards than are in {dataset.folder} now: "
            "build those again, or train again"
        )
    view = view_of(dataset, sources[0].config)
    view.dialogues("train")  # refuses a view that splits one
    rows = np.flatnonzero(dataset.column("variant") == CLEAN)
    members: dict[str, dict[int, np.ndarray]] = {}
    for source in sources:
        vectors = vectors_of(source, dataset, view, rows)
        if folds:
            vectors = cross_fitted(source, vectors, dataset, view, folds, strategy)
        members |= vectors
    first = sources[0].facts
    facts = {
        "runs": {name: one.record() for one in sources for name in one.model.branches},
        "dataset": first["dataset"],
        "view": view.digest,
        "protocol": view.name,
        "cross_fit": folds,
        "widths": {name: len(next(iter(one.values()))) for name, one in members.items()},
    }
    return publish(folder, dataset, rows, members, facts)


@torch.no_grad()
def vectors_of(
    source: Source, dataset: Dataset, view: View, rows: np.ndarray
) -> dict[str, dict[int, np.ndarray]]:
    """Member name -> row -> float32 [width], for every branch of `source` and all `rows`.

    A row without a modality is not in that branch's members.
    """
    config = source.config
    tokens = open_tokens(dataset, config, trained=True)
    samples = Utterances(
        dataset,
        config.inputs,
        Supervision(view.labels, np.zeros((len(dataset), 1), np.float32)),  # nothing is learnt
        statistics=load_statistics(source.run),
        pad_token=tokens.pad if tokens else 0,
        config=config.data.model_copy(update={"damage": "error"}),
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = source.model.to(device).eval()
    vectors: dict[str, dict[int, np.ndarray]] = {}
    order = evaluation_plan(len(rows), config.train.evaluation_batch, samples.sizes[rows])
    for units in order:
        chosen = rows[units[units >= 0]]
        batch = samples.batch(chosen, samples.lengths(chosen))
        outputs = model.branch_outputs(samples.to_model(batch, device, torch.float32))
        for name, branch in outputs.items():
            values = {f"{name}_vector": branch.vector_BD.float()}
            if source.scored:
                values[f"{name}_scores"] = torch.log_softmax(branch.logits_BC.float(), -1)
            present = branch.present_B.cpu().numpy()
            for member, value_BD in values.items():
                kept = zip(chosen[present], value_BD.cpu().numpy()[present], strict=True)
                vectors.setdefault(member, {}).update(kept)
    return vectors


def cross_fitted(
    source: Source,
    vectors: Mapping[str, Mapping[int, np.ndarray]],
    dataset: Dataset,
    view: View,
    folds: int,
    strategy: str,
) -> dict[str, dict[int, np.ndarray]]:
    """The scores in `vectors`, with those of training dialogues from branches trained without them.

    Trains `folds` runs in the run's folder; finished ones are used as they are.

    Raises:
        VectorsError: the run started from other runs' branches, or a fold has failed.
        Unfinished: a fold stopped early and saved.
    """
    if source.config.init:
        raise VectorsError(
            f"{source.run} started from branches of other runs, which saw all training turns: "
            "name those runs to cross-fit"
        )
    result = {name: dict(rows) for name, rows in vectors.items() if name.endswith("_scores")}
    for fold in range(folds):
        left_out = LeftOut(fold=fold, folds=folds)
        run = source.run / f"cross-fit-{folds}" / f"fold-{fold}"
        if not is_finished(run):
            print(f"{source.run}: training without dialogues {fold} of {folds}", flush=True)
            settings = [
                f"run={json.dumps(str(run))}", "resume=auto",
                f"data.left_out={left_out.model_dump_json()}",
            ]  # fmt: skip
            code = run_training(strategy, files.config(source.run), settings)
            if code == EXIT_SAVED:
                raise Unfinished(
                    f"the training of {run} stopped early and saved: run the same command again"
                )
            if code:
                raise VectorsError(
                    f"the training of {run} has not finished: its messages are above; correct what "
                    "they say, then run the same command again"
                )
        trained = Source.open(run)
        if trained.config.data.left_out != left_out:
            raise VectorsError(
                f"{run} was trained on other dialogues: remove it, then run the same command again"
            )
        _check_same_data(source, trained)
        for name, rows in vectors_of(trained, dataset, view, left_out.rows(view)).items():
            if name in result:
                result[name].update(rows)
    return result


def publish(
    folder: Path,
    source: Dataset,
    rows: np.ndarray,
    members: Mapping[str, Mapping[int, np.ndarray]],
    facts: dict[str, Any],
) -> Manifest:
    """Write `members` of the `rows` of `source` as the dataset `folder`, `facts` in its manifest.

    Raises:
        VectorsError: another process has made the folder meanwhile.
        DiskFull, CannotWrite: as the disk says; nothing is left behind.
    """
    old, corpus = source.manifest.settings, source.manifest.corpus
    content = {} if corpus is None else {"content": corpus}
    settings = {
        "schema": SCHEMA_VERSION,
        "labels": old["labels"],
        "audio": None,
        "features": None,
        "text": None,
        "output": {"utterances_per_shard": TURNS_PER_SHARD},
        "corpus": old["corpus"] | content | {"utterances": len(rows)},
        "vectors": facts,
    }
    build = BuildFile(
        digest=digest(settings),
        settings=settings,
        software={name: version(name) for name in ("numpy", "torch", "transformers")},
    )
    keys = list(COLUMNS)[: list(COLUMNS).index("key")]  # those of `schema.metadata` come first
    metas = source.table.select(keys).take(rows).to_pylist()
    recordings = source.table["recording"].take(rows).to_pylist()
    samples = [
        Sample(
            sample_key(meta["utterance"], CLEAN),
            meta | {"frames": 0, "tokens": 0},
            {name: of_row[row] for name, of_row in members.items() if row in of_row},
            recording=recording,
        )
        for row, meta, recording in zip(rows.tolist(), metas, recordings, strict=True)
    ]
    draft = atomic.temporary(folder)
    try:
        with atomic.disk_errors(folder):
            draft.mkdir(parents=True)
        for number in range(build.shards):
            part = samples[number * TURNS_PER_SHARD : (number + 1) * TURNS_PER_SHARD]
            write_shard(draft, number, build.digest, len(part), part)
        atomic.write(draft / BUILD, build.dump())
        if (truth := home_of(source.folder) / TRUTH).is_file():
            atomic.write(draft / TRUTH, truth.read_bytes())
        manifest = merge(draft, build, max_rejected=0.0)
        if not atomic.commit_folder(draft, folder):
            raise VectorsError(f"{folder} has been made meanwhile: name a new folder")
        return manifest
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _check_alike(sources: Sequence[Source]) -> None:
    seen: dict[str, Path] = {}
    for one in sources:
        _check_same_data(sources[0], one)
        for name in one.model.branches:
            if name in seen:
                raise VectorsError(
                    f"{seen[name]} and {one.run} both have a {name} branch: name one of them"
                )
            seen[name] = one.run


def _check_same_data(first: Source, other: Source) -> None:
    different = data_difference(first.facts, other.facts, ("dataset", "parts", "classes"))
    if different is not None:
        raise VectorsError(
            f"{first.run} and {other.run} were trained on different {different.what}: a turn that "
            "one has learnt could be the other's test turn; train both on the same data"
        )
