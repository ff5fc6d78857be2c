"""`emo report`: the comparison of finished runs, and all that belongs to it, in one file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from emo.comparison.compare import Comparison, comparison_of
from emo.report import text
from emo.report.page import page
from shards import atomic
from shards.errors import UserError, suggestion

FORMATS: dict[str, Callable[[Comparison, str], str]] = {
    ".html": page,
    ".md": text.markdown,
    ".tex": lambda comparison, title: text.latex(comparison),
}


class ReportError(UserError):
    """A report that cannot be written as asked."""


def report(runs: Sequence[Path], outputs: Sequence[Path], part: str, title: str) -> None:
    """Write the report of `runs` to each of `outputs`, in the format of its ending.

    Raises:
        ReportError: an ending that is none of `FORMATS`.
        CompareError, RunError: as `emo compare`.
    """
    unknown = [path for path in outputs if path.suffix not in FORMATS]
    if unknown:
        hint = suggestion(unknown[0].suffix, FORMATS)
        raise ReportError(
            f"{', '.join(map(str, unknown))}: a report is written as {', '.join(FORMATS)}, by the "
            f"file's ending{hint}"
        )
    comparison = comparison_of(runs, part)
    for path in outputs:
        atomic.write(path, FORMATS[path.suffix](comparison, title).encode())
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)", flush=True)
