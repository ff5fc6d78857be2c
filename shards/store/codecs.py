"""How the members of a sample become bytes: `CODECS`, by the name that a member's schema gives."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from shards.extract.features import waveform


@dataclass(frozen=True, slots=True)
class Codec:
    """One format of a member.

    `encode` maps (array, sampling rate in Hz or None) to bytes. `decode` maps bytes to (read-only
    array, sampling rate in Hz, or None where the format stores none), and raises ValueError for
    bytes that are not in its format.
    """

    encode: Callable[[np.ndarray, int | None], bytes]
    decode: Callable[[memoryview], tuple[np.ndarray, int | None]]


def _encode_npy(array: np.ndarray, rate: int | None) -> bytes:
    buffer = io.BytesIO()
    # The version is fixed, because `decode_npy` reads 1.0 only; numpy would choose one by itself.
    np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _decode_npy(data: memoryview) -> tuple[np.ndarray, None]:
    return decode_npy(data), None


def _encode_flac(array: np.ndarray, rate: int | None) -> bytes:
    assert rate is not None
    return waveform.encode(array, rate)


def _encode_text(array: np.ndarray, rate: int | None) -> bytes:
    return array.tobytes()


def _decode_text(data: memoryview) -> tuple[np.ndarray, None]:
    return np.frombuffer(data, np.uint8), None


CODECS: dict[str, Codec] = {
    "npy": Codec(_encode_npy, _decode_npy),
    "flac": Codec(_encode_flac, waveform.decode),
    "json": Codec(_encode_text, _decode_text),  # as it stands in the file, uint8
}


def decode_npy(data: memoryview) -> np.ndarray:
    """The array in `.npy` bytes, without a copy (read-only). Raises ValueError for anything else.

    Does what `numpy.load(..., allow_pickle=False)` does for format 1.0, but each distinct header is
    parsed once: parsing would cost several times the rest of a read.
    """
    if len(data) < 10:
        raise ValueError("not a .npy member of format 1.0")
    # 6 bytes of magic, 2 of version, then the header's length as a little-endian uint16.
    start = 10 + data[8] + 256 * data[9]
    dtype, shape, size = _parse_header(bytes(data[:start]))
    # np.ndarray notices missing bytes, but would ignore bytes to spare.
    if len(data) != start + size:
        raise ValueError(f"{len(data)} bytes do not hold {shape} of {dtype}")
    return np.ndarray(shape, dtype, data, start)  # a view of `data`, read-only as `data` is


@lru_cache(maxsize=8192)  # one entry a shape; the turns of a corpus have some thousands of lengths
def _parse_header(header: bytes) -> tuple[np.dtype, tuple[int, ...], int]:
    """Dtype, shape and number of bytes of the array that a `.npy` header describes."""
    if header[:8] != b"\x93NUMPY\x01\x00":
        raise ValueError("not a .npy member of format 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(header[8:]))
    if dtype.hasobject:
        raise ValueError("an array of Python objects: shards never hold pickles")
    if fortran:
        raise ValueError("an array in Fortran order: shards are written in C order")
    return dtype, shape, dtype.itemsize * math.prod(shape)
