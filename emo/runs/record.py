"""What a run folder records of its run: settings, data, code, machine, and how to repeat it."""

from __future__ import annotations

import contextlib
import json
import platform
import shlex
import shutil
import socket
import subprocess
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emo.data.config import shown
from emo.data.corpora.union import Corpora
from emo.data.dialogues import source_hash, vector_facts
from emo.distributed.launch_files import TRAIN
from emo.models.model import EmotionModel
from emo.runs import files
from emo.runs.experiment import Experiment
from emo.runs.run import Run
from shards import atomic, configfile
from shards.store.index import TOKENIZER


def record(run: Run) -> None:
    """Write the resolved configuration, the statistics, the facts, and the command to repeat it."""
    experiment, config, folder = run.experiment, run.config, run.config.run
    ran = run.runtime.config
    atomic.write(folder / files.CONFIG, configfile.dump(config).encode())
    if experiment.samples.statistics:
        text = json.dumps(experiment.samples.statistics.to_json())
        atomic.write(folder / files.STATISTICS, text.encode())
    if config.model.text and not (folder / files.TOKENIZER).is_dir():
        shutil.copytree(experiment.dataset.folder / TOKENIZER, folder / files.TOKENIZER)
    command = [
        f"EMO_PROCESSES={ran.processes}", str(TRAIN.resolve()), ran.strategy,
        str(folder / files.CONFIG), f"run={folder}-again", "resume=never",
    ]  # fmt: skip
    # Paths in the configuration may be relative to the folder that the run was started in.
    script = (
        "#!/usr/bin/env bash\n# Repeats this run, from any folder. Code: "
        f"{code_version()}\ncd {shlex.quote(str(Path.cwd()))} || exit\n"
        f"{' '.join(shlex.quote(c) for c in command)}\n"
    )
    atomic.write(folder / files.COMMAND, script.encode())
    contents = facts(experiment) | {
        "recipe": recipe(experiment),
        "loss": experiment.objective.facts(),
        "software": {"python": platform.python_version(), "torch": torch.__version__},
        "machine": {"host": socket.gethostname(), "device": str(run.runtime.device),
                    "processes": run.runtime.world, "strategy": ran.strategy,
                    "precision": ran.precision,
                    "tf32": torch.backends.cuda.matmul.allow_tf32,
                    "deterministic": ran.deterministic},
    }  # fmt: skip
    atomic.write(folder / files.RECORD, (json.dumps(contents, indent=1) + "\n").encode())


def facts(experiment: Experiment) -> dict[str, Any]:
    """What every result states besides its numbers; also in `run.json`."""
    config, view, dataset = experiment.config, experiment.view, experiment.dataset
    model, corpora = experiment.model, corpora_of(experiment)
    return {
        "name": config.name,
        "model": list(config.model.children()),
        "protocol": view.name,
        "view": view.digest,
        "overlap": view.overlap,
        "classes": list(view.label_set.classes),
        "label_codes": dict(zip(view.label_set.classes, view.label_set.codes, strict=True)),
        "counts": {p: len(r) for p, r in
                   (("train", view.train), ("val", view.val), ("test", view.test))},
        "dataset": {"folder": shown(config.data.shards), "hash": source_hash(dataset),
                    "corpus": dataset.manifest.corpus},
        **({"corpora": corpora} if corpora else {}),
        "context": context(experiment),
        "kinds": model.kinds() if isinstance(model, EmotionModel) else {},
        "seed": config.train.seed,
        "parameters": experiment.parameters,
        "size": experiment.size,
        "code": code_version(),
    }  # fmt: skip


def corpora_of(experiment: Experiment) -> list[dict[str, Any]]:
    """What is known of each corpus of several, the classes that it cannot have among it."""
    dataset, classes = experiment.dataset, experiment.view.label_set.classes
    if not isinstance(dataset, Corpora):
        return []
    masks = experiment.samples.masks
    absent = {} if masks is None else masks.absent(dataset.names, classes)
    trained = np.bincount(dataset.corpus[experiment.rows], minlength=len(dataset.names))
    mixture = experiment.plan.mixture
    passes = np.minimum(trained, 1) if mixture is None else mixture.passes
    return [
        one
        | {
            "training_rows": int(rows),
            "passes": float(often),  # through these rows, in an epoch
            "absent": absent.get(one["name"], []),
        }
        for one, rows, often in zip(dataset.described(), trained, passes, strict=True)
    ]


def context(experiment: Experiment) -> dict[str, Any] | None:
    """What a context model reads, and which other turns it sees: `past` or `whole` dialogue."""
    chosen = experiment.config.model.context
    if chosen is None:
        return None
    return {"kind": chosen.kind, "reads": list(chosen.modalities), "sees": chosen.sees,
            "members": list(experiment.config.inputs.values()),
            "vectors": vector_facts(experiment.dataset)}  # fmt: skip


def recipe(experiment: Experiment) -> dict[str, Any]:
    """How raw input becomes this model's input: what prediction needs besides the weights."""
    manifest, statistics = experiment.dataset.manifest, experiment.samples.statistics
    return {
        "description": experiment.model.describe(),
        "audio": manifest.settings.get("audio"),
        "features": manifest.settings.get("features"),
        "kind": experiment.config.data.audio,
        "frames": experiment.config.data.frames,
        "statistics": statistics.to_json() if statistics else None,
        "max_tokens": (manifest.tokenizer or {}).get("max_tokens"),
        "prior": experiment.objective.facts()["prior"],
        **({"attributes": experiment.attributes.scales} if experiment.attributes else {}),
    }


def code_version() -> str:
    """The commit of this checkout (`+changes` where files differ), else the package's version."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        # An installed package may lie inside another project's checkout (a venv in its folder).
        # Unless git tracks this file, its commit is not ours.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        pass
    with contextlib.suppress(PackageNotFoundError):
        installed = distribution("emo-shards")
        package = Path(__file__).parents[1]
        if Path(str(installed.locate_file(package.name))).resolve() == package.resolve():
            return f"emo-shards {installed.version}"
    return "unknown (neither a git checkout nor an installed package)"
