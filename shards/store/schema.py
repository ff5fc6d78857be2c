"""What a dataset holds: samples, one index row each, and the members of a sample.

A shard is a plain tar. A sample is the group of members that share a key; the key is
`<utterance id, percent-encoded>__<variant>`. The members, in the order in which they lie in a tar
(`MEMBERS` is the list in the program):

==========================  =================================================================
`<key>.audio_scores.npy`    float32 [classes], log-probabilities of a trained audio branch
`<key>.audio_vector.npy`    float32 [width], what that branch's last layer saw
`<key>.flac`                int16 [seconds · sampling rate], the waveform
`<key>.json`                the metadata (`metadata` below), as JSON
`<key>.lld.npy`             float16 [its own frames, 32], low-level descriptors; clean only
`<key>.logmel.npy`          float16 [frames, mels], dB (10·log10 of power, floor 1e-10)
`<key>.mfcc.npy`            float16 [frames, coefficients]
`<key>.text_scores.npy`     float32 [classes], log-probabilities of a trained text branch
`<key>.text_vector.npy`     float32 [width], what that branch's last layer saw
`<key>.tokens.npy`          int32 [tokens], ids of the manifest's tokenizer, special ones too
==========================  =================================================================

Only `json` is in every sample: a dataset has the features and the text that it was configured
with, and a turn may lack one of them. Scores and vectors are in datasets that `emo features` makes
of trained runs, which hold nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, get_args
from urllib.parse import quote

import numpy as np

from shards.corpora.base import Modality
from shards.corpora.utterance import Utterance
from shards.extract import augment
from shards.extract.augment import CLEAN as CLEAN
from shards.extract.features import FEATURES

SCHEMA_VERSION = 1
ATTRIBUTES = "attributes"  # key of the metadata, and a column of the index
VARIANTS = (CLEAN, *augment.VARIANTS)


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a sample.

    `ending` follows the key and a dot in the member's name; `codec` is one of
    `shards.store.codecs.CODECS`. `dtype` is that of the stored numbers, and `axes` says what each
    axis of the array counts: "frames", "tokens" (both in the metadata), "own frames", "samples" or
    "width". The JSON member, which is no array, has neither.
    """

    name: str
    ending: str
    codec: str
    dtype: np.dtype | None
    axes: tuple[str, ...]


def _members() -> list[Member]:
    members = [
        Member("json", "json", "json", None, ()),
        Member("tokens", "tokens.npy", "npy", np.dtype("<i4"), ("tokens",)),
    ]
    for one in FEATURES.values():
        axes = (one.length,) if one.width is None else (one.length, "width")
        members.append(Member(one.name, one.member, one.codec, one.dtype, axes))
    for modality in get_args(Modality):
        for name in (f"{modality}_vector", f"{modality}_scores"):
            members.append(Member(name, f"{name}.npy", "npy", np.dtype("<f4"), ("width",)))
    return members


# By name, in the order in which they lie in a tar: WebDataset's writer sorts by the ending.
# `ShardReader` relies on this order when it fetches neighbouring members with one read.
MEMBERS: dict[str, Member] = {
    one.name: one for one in sorted(_members(), key=lambda member: member.ending)
}
# Dtypes of the stored arrays; models compute in float32.
DTYPES: dict[str, np.dtype] = {
    one.name: one.dtype for one in MEMBERS.values() if one.dtype is not None
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One utterance in one variant, ready to be written.

    `meta` is the sample's JSON (see `metadata`); `arrays` maps the name of a member ("logmel",
    "mfcc", "tokens") to its array. `rate` is the sampling rate of its waveform (Hz). `recording`
    is the identity of the sound that it was made from, and `recording_bytes` the size of its file;
    only the sidecar and (the identity) the index have them. `unknown` counts the tokens of its text
    that stand for words which the tokenizer does not know, and all tokens, special ones left out.
    `content` is `sidecar.Entry.content`, of the clean sample.
    """

    key: str
    meta: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    rate: int | None = None
    recording: str | None = None
    recording_bytes: int | None = None
    unknown: tuple[int, int] | None = None
    content: str | None = None


def sample_key(utterance: str, variant: str) -> str:
    """The sample's key: `<utterance id, percent-encoded>__<variant>`."""
    # A key must hold no dot, at which WebDataset splits a member's name, and no slash, which would
    # make folders in the tar. `quote` never encodes dots, hence the replacement.
    return quote(utterance, safe="-_").replace(".", "%2E") + "__" + variant


def facts_of(utterance: Utterance) -> dict[str, Any]:
    """What a sample's JSON says of its turn, whatever the turn's text and sound are.

    Only turns with attributes have that key: samples of other corpora are as they always were.
    """
    attributes = [asdict(one) | {"votes": [*one.votes]} for one in utterance.attributes or ()]
    return {
        "label": utterance.label,
        "votes": [list(vote) for vote in utterance.votes],
        "speaker": utterance.speaker,
        "session": utterance.session,
        "dialogue": utterance.dialogue,
        "turn": utterance.turn,
        "start": utterance.start,
        "end": utterance.end,
        "split": utterance.split,
        **({ATTRIBUTES: attributes} if attributes else {}),
    }


def metadata(
    utterance: Utterance,
    variant: str,
    arrays: Mapping[str, np.ndarray],
    text: str | None,
    seconds: float | None,
    snr: float | None,
) -> dict[str, Any]:
    """A sample's JSON member; the index has one column for each of its keys.

    Args:
        arrays: the sample's arrays by the name of their member, for `frames` and `tokens`: their
            lengths, 0 where there is none.
        text: the cleaned transcript.
        seconds: the length of this variant's waveform.
        snr: the blind estimate for the recording (dB).
    """
    counts = {"frames": 0, "tokens": 0}
    for name, array in arrays.items():
        axis, *_ = MEMBERS[name].axes
        if axis in counts:
            counts[axis] = len(array)
    return {
        "utterance": utterance.id,
        "variant": variant,
        **facts_of(utterance),
        "text": text,
        "seconds": seconds,
        "snr": snr,
        **counts,
    }
