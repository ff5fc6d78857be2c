"""May a run start from the branch of another one? Not if that one has seen turns of its test part.

A run on the same data and parts has not. One on another corpus has not if the corpora share no
recording; that is looked up, by the hash of each sound, in the dataset that it was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from emo.data.config import shown
from emo.data.corpora.union import open_data
from emo.runs import files
from emo.runs.finished import data_difference, read_record
from emo.runs.folder import RunError, load_config
from shards.errors import UserError
from shards.extract.text import Tokens
from shards.store.index import Dataset
from shards.views.view import View


def check_init(branch: str, run: Path, view: View, dataset: Dataset) -> str | None:
    """Whether the branch of `run` may be taken for a run on `view` of `dataset`.

    Returns:
        What to tell the user, if it comes from another corpus.

    Raises:
        RunError: its training turns could be test turns here, it reads another input, or it knows
            other classes.
    """
    record = read_record(run)
    ours = {"dataset": {"hash": dataset.manifest.dataset_hash}, "view": view.digest}
    different = data_difference(record, ours, ("dataset", "parts"))
    if different is None:
        return None
    other = f"({different.what} {different.ours}, here {different.theirs})"
    remedy = "Train the branch on the same data.shards and data.view"
    if different.what == "parts":
        raise RunError(
            f"init: {run} was trained on other data than this run would be {other}: its training "
            f"turns could be test turns here. {remedy}"
        )
    shards = load_config(run).data.shards
    try:
        theirs = open_data(shards)
    except UserError as error:
        raise RunError(
            f"init: {run} was trained on other data than this run would be {other}. Whether they "
            f"share recordings cannot be checked: {error}. {remedy}"
        ) from None
    if theirs.manifest.dataset_hash != record["dataset"]["hash"]:
        raise RunError(
            f"init: {run} was trained on other data than this run would be {other}, and not on "
            f"what is in {shown(shards)} now, so that shared recordings cannot be found. {remedy}"
        )
    shared = _shared_recordings(theirs, dataset)
    if shared is None or shared > 0 or _contents(theirs) & _contents(dataset):
        found = "datasets of an older program do not tell" if shared is None else f"{shared} shared"
        raise RunError(
            f"init: {run} was trained on other data than this run would be {other}, which may have "
            f"the same recordings ({found}): its training turns could be test turns here. {remedy}"
        )
    problems = unlike_inputs(branch, run, record, dataset)
    if record["classes"] != list(view.label_set.classes):
        problems.append(
            f"its classes are {', '.join(record['classes'])}, here "
            f"{', '.join(view.label_set.classes)}: set data.view.labels alike"
        )
    if problems:
        raise RunError(f"init: {run} does not fit this run:\n  " + "\n  ".join(problems))
    return (
        f"init: the {branch} branch comes from {run}, which was trained on {shown(shards)}; none "
        f"of its {len(theirs)} samples is a recording of this run's data"
    )


def _shared_recordings(one: Dataset, other: Dataset) -> int | None:
    """Recordings that are in both; None if a dataset does not know them."""
    known = [pc.unique(dataset.table["recording"]).drop_null() for dataset in (one, other)]
    silent = any(dataset.table["recording"].null_count == len(dataset) for dataset in (one, other))
    return None if silent else int(pc.sum(pc.is_in(known[0], known[1])).as_py() or 0)


def _contents(dataset: Dataset) -> set[str]:
    """What names the turns of a corpus, whatever was done to its recordings."""
    found = [part.manifest.settings.get("corpus", {}).get("content") for part in dataset.sources]
    return {str(one) for one in found if one}


def unlike_inputs(branch: str, run: Path, record: Mapping[str, Any], dataset: Dataset) -> list[str]:
    """How `dataset` was made otherwise than what the branch of `run` reads, with the remedy."""
    problems = []
    manifest, recipe = dataset.manifest, record["recipe"]
    if branch == "text" and manifest.tokenizer is not None:
        own = Tokens(run / files.TOKENIZER, int(recipe["max_tokens"]))
        if own.identity != manifest.tokenizer["identity"]:
            problems.append(
                "its text has another tokenizer: build these shards with text.tokenizer="
                f"{run / files.TOKENIZER}"
            )
    if branch == "audio":
        theirs, ours = (recipe["features"] or {}), (manifest.settings.get("features") or {})
        names = [name for name in theirs.keys() | ours.keys() if name != "kinds"]
        rates = [(one or {}).get("sample_rate") for one in (recipe["audio"], manifest.features)]
        unlike = sorted(name for name in names if theirs.get(name) != ours.get(name))
        if unlike or rates[0] != rates[1]:
            wanted = [f"features.{name}={theirs.get(name)}" for name in unlike]
            wanted += [f"audio.sample_rate={rates[0]}"] if rates[0] != rates[1] else []
            problems.append(f"its features differ: build these shards with {' '.join(wanted)}")
    return problems
