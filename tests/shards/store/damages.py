"""Ways to damage a dataset, and what two readers make of the result."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import webdataset

from shards.store.index import Dataset, open_dataset
from shards.store.read import DamagedSample, ShardReader

MEMBERS = ("json", "logmel", "mfcc", "tokens")
SHARD = "shard-00001.tar"
Samples = dict[str, dict[str, bytes]]  # key -> member -> content


@dataclass
class Damage:
    """One way to damage a dataset's folder. `touched`: the keys whose bytes are no longer there."""

    kind: str
    apply: Callable[[Path], None]
    touched: set[str] = field(default_factory=set)


@dataclass
class Outcome:
    """What a reader made of a damaged dataset."""

    reported: bool  # by an exception, or per sample
    skipped: set[str]
    read: Samples


class Original:
    """A whole dataset: where each member of the shard under attack lies, what its content is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = (folder / SHARD).read_bytes()
        self.dataset = open_dataset(folder)
        self.samples = read_ours(self.dataset).read
        rows = [row for row in self.dataset.table.to_pylist() if row["shard"] == 1]
        self.keys = [row["key"] for row in rows]
        self.places = [
            (row["key"], name, row[f"{name}.offset"], row[f"{name}.size"])
            for row in rows
            for name in MEMBERS
        ]

    def touched(self, start: int, stop: int) -> set[str]:
        return {
            key for key, _, offset, size in self.places if offset < stop and start < offset + size
        }


def read_ours(dataset: Dataset) -> Outcome:
    """Read every row; with policy `error` the first report ends a run, with `skip` all count."""
    reader = ShardReader(dataset, MEMBERS)
    keys = dataset.column("key")
    outcome = Outcome(False, set(), {})
    for row in range(len(reader)):
        try:
            arrays = reader.read(row)
            outcome.read[keys[row]] = {name: a.tobytes() for name, a in arrays.items()}
        except DamagedSample as error:
            outcome.reported = all(
                part in str(error) for part in (error.shard, keys[row], "emo-shards build")
            )
            outcome.skipped.add(error.key)
    return outcome


def read_webdataset(dataset: Dataset) -> Outcome:
    urls = [str(dataset.folder / shard.name) for shard in dataset.manifest.shards]
    outcome = Outcome(False, set(), {})
    try:
        for sample in webdataset.WebDataset(urls, shardshuffle=False).decode():
            outcome.read[sample["__key__"]] = {
                name: sample[f"{name}.npy"].tobytes()
                for name in MEMBERS[1:]
                if f"{name}.npy" in sample
            }
    except Exception:
        outcome.reported = True
    return outcome


def patch(position: int, change: Callable[[bytes], bytes], length: int) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        with open(folder / SHARD, "r+b") as file:
            file.seek(position)
            old = file.read(length)
            file.seek(position)
            file.write(change(old))

    return apply


def cuts(original: Original, positions: list[int], kind: str) -> Iterator[Damage]:
    for length in positions:

        def apply(folder: Path, length: int = length) -> None:
            with open(folder / SHARD, "r+b") as file:
                file.truncate(length)

        yield Damage(kind, apply, set(original.keys))


def flips(original: Original, count: int, rng: np.random.Generator) -> Iterator[Damage]:
    """Single bits in headers, in data, and in the padding after data and at the tar's end."""
    inside = np.zeros(len(original.data), "U7")
    inside[:] = "padding"
    for _, _, offset, size in original.places:
        inside[offset - 512 : offset] = "header"
        inside[offset : offset + size] = "data"
    for kind in ("header", "data", "padding"):
        for position in rng.choice(np.flatnonzero(inside == kind), count, replace=False).tolist():
            bit = 1 << int(rng.integers(8))
            apply = patch(position, lambda old, bit=bit: bytes([old[0] ^ bit]), 1)
            yield Damage(f"bit flip in {kind}", apply, original.touched(position, position + 1))


def swaps(original: Original, count: int, rng: np.random.Generator) -> Iterator[Damage]:
    """The contents of two members of one size change places; or two whole samples do."""
    data = original.data
    pairs = [
        (one, other)
        for number, one in enumerate(original.places)
        for other in original.places[number + 1 :]
        if one[1] == other[1] and one[3] == other[3]
        if data[one[2] : one[2] + one[3]] != data[other[2] : other[2] + other[3]]
    ]
    for number in rng.choice(len(pairs), count, replace=False):
        (key, _, here, size), (other_key, _, there, _) = pairs[number]

        def apply(folder: Path, here: int = here, there: int = there, size: int = size) -> None:
            changed = bytearray(data)
            changed[here : here + size] = data[there : there + size]
            changed[there : there + size] = data[here : here + size]
            (folder / SHARD).write_bytes(changed)

        yield Damage("two members' contents swapped", apply, {key, other_key})
    starts = [offset - 512 for _, name, offset, _ in original.places if name == "json"]
    starts.append(starts[-1] + (starts[-1] - starts[-2]))
    for number in rng.choice(len(original.keys) - 2, count, replace=False).tolist():
        first, second, third = starts[number : number + 3]

        def apply(folder: Path, a: int = first, b: int = second, c: int = third) -> None:
            (folder / SHARD).write_bytes(data[:a] + data[b:c] + data[a:b] + data[c:])

        yield Damage("two samples swapped", apply, set(original.keys[number : number + 2]))


def files(original: Original, newer: Path) -> Iterator[Damage]:
    """Whole files that are missing, empty, of another shard or of another build."""
    every = set(original.keys)
    sidecar = SHARD.replace(".tar", ".json")

    def take(name: str, source: Path) -> Callable[[Path], None]:
        return lambda folder: shutil.copy(source, folder / name) and None

    def fill(content: bytes) -> Callable[[Path], None]:
        return lambda folder: (folder / SHARD).write_bytes(content) and None

    yield Damage("shard missing", lambda folder: (folder / SHARD).unlink(), every)
    yield Damage("shard of zero length", fill(b""), every)
    # What a filesystem leaves of blocks that were never written:
    yield Damage("shard all zeros", fill(b"\0" * len(original.data)), every)
    yield Damage("another shard's tar", take(SHARD, original.folder / "shard-00000.tar"), every)
    yield Damage("another shard's sidecar", take(sidecar, original.folder / "shard-00000.json"))
    yield Damage("sidecar missing", lambda folder: (folder / sidecar).unlink())

    def older_index(folder: Path) -> None:
        shutil.copy(newer / SHARD, folder / SHARD)
        shutil.copy(newer / sidecar, folder / sidecar)

    changed = {key for key in every if not key.endswith("__clean")}
    yield Damage("index older than its shard", older_index, changed)

    half = len(original.data) // 8192 * 4096
    for start in (0, half):
        blank = patch(start, lambda old: b"\0" * len(old), 4096)
        yield Damage("a block of zeros", blank, original.touched(start, start + 4096))


def all_damage(
    original: Original, newer: Path, step: int, count: int, seed: int
) -> Iterator[Damage]:
    rng = np.random.default_rng(seed)
    size = len(original.data)
    boundaries = list(range(512 * int(rng.integers(step)), size, 512 * step))
    yield from cuts(original, boundaries, "cut at a 512-byte boundary")
    yield from cuts(original, rng.integers(1, size, count).tolist(), "cut at a random byte")
    yield from flips(original, count, rng)
    yield from swaps(original, min(count, 15), rng)
    yield from files(original, newer)
