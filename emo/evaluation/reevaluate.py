"""`emo eval`: evaluate the chosen checkpoint of a trained run again, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from emo.data.dialogues import source_hash, vector_facts
from emo.distributed.config import RuntimeConfig
from emo.distributed.runtime import Runtime
from emo.evaluation.evaluate import finish
from emo.runs import checkpoint, files
from emo.runs.experiment import Experiment
from emo.runs.finished import data_difference, read_record
from emo.runs.folder import RunError, load_config, locked
from emo.runs.run import Run
from emo.runs.tracking.tracker import Tracker
from shards.errors import suggestion

MAY_CHANGE = ("data.shards", "data.workers", "train.evaluation_batch", "evaluation.prior")


def evaluate_again(run: Path, overrides: Sequence[str] = ()) -> None:
    """Rewrite `metrics.json` and the predictions of `run`, in fp32 on one device.

    Args:
        overrides: "key=value" for keys in `MAY_CHANGE`, such as where the shards are now.

    Raises:
        UserError: `run` is no run folder or has no finished epoch; its shards are gone or have
            changed; an override changes what was trained.
    """
    check_overrides(overrides)
    config = load_config(run, overrides)
    strategy = "gpu" if torch.cuda.is_available() else "cpu"
    here = RuntimeConfig(strategy=strategy, processes=1, precision="fp32")
    config = config.model_copy(update={"runtime": here, "run": run})
    runtime = Runtime.start(
        here, accumulation=1, micro_batch=config.train.evaluation_batch, clip=0.0
    )
    with locked(run):
        chosen = checkpoint.best(files.checkpoints(run))
        print(f"evaluating {chosen}, which validation chose", flush=True)
        experiment = Experiment.build(runtime, config, trained=run)
        check_same_data(run, experiment)
        model = experiment.model.to(runtime.device)
        # Opening the logs must cut off nothing that training wrote, but for the last result.
        tracker = Tracker(run, main=True, step=None, to=config.tracking)
        try:
            finish(Run(runtime, experiment, model, tracker))
        finally:
            tracker.close()


def check_overrides(overrides: Sequence[str]) -> None:
    """Raise RunError for an override of a setting that is not in `MAY_CHANGE`."""
    for override in overrides:
        key = override.partition("=")[0]
        if key not in MAY_CHANGE:
            raise RunError(
                f"emo eval {override}: only {', '.join(MAY_CHANGE)} may differ from what was "
                f"trained{suggestion(key, MAY_CHANGE)}"
            )


def check_same_data(run: Path, experiment: Experiment) -> None:
    """Raise RunError unless the shards are the ones that `run` was trained on."""
    record, dataset = read_record(run), experiment.dataset
    ours = {"dataset": {"hash": source_hash(dataset)}, "view": experiment.view.digest}
    different = data_difference(record, ours, ("dataset", "parts"))
    vectors = (record.get("context") or {}).get("vectors")
    if different is not None:
        what, trained, here = different
        raise RunError(
            f"{run} was trained on other data than {dataset.folder} holds ({what} {trained}, here "
            f"{here}): name the shards it was trained on with data.shards=FOLDER"
        )
    if vectors is not None and vectors != vector_facts(dataset):
        raise RunError(
            f"{run} was trained on vectors of other branches than those in {dataset.folder}: name "
            "the folder it was trained on with data.shards=FOLDER"
        )
