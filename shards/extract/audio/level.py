"""How loud a recording is: the scale of its numbers, and clipping."""

from __future__ import annotations

import numpy as np

from shards.extract.audio.containers.stream import BadContainer

Remarks = list[tuple[str, str]]  # kind, reason

FULL_SCALE = 4.0  # floating-point files may peak 12 dB above ±1; more is another scale
QUIET_INTEGERS = 16.0  # from here on the numbers are those of 16-bit files


def to_full_scale(samples: np.ndarray, remarks: Remarks) -> np.ndarray:
    """Samples in ±1, where a floating-point file holds the numbers of 16-bit integers."""
    peak = float(np.abs(samples).max())
    whole = peak >= 2 and bool((samples == np.rint(samples)).all())
    if peak <= FULL_SCALE and not whole:
        return samples
    if peak > 2**15 or (peak < QUIET_INTEGERS and not whole):
        detail = f"samples reach {peak:g}, where ±1 is full scale; export it as 16-bit PCM"
        raise BadContainer("out of range", detail)
    remarks.append(("scaled", f"samples reach {peak:g}: divided by 32768, as 16-bit numbers"))
    return samples / np.float32(2**15)


def is_clipped(samples: np.ndarray) -> bool:
    """Whether a channel of [samples, channels] runs flat along its extreme value again and again.

    Flat means three equal samples at the channel's maximum or minimum; a clean signal touches its
    extreme once, a clipped one stays there, whatever the level it was scaled to afterwards.
    """
    for channel in samples.T:
        for extreme in (channel.max(), channel.min()):
            flat = np.flatnonzero(channel == extreme)
            if np.count_nonzero(flat[2:] - flat[:-2] == 2) >= 3:
                return True
    return False
