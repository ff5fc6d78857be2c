"""What the preprocessing job writes: `Sample`, one index row each.

A shard is a plain tar. A sample is the group of members that share a key; the key is
`<utterance id, percent-encoded>__<variant>`. Members:

======================  =====================================================================
`<key>.json`            the metadata below, as JSON
`<key>.logmel.npy`      float16 [frames, mels], dB (10·log10 of power, floor 1e-10)
`<key>.mfcc.npy`        float16 [frames, coefficients]
`<key>.lld.npy`         float16 [its own frames, 32], low-level descriptors; clean variant only
`<key>.flac`            int16 [seconds · sampling rate], the waveform
`<key>.tokens.npy`      int32 [tokens], ids of the manifest's tokenizer, special tokens included
`<key>.text_vector.npy` float32 [width], what a trained text branch's last layer saw
`<key>.text_scores.npy` float32 [classes], that branch's log-probabilities
`<key>.audio_….npy`     the same two of a trained audio branch
======================  =====================================================================

The last four are in datasets that `emo features` makes of trained runs, which have nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import numpy as np

from shards.corpora.utterance import Utterance

SCHEMA_VERSION = 1


CLEAN = "clean"
VARIANTS = (CLEAN, "noise", "pitch", "stretch", "shift")  # the paper's four, beside the clean one

# Of the arrays as they are written; computing is done in float32.
DTYPES: dict[str, np.dtype] = {
    "logmel": np.dtype("<f2"),
    "mfcc": np.dtype("<f2"),
    "lld": np.dtype("<f2"),
    "waveform": np.dtype("<i2"),
    "tokens": np.dtype("<i4"),
    "text_vector": np.dtype("<f4"),
    "text_scores": np.dtype("<f4"),
    "audio_vector": np.dtype("<f4"),
    "audio_scores": np.dtype("<f4"),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One utterance in one variant, ready to be written.

    `meta` is the sample's JSON (see `metadata`); `arrays` maps a member name without the key
    ("logmel", "mfcc", "tokens") to its array. `rate` is the sampling rate of its waveform (Hz).
    """

    key: str
    meta: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    rate: int | None = None


def sample_key(utterance: str, variant: str) -> str:
    """The sample's key. Dots and slashes are percent-encoded: WebDataset splits names at dots."""
    return quote(utterance, safe="-_").replace(".", "%2E") + "__" + variant


def metadata(
    utterance: Utterance,
    variant: str,
    text: str | None,
    seconds: float | None,
    snr: float | None,
    frames: int,
    tokens: int,
) -> dict[str, Any]:
    """A sample's JSON member; the index has one column for each of its keys.

    `text` is the cleaned transcript; `seconds` the length of this variant's waveform; `snr` the
    blind estimate for the recording (dB); `frames` (of logmel and mfcc) and `tokens` the lengths of
    its arrays (0 where it has none).
    """
    return {
        "utterance": utterance.id,
        "variant": variant,
        "label": utterance.label,
        "votes": [list(vote) for vote in utterance.votes],
        "speaker": utterance.speaker,
        "session": utterance.session,
        "dialogue": utterance.dialogue,
        "turn": utterance.turn,
        "start": utterance.start,
        "end": utterance.end,
        "split": utterance.split,
        "text": text,
        "seconds": seconds,
        "snr": snr,
        "frames": frames,
        "tokens": tokens,
    }
