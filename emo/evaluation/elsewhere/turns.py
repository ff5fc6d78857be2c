"""Which turns of another dataset a trained run is evaluated on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from emo.data.corpora.union import open_data
from emo.runs.experiment import view_of
from emo.runs.folder import RunError, load_config
from shards.corpora.labels import label_set
from shards.corpora.utterance import NO_MAJORITY
from shards.errors import UserError
from shards.store.index import Dataset
from shards.views.view import View, columns_of, whole_view


@dataclass(frozen=True)
class Turns:
    """`view` has them as its test part; `said` are notes, `counts` what was left out and why."""

    view: View
    said: list[str]
    counts: dict[str, Any]


def turns_on(run: Path, record: Mapping[str, Any], dataset: Dataset) -> Turns:
    """The turns of `dataset` on which `run` may be judged: none that it has been trained on.

    Of the corpus that it was trained on (with noise, for instance) these are its own test turns; of
    any other, all clean turns with a label that it knows, but for recordings of its training data.

    Raises:
        RunError: the corpus is the run's, but its parts cannot be told, or no turn is left.
    """
    content = dataset.manifest.settings.get("corpus", {}).get("content")
    own = {record["dataset"].get("corpus")} | {o["corpus"] for o in record.get("corpora", [])}
    if content is not None and content in own:
        # Of several corpora, turns have the name of theirs in front: no view of one is the same.
        view = None if record.get("corpora") else view_of(dataset, load_config(run))
        if view is None or view.digest != record["view"]:
            raise RunError(
                f"{dataset.folder} holds turns of a corpus that {run} was trained on, and its test "
                "part cannot be told in them: evaluate on shards of the whole corpus, built alike"
            )
        said = [f"the corpus that it was trained on: its {len(view.test)} test turns alone"]
        return Turns(view, said, {"same_corpus": True})
    codes = {name: tuple(codes) for name, codes in record["label_codes"].items()}
    chosen, labels = label_set(codes), dataset.column("label")
    clean = dataset.column("variant") == "clean"
    unknown = {
        str(code): int(np.sum(clean & (labels == code)))
        for code in np.unique(labels[clean].astype(str))
        if chosen.class_of(code) < 0
    }
    shared, why = _trained_recordings(run, dataset)
    view = whole_view(columns_of(dataset), codes, ~shared)
    said = [f"{code}: {n} turns left out" for code, n in unknown.items() if code != NO_MAJORITY]
    if said:
        said = [f"labels that the model does not know: {', '.join(said)}"]
    if unknown.get(NO_MAJORITY):
        said.append(f"{unknown[NO_MAJORITY]} turns without a majority left out")
    count = int(np.sum(shared & clean))
    if why:
        said.append(f"whether recordings were trained on could not be checked: {why}")
    elif count:
        said.append(f"{count} turns left out whose recording is in the training data")
    there = np.bincount(view.labels[view.test], minlength=len(chosen.classes)) > 0
    absent = [name for name, here in zip(chosen.classes, there, strict=True) if not here]
    if absent:
        said.append(f"no turn has {', '.join(absent)}, which the model may predict all the same")
    counts = {"same_corpus": False, "unknown": unknown, "absent": absent,
              "trained_on": None if why else count}  # fmt: skip
    return Turns(view, said, counts)


def _trained_recordings(run: Path, dataset: Dataset) -> tuple[np.ndarray, str | None]:
    """Whether each row's recording is in the data of `run`, bool [rows]; or why that is unknown."""
    nowhere = np.zeros(len(dataset), bool)
    try:
        trained = open_data(load_config(run).data.shards, ["recording"])
    except UserError as error:
        return nowhere, str(error)
    names = pc.unique(trained.table["recording"]).drop_null()
    here = dataset.table["recording"].combine_chunks()
    return np.asarray(pc.is_in(here, value_set=names.cast(here.type))), None
