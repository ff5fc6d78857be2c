"""One run of a comparison: its predictions of a part, and what kind of system made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emo.evaluation.predictions import EVALUATED_PARTS, TurnPredictions, read_predictions
from emo.modalities import MODALITIES
from emo.runs.finished import data_difference, read_results
from shards.errors import UserError, suggestion

# What a column of the paper's Table 3 is called, by the `kind` of context model, branch or fusion.
SYSTEMS = {
    "icon": "ICON",
    "bclstm": "bc-LSTM",
    "bilstm_null": "BiLSTM",
    "dnn_elm": "DNN-ELM",
    "roberta": "RoBERTa",
    "wav2vec2": "wav2vec 2.0",
    "hubert": "HuBERT",
    "wavlm": "WavLM",
    "gated": "gated fusion",
    "cross_attention": "cross-attention",
}
THE_PAPERS = {"text": "bert", "audio": "cnn", "fusion": "paper"}


class CompareError(UserError):
    """Runs that cannot be compared."""


@dataclass(frozen=True)
class Result:
    """One run: the content of its `metrics.json`, and its predictions of `part`."""

    run: Path
    facts: dict[str, Any]
    part: str
    turns: TurnPredictions  # in the order of the utterances' ids

    @property
    def scores(self) -> dict[str, Any]:
        """The results of the part in `metrics.json`."""
        return dict(self.facts["parts"][self.part])

    @property
    def reads(self) -> tuple[str, ...]:
        """The modalities behind the predictions."""
        context = self.facts.get("context")
        parts = context["reads"] if context else self.facts["model"]
        return tuple(name for name in MODALITIES if name in parts)

    @property
    def system(self) -> str:
        """Its column in the paper's Table 3: the components that are not the paper's own."""
        context = self.facts.get("context")
        if context:
            return SYSTEMS[context["kind"]]
        kinds = self.facts.get("kinds", {}).items()
        other = [SYSTEMS.get(kind, kind) for part, kind in kinds if kind != THE_PAPERS[part]]
        return " + ".join(other) or "the paper's"

    @property
    def sees(self) -> str:
        """Which other turns it sees: "" (none), "past" or "whole" (the dialogue)."""
        context = self.facts.get("context")
        return context["sees"] if context else ""


def load_results(runs: Sequence[Path], part: str) -> list[Result]:
    """Read finished runs, and check that they can be compared.

    Raises:
        CompareError: there is no such part, or two runs differ in more than their systems.
        RunError: a folder is no run folder, or its training has not ended.
    """
    check_part(part)
    results = [load_result(run, part) for run in runs]
    check_comparable(results)
    return results


def check_part(part: str) -> None:
    """Raise CompareError for a part that no run evaluates."""
    if part not in EVALUATED_PARTS:
        raise CompareError(
            f"--part {part}: no part of this name{suggestion(part, EVALUATED_PARTS)} (there are "
            f"{', '.join(EVALUATED_PARTS)})"
        )


def load_result(run: Path, part: str) -> Result:
    """Read one finished run. Raises RunError where it is none."""
    facts = read_results(run)
    return Result(run, facts, part, read_predictions(run, part, facts["classes"]))


def check_comparable(results: Sequence[Result]) -> None:
    """Raises CompareError unless all runs predict the same turns under the same protocol.

    Shards may differ, because systems read other features of the same corpus.
    """
    first = results[0]
    for other in results[1:]:
        different = data_difference(
            first.facts, other.facts, ("protocol", "corpus", "classes", "parts")
        )
        if different is not None:
            what, ours, theirs = different
            raise CompareError(
                f"{first.run} and {other.run} differ in {what} ({ours} against {theirs}): their "
                "numbers cannot be compared; train both on one data.shards and data.view"
            )
        if first.turns.utterances != other.turns.utterances:
            raise CompareError(
                f"{first.run} and {other.run} did not predict the same turns (damaged samples were "
                "skipped?); evaluate both again with `emo eval`"
            )


def row_labels(results: Sequence[Result]) -> list[str]:
    """A name for each row: the run's, or where runs share it, the ends of their folders' paths."""
    labels = []
    for result in results:
        name = result.facts["name"]
        namesakes = {one.run.absolute().parts for one in results if one.facts["name"] == name}
        own = result.run.absolute().parts
        if len(namesakes) > 1:
            lengths = range(1, max(map(len, namesakes)) + 1)
            enough = next(n for n in lengths if len({p[-n:] for p in namesakes}) == len(namesakes))
            name = str(Path(*own[-enough:]))
        labels.append(name)
    return labels
