"""`Feature`: everything that the program needs to know about one kind of audio feature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from shards.configfile import Config

# (wave float32 [samples], the features computed of it so far, by name) -> the feature
Extract = Callable[[np.ndarray, Mapping[str, np.ndarray]], np.ndarray]


def _no_check(settings: Any) -> None:
    pass


@dataclass(frozen=True)
class Feature:
    """One kind of audio feature. It exists once it is in `shards.extract.features.FEATURES`.

    Everything else follows from that list: the names that `features.kinds` and `data.audio` accept,
    the members of a sample, the columns of the index, and the checks of `emo-shards verify`.

    The functions below get the feature's settings: those of its own `section` of `features:` if it
    has one, else the `SpectrumConfig` that log-mel spectrum and MFCC share.

    Attributes:
        name: in `features.kinds`, as a member of a sample, and in `data.audio`.
        dtype: of the stored numbers; they are computed in float32.
        prepare: (settings, sampling rate in Hz) -> the function that computes the feature of a
            wave. What is slow is done here, once in each process.
        length: what the first axis counts: "frames", the number that the index keeps for all
            features of one hop; "own frames", those of this feature alone; "samples" of the wave.
        width: settings -> size of the second axis; None for a feature of one axis.
        needs: kinds that are computed before this one, even if they are not written.
        clean_only: True if augmented variants do not have it.
        codec: how the array becomes bytes (`shards.store.codecs`).
        ending: of the member's name in the tar; by default "<name>.<codec>".
        section: key of its own settings in `features:`, and `settings` their class.
        shared: whether the `SpectrumConfig` is part of the digest of a dataset with only this kind.
        check: raises ValueError for settings with which this kind cannot be computed.
        preload: modules that only this kind needs, loaded once before a build's workers are forked.
    """

    name: str
    dtype: np.dtype
    prepare: Callable[[Any, int], Extract]
    length: Literal["frames", "own frames", "samples"]
    width: Callable[[Any], int] | None = None
    needs: tuple[str, ...] = ()
    clean_only: bool = False
    codec: Literal["npy", "flac"] = "npy"
    ending: str = ""
    section: str | None = None
    settings: type[Config] | None = None
    shared: bool = True
    check: Callable[[Any], None] = _no_check
    preload: tuple[str, ...] = ()

    @property
    def member(self) -> str:
        """The end of the member's name in a tar, after the sample's key and a dot."""
        return self.ending or f"{self.name}.{self.codec}"
