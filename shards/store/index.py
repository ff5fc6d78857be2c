"""The dataset as its readers see it: one manifest, and an index with one row a sample.

Every reader goes through `open_dataset`, which checks that manifest and index are intact and belong
together. The shards are checked later, at each read (`shards.store.read`).
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from shards.configfile import Config, digest, parse
from shards.corpora.base import TRUTH as TRUTH  # copied into the dataset under its own name
from shards.errors import UserError
from shards.extract.features import FEATURES, FeatureConfig
from shards.store.schema import ATTRIBUTES, DTYPES, MEMBERS, SCHEMA_VERSION

MANIFEST, INDEX, BUILD = "manifest.json", "index.parquet", "build.json"
REJECTED, FLAGGED = "rejected.jsonl", "flagged.jsonl"
TOKENIZER, CONFIG = "tokenizer", "config.yaml"
# The folders and names that a manifest may give its files: no manifest leads out of its folder.
HOME = r"(?:v[1-9][0-9]*)?"
SHARD = r"(?:v[1-9][0-9]*/)?shard-[0-9]{5,}\.tar"
SNR_BIN = 5  # dB, of `Summary.snr`
# Bytes before the numbers in a .npy file of format 1.0. numpy pads the header to a multiple of 64;
# with one or two dimensions that always comes to 128.
NPY_HEADER = 128

_TEXT, _INT, _REAL = pa.string(), pa.int64(), pa.float64()
# One column for each key of `schema.metadata`, then where the sample lies and how it was labelled.
# This is also the column order of index.parquet. Readers select columns by name, so a new column
# does no harm to old datasets; a rebuild gives another index, but the same shards and
# `dataset_hash`. The keys of `schema.metadata` come before "key": `emo features` copies them so.
COLUMNS: dict[str, pa.DataType] = {
    "utterance": _TEXT,
    "variant": _TEXT,
    "label": _TEXT,
    "votes": pa.list_(pa.list_(_TEXT)),
    "speaker": _TEXT,
    "session": _TEXT,
    "dialogue": _TEXT,
    "turn": _INT,
    "start": _REAL,
    "end": _REAL,
    "split": _TEXT,
    "text": _TEXT,
    "seconds": _REAL,
    "snr": _REAL,
    "frames": _INT,
    "tokens": _INT,
    "key": _TEXT,
    "shard": _INT,
    "dropped": _REAL,  # share of the vote mass outside the configured label set
    "recording": _TEXT,  # identity of the sound; datasets of older programs lack the column
    "content": _TEXT,  # of the recording's file, in clean rows alone (`sidecar.Entry.content`)
}
# As in the metadata: one entry an attribute that the turn has (`corpora.attributes.Attribute`).
COLUMNS[ATTRIBUTES] = pa.list_(
    pa.struct({"name": _TEXT, "mean": _REAL, "votes": pa.list_(_REAL), "low": _REAL, "high": _REAL})
)
for _member in MEMBERS:  # null where a sample has no such member
    COLUMNS |= {f"{_member}.offset": _INT, f"{_member}.size": _INT, f"{_member}.crc32": _INT}
SCHEMA = pa.schema(list(COLUMNS.items()))


class BadDataset(UserError):
    """The folder is no finished dataset, or its manifest and index are damaged."""


class ShardEntry(Config):
    """What the manifest knows of one shard.

    `name` is the tar's path within the dataset's folder. `build` is the digest that its sidecar
    has; None: the manifest's. `unknown` is the sidecar's; None also in older manifests.
    """

    name: str = Field(pattern=f"^{SHARD}$")
    bytes: int
    sha256: str
    samples: int
    utterances: int
    build: str | None = None
    unknown: tuple[int, int] | None = None


class Summary(Config):
    """Counts over the dataset. `classes`, `sessions`: turns (clean); `variants`: samples."""

    utterances: int  # turns of the corpus, rejected ones included
    samples: int
    classes: dict[str, int]  # by class of the label set; the rest under "outside the set"
    sessions: dict[str, int]
    variants: dict[str, int]
    hours: float  # of clean audio
    rejected: dict[str, int]  # turns by kind of reason
    flagged: dict[str, int]  # turns that were kept, by what is odd about them
    bytes: int  # of all shards
    snr: dict[str, int]  # turns by bin of 5 dB: "15" is [15, 20); "unknown" without an estimate
    same_recordings: int = 0  # turns whose sound is that of another turn, the first one left out
    unknown: float | None = None  # share of tokens that stand for unknown words; None if not known


class Change(Config):
    """One update of a dataset: its version before, and what was different in the corpus.

    `turns` counts turns by kind of change; `facts` counts, of the changed ones, the facts that
    are different ("label", "votes", ...). `software` is what made the shards that are new.
    """

    dataset_hash: str
    build: str
    turns: dict[str, int]
    facts: dict[str, int]
    shards: int  # that were written anew
    software: dict[str, str]
    recordings: str | None = None  # a digest of the recordings that were replaced


class Manifest(Config):
    """`manifest.json`: what the dataset is and what it was made from; published last.

    `build` is the digest of `settings` (everything that decides the bytes of the shards);
    `dataset_hash` names the content: equal hashes mean equal samples and labels.
    `tokenizer` is None where no sample has tokens, else `tokenizer.tokenizer_facts` of the copy in
    the dataset's folder, and `max_tokens`. `features` is the `FeatureConfig` and `sample_rate`.
    `home` is the folder of the index and of all that belongs to this version alone: the dataset's
    own, or one in it after an update. `history` has the updates so far, the oldest first.
    """

    schema_version: int
    build: str
    dataset_hash: str
    settings: dict[str, Any]
    software: dict[str, str]
    labels: dict[str, list[str]]  # class -> codes, in class order
    label_set: str
    tokenizer: dict[str, Any] | None
    features: dict[str, Any] | None
    summary: Summary
    shards: list[ShardEntry]
    index_sha256: str
    home: str = Field(default="", pattern=f"^{HOME}$")
    history: list[Change] = Field(default_factory=list)

    @property
    def feature_config(self) -> FeatureConfig:
        """The settings of the features; the defaults if the dataset has none."""
        chosen = {k: v for k, v in (self.features or {}).items() if k != "sample_rate"}
        return parse(FeatureConfig, chosen, "the manifest's features")

    @property
    def sample_rate(self) -> int:
        """Sampling rate (Hz) of the waveforms that features were made of; 0 without features."""
        return int((self.features or {}).get("sample_rate", 0))

    @property
    def corpus(self) -> str | None:
        """What tells versions of a corpus apart, whatever features were made of it; None: unknown.

        The digest in `settings` is of all facts but of a few recordings only, so those that were
        replaced count besides.
        """
        content = self.settings.get("corpus", {}).get("content")
        replaced = [change.recordings for change in self.history if change.recordings]
        return digest([content, *replaced]) if replaced else content

    def dump(self) -> bytes:
        """The file's content, with a digest over itself."""
        content = self.model_dump(mode="json")
        for name in ("home", "history"):  # a dataset that was never updated does not have them
            if not content[name]:
                del content[name]
        for shard in content["shards"]:
            for name in ("build", "unknown"):
                if shard[name] is None:
                    del shard[name]
        return (json.dumps(content | {"digest": digest(content)}, indent=1) + "\n").encode()


