"""How training went, and what it cost: from the log and the record of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from emo.metrics import METRICS, WATCHED
from emo.report import svg
from emo.report.subject import Subject

Log = Sequence[dict[str, Any]]


def course(subject: Subject) -> list[tuple[str, Markup, Markup]]:
    """Title, chart and legend: losses and scores by optimizer step; of folds, the scores alone."""
    logs = subject.logs()
    if not logs:
        return []
    if subject.is_cross_validation:
        select = subject.config.train.select
        lines = [svg.Line(name, _points(log, "val", select)) for name, log in logs.items()]
        metric = METRICS[select]
        title = f"validation, {metric.heading}, every fold"
        chart = svg.curves(lines, title, "optimizer step", scale=metric.scale)
        return [(title, chart, svg.legend([one.name for one in lines]))]
    [log] = logs.values()
    chosen = float(subject.facts["checkpoint"].removeprefix("step-"))
    losses = [
        svg.Line("training", _smooth(_points(log, "train", "loss"))),
        svg.Line("validation", _points(log, "val", "loss")),
    ]
    scores = [
        svg.Line(one.title, _points(log, "val", one.name))
        for one in WATCHED
        if one.percent and _points(log, "val", one.name)
    ]
    charts = []
    for title, lines, scale in (("loss", losses, 1), ("scores on validation, %", scores, 100)):
        drawn = [one for one in lines if one.points]
        chart = svg.curves(drawn, f"{subject.name}: {title}", "optimizer step", chosen, scale)
        charts.append((title, chart, svg.legend([one.name for one in drawn])))
    return charts


def cost(subject: Subject) -> dict[str, str]:
    """What a table of costs says of it: time, speed, memory, energy, and on what."""
    logs = list(subject.logs().values())
    machine = subject.record.get("machine", {})
    processes = machine.get("processes", 1)
    train = [line for log in logs for line in log if line["group"] == "train"]
    found = {
        "time": _duration(sum(seconds_of(log) for log in logs)) if logs else "not known",
        "samples/s": _median(train, "samples_per_second", 1, 0),
        "waiting for data": _median(train, "data_wait_share", 100, 1, " %"),
        "memory of a process": _most(train, "memory_process", " GB"),
        "GPU memory": _most(train, "memory_gpu", " GB"),
        "energy of the GPUs": _energy(logs),
        "trained parameters": f"{subject.facts['parameters']:,}",
        "optimizer steps": f"{max((line['step'] for line in train), default=0):,}",
        "on": f"{processes} × {machine.get('device', '?')}, {machine.get('strategy', '?')}, "
        f"{machine.get('precision', '?')}",
    }
    return {name: value for name, value in found.items() if value}


def seconds_of(log: Log) -> float:
    """Time that the launches of a run took, without the time between them.

    Older logs do not say when a launch began; then the time from the first to the last line counts.
    What a killed launch did after its last checkpoint is not in the log.
    """
    total, start, last = 0.0, None, None
    for line in log:
        if "launched" in line or start is None:
            total += last - start if start is not None and last is not None else 0.0
            start = line.get("launched", line["time"])
        last = line["time"]
    return total + (last - start if start is not None and last is not None else 0.0)


def _points(log: Log, group: str, name: str) -> list[tuple[float, float]]:
    return [(line["step"], line[name]) for line in log if line["group"] == group and name in line]


def _smooth(points: list[tuple[float, float]], most: int = 60) -> list[tuple[float, float]]:
    """At most `most` points, each the mean of its neighbours: a batch's loss is noise."""
    if len(points) <= most:
        return points
    groups = np.array_split(np.array(points), most)
    return [(float(one[:, 0].mean()), float(one[:, 1].mean())) for one in groups]


def _values(lines: Log, name: str) -> list[float]:
    return [line[name] for line in lines if name in line]


def _median(lines: Log, name: str, scale: float, places: int, unit: str = "") -> str:
    values = _values(lines, name)
    return f"{scale * float(np.median(values)):,.{places}f}{unit}" if values else ""


def _most(lines: Log, name: str, unit: str) -> str:
    values = _values(lines, name)
    return f"{max(values):,.2f}{unit}" if values else ""


def _energy(logs: Sequence[Log]) -> str:
    """The meter starts anew with every launch: the last reading of each counts."""
    total, last, known = 0.0, 0.0, False
    for line in (line for log in logs for line in log):
        if "launched" in line:
            total, last = total + last, 0.0
        if "energy_gpu" in line:
            last, known = line["energy_gpu"], True
    return f"{(total + last) / 1000:,.3f} kWh" if known else ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
