"""A benchmark's table: on the terminal, and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import rich.table
from rich.console import Console


@dataclass(frozen=True)
class Table:
    """`rows` of cells under `heads`; the first column holds names, the rest numbers."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    def show(self) -> None:
        table = rich.table.Table(title=self.title)
        for number, head in enumerate(self.heads):
            table.add_column(head, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        Console(width=max(100, 12 * len(self.heads))).print(table)

    def markdown(self) -> str:
        lines = [self.heads, ["---"] * len(self.heads), *self.rows]
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"**{self.title}**\n\n{body}\n"


def resident(what: str) -> float:
    """MB of this process' memory: `VmRSS` now, `VmHWM` the most so far."""
    # Not `getrusage`: its maximum survives fork and exec, and would be the parent's.
    line = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert line is not None, f"/proc/self/status has no {what}"
    return int(line[1]) / 1000