@dataclass(frozen=True)
class Dataset:
    """An opened dataset. `table` has the columns of `COLUMNS`, in the order of the shards."""

    folder: Path
    manifest: Manifest
    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def sources(self) -> tuple[Dataset, ...]:
        """The datasets whose rows these are, one after the other; this one alone."""
        return (self,)

    def column(self, name: str) -> np.ndarray:
        """Column `name` as a numpy array [rows]: int64, float64 (null is NaN) or objects."""
        return np.asarray(self.table[name].to_numpy(zero_copy_only=False))

    def frames(self, feature: str) -> np.ndarray:
        """Length of `feature`'s first axis in each row, int64 [rows]; 0 where there is none.

        Counted in frames; for the waveform, in samples.
        """
        count = {
            "frames": lambda name: self.column("frames"),
            "own frames": self._own_frames,
            "samples": self._samples,
        }[FEATURES[feature].length]
        return count(feature)

    def _own_frames(self, feature: str) -> np.ndarray:
        """Frames computed from the member's size in bytes: the index has no column for them."""
        width = FEATURES[feature].width
        assert width is not None
        bins = width(self.manifest.feature_config.of(FEATURES[feature]))
        return np.maximum(self._sizes(feature) - NPY_HEADER, 0) // (DTYPES[feature].itemsize * bins)

    def _samples(self, feature: str) -> np.ndarray:
        seconds = np.nan_to_num(self.column("seconds").astype(np.float64))
        # `seconds` was stored as samples / rate, so rounding gives back the exact count.
        samples = np.rint(seconds * self.manifest.sample_rate)
        return np.where(self._sizes(feature) > 0, samples, 0).astype(np.int64)

    def _sizes(self, member: str) -> np.ndarray:
        """Bytes of `member` in each row, int64 [rows]; 0 where there is none."""
        # Null (no such member) becomes NaN in numpy, and NaN becomes 0 here. Sizes below 2**53
        # survive the way through float64.
        return np.nan_to_num(self.column(f"{member}.size").astype(np.float64)).astype(np.int64)

    def columns(self, *names: str) -> dict[str, np.ndarray]:
        """Several columns by name, as `shards.views.view.make_view` takes them."""
        return {name: self.column(name) for name in names}


