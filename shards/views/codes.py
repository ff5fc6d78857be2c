"""Names as numbers: columns of millions of names are compared, counted and grouped as integers."""

from __future__ import annotations

from typing import Any

import numpy as np


def encode(values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Number the texts `values` (a list, numpy or pyarrow column; None: no value).

    Returns:
        int64 [values], -1 for no value; and the distinct texts in their order, objects.
    """
    import pyarrow as pa  # a third of a second, which a configuration should not take
    import pyarrow.compute as pc

    column = _strings(values)
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    table = column.dictionary_encode()
    if isinstance(table, pa.ChunkedArray):
        table = table.combine_chunks()
    names = table.dictionary
    # By code points, as Python sorts texts: that of their bytes in UTF-8 is the same order.
    order = pc.sort_indices(names).to_numpy()
    place = np.empty(len(names), np.int64)
    place[order] = np.arange(len(names))
    codes = pc.fill_null(table.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    if len(names):
        codes = np.where(codes < 0, -1, place[codes])
    return codes, objects(names.take(pa.array(order)).to_pylist())


def objects(values: list[Any]) -> np.ndarray:
    """`values` as an object array. `np.array` would choose a dtype by the values (fixed widths)."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _strings(values: Any) -> Any:
    import pyarrow as pa

    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values if pa.types.is_string(values.type) else values.cast(pa.string())
    if isinstance(values, np.ndarray) and values.dtype.kind == "U":
        values = values.astype(object)
    return pa.array(values, pa.string(), from_pandas=True)
