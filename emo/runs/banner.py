"""What a run says when it starts."""

from __future__ import annotations

from emo.data.config import shown
from emo.runs.checkpoint import Progress
from emo.runs.run import Run


def banner(run: Run, progress: Progress) -> str:
    """Five lines: where the run runs, what it trains, on what, how, and where it writes."""
    runtime, experiment, config = run.runtime, run.experiment, run.config
    settings, view = config.train, experiment.view
    return runtime.banner(
        [
            f"model {config.name}: {' + '.join(config.model.children())}"
            + (f", frozen {' + '.join(config.model.freeze)}" if config.model.freeze else "")
            + f" · {experiment.size:,} parameters, {experiment.parameters:,} trained",
            f"data {shown(config.data.shards)} ({experiment.dataset.manifest.dataset_hash[:12]}) · "
            f"{view.name} · {len(experiment.rows)} training "
            f"{'dialogues' if config.model.context else 'rows'}, {len(view.val)} validation, "
            f"{len(view.test)} test",
            f"global batch {settings.global_batch} = {runtime.world} × {settings.accumulation} × "
            f"{settings.global_batch // runtime.world // settings.accumulation} · "
            f"{settings.epochs} epochs of {experiment.plan.steps_per_epoch} steps · order "
            f"{config.data.plan.order} · seed {settings.seed}",
            f"run {config.run}"
            + (f" · resumed at step {progress.step}" if progress.step else " · from the start"),
        ]
    )
