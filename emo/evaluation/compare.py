"""`emo compare`: runs side by side on the same turns, beside the ceilings where they are known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from emo import metrics
from emo.evaluation import tables
from emo.evaluation.uncertainty import bootstrap, paired_difference
from emo.runs import files
from emo.runs.predictions import read_lines
from shards import atomic
from shards.errors import UserError
from shards.store.index import CONFIG, TRUTH

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
# The paper's Table 3, accuracy in %.
PAPER = {
    ("ICON", "text"): 58.3,
    ("ICON", "audio"): 50.7,
    ("ICON", "text + audio"): 63.8,
    ("bc-LSTM", "text"): 73.6,
    ("bc-LSTM", "audio"): 57.1,
    ("bc-LSTM", "text + audio"): 75.6,
    ("the paper's", "text"): 72.4,
    ("the paper's", "audio"): 47.8,
    ("the paper's", "text + audio"): 76.9,
}


class CompareError(UserError):
    """Runs that cannot stand in one table."""


@dataclass(frozen=True)
class Result:
    """One run's predictions of a part, in the order of the utterances' ids."""

    run: Path
    facts: dict[str, Any]
    part: str
    utterances: list[str]
    dialogues: list[str]
    labels: np.ndarray  # int [N]
    probabilities: np.ndarray  # [N, C]

    @property
    def predicted(self) -> np.ndarray:
        return self.probabilities.argmax(1)

    @property
    def reads(self) -> tuple[str, ...]:
        """The modalities behind the predictions."""
        context = self.facts.get("context")
        parts = context["reads"] if context else self.facts["model"]
        return tuple(part for part in ("text", "audio") if part in parts)

    @property
    def system(self) -> str:
        """The system's name, as a column of the paper's Table 3: the parts that are not its own."""
        context = self.facts.get("context")
        if context:
            return SYSTEMS[context["kind"]]
        kinds = self.facts.get("kinds", {}).items()
        other = [SYSTEMS.get(kind, kind) for part, kind in kinds if kind != THE_PAPERS[part]]
        return " + ".join(other) or "the paper's"

    @property
    def sees(self) -> str:
        """Which turns besides its own: "", "past" or "whole"."""
        context = self.facts.get("context")
        return context["sees"] if context else ""


def load_result(run: Path, part: str) -> Result:
    """Read a finished run. Raises CompareError where it is none."""
    path = files.metrics(run)
    if not path.is_file() or not files.predictions(run, part).is_file():
        raise CompareError(f"{run} has no results: it is no run folder, or training has not ended")
    facts = json.loads(path.read_text())
    lines = sorted(read_lines(run, part), key=lambda line: line["utterance"])
    classes = facts["classes"]
    return Result(
        run,
        facts,
        part,
        [line["utterance"] for line in lines],
        [line["dialogue"] for line in lines],
        np.array([classes.index(line["label"]) for line in lines]),
        np.array([[line["probabilities"][c] for c in classes] for line in lines]),
    )


def check_alike(results: list[Result]) -> None:
    """Raises CompareError unless all runs predict the same turns under the same protocol.

    Shards may differ (systems read other features), the corpus that they are of may not.
    """
    first = results[0]
    for other in results[1:]:
        for what, a, b in (
            ("protocol", first.facts["protocol"], other.facts["protocol"]),
            ("corpus", *(str(one.facts["dataset"]["corpus"])[:12] for one in (first, other))),
            ("classes", first.facts["classes"], other.facts["classes"]),
            ("parts", first.facts["view"][:12], other.facts["view"][:12]),
        ):
            if a != b:
                raise CompareError(
                    f"{first.run} and {other.run} differ in {what} ({a} against {b}): their "
                    "numbers cannot be compared; train both on one data.shards and data.view"
                )
        if first.utterances != other.utterances:
            raise CompareError(
                f"{first.run} and {other.run} did not predict the same turns (damaged samples were "
                "skipped?); evaluate both again with `emo eval`"
            )


def ceiling(result: Result, context: bool = True) -> np.ndarray | None:
    """The Bayes predictions int [N] of the same turns from the same evidence, where known.

    Without `context`, from each turn by itself, whatever else the model sees.
    """
    path = Path(result.facts["dataset"]["folder"]) / TRUTH
    if not path.is_file():
        return None
    from shards.corpora.labels import label_set
    from shards.sample.ceilings import ceilings

    evidence = "both" if len(result.reads) == 2 else result.reads[0]
    kind = evidence
    if context and result.sees:
        kind = f"{evidence} {result.sees}".removeprefix("both ")
    found = ceilings(path, label_set(result.facts["label_codes"])).get(kind)
    if found is None:
        return None
    return np.array([int(np.argmax(found[u])) for u in result.utterances])


def of_paper(result: Result) -> float | None:
    """The paper's own accuracy (%) for this system and input, where the corpus is IEMOCAP."""
    config = Path(result.facts["dataset"]["folder"]) / CONFIG
    if len(result.facts["classes"]) != 5 or not config.is_file():
        return None
    reader = (yaml.safe_load(config.read_text()).get("corpus") or {}).get("reader")
    if reader != "iemocap" or (config.parent / TRUTH).is_file():
        return None
    return PAPER.get((result.system, " + ".join(result.reads)))


