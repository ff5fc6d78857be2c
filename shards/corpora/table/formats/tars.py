"""Tar files of another WebDataset: members with one key are one row.

`0001.wav`, `0001.json` and `0001.txt` are a recording, columns and a text. A row has the fields of
its JSON, `txt` or another short ending as text, `audio` (the recording), and `key`.
"""

from __future__ import annotations

import json
import tarfile
from typing import Any

from shards.corpora.base import CorpusError
from shards.corpora.embedded import Embedded
from shards.corpora.table.layout import POINTER, Records, Request, Table, pointer

AUDIO = ("wav", "flac", "mp3", "ogg", "opus", "m4a", "mp4", "aac", "amr", "wma", "webm", "aiff")
TEXTS = ("txt", "text", "transcript", "cls", "label", "emotion", "speaker", "id")


def read(one: Request) -> Table:
    """The rows of a tar.

    Raises:
        CorpusError: it is no tar, or it is a compressed one.
    """
    rows: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(one.path, "r:") as archive:
            for member in archive:
                if member.isfile() and not member.name.rpartition("/")[2].startswith("."):
                    _add(rows, archive, member, one)
    except tarfile.TarError as error:
        with one.path.open("rb") as start:
            if start.read(len(POINTER)) == POINTER.encode():
                raise pointer(one.path) from None
        raise CorpusError(
            f"{one.path} cannot be read as a tar: {error}; unpack one that is compressed (gunzip)"
        ) from None
    records: Records = [(values, f"{one.path}: {key}") for key, values in rows.items()]
    return Table({name for values in rows.values() for name in values}, records)


def _add(
    rows: dict[str, dict[str, Any]], archive: tarfile.TarFile, member: tarfile.TarInfo, one: Request
) -> None:
    # As WebDataset cuts them: at the first dot of the name, the folder is part of the key.
    folder, _, name = member.name.rpartition("/")
    stem, _, ending = name.partition(".")
    key = f"{folder}/{stem}" if folder else stem
    ending = ending.lower()
    values = rows.setdefault(key, {"key": key})
    where = f"{one.path}: {member.name}"
    if ending.rpartition(".")[2] in AUDIO:
        if "audio" in values:
            one.errors.add(where, "a second recording of its key")
        values["audio"] = Embedded(one.path, member.name, member.offset)
    elif ending == "json" or ending in TEXTS:
        content = archive.extractfile(member)
        assert content is not None
        try:
            found = content.read().decode()
            fields = json.loads(found) if ending == "json" else {ending: found.strip()}
        except (ValueError, RecursionError) as error:
            one.errors.add(where, f"it is no {'JSON' if ending == 'json' else 'UTF-8'}: {error}")
            return
        if not isinstance(fields, dict):
            one.errors.add(where, f"expected an object {{…}}, got {type(fields).__name__}")
            return
        # The recording goes before a field of its name, which says where it once came from.
        values |= {name: value for name, value in fields.items() if name not in ("audio", "key")}
