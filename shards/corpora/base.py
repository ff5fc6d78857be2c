"""Common to all corpus readers: the result, the list of errors, the list of left-out turns."""

from __future__ import annotations

import hashlib
import os
import stat
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from shards.corpora.utterance import Utterance
from shards.corpora.words import in_order
from shards.errors import UserError

Modality = Literal["audio", "text"]
PROBE = 4096  # bytes
LISTED = 20  # an error message lists this many places, and counts the rest
MISSING_AUDIO = "missing audio"
MISSING_TRANSCRIPT = "missing transcript"
TRUTH = "truth.jsonl"  # in the root of a made corpus: its known answers
NOT_UNICODE = "not Unicode"
BAD_TIMES = "bad times"


class CorpusError(UserError):
    """A corpus that cannot be read; the message lists what is wrong, where, and the remedy."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A turn that was left out: the `kind` of reason, the turn's id (`where`), and details."""

    kind: str
    where: str
    what: str


@dataclass
class Corpus:
    """The result of a reader.

    `utterances` are sorted by id. `notes` are facts for the user to read (counts, comparisons; a
    warning starts with "WARNING"). `problems` are the turns that were left out. `truth` is the
    file with the known answers of a made corpus.
    """

    utterances: list[Utterance]
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    truth: Path | None = None


@dataclass
class Errors:
    """Collects the errors of a corpus, so that one run shows them all."""

    lines: list[str] = field(default_factory=list)

    def add(self, where: str, what: str) -> None:
        """Note that `what` is wrong at `where` (`file:line` if there is one)."""
        self.lines.append(printable(f"{where}: {what}"))

    def raise_if_any(self, root: Path) -> None:
        """Raise a `CorpusError` that lists them (the first `LISTED`) if there are any."""
        if self.lines:
            count = "1 error" if len(self.lines) == 1 else f"{len(self.lines)} errors"
            raise CorpusError(f"{count} in the corpus {root}:\n" + listing(self.lines))


class FileIndex:
    """Finds files by listing each folder once, instead of asking for each file.

    On a parallel filesystem ten thousand such questions take minutes.
    """

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str]] = {}
        self._folded: dict[str, dict[str, list[str]]] = {}

    def __contains__(self, path: Path) -> bool:
        folder, name = os.path.split(path)
        return name in self._listing(folder)

    def find(self, path: Path) -> Path | None:
        """`path` as it is spelled on the disk, or None if there is no such file.

        Accents may be composed or decomposed, and the suffix in upper or lower case, provided that
        only one file matches.
        """
        if path in self:
            return path
        folder, name = os.path.split(path)
        if folder == str(path):  # the root of all
            return None
        if not self._listing(folder):
            there = self.find(Path(folder))
            if there is None or str(there) == folder:
                return None
            folder = str(there)
        if folder not in self._folded:
            folded: dict[str, list[str]] = defaultdict(list)
            for other in self._listing(folder):
                folded[fold(other)].append(other)
            self._folded[folder] = folded
        fitting = self._folded[folder].get(fold(name), [])
        return Path(folder, fitting[0]) if len(fitting) == 1 else None

    def _listing(self, folder: str) -> frozenset[str]:
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(os.listdir(folder))
            except OSError:
                self._names[folder] = frozenset()
        return self._names[folder]


def fold(name: str) -> str:
    """`name` with composed accents and a lower-case suffix, to compare tables with the disk."""
    stem, suffix = os.path.splitext(unicodedata.normalize("NFC", name))
    return stem + suffix.lower()


def printable(text: object) -> str:
    r"""`text` in a form that can be written to any file or terminal.

    Names on the disk are bytes. Python decodes bytes that are not UTF-8 to lone surrogates, which
    cannot be written; here they become escapes such as `\udce4`.
    """
    return str(text).encode("utf-8", "backslashreplace").decode()


def check_problems(problems: Sequence[Problem], limit: int, root: Path) -> list[str]:
    """Notes on the left-out turns.

    Raises:
        CorpusError: there are more than `limit` of them.
    """
    if not problems:
        return []
    groups: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        groups[problem.kind].append(problem)
    counts = ", ".join(f"{kind}: {len(group)}" for kind, group in sorted(groups.items()))
    lines = [f"{item.kind}: {item.where}: {item.what}" for item in problems]
    if len(problems) > limit:
        raise CorpusError(
            f"{_turns(len(problems))} of {root} cannot be used ({counts}), more than "
            f"max_problems={limit}:\n{listing(lines)}\n"
            f"mend the corpus, or set corpus.max_problems={len(problems)} to leave them out"
        )
    return [f"WARNING: {_turns(len(problems))} left out ({counts}):\n{listing(lines)}"]


def same_recordings(utterances: Iterable[Utterance]) -> list[str]:
    """A warning of recordings that are the same, byte for byte, under several names."""
    alike = same_files(utterances)
    if not alike:
        return []
    lines = [f"{len(group)}: {_first_names(sorted(group))}" for group in alike]
    count = sum(map(len, alike)) - len(alike)
    return [
        f"WARNING: {count} recordings are byte for byte the same as another; views keep them on "
        f"one side, but for the corpus' own split:\n{listing(sorted(lines))}"
    ]


def same_files(utterances: Iterable[Utterance]) -> list[list[Path]]:
    """Groups of recordings that are the same file, byte for byte, under several names.

    Most are told apart by their size, most others by a few of their bytes.
    """
    files = {one.audio for one in utterances if one.audio is not None and one.embedded is None}
    alike = [[*files]]
    for key in (_size, _ends, _content):
        alike = [group for one in alike for group in _alike(one, key)]
    return alike


def _first_names(paths: Sequence[Path]) -> str:
    return ", ".join(map(printable, paths[:3])) + ", …" * (len(paths) > 3)


def _alike(files: Iterable[Path], key: Callable[[Path], object]) -> list[list[Path]]:
    """The groups of more than one of `files` whose `key` is equal; unreadable files have none."""
    groups: dict[object, list[Path]] = defaultdict(list)
    for path in files:
        with suppress(OSError):
            groups[key(path)].append(path)
    return [group for group in groups.values() if len(group) > 1]


def _size(path: Path) -> int:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a file")
    return status.st_size


def _ends(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(PROBE)
        file.seek(max(0, path.stat().st_size - PROBE))
        return head + file.read()


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def count_table(pairs: Iterable[tuple[str, str]], title: str) -> str:
    """A table of turns by class and by group (session, split), from (group, code) pairs."""
    counts = Counter(pairs)
    groups = sorted({group for group, _ in counts})
    codes = in_order(code for _, code in counts)
    width = max(6, *(len(group) + 1 for group in groups)) if groups else 6
    rows = [[title, *groups, "all"]]
    for code in codes:
        cells = [counts[group, code] for group in groups]
        rows.append([code, *map(str, cells), str(sum(cells))])
    totals = [sum(counts[group, code] for code in codes) for group in groups]
    rows.append(["all", *map(str, totals), str(sum(totals))])
    first = max(len(row[0]) for row in rows)
    lines = [row[0].ljust(first) + "".join(cell.rjust(width) for cell in row[1:]) for row in rows]
    return "\n".join(lines)


def _turns(count: int) -> str:
    return "1 turn" if count == 1 else f"{count} turns"


def listing(lines: Sequence[str]) -> str:
    """Lines for a message: the first `LISTED`, and how many more there are."""
    shown = ["  " + line for line in lines[:LISTED]]
    if len(lines) > LISTED:
        shown.append(f"  … and {len(lines) - LISTED} more")
    return "\n".join(shown)
