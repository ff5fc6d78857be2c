"""A few validation turns, always the same: spectrogram with truth and prediction, and sound."""

from __future__ import annotations

import numpy as np

from emo.figures.mel import turn_picture
from emo.watching.moment import Moment
from emo.watching.pictures.sounds import sound_summary


def show_turns(moment: Moment) -> None:
    """Their spectrograms at every step, their sound at the first."""
    chosen = chosen_turns(moment.labels, len(moment.classes), moment.run.config.watch.turns)
    if not len(chosen):
        return
    names = moment.column("utterance")[chosen].tolist()
    sounds = moment.turns.hear(names) if moment.first else {}
    for place, name in zip(chosen.tolist(), names, strict=True):
        seen = moment.turns.see(name)
        if seen is not None:
            truth, guess = moment.labels[place], moment.predicted[place]
            share = 100 * moment.probabilities[place, guess]
            verdict = f"{moment.classes[truth]} → {moment.classes[guess]} {share:.0f} %"
            image = turn_picture(
                seen.logmel,
                seen.seconds,
                moment.turns.facts(name).get("text") or "",
                f"{name}: {verdict}".replace("→", "taken for"),
                bool(truth == guess),
            )
            moment.tracker.picture(f"turns/{name}", image, moment.step)
        sound = sounds.get(name)
        if sound is not None and len(sound.wave):
            moment.tracker.add(sound_summary(f"sound/{name}", sound), moment.step)


def chosen_turns(labels: np.ndarray, classes: int, count: int) -> np.ndarray:
    """Places of `count` turns in `labels` [N], one class after the other, spread over the part."""
    found = []
    for number in range(count):
        of_class = np.flatnonzero(labels == number % classes)
        rounds = -(-count // classes)
        place = (2 * (number // classes) + 1) * len(of_class) // (2 * rounds)
        found += of_class[place : place + 1].tolist()
    return np.array(sorted(set(found)), np.int64)
