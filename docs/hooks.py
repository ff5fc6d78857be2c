"""Pages made from the code: a line `<!-- made: NAME -->` becomes what `MADE[NAME]` returns.

Links into the sources, such as ../emo/metrics.py, lead out of the pages: they become plain names.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from typing import Any


def experiment_settings() -> str:
    from emo.commands.machine.fields import markdown
    from emo.config import ExperimentConfig
    from emo.settings import settings_of

    return markdown(settings_of(ExperimentConfig))


def shard_settings() -> str:
    from emo.commands.machine.fields import markdown
    from emo.settings import settings_of
    from shards.config import ShardConfig

    every = settings_of(ShardConfig)
    return markdown([one for one in every if not one.key.startswith("corpus.spec.")])


def spec_settings() -> str:
    from emo.commands.machine.fields import markdown
    from emo.settings import settings_of
    from shards.corpora.table.spec import TableSpec

    return markdown(settings_of(TableSpec))


def commands() -> str:
    from emo.commands import COMMANDS
    from shards.__main__ import main as shards_main

    parts = []
    for name in COMMANDS:
        parts += [f"## emo {name}", "```text", _help(_emo, name), "```", ""]
    for name in ("build", "merge", "verify", "inspect", "init", "describe", "sample-corpus"):
        parts += [f"## emo-shards {name}", "```text", _help(shards_main, name), "```", ""]
    return "\n".join(parts)


def _emo(arguments: list[str]) -> int:
    from emo.__main__ import main

    return main(arguments)


def _help(main: Callable[[list[str]], int], command: str) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        main([command, "--help"])
    return shown.getvalue().rstrip()


def metrics() -> str:
    from emo.metrics import METRICS

    lines = ["| name | heading | of |", "|---|---|---|"]
    for one in METRICS.values():
        of = "the confusion matrix" if one.of_confusion else "labels and probabilities"
        lines.append(f"| `{one.name}` | {one.heading} | {of} |")
    return "\n".join(lines) + "\n"


def schema() -> str:
    from shards.store import schema as made

    return f"```text\n{made.__doc__}\n```\n"


MADE: dict[str, Callable[[], str]] = {
    "settings": experiment_settings,
    "shards": shard_settings,
    "spec": spec_settings,
    "commands": commands,
    "metrics": metrics,
    "schema": schema,
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs calls this with each page."""
    made = re.sub(r"<!-- made: (\w+) -->", lambda found: MADE[found[1]](), markdown)
    return re.sub(r"\[([^\]]+)\]\((?:\.\./)+(?!\w+\.md|howto|reference)[^)#\s]+\)", r"`\1`", made)
