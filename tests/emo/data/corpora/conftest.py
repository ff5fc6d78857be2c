"""Two made corpora, and the helpers of this folder's tests by their plain names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from corpora_made import CORPORA, build_corpus, write_corpus


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The datasets of "alba" (4 classes) and "bruno" (3 of them); do not change them."""
    folder = tmp_path_factory.mktemp("two")
    for name in CORPORA:
        write_corpus(folder / name, name)
    learn = {"learn": {"vocab_size": 100, "min_frequency": 1}, "max_tokens": 16}
    view = {"labels": "four", "test": 0.2, "val": 0.2}
    alba = build_corpus(folder, "alba", folder / "alba-shards", text=learn, vocabulary_view=view)
    text = {"tokenizer": str(alba / "tokenizer"), "max_tokens": 16}
    return alba, build_corpus(folder, "bruno", folder / "bruno-shards", text=text)
