"""The orders of an epoch: pure functions of a bit stream and a few facts about the units.

A unit is a row of a view, or a whole dialogue. Every function returns a permutation of
`0 .. units-1` as int64, so "exactly once" holds by construction, before any data is read.

Shuffling is done by sorting keys made of raw generator bits, not by `Generator.permutation`. numpy
promises never to change the raw streams of its bit generators (and `SeedSequence`), but may change
what the methods of `Generator` make of them (NEP 19). With raw bits, an epoch that was begun under
one release of numpy can go on under the next. It costs the same: 10 million units take about 0.8 s
on one core.

So every checkpoint inside an epoch depends on which bits are drawn, and in which order. With one
draw more or less, or two of them swapped, resumed runs would repeat some units and miss others.
`test_orders_are_frozen` pins the values.
"""

from __future__ import annotations

import hashlib

import numpy as np


def bit_stream(seed: int, epoch: int) -> np.random.PCG64:
    """The random bits of epoch `epoch`: every rank makes the same ones, so none are sent."""
    return np.random.PCG64(np.random.SeedSequence([seed, epoch]))


def pass_stream(seed: int, turn: int, corpus: int) -> np.random.PCG64:
    """The random bits of pass `turn` through the corpus number `corpus` of a mixture."""
    # Never 0 at the end: SeedSequence takes no notice of zeros there, and [seed, turn] is an epoch.
    return np.random.PCG64(np.random.SeedSequence([seed, turn, corpus + 1]))


def hash_array(values: np.ndarray) -> str:
    """A digest of the bytes of `values` (hex)."""
    return hashlib.blake2b(np.ascontiguousarray(values).data, digest_size=16).hexdigest()


def shuffled(bits: np.random.PCG64, units: int) -> np.ndarray:
    """A uniform permutation of `0 .. units-1`, int64 [units].

    A key's high bits are random (40 bits for 10 million units), its low bits the index. Two keys
    with the same random bits stay in the order of their indices; that is too rare to matter.
    """
    return _shuffled_rows(bits, 1, units)[0]


