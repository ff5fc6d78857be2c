"""`build.json`: what a folder's shards are made from, written by the first build that starts there.

It fixes the settings and the corpus. Later builds in the same folder (a restart, other array tasks,
a second build beside the first) are refused unless theirs are the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shards import atomic
from shards.config import ShardConfig
from shards.configfile import Config, differences, digest, dump
from shards.corpora.embedded import read_recording
from shards.corpora.utterance import LATER_FACTS, Utterance
from shards.errors import UserError
from shards.store.index import BUILD, CONFIG
from shards.store.schema import SCHEMA_VERSION

PROBES = 32  # at least so many recordings are read to identify the corpus, if it has them
SOFTWARE = ("numpy", "scipy", "librosa", "soxr", "soundfile", "tokenizers")


class OtherBuild(UserError):
    """The folder belongs to a build with other settings, or of another corpus."""


class BuildFile(Config):
    """The content of `build.json`. `digest` is that of `settings`; `software` is for the record."""

    digest: str
    settings: dict[str, Any]
    software: dict[str, str]

    @property
    def utterances(self) -> int:
        """Turns of the corpus."""
        return int(self.settings["corpus"]["utterances"])

    @property
    def shards(self) -> int:
        """Shards that the whole build makes."""
        # Rounded up: the last shard may be shorter.
        return -(-self.utterances // int(self.settings["output"]["utterances_per_shard"]))


def claim(folder: Path, config: ShardConfig, utterances: Sequence[Utterance]) -> BuildFile:
    """Make `folder` this build's, or join a build with the same settings that is already there.

    Also writes the whole configuration beside it, from which a repair can start.

    Raises:
        OtherBuild: the folder's settings differ; the message names each key.
    """
    settings = config.settings() | {
        "schema": SCHEMA_VERSION,
        "corpus": {
            "reader": config.corpus.reader,
            "utterances": len(utterances),
            "content": corpus_digest(utterances),
        },
    }
    ours = BuildFile(
        digest=digest(settings),
        settings=settings,
        software={name: version(name) for name in SOFTWARE},
    )
    text = json.dumps(ours.model_dump(mode="json"), indent=1) + "\n"
    # Array tasks start at the same moment. `create` lets one of them make the file; the others see
    # that it is there, and compare.
    if (folder / BUILD).exists() or not atomic.create(folder / BUILD, text.encode()):
        theirs = load(folder)
        if theirs.digest != ours.digest:
            raise OtherBuild(_differences(folder, theirs.settings, settings))
        ours = theirs
    if not (folder / CONFIG).exists():
        atomic.create(folder / CONFIG, dump(config).encode())
    return ours


def check_settings(folder: Path, existing: BuildFile, config: ShardConfig) -> None:
    """Raise `OtherBuild` unless `existing`, the build in `folder`, has the settings of `config`.

    The corpus is not read or compared.
    """
    ours = json.loads(json.dumps(config.settings()))  # tuples become lists, as in the file
    theirs = {key: value for key, value in existing.settings.items() if key in ours}
    if theirs != ours or existing.settings.keys() - ours.keys() != {"schema", "corpus"}:
        theirs |= {k: v for k, v in existing.settings.items() if k not in ("schema", "corpus")}
        raise OtherBuild(_differences(folder, theirs, ours))


def load(folder: Path) -> BuildFile:
    """The `build.json` of `folder`. Raises UserError where it is missing or damaged."""
    path = folder / BUILD
    try:
        build = BuildFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}; nothing was built here yet"
        ) from None
    except ValidationError:
        build = None
    if build is None or digest(build.settings) != build.digest:
        raise UserError(
            f"{path} is damaged: remove this one file and run the same `emo-shards build` again; "
            "shards that fit stay"
        )
    return build


def corpus_digest(utterances: Sequence[Utterance]) -> str:
    """SHA-256 over every label, vote, text and time, and over the bytes of a few recordings.

    Of the recordings, `PROBES` to twice as many are read, evenly spread. That is enough to notice
    another version of the corpus; reading all of them would cost each array task minutes.
    """
    content = hashlib.sha256()
    for utterance in utterances:
        facts = asdict(utterance)
        # No paths: a corpus that was moved is still the same corpus.
        facts["audio"] = utterance.audio is not None
        del facts["source"]
        # Facts that were added later count only where they are set. Otherwise every older build
        # would be refused as one of another corpus.
        for name in LATER_FACTS:
            if facts[name] is None:
                del facts[name]
        content.update(json.dumps(facts, sort_keys=True).encode())
    with_audio = [utterance for utterance in utterances if utterance.audio is not None]
    for utterance in with_audio[:: max(1, len(with_audio) // PROBES)]:
        try:
            content.update(hashlib.sha256(read_recording(utterance)).digest())
        except OSError:  # the build will report it, with the turn's name
            content.update(b"unreadable")
    return content.hexdigest()


def _differences(folder: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    return (
        f"{folder} holds a build with other settings:\n  "
        + "\n  ".join(differences(theirs, ours))
        + "\nchoose another output.folder, or remove this one to build it anew"
    )