def rows_of(results: list[Result]) -> list[dict[str, Any]]:
    """One row a run: scores in %, their intervals, the ceiling and the distance to it.

    Runs with a context model are resampled by dialogues: their turns are not independent.
    """
    best = max(results, key=lambda r: float((r.predicted == r.labels).mean()))
    grouped = any(result.sees for result in results)
    return [row_of(result, best, grouped) for result in results]


def row_of(result: Result, best: Result, grouped: bool) -> dict[str, Any]:
    """One run's row; `grouped` resamples whole dialogues."""
    classes, groups = result.facts["classes"], result.dialogues if grouped else None
    full = metrics.evaluate(result.labels, result.probabilities, classes)
    interval = bootstrap(result.labels, result.predicted, len(classes), groups)
    row: dict[str, Any] = {
        "run": result.facts["name"],
        "system": result.system,
        "sees": result.sees,
        "reads": " + ".join(result.reads),
        "n": full["n"],
        "ece_before": 100 * result.facts["parts"][result.part]["ece_before"],
        "ece": 100 * full["ece"],
        "js": result.facts["parts"][result.part]["agreement"]["jensen_shannon"],
    }
    for name in ("wa", "ua", "weighted_f1"):
        row[name] = 100 * full[name]
        row[f"{name}_low"], row[f"{name}_high"] = (100 * x for x in interval[name])
    for kept, left in result.facts["parts"][result.part].get("alone", {}).items():
        row[f"{kept}_alone"] = 100 * left["wa"]
        row[f"{kept}_alone_cost"], row[f"{kept}_alone_cost_se"] = (
            100 * left[name] for name in ("wa_to_both", "se")
        )
    against = {} if result is best else {"to_best": best.predicted}
    known = ceiling(result)
    if known is not None:
        row["ceiling"] = 100 * float((known == result.labels).mean())
        against["to_ceiling"] = known
        alone = ceiling(result, context=False)
        if result.sees and alone is not None:
            row["ceiling_alone"] = 100 * float((alone == result.labels).mean())
    for name, other in against.items():
        paired = paired_difference(result.labels, result.predicted, other, groups)
        row[name], row[f"{name}_se"] = 100 * paired["difference"], 100 * paired["se"]
    published = of_paper(result)
    if published is not None:
        row["published"] = published
    return row


def compare(runs: list[Path], part: str, *, markdown: Path | None, csv: Path | None) -> None:
    """Print the table of `runs`; also write it as Markdown or CSV.

    Raises:
        CompareError: a run is unfinished, or two are not comparable.
    """
    results = [load_result(run, part) for run in runs]
    check_alike(results)
    rows = rows_of(results)
    title, notes = words_of(results, part)
    tables.show(rows, title, notes)
    if markdown is not None:
        atomic.write(markdown, tables.markdown(rows, title, notes).encode())
    if csv is not None:
        atomic.write(csv, tables.csv(rows).encode())


def words_of(results: list[Result], part: str) -> tuple[str, list[str]]:
    """Title and notes: protocol, size, what chance and people reach, what training has seen."""
    first = results[0]
    facts, labels = first.facts, first.labels
    majority = 100 * np.bincount(labels).max() / len(labels)
    human = facts["parts"][part]["agreement"]["human"]
    grouped = any(result.sees for result in results)
    notes = [
        f"In brackets: 95 % bootstrap intervals over {'dialogues' if grouped else 'turns'}; "
        "± is one paired standard error on the same turns.",
        f"Always the commonest class: WA {majority:.1f} %."
        + (
            f" One annotator against the others, where they agree: {100 * human['wa']:.1f} % of "
            f"{human['n']} votes."
            if human["wa"] is not None
            else ""
        ),
        "Of these turns, training also has: "
        + ", ".join(
            f"the {what} of {100 * one['share']:.0f} %"
            for what, one in facts["overlap"][f"train-{part}"].items()
        )
        + ".",
    ]
    if any("alone" in result.facts["parts"][part] for result in results):
        notes.append("Without audio, without text: the same fusion's WA where one is missing.")
    if grouped:
        notes.append("Besides the turn itself, ICON sees the past, bc-LSTM the whole dialogue.")
    if any(ceiling(result) is not None for result in results):
        notes.append(
            "Ceiling: the Bayes predictions of the same turns from the same evidence, by the known "
            "process behind the corpus; ceiling alone: from each turn without its context."
        )
    stay_below = [s for s in ("BiLSTM", "DNN-ELM") if any(s == result.system for result in results)]
    if stay_below:
        notes.append(
            f"{' and '.join(stay_below)} cannot reach the ceiling by design: their files in "
            "emo/models/audio say why."
        )
    title = f"{facts['protocol']} · {part} part, {len(labels)} turns · {facts['dataset']['folder']}"
    return title, notes
