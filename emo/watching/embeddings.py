"""What the model makes of turns, for TensorBoard's projector: one point a turn, with its facts."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emo.watching.moment import Moment
from shards import atomic

CONFIG, FOLDER = "projector_config.pbtxt", "projector"  # TensorBoard looks for the first name


def write_projector(run: Path, tables: dict[str, np.ndarray], moment: Moment) -> None:
    """Write `tables`, by name float [N, width], of the moment's N rows, for the projector."""
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    atomic.write(folder / "facts.tsv", _facts(moment).encode())
    entries = []
    for name, values in tables.items():
        lines = io.StringIO()
        np.savetxt(lines, values, fmt="%.6g", delimiter="\t")
        atomic.write(folder / f"{name}.tsv", lines.getvalue().encode())
        entries.append(
            f'embeddings {{\n  tensor_name: "{name}"\n  tensor_path: "{FOLDER}/{name}.tsv"\n'
            f'  metadata_path: "{FOLDER}/facts.tsv"\n}}\n'
        )
    atomic.write(run / CONFIG, "".join(entries).encode())


def _facts(moment: Moment) -> str:
    """A line a row: truth, prediction, speaker, and whatever else tells turns apart."""
    classes = np.array(moment.classes)
    columns: dict[str, Sequence[str]] = {
        "truth": classes[moment.labels].tolist(),
        "predicted": classes[moment.predicted].tolist(),
        "right": ["yes" if one else "no" for one in moment.labels == moment.predicted],
        "speaker": _words(moment, "speaker"),
        "session": _words(moment, "session"),
        "corpus": _corpora(moment),
        "turn": _words(moment, "utterance"),
    }
    lines = ["\t".join(columns), *("\t".join(row) for row in zip(*columns.values(), strict=True))]
    return "\n".join(lines) + "\n"


def _words(moment: Moment, column: str) -> list[str]:
    return ["" if one is None else " ".join(str(one).split()) for one in moment.column(column)]


def _corpora(moment: Moment) -> list[str]:
    table = moment.run.experiment.dataset.table
    if "corpus" in table.column_names:
        return _words(moment, "corpus")
    return [str(moment.facts()["corpus"].get("reader", ""))] * len(moment.rows)
