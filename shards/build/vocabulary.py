"""The dataset's tokenizer: copied or learnt once, and kept beside the shards for all readers."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shards import atomic
from shards.config import ShardConfig
from shards.corpora.base import same_files
from shards.corpora.utterance import Utterance
from shards.errors import UserError
from shards.store.index import MANIFEST, TOKENIZER
from shards.store.tokenizer import FACTS, file_hashes, tokenizer_facts

TINY = 100  # turns: a corpus with fewer need not be large enough for a drawn vocabulary_view
DRAWN = ("random", "random_dialogues")


@contextmanager
def draft_tokenizer(
    folder: Path, config: ShardConfig, utterances: Sequence[Utterance]
) -> Iterator[Path | None]:
    """Yield a draft for `commit_tokenizer`, or None if there is nothing to do.

    There is nothing to do without text, and where the tokenizer is already there and intact. The
    draft is made before anything else is written, so that a tokenizer that cannot be loaded leaves
    nothing behind. Its files depend on configuration and corpus alone: array tasks that run at the
    same time make the same ones. The draft is removed unless it was committed.

    Raises:
        TokenizerError: it cannot be loaded, or there is no text to learn from.
        UserError: the tokenizer in the folder is damaged, and its source has changed since.
    """
    if config.text is None or _is_whole(folder):
        yield None
        return
    from shards.extract import text

    draft = atomic.temporary(folder / TOKENIZER)
    try:
        with atomic.disk_errors(draft):
            draft.mkdir()
        if config.text.learn is not None:
            lines = _training_texts(config, utterances)
            text.learn_wordpiece(lines, draft, config.text.learn)
            source, tokens = "learnt", text.Tokens(draft, config.text.max_tokens)
        else:
            source = str(config.text.tokenizer)
            tokens = text.Tokens(source, config.text.max_tokens)
            tokens.save(draft)
        if _identity(folder) not in (None, tokens.identity):
            raise UserError(
                f"{folder / TOKENIZER} is damaged, and {source} is no longer the tokenizer it was "
                "made of: put that back, or build into another output.folder"
            )
        facts = {
            "source": source,
            "identity": tokens.identity,
            "size": tokens.size,
            "pad": tokens.pad,
            "files": file_hashes(draft),
        }
        atomic.write(draft / FACTS, (json.dumps(facts, indent=1) + "\n").encode())
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def commit_tokenizer(draft: Path, folder: Path) -> None:
    """Move `draft` into the dataset's `folder`, unless an intact tokenizer is there already."""
    if (folder / TOKENIZER).exists() and not _is_whole(folder):
        shutil.rmtree(folder / TOKENIZER)
    atomic.commit_folder(draft, folder / TOKENIZER)


def _is_whole(folder: Path) -> bool:
    try:
        return bool(tokenizer_facts(folder))
    except UserError:
        return False


def _identity(folder: Path) -> str | None:
    """The identity of the tokenizer that `folder` was given, if one of its files still tells."""
    for path, key in ((folder / TOKENIZER / FACTS, None), (folder / MANIFEST, "tokenizer")):
        try:
            content = json.loads(path.read_bytes())
            return str((content[key] if key else content)["identity"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _training_texts(config: ShardConfig, utterances: Sequence[Utterance]) -> list[str]:
    from shards.extract.augment import CLEAN
    from shards.extract.text import clean
    from shards.views.turns import COLUMNS, ViewError
    from shards.views.view import make_view

    columns: dict[str, list[Any]] = {
        name: [getattr(one, name) for one in utterances]
        for name in COLUMNS
        if name not in ("utterance", "variant", "recording")
    }
    columns["utterance"] = [one.id for one in utterances]
    columns["variant"] = [CLEAN] * len(utterances)
    columns["recording"] = _recordings(utterances)
    texts = [clean(one.text) if one.text is not None else "" for one in utterances]
    try:
        view = make_view(columns, config.learning_view)
    except ViewError as error:
        if len(texts) < TINY and config.learning_view.protocol in DRAWN:
            print(
                f"a corpus of {len(texts)} turns is too small for vocabulary_view: the vocabulary "
                "is learnt from all turns outside the corpus' own validation and test parts",
                file=sys.stderr,
            )
            kept = zip(utterances, texts, strict=True)
            return [text for one, text in kept if text and one.split not in ("val", "test")]
        raise ViewError(
            "text.learn takes the training turns of vocabulary_view (labels, protocol, test, val), "
            f"which cannot be drawn: {error}"
        ) from None
    return [texts[row] for row in view.train if texts[row]]


def _recordings(utterances: Sequence[Utterance]) -> list[str | None]:
    """A name for each turn's recording, the same where the bytes are the same.

    The index will know the sounds, and its views keep one sound on one side. Nothing is decoded
    yet here: the same sound in another container is not noticed.
    """
    first = {path: str(min(group)) for group in same_files(utterances) for path in group}
    return [
        None
        if one.audio is None
        else f"{first.get(one.audio, one.audio)} {one.segment} {one.embedded}"
        for one in utterances
    ]
