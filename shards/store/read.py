"""Random access to samples by index row: one `pread`, a CRC32, and arrays without a copy.

Tars are opened when first needed. `pread` takes its offset as an argument and moves no shared file
position. So one reader may serve several threads; after a fork the children may go on with the
inherited descriptors; and a reader that is pickled (spawn, forkserver) opens its own.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shards.errors import UserError
from shards.store.codecs import CODECS
from shards.store.index import INDEX, Dataset, open_dataset, remedy
from shards.store.schema import MEMBERS

MAX_OPEN = 256  # tars open at once; the usual limit of a process is 1024 files
# Largest number of unneeded bytes that are read along so that one request fetches all members: a
# second request costs more than reading some kilobytes, on a cluster's filesystem far more.
MAX_GAP = 65536


class DamagedSample(UserError):
    """A sample can no longer be read as it was written.

    Attributes: `shard` (file name), `key`, `member` ("logmel", ...), `offset` (bytes), `row`.
    """

    shard: str
    key: str
    member: str
    offset: int
    row: int


class ShardReader:
    """Reads chosen members of any row of a dataset.

    Args:
        dataset: the dataset's folder, or the opened dataset.
        members: the arrays to read ("logmel", "tokens", … as in `schema`); "json" gives the
            metadata's bytes (uint8).

    Raises:
        BadDataset: the folder holds no whole dataset.
        ValueError: an unknown member.
    """

    def __init__(
        self, dataset: str | Path | Dataset, members: Sequence[str], max_open: int = MAX_OPEN
    ) -> None:
        unknown = [name for name in members if name not in MEMBERS]
        if unknown or not members:
            raise ValueError(f"members {list(members)}: each must be one of {list(MEMBERS)}")
        self.members = tuple(name for name in MEMBERS if name in members)  # as they lie in a tar
        if not isinstance(dataset, Dataset):
            places = [f"{name}.{what}" for name in members for what in ("offset", "size", "crc32")]
            dataset = open_dataset(dataset, columns=["shard", *places])
        self.folder = dataset.folder.absolute()
        # Of every shard: its dataset and its file. Numbers of shards go on from one dataset to the
        # next.
        self._shards = [
            (source.folder.absolute(), shard.name)
            for source in dataset.sources
            for shard in source.manifest.shards
        ]
        self._indexes = [
            source.folder.absolute() / source.manifest.home / INDEX for source in dataset.sources
        ]
        self._sizes = [shard.bytes for shard in dataset.manifest.shards]
        # Int64 [samples, 1 + 3 members]: the shard, then offset, size and CRC32 of each member. A
        # size of 0 means that the sample has no such member: no member is ever empty. An array,
        # because looking up a row in an Arrow table would take longer than reading the sample.
        columns = ["shard"]
        for name in self.members:
            columns += [f"{name}.offset", f"{name}.size", f"{name}.crc32"]
        self._rows = np.stack(
            [pc.fill_null(dataset.table[name], 0).to_numpy() for name in columns], axis=1
        ).astype(np.int64)
        self._max_open = max_open
        self._open: dict[int, _Tar] = {}
        self._keys: Any = None

    def __len__(self) -> int:
        return len(self._rows)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}, "_keys": None}

    def read(self, row: int) -> dict[str, np.ndarray]:
        """The members of sample `row`: read-only arrays, as `schema` describes them.

        A member that the sample was written without is absent from the result.

        Raises:
            DamagedSample: the shard or one of the members is not what was written.
        """
        if row < 0:  # -1 marks padding in a plan; numpy would quietly give the last sample for it
            raise IndexError(f"row {row}")
        shard, *numbers = self._rows[row].tolist()
        offsets, sizes, sums = numbers[::3], numbers[1::3], numbers[2::3]
        wanted = [
            member for member in zip(self.members, offsets, sizes, sums, strict=True) if member[2]
        ]
        if not wanted:
            return {}
        tar = self._open.get(shard) or self._open_tar(shard, row, wanted[0])
        # `wanted` is in the order of the tar, so its first and last member bound the range.
        first, last = wanted[0], wanted[-1]
        start, stop = first[1], last[1] + last[2]
        together = stop - start <= sum(sizes) + MAX_GAP
        result = {}
        try:
            if together:
                data = memoryview(os.pread(tar.handle, stop - start, start))
            for member in wanted:
                name, offset, size, crc32 = member
                if together:
                    body = data[offset - start : offset - start + size]
                else:
                    body = memoryview(os.pread(tar.handle, size, offset))
                # Also catches a short read: `pread` at the end of a truncated file is no error.
                if zlib.crc32(body) != crc32:
                    what = "checksum (CRC32) differs" if len(body) == size else "bytes are missing"
                    raise self._damaged(row, shard, member, what)
                result[name], _ = CODECS[MEMBERS[name].codec].decode(body)
        except OSError as error:
            raise self._damaged(row, shard, first, f"cannot read: {error.strerror}") from None
        except ValueError as error:
            if isinstance(error, DamagedSample):  # a UserError is a ValueError as well
                raise
            raise self._damaged(row, shard, member, str(error)) from None
        return result

    def key(self, row: int) -> str:
        """The key of sample `row` (from the index, loaded at the first call)."""
        if self._keys is None:
            self._keys = [
                key
                for index in self._indexes
                for key in pq.read_table(index, columns=["key"])["key"].to_pylist()
            ]
        return str(self._keys[row])

    def _open_tar(self, shard: int, row: int, member: tuple[str, int, int, int]) -> _Tar:
        path = Path(*self._shards[shard])
        try:
            tar = _Tar(path)
        except OSError as error:
            raise self._damaged(row, shard, member, f"cannot open: {error.strerror}") from None
        # Of the open file, not of the path: a repair may rename a new file into place meanwhile.
        size = os.fstat(tar.handle).st_size
        if size != self._sizes[shard]:
            what = f"the file has {size} bytes, the index describes {self._sizes[shard]}"
            raise self._damaged(row, shard, member, what)
        # Forget the tar that was opened first. A thread that still reads from it holds a reference,
        # and the file is closed only when the last one is gone.
        if len(self._open) >= self._max_open:
            self._open.pop(next(iter(self._open)), None)
        self._open[shard] = tar
        return tar

    def _damaged(
        self, row: int, shard: int, member: tuple[str, int, int, int], what: str
    ) -> DamagedSample:
        name, offset, _, _ = member
        try:
            key = self.key(row)
        except (OSError, ValueError):  # the index is gone too: give the row instead of the key
            key = f"row {row}"
        folder, shard_file = self._shards[shard]
        error = DamagedSample(
            f"{folder / shard_file}: sample {key}, member {name} at byte {offset}: {what}; "
            f"{remedy(folder)}"
        )
        error.shard, error.key, error.member = shard_file, key, name
        error.offset, error.row = offset, row
        return error


class _Tar:
    """An open file, closed with the last reference to it."""

    def __init__(self, path: Path) -> None:
        self.handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "handle"):  # false where `os.open` has failed
            os.close(self.handle)
