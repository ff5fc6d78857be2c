"""Kaldi's data folders: `wav.scp`, and beside it `segments`, `text`, `utt2spk` and others.

A row is an utterance, with the columns utterance, recording, wav, start, end, text, speaker,
gender, language and emotion (from `utt2emo`, or another file of that form named `emotion`).
"""

from __future__ import annotations

from pathlib import Path

from shards.corpora.table.formats.text import open_text
from shards.corpora.table.layout import Records, Request, Table

# What the files beside it say of an utterance; `spk2gender` speaks of its speaker.
OF_UTTERANCES = {
    "text": "text",
    "utt2spk": "speaker",
    "utt2lang": "language",
    "utt2emo": "emotion",
    "emotion": "emotion",
    "utt2dur": "duration",
}
COLUMNS = {"utterance", "recording", "wav", "start", "end", "gender", *OF_UTTERANCES.values()}


def read(one: Request) -> Table:
    """The utterances of a data folder, which is named by its `wav.scp`; pipes are refused."""
    folder = one.path.parent
    recordings = {}
    for key, (rest, where) in _lines(one, one.path).items():
        if rest.endswith("|"):
            one.errors.add(
                where,
                f"{key} is made by a command, which is not run: write its sound to a file, and "
                "the file's path here",
            )
        elif not rest:
            one.errors.add(where, f"{key} has no path")
        recordings[key] = rest, where
    told = {
        column: _lines(one, folder / name)
        for name, column in OF_UTTERANCES.items()
        if (folder / name).is_file()
    }
    genders = _lines(one, folder / "spk2gender")
    records: Records = []
    for key, values, where in _utterances(one, folder, recordings):
        values |= {name: lines[key][0] for name, lines in told.items() if key in lines}
        speaker = values.get("speaker", "")
        values |= {"utterance": key, "gender": genders.get(speaker, ("", ""))[0]}
        records.append(({name: values.get(name, "") for name in COLUMNS}, where))
    return Table({*COLUMNS}, records)


def _utterances(
    one: Request, folder: Path, recordings: dict[str, tuple[str, str]]
) -> list[tuple[str, dict[str, str], str]]:
    if not (folder / "segments").is_file():
        return [
            (key, {"recording": key, "wav": path}, where)
            for key, (path, where) in recordings.items()
        ]
    rows = []
    for key, (rest, where) in _lines(one, folder / "segments").items():
        parts = rest.split()
        if len(parts) != 3:
            one.errors.add(where, f"{key}: expected recording, start and end, got {rest!r}")
        elif parts[0] not in recordings:
            one.errors.add(where, f"{key}: {parts[0]} is no recording of {one.path.name}")
        else:
            values = dict(zip(("recording", "start", "end"), parts, strict=True))
            rows.append((key, values | {"wav": recordings[parts[0]][0]}, where))
    return rows


def _lines(one: Request, path: Path) -> dict[str, tuple[str, str]]:
    """By its first word, the rest of each line and where it stands; empty if there is no file."""
    if not path.is_file():
        return {}
    found: dict[str, tuple[str, str]] = {}
    with open_text(path, one.layout.encoding) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            key, *rest = line.strip().split(maxsplit=1)
            where = f"{path}:{number}"
            if key in found:
                one.errors.add(where, f"{key} stands in it twice")
            found[key] = (rest[0] if rest else "", where)
    return found
