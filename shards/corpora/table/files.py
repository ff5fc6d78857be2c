"""The files that a pattern of a tabular corpus names: `wav/*.wav`, `**/*.flac`, `train.csv`.

Patterns are those of pathlib, with three differences that real folders ask for: the case of a
file's suffix does not matter (`2_rage.WAV` beside `1_joy.wav`), accented names match however their
accents are stored (macOS writes them decomposed), and `**` enters linked folders.
"""

from __future__ import annotations

import fnmatch
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from shards.corpora.base import fold, printable

SHOWN = 3  # names in a note


@dataclass
class Listing:
    """The files of patterns, and what there is to say of them.

    `folders` are those in which a pattern was looked for; `again` are linked folders that lead to
    a folder which is read anyway.
    """

    root: Path
    files: list[Path] = field(default_factory=list)
    folders: set[str] = field(default_factory=set)
    again: set[str] = field(default_factory=set)

    def find(self, pattern: str) -> list[Path]:
        """The files of `pattern`, sorted; hidden ones (`._x.wav` of macOS) are no files."""
        names = set(self._match(str(self.root), Path(pattern).parts))
        paths = sorted(Path(name) for name in names)
        self.files += paths
        return paths

    def notes(self, suffixes: Collection[str] = ()) -> list[str]:
        """What the patterns left lying in their folders, and folders that were not read twice.

        Args:
            suffixes: count only files of these; all if there are none.
        """
        taken = set(map(str, self.files))
        left = [
            os.path.join(folder, name)
            for folder in sorted(self.folders)
            for name, is_folder in _entries(folder)
            if not is_folder and not name.startswith(".")
        ]
        left = [path for path in left if path not in taken]
        if suffixes:
            left = [path for path in left if os.path.splitext(path)[1].lower() in suffixes]
        notes = []
        if left:
            kinds = Counter(os.path.splitext(path)[1].lower() or "no suffix" for path in left)
            counts = ", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items()))
            notes.append(
                f"files in these folders that no pattern names: {len(left)} ({counts}), "
                f"{_some(os.path.relpath(path, self.root) for path in left)}"
            )
        if self.again:
            notes.append(
                "WARNING: linked folders that lead to a folder which is read anyway were left out: "
                + _some(sorted(os.path.relpath(path, self.root) for path in self.again))
            )
        return notes

    def _match(self, folder: str, parts: tuple[str, ...]) -> Iterator[str]:
        part, rest = parts[0], parts[1:]
        if part == "**":
            for inner in self._tree(folder):
                yield from self._match(inner, rest) if rest else ()
            return
        fits = _matcher(part, is_file=not rest)
        if not rest:
            self.folders.add(folder)
        for name, is_folder in _entries(folder):
            if is_folder == bool(rest) and fits(name):
                path = os.path.join(folder, name)
                if rest:
                    yield from self._match(path, rest)
                elif not name.startswith("."):
                    yield path

    def _tree(self, top: str) -> list[str]:
        """`top` and all folders below it; each real folder once, linked ones last."""
        seen: set[tuple[int, int]] = set()
        folders: list[str] = []
        # Real folders first, so that a link beside them changes none of their names.
        now, linked = [top], list[str]()
        while now or linked:
            folder = now.pop(0) if now else linked.pop(0)
            try:
                status = os.stat(folder)
            except OSError:
                continue
            if (status.st_dev, status.st_ino) in seen:
                self.again.add(folder)
                continue
            seen.add((status.st_dev, status.st_ino))
            folders.append(folder)
            for name, is_folder in _entries(folder):
                if is_folder:
                    path = os.path.join(folder, name)
                    (linked if os.path.islink(path) else now).append(path)
        return sorted(folders)


def _matcher(part: str, is_file: bool) -> Callable[[str], bool]:
    if not is_file:
        part = unicodedata.normalize("NFC", part)
        regex = re.compile(fnmatch.translate(part))
        return lambda name: regex.match(unicodedata.normalize("NFC", name)) is not None
    suffix = os.path.splitext(part)[1]
    # A set in the suffix, as in *.[wW][aA][vV], says itself which case it wants.
    pattern = fold(part) if not set("[]") & set(suffix) else unicodedata.normalize("NFC", part)
    regex = re.compile(fnmatch.translate(pattern))
    return lambda name: any(
        regex.match(form) for form in (fold(name), unicodedata.normalize("NFC", name))
    )


def _entries(folder: str) -> list[tuple[str, bool]]:
    """(name, is it a folder) of all in `folder`, sorted; links count as what they lead to."""
    try:
        with os.scandir(folder) as entries:
            # A link to nothing counts as a file: reading it says what is wrong. Pipes would hang.
            return sorted(
                (entry.name, entry.is_dir())
                for entry in entries
                if entry.is_dir() or entry.is_file() or entry.is_symlink()
            )
    except OSError:
        return []


def _some(names: Iterable[str]) -> str:
    listed = [printable(name) for name in names]
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more
