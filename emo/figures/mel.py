"""Log-mel spectrograms as pictures."""

from __future__ import annotations

import numpy as np

from emo.figures.canvas import FAINT, GREEN, INK, RED, Canvas, Colour, shortened

# From silence to loud: lightness rises all the way, so that it can be read without colours too.
_STOPS = np.array(
    [(9, 8, 32), (45, 22, 92), (108, 34, 118), (176, 52, 104), (230, 92, 70), (250, 158, 60),
     (252, 246, 190)], float
)  # fmt: skip
COLOURS = np.stack(
    [np.interp(np.linspace(0, 6, 256), np.arange(7), _STOPS[:, part]) for part in range(3)], 1
).astype(np.uint8)
RANGE = 80.0  # dB below the loudest that are shown


def mel_pixels(logmel: np.ndarray, height: int = 128, width: int | None = None) -> np.ndarray:
    """uint8 [height, width, 3] of a log-mel spectrum [frames, mels] in dB: time to the right.

    `width` None: a pixel a frame. Nearest neighbours, as nothing between two frames was measured.
    """
    values = np.asarray(logmel, np.float32)
    top = float(values.max(initial=-100.0))
    level = np.clip((values - (top - RANGE)) / RANGE, 0, 1)
    frames, mels = values.shape
    columns = np.arange(frames) if width is None else np.arange(width) * frames // width
    rows = (np.arange(height) * mels // height)[::-1]  # low pitches below
    return COLOURS[(255 * level).astype(np.uint8)][columns][:, rows].transpose(1, 0, 2)


def turn_picture(
    logmel: np.ndarray, seconds: float, words: str, verdict: str, right: bool
) -> np.ndarray:
    """uint8 [height, width, 3]: a spectrogram, what is said, and the verdict on it.

    Args:
        words: the transcript; may be empty.
        verdict: truth and prediction, green if `right`, else red.
    """
    width, height, head = 640, 192, 62
    canvas = Canvas(width + 24, head + height + 34)
    colour: Colour = GREEN if right else RED
    canvas.text((12, 20), shortened(verdict, width, 16), colour, 16)
    if any(ord(letter) >= 0x250 and letter.isalpha() for letter in words):
        words = "(the font of these pictures has Latin letters only)"
    canvas.text((12, 44), shortened(words or "(no transcript)", width, 13), INK, 13)
    canvas.paste(mel_pixels(logmel, height, width), (12, head))
    for tick in range(5):
        x = 12 + width * tick / 4
        anchor = ("lm", "mm", "mm", "mm", "rm")[tick]
        where = f"{seconds * tick / 4:.1f} s"
        canvas.text((x, head + height + 16), where, FAINT, 12, anchor)  # type: ignore[arg-type]
    return canvas.array()
