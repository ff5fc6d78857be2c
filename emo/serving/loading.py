"""Opens the model of a folder, whichever kind it is."""

from __future__ import annotations

from pathlib import Path

import torch

from emo.models.model import WEIGHTS as EXPORT_WEIGHTS
from emo.runs.finished import read_record
from emo.serving.dialogue import DialoguePredictor
from emo.serving.predict import Predictor
from emo.serving.scores import CannotPredict
from shards.errors import UserError


def open_model(folder: Path, device: str = "auto") -> Predictor | DialoguePredictor:
    """The model in a run folder or an exported one, on `device` ("auto": a GPU if there is one).

    Raises:
        CannotPredict: there is no such device.
        UserError: no such folder, or a damaged one.
    """
    place = choose_device(device)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: give a run's folder, or an exported one")
    if (folder / EXPORT_WEIGHTS).is_file():
        over_dialogues = (folder / DialoguePredictor.BRANCHES).is_dir()
        kind = DialoguePredictor if over_dialogues else Predictor
        return kind.from_export(folder).to(place)
    over_dialogues = bool(read_record(folder).get("context"))
    return (DialoguePredictor if over_dialogues else Predictor).from_run(folder).to(place)


def choose_device(device: str) -> torch.device:
    """The torch device that `device` names; "auto" is a GPU if there is one.

    Raises:
        CannotPredict: another word, or a GPU where torch sees none.
    """
    there = torch.cuda.is_available()
    if device == "auto":
        return torch.device("cuda" if there else "cpu")
    if device not in ("cpu", "cuda") and not device.startswith("cuda:"):
        raise CannotPredict(f"device {device}: give auto, cpu or cuda")
    if device != "cpu" and not there:
        raise CannotPredict(f"device {device}: torch sees no GPU here (`emo doctor`); give cpu")
    return torch.device(device)
