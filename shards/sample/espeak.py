"""eSpeak NG through ctypes: phonemes in, samples out, the same ones each time.

The library and its data come from the wheel `espeakng-loader` (eSpeak NG is GPL-3.0). eSpeak keeps
state between sentences (the slow flutter of the voice, the phase of its wave) that no function of
its interface resets, so a sentence would sound different after different sentences. So the library
is loaded anew for each sentence, which takes a millisecond.
"""

from __future__ import annotations

import _ctypes
import ctypes
from dataclasses import dataclass

import numpy as np

from shards.errors import UserError

SAMPLE_RATE = 22050  # Hz, eSpeak's own

# From eSpeak NG's speak_lib.h.
_OUTPUT_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_UTF8_WITH_PHONEMES = 0x101
_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class VoiceError(UserError):
    """eSpeak NG is missing, or a call to it has failed."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a sentence is spoken: words a minute (80 to 450), pitch and range (0 to 99, eSpeak's)."""

    rate: float
    pitch: float
    range: float


def version() -> str:
    """eSpeak NG's version. Raises `VoiceError` where the wheel is missing."""
    library_path, _ = _paths()
    library = ctypes.CDLL(library_path)
    library.espeak_Info.restype = ctypes.c_char_p
    text = library.espeak_Info(None)
    _ctypes.dlclose(library._handle)
    return str(text.decode())


def speak(phonemes: str, voice: str, manner: Manner) -> np.ndarray:
    """Say `phonemes` (eSpeak's mnemonics) with an eSpeak voice such as "en+f3".

    Returns int16 [samples] at `SAMPLE_RATE`, a pure function of the arguments. Raises `VoiceError`.
    """
    library_path, data_path = _paths()
    library = ctypes.CDLL(library_path)
    chunks: list[np.ndarray] = []

    @_Callback
    def collect(samples: ctypes._Pointer[ctypes.c_short], count: int, _events: int) -> int:
        if count > 0:  # copied: eSpeak writes its next samples into the same buffer
            chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    try:
        rate = library.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 200, data_path.encode(), _DONT_EXIT)
        if rate != SAMPLE_RATE:
            raise VoiceError(
                f"eSpeak NG does not start (its data: {data_path}; it answers {rate}); install it "
                "anew: pip install --force-reinstall espeakng-loader"
            )
        library.espeak_SetSynthCallback(collect)
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise VoiceError(f"eSpeak NG has no voice {voice!r}; `en+f1` to `en+m8` are some")
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        for parameter, value in (
            (_RATE, manner.rate),
            (_VOLUME, 100),
            (_PITCH, manner.pitch),
            (_RANGE, manner.range),
        ):
            library.espeak_SetParameter(parameter, round(value), 0)
        text = f"[[{phonemes}]]".encode() + b"\0"
        library.espeak_Synth(text, len(text), 0, 0, 0, _UTF8_WITH_PHONEMES, None, None)
        library.espeak_Terminate()
    finally:
        # ctypes never unloads a library by itself. Unless this one is unloaded, the next `CDLL`
        # gets the same copy of it, with the state that this sentence has left.
        _ctypes.dlclose(library._handle)
    if not chunks:
        raise VoiceError(f"eSpeak NG says nothing for {phonemes!r}")
    return np.concatenate(chunks)


def _paths() -> tuple[str, str]:
    try:
        import espeakng_loader
    except ImportError:
        raise VoiceError(
            "the sample corpus is spoken by eSpeak NG, which is not installed: "
            "pip install '.[sample]'"
        ) from None
    return str(espeakng_loader.get_library_path()), str(espeakng_loader.get_data_path())