def open_dataset(folder: str | Path, columns: list[str] | None = None) -> Dataset:
    """Open the finished dataset in `folder`, with all columns of the index or only `columns`.

    Columns of members that did not exist yet when the dataset was built are null.

    Raises:
        BadDataset: no finished dataset, another schema version, or a damaged manifest or index.
    """
    folder = Path(folder)
    manifest = load_manifest(folder)
    path = folder / manifest.home / INDEX
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadDataset(f"cannot read {path}: {error.strerror}; {remedy(folder)}") from None
    if hashlib.sha256(data).hexdigest() != manifest.index_sha256:
        raise BadDataset(
            f"{path} is not the index that {MANIFEST} was published with (damaged, or of another "
            f"build); {remedy(folder)}"
        )
    # From here on only `data` is read, the very bytes that were hashed: a build that publishes
    # meanwhile cannot slip another file in between.
    wanted = list(COLUMNS) if columns is None else columns
    present = set(pq.read_schema(io.BytesIO(data)).names)
    table = pq.read_table(io.BytesIO(data), columns=[name for name in wanted if name in present])
    for name in wanted:
        if name not in present:
            nulls = pa.nulls(manifest.summary.samples, COLUMNS[name])
            table = table.append_column(SCHEMA.field(name), nulls)
    return Dataset(folder, manifest, table.select(wanted))  # in order: nulls were appended last


def load_manifest(folder: Path) -> Manifest:
    """The manifest of `folder`, checked against its own digest. Raises BadDataset."""
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_bytes())
    except NotADirectoryError:
        raise BadDataset(f"{folder} is a file: give the dataset's folder") from None
    except FileNotFoundError:
        state = (
            "its build has not finished: run `emo-shards build` again, or `emo-shards merge` after "
            "all array tasks"
            if (home_of(folder) / BUILD).exists()
            else "is this the dataset's folder?"
        )
        raise BadDataset(f"{folder} holds no {MANIFEST}; {state}") from None
    except OSError as error:
        raise BadDataset(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise BadDataset(f"{path} is damaged: {error}; {remedy(folder)}") from None
    # The left side is evaluated first: it takes the digest out, so the right side hashes the rest.
    if not isinstance(content, dict) or content.pop("digest", None) != digest(content):
        raise BadDataset(f"{path} is damaged: it does not fit its digest; {remedy(folder)}")
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise BadDataset(
            f"{path} has schema version {version}, this program reads {SCHEMA_VERSION}: build the "
            "dataset again with this program, or read it with the one that made it"
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        raise BadDataset(f"{path} is no manifest: {error}") from None


def home_of(folder: Path) -> Path:
    """Where the files lie that belong to the present version alone: `Manifest.home`.

    Where the manifest is missing or damaged, it is that of the newest version that was complete.
    """
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
        if content.pop("digest") == digest(content):
            return folder / str(content.get("home", ""))
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        pass
    complete = [
        path.parent
        for path in folder.glob(f"v*/{MANIFEST}")
        if re.fullmatch(HOME, path.parent.name)
    ]
    return max(complete, key=lambda path: int(path.name[1:]), default=folder)


def remedy(folder: Path) -> str:
    """How to repair the dataset in `folder`, as a command line to copy."""
    config = home_of(folder) / CONFIG
    if not config.is_file():  # made of trained runs, not of a corpus
        return "remove the folder and make it again with emo features"
    return (
        f"repair: emo-shards build {config} output.folder={folder} check=deep "
        "(rewrites only what is broken)"
    )


def place_of(folder: Path, name: str) -> tuple[Path, int]:
    """The folder and the number of the shard that a manifest of `folder` calls `name`."""
    path = folder / name
    return path.parent, int(path.stem.removeprefix("shard-"))
