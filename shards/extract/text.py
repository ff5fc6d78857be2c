"""Transcripts: cleaning, and the tokenizer that turns them into ids."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from shards import atomic
from shards.configfile import Config
from shards.errors import UserError


class WordPieceConfig(Config):
    """A WordPiece vocabulary learnt from the corpus' own transcripts."""

    vocab_size: int = Field(default=2000, ge=64)  # at most; a small corpus yields fewer
    lowercase: bool = True
    min_frequency: int = Field(default=2, ge=1)  # of a pair of pieces before it is merged


class TextConfig(Config):
    """Where token ids come from: a ready tokenizer, or a vocabulary to learn; exactly one."""

    tokenizer: str | None = None  # a name on the hub, or a local folder
    learn: WordPieceConfig | None = None
    max_tokens: int = Field(default=128, ge=3)  # with special tokens; longer texts are cut, flagged
    # Largest share of tokens that may be [UNK], words that the tokenizer does not know.
    max_unknown: float | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _one_source(self) -> TextConfig:
        if (self.tokenizer is None) == (self.learn is None):
            raise ValueError("set either tokenizer (hub name or folder) or learn, not both")
        return self


class TokenizerError(UserError):
    """A tokenizer that cannot be loaded or learnt."""


HUB_PATIENCE = 5.0  # seconds
_TAG = re.compile(r"\[[^\[\]]*\]")
# MELD's files hold Windows-1252 punctuation that was read as Latin-1, and so became C1 control
# characters. This maps them back.
_WINDOWS = {
    code: bytes([code]).decode("cp1252", errors="ignore") or None for code in range(0x80, 0xA0)
}
_INVISIBLE = "\u00ad\u200b\u2060\ufeff"  # soft hyphen, zero-width space, word joiner, BOM


def clean(raw: str) -> str:
    """`raw` without bracketed tags such as [LAUGHTER], in Unicode NFC, single spaces between words.

    Control and invisible characters are removed as well. The result may be empty; the caller
    decides what that means.
    """
    text = unicodedata.normalize("NFC", _TAG.sub(" ", raw).translate(_WINDOWS))
    kept = (
        " " if one.isspace() else one
        for one in text
        if one.isspace()
        or (one not in _INVISIBLE and unicodedata.category(one) not in ("Cc", "Cs"))
    )
    return " ".join("".join(kept).split())


class Tokens:
    """Cleaned text -> ids. The same class in the preprocessing job and at prediction.

    Attributes:
        size: number of ids, added tokens included (`len(tokenizer)`).
        pad: the id that pads shorter texts; 0 if the tokenizer has none.
        identity: SHA-256 (hex) of everything that decides the ids; equal for a tokenizer and its
            copy.
    """

    def __init__(
        self, source: str | Path, max_tokens: int, setting: str = "text.tokenizer"
    ) -> None:
        """Load the tokenizer of a local folder or, by name, of the hub; never with remote code.

        `setting` is the configuration key that `source` comes from, for messages.

        Raises:
            TokenizerError: it cannot be found or loaded, has no fast form, or `max_tokens` leaves
                no room beside its special tokens.
        """
        self._tokenizer = _load(str(source), setting)
        special = self._tokenizer.num_special_tokens_to_add()
        if max_tokens <= special:
            raise TokenizerError(
                f"text.max_tokens = {max_tokens} leaves no room beside the {special} special "
                f"tokens of {source}: raise it"
            )
        self.max_tokens = max_tokens
        self.size = len(self._tokenizer)
        self.pad = int(self._tokenizer.pad_token_id or 0)
        backend = self._tokenizer.backend_tokenizer
        # Both would be saved in the tokenizer, and so change its identity. Truncation is set for
        # each call instead.
        backend.no_truncation()
        backend.no_padding()
        self.identity = hashlib.sha256(backend.to_str().encode()).hexdigest()

    def __call__(self, text: str) -> tuple[np.ndarray, int]:
        """Ids of `text`, int32 [tokens], special tokens included, and how many were cut off."""
        backend = self._tokenizer.backend_tokenizer
        ids = backend.encode(text).ids
        cut = max(0, len(ids) - self.max_tokens)
        if cut:
            backend.enable_truncation(self.max_tokens)  # keeps the special tokens
            ids = backend.encode(text).ids
            backend.no_truncation()
        return np.array(ids, dtype=np.int32), cut

    def unknown(self, text: str) -> tuple[int, int]:
        """How many tokens of `text` stand for unknown words ([UNK]), and how many there are.

        Special tokens around the text are left out, and nothing is cut off.
        """
        ids = self._tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
        return ids.count(self._tokenizer.unk_token_id), len(ids)

    def save(self, folder: Path) -> None:
        """Write the tokenizer to `folder`, from which this class loads an equal one."""
        with atomic.disk_errors(folder):
            self._tokenizer.save_pretrained(str(folder))


