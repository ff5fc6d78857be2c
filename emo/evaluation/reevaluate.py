"""`emo eval`: evaluate the chosen checkpoint of a trained run again, in this process."""

from __future__ import annotations

from pathlib import Path

import torch

from emo.distributed.config import RuntimeConfig
from emo.distributed.runtime import Runtime
from emo.evaluation.evaluate import finish
from emo.runs.experiment import Experiment
from emo.runs.folder import load_config, open_run
from emo.runs.run import Run
from emo.runs.tracker import Tracker


def evaluate_again(run: Path) -> None:
    """Rewrite `metrics.json` and the predictions of `run`, in fp32 on one device.

    Raises:
        UserError: `run` is no run folder or has no finished epoch; its shards are gone or have
            changed.
    """
    config = load_config(run)
    strategy = "gpu" if torch.cuda.is_available() else "cpu"
    here = RuntimeConfig(strategy=strategy, processes=1, precision="fp32")
    config = config.model_copy(update={"runtime": here, "resume": "auto", "run": run})
    runtime = Runtime.start(
        here, accumulation=1, micro_batch=config.train.evaluation_batch, clip=0.0
    )
    with open_run(runtime, config):
        experiment = Experiment.build(runtime, config)
        model = experiment.model.to(runtime.device)
        # A step after all others: opening the logs must cut off nothing that training wrote.
        tracker = Tracker(run, main=True, step=2**31)
        try:
            finish(Run(runtime, experiment, model, tracker))
        finally:
            tracker.close()