def windowed(
    bits: np.random.PCG64, shards: np.ndarray, shards_open: int, block: int, window: int
) -> np.ndarray:
    """Shuffle in three steps that keep reads sequential on a slow filesystem; int64 [units].

    Shards are permuted and opened `shards_open` at a time. The open shards are cut into blocks of
    `block` consecutive units, and the blocks are permuted. Then units are shuffled inside windows
    of `window` positions. A loader reads about `window / block` contiguous ranges for each window.

    Args:
        shards: int [units], the shard of each unit; units of one shard are in the order of their
            bytes.
    """
    units = len(shards)
    by_shard = np.argsort(shards, kind="stable")
    in_order = shards[by_shard]
    # A block starts at each shard's first unit and then every `block` units of it.
    first = np.flatnonzero(np.diff(in_order, prepend=in_order[:1] - 1))
    sizes = np.diff(first, append=units)
    counts = -(-sizes // block)
    shard_of_block = np.repeat(np.arange(len(first)), counts)
    nth = np.arange(len(shard_of_block)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = first[shard_of_block] + nth * block
    length = np.minimum(block, (first + sizes)[shard_of_block] - start)

    # Blocks are mixed at random and then sorted by the group of shards that are open together. The
    # sort is stable, so that inside a group they stay mixed.
    turn_of_shard = np.empty(len(first), np.int64)
    turn_of_shard[shuffled(bits, len(first))] = np.arange(len(first))
    group = turn_of_shard[shard_of_block] // shards_open
    mixed = shuffled(bits, len(start))
    blocks = mixed[np.argsort(group[mixed], kind="stable")]

    start, length = start[blocks], length[blocks]
    offset = np.cumsum(length) - length
    stream = by_shard[np.repeat(start - offset, length) + np.arange(units)]
    return stream[_shuffled_windows(bits, units, window)]


def bucketed(
    bits: np.random.PCG64, lengths: np.ndarray, global_batch: int, pool: int
) -> np.ndarray:
    """Batches of units of similar length, the batches in random order; int64 [units].

    Units are dealt at random into pools of `pool` batches. A pool is sorted by length and cut into
    batches; then all batches are shuffled. For the sorting, lengths are blurred by up to 2 %:
    otherwise a small dataset would have the same batches every epoch. If `global_batch` does not
    divide the units, the short batch is a run of neighbours out of the last pool, and comes last.

    Args:
        lengths: int or float [units], not negative (frames, seconds, tokens).
    """
    units = len(lengths)
    batches, short = divmod(units, global_batch)
    pools = max(1, batches // pool)
    if pools > 1:  # 16 random bits a unit deal well enough; numpy sorts them fastest, by radix
        order = bits.random_raw(-(-units // 4)).view(np.uint16)[:units].argsort(kind="stable")
    else:
        order = np.arange(units)
    # In place from here on: with 10 million units, new arrays cost more (in page faults) than the
    # arithmetic.
    keys = bits.random_raw(units)
    keys >>= np.uint64(40)
    blurred = keys.astype(np.float32)
    blurred *= np.float32(0.04 / 2**24)
    blurred += np.float32(0.98)
    blurred *= lengths.astype(np.float32, copy=False)[order] + np.float32(1e-6)  # blur 0, too
    # The bits of floats that are not negative, read as integers, sort as the floats do (IEEE 754:
    # the exponent stands above the fraction). So length and position fit into one integer key,
    # and sorting the keys also says where each came from: no argsort, which is slower and needs
    # an array of indices. Negative lengths or NaN would break this; `Plan` refuses both.
    keys[:] = blurred.view(np.uint32)
    keys <<= np.uint64(32)
    _add_positions(keys)
    width = pool * global_batch
    keys[: (pools - 1) * width].reshape(pools - 1, width).sort(axis=1)
    last = keys[(pools - 1) * width :]
    last.sort()
    if short:  # a random run moves to the end, or the longest units would always be the short batch
        at = int(bits.random_raw() % (len(last) // global_batch + 1)) * global_batch
        last[:] = np.concatenate((last[:at], last[at + short :], last[at : at + short]))
    keys &= np.uint64(0xFFFFFFFF)
    order = order[keys.view(np.int64)]
    full = order[: units - short].reshape(batches, global_batch)
    return np.concatenate((full[shuffled(bits, batches)].ravel(), order[units - short :]))


def balanced(bits: np.random.PCG64, labels: np.ndarray) -> np.ndarray:
    """Each class spread evenly over the epoch; int64 [units].

    The j-th unit (in random order) of a class of n units is placed at the share (j + u) / n of the
    epoch, with u drawn once a class. A stretch of g units then holds g·n/units of that class, off
    by 2 + 2·classes·n/units at most, and usually by less than one.

    Args:
        labels: int [units], class of each unit, 0 <= class.
    """
    units = len(labels)
    mixed = shuffled(bits, units)
    drawn = labels[mixed]
    classes = int(labels.max()) + 1
    offsets = (bits.random_raw(classes) >> np.uint64(11)) * 2.0**-53  # uniform in [0, 1)
    index_bits = np.uint64(max(units - 1, 1).bit_length())
    by_class = np.empty_like(mixed)
    keys = np.empty(units, np.uint64)
    stop = 0
    for c, offset in enumerate(offsets):
        members = mixed[drawn == c]
        start, stop = stop, stop + len(members)
        by_class[start:stop] = members
        # The share of the epoch as an integer in a key's high bits; the low ones take the position.
        # 63 and not 64: the largest share may round up to 1, which must not overflow.
        place = np.arange(len(members), dtype=np.float64)
        place += offset
        place *= 2.0 ** int(63 - index_bits) / max(len(members), 1)
        keys[start:stop] = place
    keys <<= index_bits
    _add_positions(keys)
    keys.sort(kind="stable")  # one sorted run a class, which the stable sort merges in linear time
    keys &= (np.uint64(1) << index_bits) - np.uint64(1)
    return np.take(by_class, keys.view(np.int64), out=mixed, mode="clip")  # memory at hand


def _shuffled_windows(bits: np.random.PCG64, units: int, window: int) -> np.ndarray:
    """A permutation of `0 .. units-1` that moves no unit out of its window, int64 [units]."""
    full = units // window
    head = _shuffled_rows(bits, full, window)
    head += (np.arange(full) * window)[:, None]
    return np.concatenate((head.ravel(), full * window + shuffled(bits, units - full * window)))


def _shuffled_rows(bits: np.random.PCG64, rows: int, width: int) -> np.ndarray:
    """`rows` independent permutations of `0 .. width-1`, int64 [rows, width]."""
    index_bits = np.uint64(max(width - 1, 1).bit_length())
    keys = bits.random_raw(rows * width).reshape(rows, width)
    keys <<= index_bits
    _add_positions(keys)
    keys.sort(axis=1)
    keys &= (np.uint64(1) << index_bits) - np.uint64(1)
    return keys.view(np.int64)


def _add_positions(keys: np.ndarray) -> None:
    """Write each key's position in its row into its low bits, which are 0; uint64 [..., width].

    In pieces: a second array as large as the keys would cost more (in page faults) than this does.
    """
    width, piece = keys.shape[-1], 1 << 16
    for start in range(0, width, piece):
        part = keys[..., start : start + piece]
        part |= np.arange(start, start + part.shape[-1], dtype=np.uint64)
