"""What was trained on what: turns, hours, speakers, classes and SNR of each part; the overlap."""

from __future__ import annotations

from typing import Any

import numpy as np

from emo.report import svg
from emo.report.subject import Subject
from emo.runs.experiment import view_of
from shards.store.index import SNR_BIN, Dataset
from shards.store.schema import CLEAN
from shards.views.protocols.base import PARTS
from shards.views.view import View


def data_of(subject: Subject) -> dict[str, Any]:
    """Facts for the page; without the dataset, what the run has recorded of it."""
    facts = subject.facts
    found: dict[str, Any] = {
        "protocol": facts["protocol"],
        "folder": facts["dataset"]["folder"],
        "hash": facts["dataset"]["hash"],
        "classes": {name: ", ".join(codes) for name, codes in facts["label_codes"].items()},
        "overlap": _overlap(facts),
        "rows": facts["counts"]["train"],
        "parts": [],
        "at_hand": subject.dataset is not None,
        "cross_validation": subject.is_cross_validation,
    }
    dataset = subject.dataset
    if dataset is None:
        return found
    view = view_of(dataset, subject.config)
    clean = dataset.column("variant") == CLEAN
    parts = [_part(dataset, view, name, clean) for name in PARTS]
    found["parts"] = [one for one in parts if one["turns"]]
    summary = dataset.manifest.summary
    found["reader"] = dataset.manifest.settings["corpus"].get("reader", "emo features")
    found["rejected"] = ", ".join(f"{n} {kind}" for kind, n in summary.rejected.items())
    found["flagged"] = ", ".join(f"{n} {kind}" for kind, n in summary.flagged.items())
    known = {name: n for name, n in summary.snr.items() if name != "unknown"}
    if known:
        bins = {f"{name} to {int(name) + SNR_BIN} dB": count for name, count in known.items()}
        found["snr"] = svg.shares(bins, "turns by SNR")
    return found


def _part(dataset: Dataset, view: View, name: str, clean: np.ndarray) -> dict[str, Any]:
    rows = view.rows(name)
    rows = rows[clean[rows]]
    seconds = dataset.column("seconds")[rows].astype(float)
    ratio = dataset.column("snr")[rows].astype(float)
    ratio = ratio[np.isfinite(ratio)]
    labels = view.labels[rows]
    counts = {one: int((labels == n).sum()) for n, one in enumerate(view.label_set.classes)}
    return {
        "name": {"val": "validation"}.get(name, name),
        "turns": len(rows),
        "dialogues": _distinct(dataset, "dialogue", rows),
        "speakers": _distinct(dataset, "speaker", rows),
        "hours": f"{np.nansum(seconds) / 3600:.2f}" if np.isfinite(seconds).any() else "–",
        "snr": f"{np.median(ratio):.0f} dB" if len(ratio) else "–",
        "classes": counts,
        "chart": svg.shares(counts, f"classes of {name}"),
    }


def _distinct(dataset: Dataset, column: str, rows: np.ndarray) -> int:
    return len({one for one in dataset.column(column)[rows].tolist() if one is not None})


def _overlap(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What share of the test turns training has the speaker (text, …) of."""
    seen = facts["overlap"].get("train-test", {})
    return [(what, f"{100 * one['share']:.0f} %") for what, one in seen.items()]