def learn_wordpiece(texts: Iterable[str], folder: Path, config: WordPieceConfig) -> None:
    """Learn a WordPiece vocabulary from cleaned `texts`; write it to `folder` as a tokenizer.

    The pieces are those of BERT (Devlin et al., 2019): [PAD] is 0, then [UNK] [CLS] [SEP] [MASK].
    The same texts give the same bytes, in whatever order they come.

    Raises:
        TokenizerError: there is no text to learn from, or more letters than `vocab_size`.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    def tokenizer(vocabulary: dict[str, int] | None) -> Tokenizer:
        wordpiece = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
        wordpiece.normalizer = normalizers.BertNormalizer(lowercase=config.lowercase)
        wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return wordpiece

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    learner = tokenizer(None)
    lines = [learner.normalizer.normalize_str(text) for text in texts]
    words = {word for line in lines for word, _ in learner.pre_tokenizer.pre_tokenize_str(line)}
    if not words:
        raise TokenizerError("text.learn: no words in the training texts: check the transcripts")
    # The trainer numbers the pieces inside words in the order of a hash table with a random seed,
    # and breaks ties by number. Naming them in advance, sorted, makes the result reproducible.
    inside = sorted({"##" + letter for word in words for letter in word[1:]})
    trainer = trainers.WordPieceTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=special + inside,
        show_progress=False,
    )
    learner.train_from_iterator(lines, trainer)
    if learner.get_vocab_size() > config.vocab_size:
        raise TokenizerError(
            f"text.learn.vocab_size = {config.vocab_size} is less than the letters and signs of "
            f"the transcripts need: raise it to {learner.get_vocab_size()} or more"
        )
    # Only the trainer needs those pieces as special tokens. In the tokenizer, which is built anew
    # with the learnt vocabulary, they must be ordinary ones.
    _save_wordpiece(tokenizer(learner.get_vocab()), special, folder)


def _save_wordpiece(made: Any, special: list[str], folder: Path) -> None:
    from tokenizers import decoders, processors

    made.add_special_tokens(special)
    made.decoder = decoders.WordPiece()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, made.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"} | {
        name[1:-1].lower() + "_token": name for name in special
    }
    with atomic.disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    atomic.write(folder / "tokenizer.json", made.to_str(pretty=True).encode())
    atomic.write(folder / "tokenizer_config.json", json.dumps(settings, indent=2).encode())


def _load(source: str, setting: str) -> Any:
    from transformers import AutoTokenizer

    local = Path(source).expanduser()
    if not local.is_dir() and (local.is_absolute() or source.startswith((".", "~"))):
        raise TokenizerError(f"{setting}: there is no folder {source}")
    name = str(local) if local.is_dir() else source
    if not local.is_dir():
        ask_hub_once()
    try:
        # Never `trust_remote_code`: a tokenizer is data, and must not run a stranger's program.
        # False and not the default, which asks on the terminal.
        tokenizer = AutoTokenizer.from_pretrained(
            name, local_files_only=local.is_dir(), trust_remote_code=False
        )
    # Exception: what `tokenizers` raises for a file it cannot read is no narrower class.
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        if "trust_remote_code" in str(error):
            first = "it brings a program of its own"
            remedy = (
                "programs of tokenizers are never run: save its fast form (tokenizer.json) into "
                "a folder where tokenizer_config.json has no auto_map"
            )
        elif local.is_dir():
            remedy = (
                "the folder needs tokenizer.json and tokenizer_config.json, written by a version "
                f"of tokenizers that is not newer than the one here ({version('tokenizers')})"
            )
        else:
            remedy = (
                "if this machine cannot reach the hub, download it elsewhere "
                f"(`hf download {source} --local-dir FOLDER`), copy the folder here and set "
                f"{setting} to it"
            )
        raise TokenizerError(f"cannot load the tokenizer {source!r} ({first}): {remedy}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise TokenizerError(
            f"the tokenizer {source!r} has no fast form (tokenizer.json); take one that has"
        )
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        # transformers makes an empty tokenizer of a folder with config.json and weights alone.
        raise TokenizerError(
            f"the tokenizer {source!r} has no vocabulary, only {len(tokenizer)} special tokens: "
            "every word would be unknown. Copy tokenizer.json (or vocab.txt) and "
            "tokenizer_config.json of the encoder into the folder"
        )
    return tokenizer


def stay_offline() -> None:
    """From now on read what is on the hub from the cache alone."""
    import huggingface_hub.constants

    # What HF_HUB_OFFLINE=1 would have set, had it been known at the start.
    huggingface_hub.constants.HF_HUB_OFFLINE = True


@cache
def ask_hub_once() -> None:
    """Ask the hub for any answer; without one in `HUB_PATIENCE`, read from the cache from now on.

    On a machine without a network the client would try again and again, for half a minute a file.
    """
    import huggingface_hub

    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return
    try:
        huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=HUB_PATIENCE)
    # Exception: which one depends on the client's own HTTP library, and on the proxy. Whatever it
    # is, what is not in the cache ends with a message that says what to do.
    except Exception:
        stay_offline()
