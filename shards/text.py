"""Transcripts: cleaning, and the tokenizer that turns them into ids."""

from __future__ import annotations

from pydantic import Field, model_validator

from shards.configfile import Config


class WordPieceConfig(Config):
    """A WordPiece vocabulary learnt from the corpus' own transcripts."""

    vocab_size: int = Field(default=2000, ge=64)  # at most; a small corpus yields fewer
    lowercase: bool = True
    min_frequency: int = Field(default=2, ge=1)  # of a pair of pieces before it is merged


class TextConfig(Config):
    """Where token ids come from: a ready tokenizer, or a vocabulary to learn; exactly one."""

    tokenizer: str | None = None  # a name on the hub, or a local folder
    learn: WordPieceConfig | None = None
    max_tokens: int = Field(
        default=128, ge=3
    )  # special tokens included; longer is cut, and counted

    @model_validator(mode="after")
    def _one_source(self) -> TextConfig:
        if (self.tokenizer is None) == (self.learn is None):
            raise ValueError("set either tokenizer (hub name or folder) or learn, not both")
        return self
