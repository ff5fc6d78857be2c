"""Models over dialogues: every turn is predicted from the outputs of branches for all of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from emo.evaluation.config import PriorSpec
from emo.models.context.model import ContextModel
from emo.models.model import CONFIG as EXPORT_CONFIG
from emo.models.model import EmotionModel, rebuild
from emo.runs import checkpoint, files
from emo.runs.finished import best_weights, is_finished, read_record, read_results
from emo.serving.items import Item, Prediction, Refusal, Result
from emo.serving.many.batches import Prepared
from emo.serving.predict import Predictor
from emo.serving.scores import CannotPredict, Probabilities

BATCH = 64  # turns that go through a branch at once


class DialoguePredictor:
    """A trained bc-LSTM or ICON with the branches whose outputs it reads.

    Call it with the turns of one dialogue, in their order: a list of dictionaries with `audio`,
    `text` (at least one of them) and `speaker`. It returns a `Prediction` for each.

    Args:
        scores: how its scores become probabilities.
        members: by modality, what the model reads of its branch: "text_vector", "audio_scores".
        branches: by modality, the trained branch.
    """

    BRANCHES: ClassVar = "branches"  # folder of an exported model: an export of each branch

    def __init__(
        self,
        model: ContextModel,
        scores: Probabilities,
        members: Mapping[str, str],
        branches: Mapping[str, Predictor],
    ) -> None:
        self.model, self.scores, self.classes = model.eval(), scores, scores.classes
        self.members, self.branches = dict(members), dict(branches)
        self.reads, self.device = tuple(members), torch.device("cpu")

    @classmethod
    def from_run(cls, run: Path) -> DialoguePredictor:
        """The best checkpoint of a run, and those of its branches, which it names.

        Raises:
            CannotPredict: a branch's run is gone, or was trained further since.
        """
        facts = read_record(run)
        model = rebuild(facts["recipe"]["description"])
        assert isinstance(model, ContextModel)
        model.load_state_dict(best_weights(run))
        results = read_results(run) if is_finished(run) else {}
        scores = Probabilities(facts["classes"], results, facts["recipe"].get("prior"))
        branches = {name: Predictor.from_run(one) for name, one in branch_runs(run, facts).items()}
        members = members_of(facts["context"])
        return cls(model, scores, members, branches)

    @classmethod
    def from_export(cls, folder: Path) -> DialoguePredictor:
        """The model in a folder that `emo export` wrote."""
        model = EmotionModel.from_pretrained(folder)
        assert isinstance(model, ContextModel)
        config = json.loads((folder / EXPORT_CONFIG).read_text())
        branches = {
            name: Predictor.from_export(folder / cls.BRANCHES / name) for name in model.branches
        }
        scores = Probabilities(config["classes"], config, config["recipe"].get("prior"))
        return cls(model, scores, config["members"], branches)

    def to(self, device: str | torch.device) -> DialoguePredictor:
        """Compute there from now on; returns itself."""
        self.device = torch.device(device)
        self.model.to(self.device)
        for branch in self.branches.values():
            branch.to(device)
        return self

    def assume(self, prior: PriorSpec) -> None:
        """Correct all probabilities from now on to these class shares; see `Probabilities`."""
        self.scores.assume(prior)

    def __call__(self, turns: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """A `Prediction` for each turn.

        Raises:
            CannotPredict: a turn cannot be used, or lacks its speaker; all reasons.
        """
        items = []
        for number, turn in enumerate(turns):
            if unknown := turn.keys() - {"audio", "text", "speaker"}:
                raise CannotPredict(f"turn {number}: give audio, text and speaker, not {unknown}")
            sound = turn.get("audio")
            items.append(
                Item(f"turn {number}", None if sound is None else Path(sound), turn.get("text"),
                     dialogue="", speaker=turn.get("speaker"))
            )  # fmt: skip
        results = list(self.predictions(items))
        predicted = [one for one in results if isinstance(one, Prediction)]
        if len(predicted) < len(results):
            reasons = [f"{one.name}: {one.reason}" for one in results if isinstance(one, Refusal)]
            raise CannotPredict("\n".join(reasons))
        return predicted

    def predictions(self, items: Iterable[Item], **_: Any) -> list[Result]:
        """A result for each turn, in their order; the turns of a dialogue in the order given.

        A turn that cannot be used is refused, and stays in its dialogue as a turn without any
        input, as in training.
        """
        given = list(items)
        results: list[Result | None] = [None] * len(given)
        groups: dict[str, list[int]] = {}
        for number, item in enumerate(given):
            if item.dialogue is None or item.speaker is None:
                lacks = "dialogue" if item.dialogue is None else "speaker"
                results[number] = Refusal(
                    item.name, f"{item.name}: this model reads dialogues, and the turn has no "
                    f"{lacks}: give a table with the columns dialogue and speaker"
                )  # fmt: skip
            else:
                groups.setdefault(item.dialogue, []).append(number)
        for places in groups.values():
            turns = [given[place] for place in places]
            for place, result in zip(places, self._dialogue(turns), strict=True):
                results[place] = result
        return [one for one in results if one is not None]

    @torch.inference_mode()
    def _dialogue(self, turns: Sequence[Item]) -> list[Result]:
        refused: dict[int, str] = {}
        vectors = {name: self._vectors(name, turns, refused) for name in self.reads}
        heard = np.zeros(len(turns), bool)
        for _, present in vectors.values():
            heard |= present
        speakers = {name: number for number, name in enumerate(dict.fromkeys(
            one.speaker for one in turns))}  # fmt: skip
        batch: dict[str, Tensor] = {
            "turn_mask": torch.ones(1, len(turns), dtype=torch.bool),
            "speaker": torch.tensor([[speakers[one.speaker] for one in turns]]),
            **{name: torch.from_numpy(table)[None] for name, (table, _) in vectors.items()},
        }
        tables = self.scores(self.model({key: x.to(self.device) for key, x in batch.items()}))
        results: list[Result] = []
        for number, (item, table) in enumerate(zip(turns, tables, strict=True)):
            if number in refused or not heard[number]:
                reason = refused.get(number, f"{item.name}: neither audio nor text")
                results.append(Refusal(item.name, reason))
            else:
                named = self.scores.named(table)
                results.append(Prediction(item.name, named, item.start, item.end))
        return results

    def _vectors(
        self, name: str, turns: Sequence[Item], refused: dict[int, str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The member of modality `name`, float32 [turns, width], and which turns have it."""
        branch = self.branches[name]
        table = np.zeros((len(turns), self.model.widths[name]), np.float32)
        present = np.zeros(len(turns), bool)
        ready: list[tuple[int, Prepared]] = []
        for number, item in enumerate(turns):
            if getattr(item, name) is None:
                continue
            try:
                ready.append((number, branch.prepare(_only(item, name))))
            except (ValueError, OSError) as error:
                refused[number] = str(error)
        for at in range(0, len(ready), BATCH):
            part = ready[at : at + BATCH]
            outputs = branch.model.branch_outputs(branch.batch([one for _, one in part]))[name]
            if self.members[name] == f"{name}_vector":
                values = outputs.vector_BD.float()
            else:
                values = torch.log_softmax(outputs.logits_BC.float(), -1)
            rows = [number for number, _ in part]
            table[rows], present[rows] = values.cpu().numpy(), True
        return table, present


