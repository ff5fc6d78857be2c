"""Every kind of damage to shards: reported or without effect, never a wrong sample in silence.

The same damage is given to webdataset's streaming reader beside it. It is the reader that most
pipelines use; `make torture` writes the comparison to benchmarks/results/damage.md.
"""

import platform
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import webdataset
from damages import (
    MEMBERS,
    SHARD,
    Damage,
    Original,
    Outcome,
    all_damage,
    files,
    read_ours,
    read_webdataset,
)

from shards.build import claim
from shards.build.job import build
from shards.build.merge import IncompleteDataset, merge
from shards.errors import UserError
from shards.store.index import open_dataset
from shards.store.verify import find_faults


@pytest.fixture(scope="module")
def original(built: Path) -> Original:
    return Original(built)


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory, corpus: Path, small: object) -> Path:
    """The same corpus built with another seed: clean samples are equal, the others differ."""
    folder = tmp_path_factory.mktemp("newer") / "shards"
    build(small.config(corpus, folder, seed=2), workers=1)  # type: ignore[attr-defined]
    return folder


def check(original: Original, damage: Damage, folder: Path, verify: bool) -> tuple[str, str, str]:
    """Apply, read, verify, restore. Words for what our reader, verify and webdataset did."""
    damage.apply(folder)
    ours = read_ours(original.dataset)
    # Exactly the samples whose bytes are gone are reported; all others are read, and right.
    assert ours.skipped == damage.touched, damage.kind
    assert ours.read == {k: v for k, v in original.samples.items() if k not in damage.touched}
    seen = "not asked"
    if verify:
        faults = find_faults(folder, deep=True, workers=1)[1]
        assert faults, f"verify does not see: {damage.kind}"
        assert any(fault.where.startswith(SHARD[:11]) for fault in faults)
        seen = "reported"
    stream = read_webdataset(original.dataset)
    for name in (SHARD, SHARD.replace(".tar", ".json")):
        shutil.copy(original.folder / name, folder / name)
    return "reported" if ours.reported else "samples unharmed", seen, judge(original, stream)


def judge(original: Original, stream: Outcome) -> str:
    """What became of the samples in a stream."""
    if stream.reported:
        return "exception"
    wrong = lost = 0
    for key, members in original.samples.items():
        arrays = {name: members[name] for name in MEMBERS[1:]}
        found = stream.read.get(key)
        wrong += found is not None and any(found.get(n, c) != c for n, c in arrays.items())
        lost += found is None or found.keys() != arrays.keys()
    if wrong or stream.read.keys() - original.samples.keys():
        return "silently wrong"
    return "silently lost" if lost else "samples unharmed"


def run(
    original: Original, damages: Iterator[Damage], folder: Path, verify_every: int
) -> dict[str, Counter[tuple[str, str]]]:
    shutil.copytree(original.folder, folder)
    # The reader works on the damaged folder, with the index that was published.
    attacked = Original.__new__(Original)
    attacked.__dict__ |= original.__dict__ | {"dataset": open_dataset(folder)}
    table: dict[str, Counter[tuple[str, str]]] = {}
    for number, damage in enumerate(damages):
        verify = number % verify_every == 0 or "cut" not in damage.kind
        ours, seen, theirs = check(attacked, damage, folder, verify)
        table.setdefault(damage.kind, Counter()).update(
            [("ours", ours), ("verify", seen), ("webdataset", theirs)]
        )
    return table


def test_no_damage_passes_in_silence(original: Original, newer: Path, tmp_path: Path) -> None:
    damages = all_damage(original, newer, step=12, count=12, seed=11)
    table = run(original, damages, tmp_path / "damaged", verify_every=4)
    assert len(table) == 15
    # For the record: the streaming reader loses or changes samples without a word.
    theirs = sum((Counter(words) for words in table.values()), Counter[tuple[str, str]]())
    assert theirs["webdataset", "silently lost"]
    assert theirs["webdataset", "silently wrong"]


def test_merge_refuses_foreign_and_missing_files(
    original: Original, newer: Path, tmp_path: Path
) -> None:
    for number, damage in enumerate(files(original, newer)):
        folder = tmp_path / str(number)
        shutil.copytree(original.folder, folder)
        damage.apply(folder)
        found = claim.load(folder)
        size = (folder / SHARD).stat().st_size if (folder / SHARD).exists() else 0
        files_agree = "sidecar" not in damage.kind and "index" not in damage.kind
        if size == len(original.data) and files_agree:
            merge(folder, found, 0.0)  # what has its size is left to `verify --deep`
            continue
        with pytest.raises(IncompleteDataset, match="shard-00001"):
            merge(folder, found, 0.0)


def test_an_index_that_lies_is_refused(dataset: Path) -> None:
    """Offsets changed behind the manifest's back: the manifest no longer fits."""
    import pyarrow.parquet as pq

    table = pq.read_table(dataset / "index.parquet")
    moved = pa.array([offset + 512 for offset in table["logmel.offset"].to_pylist()])
    place = table.column_names.index("logmel.offset")
    pq.write_table(table.set_column(place, "logmel.offset", moved), dataset / "index.parquet")
    with pytest.raises(UserError, match="not the index"):
        open_dataset(dataset)


@pytest.mark.torture
def test_every_boundary(original: Original, newer: Path, tmp_path: Path) -> None:
    damages = all_damage(original, newer, step=1, count=400, seed=5)
    table = run(original, damages, tmp_path / "damaged", verify_every=1)
    Path("benchmarks/results/damage.md").write_text(report(table, len(original.data)))


def report(table: dict[str, Counter[tuple[str, str]]], size: int) -> str:
    heads = [
        ("ours", "reported"),
        ("ours", "samples unharmed"),
        ("verify", "reported"),
        ("webdataset", "exception"),
        ("webdataset", "samples unharmed"),
        ("webdataset", "silently lost"),
        ("webdataset", "silently wrong"),
    ]
    cases = {
        kind: sum(v for (who, _), v in c.items() if who == "ours") for kind, c in table.items()
    }
    lines = [
        "# Damaged shards: what readers make of them",
        "",
        "`pytest tests/shards/store/test_damage.py -m torture`: one shard out of three,",
        f"{size} bytes; webdataset {webdataset.__version__}, Python {platform.python_version()}.",
        "Each case damages one file and reads the whole dataset. Ours: a sample is right or told,",
        "with shard, key and offset (policy `skip`: counted and left out); exactly those samples",
        "are reported of which a byte is gone, or all of a shard whose size is wrong. `verify`:",
        "`emo-shards verify --deep`. webdataset: streaming with its default settings.",
        "",
        "| damage | cases | " + " | ".join(f"{who}: {what}" for who, what in heads) + " |",
        "|---" * (len(heads) + 2) + "|",
    ]
    for kind, counts in table.items():
        cells = " | ".join(str(counts[head]) for head in heads)
        lines.append(f"| {kind} | {cases[kind]} | {cells} |")
    total = sum(table.values(), Counter[tuple[str, str]]())
    cells = " | ".join(str(total[head]) for head in heads)
    lines.append(f"| all | {sum(cases.values())} | {cells} |")
    return "\n".join(lines) + "\n"
