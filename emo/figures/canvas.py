"""A small picture to draw on: colours, text, and the size of text."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Anchor = Literal["lm", "mm", "rm", "lt", "mt", "mb"]  # of Pillow: where in the text the point lies

# Pictures have their own background, so that they can be read in a light and in a dark page.
PAPER: Colour = (250, 250, 252)
INK: Colour = (28, 32, 40)
FAINT: Colour = (108, 116, 130)
LINE: Colour = (206, 211, 220)
BLUE: Colour = (37, 99, 180)
ORANGE: Colour = (214, 106, 26)
GREEN: Colour = (30, 132, 73)
RED: Colour = (190, 44, 44)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)  # comes with Pillow: the same letters on every machine


class Canvas:
    """A picture of `width` x `height` pixels."""

    def __init__(self, width: int, height: int, background: Colour = PAPER) -> None:
        self._image = Image.new("RGB", (width, height), background)
        self._draw = ImageDraw.Draw(self._image)

    def box(
        self,
        corner: tuple[float, float],
        size: tuple[float, float],
        fill: Colour | None = None,
        outline: Colour | None = None,
    ) -> None:
        x, y = corner
        end = (max(x, x + size[0] - 1), max(y, y + size[1] - 1))
        self._draw.rectangle([corner, end], fill=fill, outline=outline)

    def line(
        self, points: list[tuple[float, float]], colour: Colour = LINE, width: int = 1
    ) -> None:
        self._draw.line(points, fill=colour, width=width)

    def text(
        self,
        at: tuple[float, float],
        words: str,
        colour: Colour = INK,
        size: int = 14,
        anchor: Anchor = "lm",
    ) -> None:
        self._draw.text(at, words, fill=colour, font=_font(size), anchor=anchor)

    def paste(self, pixels: np.ndarray, corner: tuple[int, int]) -> None:
        """Put uint8 [height, width, 3] there."""
        self._image.paste(Image.fromarray(pixels), corner)

    def array(self) -> np.ndarray:
        """uint8 [height, width, 3]."""
        return np.asarray(self._image)


def text_width(words: str, size: int = 14) -> float:
    """Width of `words` in pixels."""
    return float(_font(size).getlength(words))


def shortened(words: str, width: float, size: int = 14) -> str:
    """`words`, cut with an ellipsis to at most `width` pixels."""
    if text_width(words, size) <= width:
        return words
    while words and text_width(words + "…", size) > width:
        words = words[:-1]
    return words + "…"


def blend(one: Colour, other: Colour, share: float) -> Colour:
    """`share` (0 to 1) of `other` in `one`."""
    mixed = [round(a + (b - a) * share) for a, b in zip(one, other, strict=True)]
    return mixed[0], mixed[1], mixed[2]


def ink_on(colour: Colour) -> Colour:
    """Dark or light, whichever can be read on `colour`: the one of more contrast (WCAG 2)."""
    dark = (_luminance(colour) + 0.05) / (_luminance(INK) + 0.05)
    light = 1.05 / (_luminance(colour) + 0.05)
    return INK if dark >= light else (255, 255, 255)


def _luminance(colour: Colour) -> float:
    """Relative luminance as in WCAG 2."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (one / 255 for one in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