def branch_runs(run: Path, facts: Mapping[str, Any]) -> dict[str, Path]:
    """By modality, the run folders of the branches that a context model's vectors came from.

    Raises:
        CannotPredict: a run is gone, or its best checkpoint is another one now.
    """
    found = {}
    named = facts["context"]["vectors"]["runs"]
    for name in facts["context"]["reads"]:
        record = named[name]
        folder = Path(record["run"])
        if not (folder / files.RECORD).is_file():
            raise CannotPredict(
                f"{run} reads the outputs of {folder}, which is not there: run this where it was "
                "trained, or predict from an export of it"
            )
        chosen = checkpoint.best(files.checkpoints(folder))
        manifest = json.loads((chosen / checkpoint.MANIFEST).read_text())
        if manifest["files"][checkpoint.WEIGHTS] != record["weights"]:
            raise CannotPredict(
                f"{run} was trained on outputs of {folder} at {record['checkpoint']}, which has "
                "other weights now: make features and train it again"
            )
        found[name] = folder
    return found


def members_of(context: Mapping[str, Any]) -> dict[str, str]:
    """By modality, what a context model reads of its branch, from its run's record."""
    return dict(zip(context["reads"], context["members"], strict=True))


def _only(item: Item, name: str) -> Item:
    """`item` with one modality alone, so that nothing is said of the other."""
    other = {"audio": {"text": None}, "text": {"audio": None}}[name]
    return Item(**{**item.__dict__, **other})
