"""`build.json`: what a folder's shards are made from, written by the first build that starts there.

It fixes the settings and the corpus. Later builds in the same folder (a restart, other array tasks,
a second build beside the first) are refused unless theirs are the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from shards import atomic
from shards.config import ShardConfig
from shards.configfile import Config, differences, digest, dump
from shards.corpora.embedded import read_recording
from shards.corpora.utterance import LATER_FACTS, Utterance
from shards.errors import UserError
from shards.store.index import BUILD, CONFIG, SHARD, Change, home_of
from shards.store.schema import SCHEMA_VERSION
from shards.store.sidecar import shard_name

PROBES = 32  # at least so many recordings are read to identify the corpus, if it has them
SOFTWARE = ("numpy", "scipy", "librosa", "soxr", "soundfile", "tokenizers")


class OtherBuild(UserError):
    """The folder belongs to a build with other settings, or of another corpus."""


class Slot(Config):
    """One shard of a dataset that was updated.

    `name` is its path within the dataset's folder, `build` what its sidecar has as such, and
    `turns` are the ids of its turns.
    """

    name: str = Field(pattern=f"^{SHARD}$")
    build: str
    turns: tuple[str, ...]


class BuildFile(Config):
    """The content of `build.json`. `digest` is that of `settings`; `software` is for the record.

    After an update `slots` are the shards: they are no fixed slices of the corpus any more.
    `history` is the manifest's.
    """

    digest: str
    settings: dict[str, Any]
    software: dict[str, str]
    slots: tuple[Slot, ...] | None = None
    history: tuple[Change, ...] = ()

    @property
    def utterances(self) -> int:
        """Turns of the corpus."""
        return int(self.settings["corpus"]["utterances"])

    @property
    def home(self) -> str:
        """The folder of the files of this version alone: `Manifest.home`."""
        return f"v{len(self.history) + 1}" if self.history else ""

    @property
    def places(self) -> list[tuple[str, str]]:
        """Name and build of every shard that the whole build makes."""
        if self.slots is not None:
            return [(slot.name, slot.build) for slot in self.slots]
        # Rounded up: the last shard may be shorter.
        count = -(-self.utterances // int(self.settings["output"]["utterances_per_shard"]))
        return [(shard_name(number), self.digest) for number in range(count)]

    @property
    def shards(self) -> int:
        """Shards that the whole build makes."""
        return len(self.places)

    def turns(self, utterances: Sequence[Utterance]) -> list[list[Utterance]]:
        """The turns of each shard."""
        if self.slots is None:
            size = int(self.settings["output"]["utterances_per_shard"])
            return [[*utterances[n : n + size]] for n in range(0, len(utterances), size)]
        by_id = {one.id: one for one in utterances}
        return [[by_id[name] for name in slot.turns] for slot in self.slots]

    def dump(self) -> bytes:
        """The file's content; that of a dataset which was never updated is as it always was."""
        content = self.model_dump(mode="json")
        if not self.history:
            del content["slots"], content["history"]
        return (json.dumps(content, indent=1) + "\n").encode()


def claim(folder: Path, config: ShardConfig, utterances: Sequence[Utterance]) -> BuildFile:
    """Make `folder` this build's, or join a build with the same settings that is already there.

    Also writes the whole configuration beside it, from which a repair can start.

    Raises:
        OtherBuild: the folder's settings differ; the message names each key.
    """
    ours = build_file(config, utterances)
    home = home_of(folder)
    # Array tasks start at the same moment. `create` lets one of them make the file; the others see
    # that it is there, and compare.
    if (home / BUILD).exists() or not atomic.create(home / BUILD, ours.dump()):
        theirs = load(folder)
        if theirs.digest != ours.digest:
            raise OtherBuild(_differences(folder, theirs.settings, ours.settings))
        ours = theirs
    if not (home / CONFIG).exists():
        atomic.create(home / CONFIG, dump(config).encode())
    return ours


def build_file(config: ShardConfig, utterances: Sequence[Utterance]) -> BuildFile:
    """What a build of `config` from nothing is made from."""
    settings = config.settings() | {
        "schema": SCHEMA_VERSION,
        "corpus": {
            "reader": config.corpus.reader,
            "utterances": len(utterances),
            "content": corpus_digest(utterances),
        },
    }
    return BuildFile(
        digest=digest(settings),
        settings=settings,
        software={name: version(name) for name in SOFTWARE},
    )


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
    path = home_of(folder) / BUILD
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
    names = [field.name for field in fields(Utterance)]
    for utterance in utterances:
        # As `asdict` gives it, which would copy every value first: half the time of an update.
        facts = {name: getattr(utterance, name) for name in names}
        if utterance.attributes is not None:
            facts["attributes"] = [asdict(one) for one in utterance.attributes]
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
