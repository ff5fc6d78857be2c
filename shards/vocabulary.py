"""The dataset's own tokenizer: copied or learnt once, kept beside the shards, used by everyone."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shards import atomic
from shards.config import ShardConfig
from shards.errors import UserError
from shards.index import TOKENIZER
from shards.schema import Utterance

FACTS = "facts.json"  # beside the tokenizer's files: what would else need loading it


@contextmanager
def draft_tokenizer(
    folder: Path, config: ShardConfig, utterances: Sequence[Utterance]
) -> Iterator[Path | None]:
    """Yield a draft of the tokenizer for `commit_folder`; None if none is wanted or one is there.

    It comes before anything else is written, so that a tokenizer that cannot be had leaves nothing.
    The files depend on configuration and corpus alone: array tasks that make it at once make the
    same. The draft is removed unless it was committed.

    Raises:
        TokenizerError: it cannot be loaded, or there is nothing to learn from.
    """
    if config.text is None or (folder / TOKENIZER).is_dir():
        yield None
        return
    from shards import text

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
        facts = {
            "source": source,
            "identity": tokens.identity,
            "size": tokens.size,
            "pad": tokens.pad,
        }
        atomic.write(draft / FACTS, (json.dumps(facts, indent=1) + "\n").encode())
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def tokenizer_facts(folder: Path) -> dict[str, Any]:
    """`source`, `identity`, `size` and `pad` of the dataset's tokenizer, and its files' `sha256`.

    `identity` is `text.Tokens.identity`: equal for every copy that gives the same ids.

    Raises:
        UserError: the folder is not there or not whole.
    """
    files = sorted(path for path in (folder / TOKENIZER).rglob("*") if path.is_file())
    content = hashlib.sha256()
    try:
        facts = json.loads((folder / TOKENIZER / FACTS).read_bytes())
        for path in files:
            data = path.read_bytes()
            name = path.relative_to(folder / TOKENIZER).as_posix()
            content.update(f"{name}\0{len(data)}\0".encode() + data)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder / TOKENIZER} is not whole ({error}): remove it and run the same "
            "`emo-shards build` again"
        ) from None
    return facts | {"sha256": content.hexdigest()}


def _training_texts(config: ShardConfig, utterances: Sequence[Utterance]) -> list[str]:
    from shards.text import clean
    from shards.views import make_view

    texts = [clean(one.text) if one.text is not None else "" for one in utterances]
    view = make_view(utterances, config.vocabulary_view)
    return [texts[row] for row in view.train if texts[row]]
