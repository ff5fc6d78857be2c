"""Weights & Biases and MLflow, through accelerate's trackers, where they are installed.

They get the scalars, the settings, and (Weights & Biases) the pictures. Both are packages of their
own: this project neither needs nor pins them. Where they send what they get is up to them, by their
own variables; `WANDB_MODE=offline` and a folder in `MLFLOW_TRACKING_URI` send nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from shards.errors import UserError

IDS = "trackers.json"  # by tracker, the id of the run there: a resumed run goes on with it


class TrackerMissing(UserError):
    """`tracking` names a tracker that is not installed."""


def check_installed(names: Collection[str]) -> None:
    """Raise TrackerMissing for trackers whose packages are not installed; names all of them."""
    missing = [name for name in names if name in OTHERS and find_spec(name) is None]
    if missing:
        raise TrackerMissing(
            f"tracking names {' and '.join(missing)}, which this environment does not have: "
            f"`pip install {' '.join(missing)}`, or take it out of `tracking`"
        )


class OtherTracker:
    """One of accelerate's trackers.

    Args:
        run: the run folder.
        new: whether the run starts from its beginning; otherwise it goes on under the same id.
    """

    def __init__(self, run: Path, new: bool) -> None:
        self._path, self._new = run / IDS, new
        self._ids: dict[str, str] = {}
        if not new and self._path.is_file():
            self._ids = json.loads(self._path.read_text())
        self._tracker = self._open(run)
        self._tracker.start()
        self._ids[self._tracker.name] = self._id()
        self._path.write_text(json.dumps(self._ids))

    def _open(self, run: Path) -> Any:
        raise NotImplementedError

    def _id(self) -> str:
        raise NotImplementedError

    def log(self, values: dict[str, float], step: int) -> None:
        self._tracker.log(values, step=step)

    def log_picture(self, name: str, image: np.ndarray, step: int) -> None:
        """Show a picture, where the tracker can."""

    def store(self, values: dict[str, Any]) -> None:
        self._tracker.store_init_configuration(values)

    def finish(self) -> None:
        self._tracker.finish()


class _Wandb(OtherTracker):
    def _open(self, run: Path) -> Any:
        from accelerate.tracking import WandBTracker

        project = os.environ.get("WANDB_PROJECT", "emo")
        known = self._ids.get("wandb")
        return WandBTracker(
            project, name=run.name, dir=str(run), id=known, resume="allow" if known else None
        )

    def _id(self) -> str:
        return str(self._tracker.tracker.id)

    def log_picture(self, name: str, image: np.ndarray, step: int) -> None:
        self._tracker.log_images({name: [image]}, step=step)


class _Mlflow(OtherTracker):
    def _open(self, run: Path) -> Any:
        from accelerate.tracking import MLflowTracker

        return MLflowTracker(
            "emo", run_name=run.name, run_id=self._ids.get("mlflow"), logging_dir=None
        )

    def _id(self) -> str:
        return str(self._tracker.tracker.info.run_id)

    def store(self, values: dict[str, Any]) -> None:
        # MLflow refuses a second value of a setting, and a resumed run may have other epochs.
        if self._new:
            super().store(values)


OTHERS: dict[str, Callable[[Path, bool], OtherTracker]] = {"wandb": _Wandb, "mlflow": _Mlflow}
