"""A track of windows as lines like RTTM's, and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from emo.serving.items import Prediction
from emo.serving.many.windows import Segment

WIDTH, LANE, LEFT, TOP = 1000, 26, 110, 34  # pixels
# Okabe and Ito's colours, which people who see fewer colours tell apart too.
COLOURS = ("#D55E00", "#0072B2", "#E69F00", "#999999", "#56B4E9", "#009E73", "#CC79A7", "#F0E442")


def rttm(segments: Sequence[Segment]) -> str:
    """One line a segment, the ten fields of NIST's RTTM: type EMOTION, the label as the name."""
    return "".join(
        f"EMOTION {one.name.replace(' ', '_')} 1 {one.start:.3f} {one.end - one.start:.3f} "
        f"<NA> <NA> {one.label} {one.confidence:.4f} <NA>\n"
        for one in segments
    )


def picture(track: Sequence[Prediction], classes: Sequence[str]) -> str:
    """An SVG of one recording: a lane for each class over time, dark where it is probable."""
    total = max((one.end or 0.0 for one in track), default=0.0) or 1.0
    across = (WIDTH - LEFT - 20) / total
    height = TOP + LANE * len(classes) + 34
    name = escape(track[0].name) if track else ""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="13" role="img">',
        f"<title>Emotions over time: {name}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="8" y="20" fill="#222">{name}</text>',
    ]
    for row, label in enumerate(classes):
        y = TOP + row * LANE
        parts.append(f'<text x="8" y="{y + 17}" fill="#222">{escape(label)}</text>')
        for number, one in enumerate(track):
            if not one.probabilities:
                continue
            start, end = _cell(track, number)
            p = one.probabilities[label]
            parts.append(
                f'<rect x="{LEFT + start * across:.2f}" y="{y + 2}" height="{LANE - 4}" '
                f'width="{max(0.5, (end - start) * across):.2f}" '
                f'fill="{COLOURS[row % len(COLOURS)]}" fill-opacity="{p:.3f}">'
                f"<title>{start:.1f}-{end:.1f} s: {escape(label)} {100 * p:.0f} %</title></rect>"
            )
    below = TOP + LANE * len(classes)
    for tick in range(7):
        time = total * tick / 6
        x = LEFT + time * across
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{below}" y2="{below + 5}" stroke="#222"/>'
        )
        parts.append(
            f'<text x="{x:.1f}" y="{below + 20}" text-anchor="middle" fill="#222">'
            f"{int(time // 60)}:{time % 60:04.1f}</text>"
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _cell(track: Sequence[Prediction], number: int) -> tuple[float, float]:
    """The stretch that a window is drawn over: up to the start of the next one."""
    one = track[number]
    start, end = one.start or 0.0, one.end or 0.0
    if number + 1 < len(track):
        end = min(end, track[number + 1].start or end)
    return start, end
