"""The tokenizer in a dataset's folder: what it is, and whether it still is what it was."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from shards.errors import UserError
from shards.store.index import TOKENIZER

FACTS = "facts.json"  # beside the tokenizer's files: what is known of it without loading it


def tokenizer_facts(folder: Path) -> dict[str, Any]:
    """`source`, `identity`, `size` and `pad` of the dataset's tokenizer, and its files' `sha256`.

    `identity` is `text.Tokens.identity`: equal for every copy that gives the same ids.

    Raises:
        UserError: the folder is not there or not whole.
    """
    path = folder / TOKENIZER
    try:
        facts = dict(json.loads((path / FACTS).read_bytes()))
        present = file_hashes(path)
        content = hashlib.sha256()
        for name in sorted([*present, FACTS]):
            data = (path / name).read_bytes()
            # Name and length in front: bytes that move from one file to the next change the hash.
            content.update(f"{name}\0{len(data)}\0".encode() + data)
    except (OSError, ValueError, TypeError):
        raise UserError(f"{path} is not whole: run the same `emo-shards build` again") from None
    expected = facts.pop("files", present)
    if expected != present:
        names = sorted(expected | present)
        differ = ", ".join(n for n in names if expected.get(n) != present.get(n))
        raise UserError(
            f"{path} is not the tokenizer that the samples were made with (see {differ}): run the "
            "same `emo-shards build` again"
        )
    return facts | {"sha256": content.hexdigest()}


def file_hashes(tokenizer: Path) -> dict[str, str]:
    """SHA-256 of every file but the facts, by its name within the folder."""
    return {
        path.relative_to(tokenizer).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(tokenizer.rglob("*"))
        if path.is_file() and path.name != FACTS
    }
