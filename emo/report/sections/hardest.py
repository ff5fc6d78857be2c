"""The turns that all systems were most wrong about: seen, heard and read."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from emo.figures.mel import COLOURS, mel_pixels
from emo.figures.turns import INVERTED, Sound, Turns
from emo.report.subject import Subject

TURNS = 10
MP3_RATES = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000}


@dataclass(frozen=True)
class Hard:
    """One turn as the page shows it; the sources are data URIs, "" where there is nothing."""

    name: str
    text: str
    truth: str
    facts: str
    guesses: list[tuple[str, str, str, bool]]  # system, its class, its probability %, right
    picture: str
    sound: str
    origin: str


def hardest(subjects: Sequence[Subject], count: int = TURNS) -> list[Hard]:
    """The turns whose true class has the lowest mean probability over `subjects`, worst first.

    Only subjects that predict the same turns as the first are asked.
    """
    first = subjects[0].turns
    asked = [one for one in subjects if one.turns.utterances == first.utterances]
    rows = np.arange(len(first.labels))
    truth = np.mean([one.turns.probabilities[rows, first.labels] for one in asked], axis=0)
    places = np.argsort(truth, kind="stable")[:count]
    dataset = next((one.dataset for one in asked if one.dataset is not None), None)
    turns = Turns(dataset) if dataset is not None else None
    names = [first.utterances[place] for place in places]
    sounds = turns.hear(names) if turns is not None else {}
    return [
        _hard(place, name, asked, turns, sounds.get(name))
        for place, name in zip(places.tolist(), names, strict=True)
    ]


def _hard(
    place: int, name: str, asked: Sequence[Subject], turns: Turns | None, sound: Sound | None
) -> Hard:
    first = asked[0].turns
    label = int(first.labels[place])
    guesses = []
    for one in asked:
        guess = int(one.turns.predicted[place])
        share = f"{100 * one.turns.probabilities[place, guess]:.0f}"
        guesses.append((one.name, first.classes[guess], share, guess == label))
    facts = turns.facts(name) if turns is not None else {}
    seen = turns.see(name) if turns is not None else None
    return Hard(
        name=name,
        text=facts.get("text") or "",
        truth=first.classes[label],
        facts=_said_of(facts),
        guesses=guesses,
        picture=picture_uri(seen.logmel) if seen is not None else "",
        sound=sound_uri(sound) if sound is not None and len(sound.wave) else "",
        origin=sound.origin if sound is not None and sound.origin == INVERTED else "",
    )


def _said_of(facts: dict[str, Any]) -> str:
    """Speaker, length, SNR and the annotators' votes."""
    parts = []
    if facts.get("speaker"):
        parts.append(f"speaker {facts['speaker']}")
    if facts.get("seconds"):
        parts.append(f"{facts['seconds']:.1f} s")
    if facts.get("snr") is not None:
        parts.append(f"SNR {facts['snr']:.0f} dB")
    if facts.get("votes"):
        parts.append("votes " + ", ".join("+".join(vote) for vote in facts["votes"]))
    return " · ".join(parts)


def picture_uri(logmel: np.ndarray) -> str:
    """A spectrogram as a PNG of 256 colours."""
    width = min(480, max(160, len(logmel)))
    pixels = mel_pixels(logmel, 96, width)
    # Back to the numbers of the colours: a third of the bytes of one with three channels.
    code = {tuple(one): number for number, one in reversed(list(enumerate(COLOURS.tolist())))}
    flat = [code[tuple(one)] for one in pixels.reshape(-1, 3).tolist()]
    image = Image.fromarray(np.array(flat, np.uint8).reshape(pixels.shape[:2]), "P")
    image.putpalette(COLOURS.tobytes())
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return _uri("image/png", out.getvalue())


def sound_uri(sound: Sound) -> str:
    """MP3, which every browser plays; WAV at rates that MP3 does not have."""
    import soundfile

    out = io.BytesIO()
    wave = np.clip(sound.wave, -1, 1)
    if sound.rate in MP3_RATES and "MP3" in soundfile.available_formats():
        soundfile.write(out, wave, sound.rate, format="MP3")
        return _uri("audio/mpeg", out.getvalue())
    soundfile.write(out, wave, sound.rate, format="WAV", subtype="PCM_16")
    return _uri("audio/wav", out.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
