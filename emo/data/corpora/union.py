"""Several datasets as one: their rows one after the other, each with its corpus.

A row's utterance, speaker, session and dialogue get the name of its corpus in front
(`emo_db/03a01Fa`), so that those of two corpora never meet. Recordings keep theirs, which is a hash
of the sound: the same recording of two corpora is known as the same.

A corpus is named after its spec, its reader or its folder, as the dataset itself records them: the
name does not change when the data is moved. Corpora are in the order of their names. So their order
in the configuration changes nothing, and the hash of the whole is that of names and hashes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from emo.data.config import DataConfig, Shards, folders_of
from emo.data.corpora.mixture import Mixture
from shards.configfile import digest
from shards.errors import UserError
from shards.store.index import CONFIG, Dataset, Manifest, home_of, open_dataset
from shards.views.turns import CORPUS

_NAMED = ("utterance", "speaker", "session", "dialogue")  # by the corpus as well


class CorporaError(UserError):
    """Datasets that cannot be read as one."""


@dataclass(frozen=True)
class Corpora(Dataset):
    """Several opened datasets as one; `folder` is that of the first.

    `parts` are the datasets and `names` those of their corpora; `corpus` int64 [rows] is the number
    of each row's corpus.
    """

    parts: tuple[Dataset, ...]
    names: tuple[str, ...]
    corpus: np.ndarray

    @property
    def sources(self) -> tuple[Dataset, ...]:
        return self.parts

    def frames(self, feature: str) -> np.ndarray:
        return np.concatenate([part.frames(feature) for part in self.parts])

    def described(self) -> list[dict[str, Any]]:
        """What a run records of each corpus."""
        return [
            {
                "name": name,
                "folder": str(part.folder),
                "hash": part.manifest.dataset_hash,
                "corpus": part.manifest.corpus,
                "samples": len(part),
            }
            for name, part in zip(self.names, self.parts, strict=True)
        ]


def open_data(shards: Shards, columns: Sequence[str] | None = None) -> Dataset:
    """The dataset of `data.shards`, or several as one `Corpora`; `columns` of the index, or all.

    Raises:
        BadDataset: a folder holds no finished dataset.
        CorporaError: a dataset, or a corpus, is there twice.
    """
    folders = folders_of(shards)
    chosen = None if columns is None else list(columns)
    opened = [open_dataset(folder, chosen) for folder in folders]
    if len(opened) == 1:
        return opened[0]
    _check_different(opened)
    names = corpus_names(opened)
    pairs = sorted(zip(names, opened, strict=True), key=lambda pair: pair[0])
    return union(dict(pairs))


def union(parts: Mapping[str, Dataset]) -> Corpora:
    """`parts` by the name of their corpus, in this order, as one."""
    names, datasets = tuple(parts), tuple(parts.values())
    tables, shards = [], 0
    for name, part in parts.items():
        tables.append(_of_corpus(part.table, name, shards))
        shards += len(part.manifest.shards)
    sizes = [len(part) for part in datasets]
    manifest = _manifest(names, [part.manifest for part in datasets])
    return Corpora(
        datasets[0].folder,
        manifest,
        pa.concat_tables(tables),
        datasets,
        names,
        np.repeat(np.arange(len(names)), sizes),
    )


def corpus_names(datasets: Sequence[Dataset]) -> list[str]:
    """A name for each dataset's corpus; equal ones are numbered in the order of their hashes."""
    plain = [_own_name(dataset.folder) for dataset in datasets]
    by_hash = sorted(range(len(datasets)), key=lambda n: datasets[n].manifest.dataset_hash)
    seen: Counter[str] = Counter()
    names = list(plain)
    for number in by_hash:
        seen[plain[number]] += 1
        if seen[plain[number]] > 1:
            names[number] = f"{plain[number]}-{seen[plain[number]]}"
    return names


def mixture_of(dataset: Dataset, rows: np.ndarray, config: DataConfig) -> Mixture | None:
    """The mixture of the training `rows`, int64; None if an epoch uses every row once."""
    by = config.mixed_by
    if by == "size" or not isinstance(dataset, Corpora):
        return None
    corpus = dataset.corpus[rows]
    own = np.bincount(corpus, minlength=len(dataset.names)).astype(np.float64)
    if by == "shares":
        assert isinstance(config.shards, dict)
        weights = {folder.absolute(): weight for folder, weight in config.shards.items()}
        wanted = np.array([weights[part.folder.absolute()] for part in dataset.parts])
        wanted = np.where(own > 0, wanted, 0.0)
    else:
        wanted = own ** (1 / config.mix.temperature) * (own > 0)
    return Mixture(corpus, wanted / wanted.sum())


def _own_name(folder: Path) -> str:
    try:
        corpus = yaml.safe_load((home_of(folder) / CONFIG).read_text(encoding="utf-8"))["corpus"]
        spec = corpus.get("spec")
        if corpus["reader"] != "table":
            return str(corpus["reader"])
        name = Path(spec).stem if isinstance(spec, str) else Path(corpus["root"]).name
    except (OSError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        name = ""  # vectors, for instance, are made of runs
    return name or folder.absolute().name or "corpus"


def _of_corpus(table: pa.Table, name: str, shards: int) -> pa.Table:
    for column in _NAMED:
        if column in table.column_names:
            named = pc.binary_join_element_wise(pa.scalar(name), table[column], pa.scalar("/"))
            table = table.set_column(table.column_names.index(column), column, named)
    if "shard" in table.column_names:
        moved = pc.add(table["shard"], shards)
        table = table.set_column(table.column_names.index("shard"), "shard", moved)
    number = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(table.num_rows, np.int32)), pa.array([name])
    )
    return table.append_column(CORPUS, number.cast(pa.string()))


def _manifest(names: Sequence[str], manifests: Sequence[Manifest]) -> Manifest:
    """The first manifest, with what the corpora have in common."""
    first = manifests[0]
    hashes = [[n, one.dataset_hash] for n, one in zip(names, manifests, strict=True)]
    contents = [one.corpus for one in manifests]
    features = None
    if all(one.features for one in manifests):
        assert first.features is not None
        kinds = [
            kind
            for kind in first.features["kinds"]
            if all(kind in (one.features or {})["kinds"] for one in manifests)
        ]
        features = first.features | {"kinds": kinds}
    return first.model_copy(
        update={
            "dataset_hash": digest({"corpora": hashes}),
            "settings": first.settings | {"corpus": {"content": digest(contents)}},
            "features": features,
            "tokenizer": first.tokenizer if all(one.tokenizer for one in manifests) else None,
            "shards": [shard for one in manifests for shard in one.shards],
        }
    )


def _check_different(datasets: Sequence[Dataset]) -> None:
    """Raise CorporaError for a dataset, or another of the same turns, that is there twice."""
    seen: dict[str, Path] = {}
    for dataset in datasets:
        manifest = dataset.manifest
        content = manifest.corpus
        for what in filter(None, (manifest.dataset_hash, content)):
            other = seen.setdefault(what, dataset.folder)
            if other != dataset.folder:
                raise CorporaError(
                    f"data.shards: {other} and {dataset.folder} hold the same turns of one corpus, "
                    "which would stand on two sides of a split; name one of them"
                )
