"""How to repeat a run: its command, and everything that decides its numbers."""

from __future__ import annotations

import json
from typing import Any

from emo.report.subject import Subject
from emo.runs import checkpoint, files
from shards.store.index import CONFIG


def repeat(subject: Subject) -> dict[str, Any]:
    """Commands and identities for the page."""
    facts, record = subject.facts, subject.record
    script = subject.run / files.COMMAND
    commands = []
    dataset = subject.dataset
    if dataset is not None and (dataset.folder / CONFIG).is_file():
        commands.append(f"emo-shards build {dataset.folder / CONFIG}")
    if script.is_file():
        lines = script.read_text().splitlines()
        commands += [line for line in lines if line and not line.startswith("#")]
    software = record.get("software", {})
    return {
        "commands": commands,
        "facts": {
            "code": facts["code"],
            "software": ", ".join(f"{name} {one}" for name, one in software.items()),
            "dataset": facts["dataset"]["hash"],
            "turns of the parts": facts["view"],
            "seed": str(facts["seed"]),
            "checkpoint": facts["checkpoint"],
            "its weights (SHA-256)": _weights(subject),
        },
    }


def _weights(subject: Subject) -> str:
    folder = files.checkpoints(subject.run) / subject.facts["checkpoint"]
    path = folder / checkpoint.MANIFEST
    if not path.is_file():
        return "no longer there"
    return str(json.loads(path.read_text())["files"][checkpoint.WEIGHTS]["sha256"])
