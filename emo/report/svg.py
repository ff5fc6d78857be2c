"""Charts as inline SVG: their colours come from the page's style sheet, so they follow its theme.

All text is escaped. Sizes are in a chart's own units; the page scales it to its width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup, escape

from emo.figures.reliability import Bin

WIDTH, HEIGHT = 430, 236
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 12, 38


@dataclass(frozen=True)
class Line:
    """One curve: its name, points (x, y), and whether it is drawn faintly behind the others."""

    name: str
    points: Sequence[tuple[float, float]]
    faint: bool = False


@dataclass
class _Drawing:
    parts: list[Markup] = field(default_factory=list)

    def add(self, template: str, **values: object) -> None:
        self.parts.append(Markup(template).format(**values))

    def done(self, width: float, height: float, title: str) -> Markup:
        body = Markup("").join(self.parts)
        return Markup(
            '<svg viewBox="0 0 {w:.0f} {h:.0f}" role="img" aria-label="{title}">{body}</svg>'
        ).format(w=width, h=height, title=title, body=body)


def curves(
    lines: Sequence[Line], title: str, x_title: str, mark: float | None = None, scale: float = 1
) -> Markup:
    """Curves over steps.

    Args:
        mark: an x at which a vertical line stands: the checkpoint that was chosen.
        scale: what y is multiplied by for the axis (100: per cent).
    """
    drawn = [one for one in lines if one.points]
    if not drawn:
        return Markup("")
    xs = [x for one in drawn for x, _ in one.points]
    ys = [scale * y for one in drawn for _, y in one.points if np.isfinite(y)]
    ticks = nice_ticks(min(ys, default=0), max(ys, default=1))
    low, high = ticks[0], ticks[-1]
    first, last = min(xs), max(xs)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - first) / max(last - first, 1e-9)
        up = (scale * y - low) / max(high - low, 1e-9)
        return (
            LEFT + across * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM),
        )

    draw = _Drawing()
    for tick in ticks:
        _, y = at(first, tick / scale)
        draw.add('<line class="grid" x1="{a}" x2="{b}" y1="{y:.1f}" y2="{y:.1f}"/>',
                 a=LEFT, b=WIDTH - RIGHT, y=y)  # fmt: skip
        draw.add(
            '<text class="tick end" x="{x}" y="{y:.1f}">{t:g}</text>', x=LEFT - 6, y=y + 4, t=tick
        )
    for place, anchor in ((first, ""), ((first + last) / 2, "mid"), (last, "end")):
        x, _ = at(place, low / scale)
        draw.add('<text class="tick {c}" x="{x:.1f}" y="{y}">{t:,.0f}</text>',
                 c=anchor, x=x, y=HEIGHT - 20, t=place)  # fmt: skip
    draw.add('<text class="tick mid" x="{x}" y="{y}">{t}</text>',
             x=(LEFT + WIDTH) / 2, y=HEIGHT - 3, t=x_title)  # fmt: skip
    if mark is not None and first <= mark <= last:
        x, _ = at(mark, low / scale)
        draw.add('<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{a}" y2="{b}"><title>chosen: '
                 "step {s:.0f}</title></line>", x=x, a=TOP, b=HEIGHT - BOTTOM, s=mark)  # fmt: skip
    for number, one in enumerate(drawn):
        points = [at(x, y) for x, y in one.points if np.isfinite(y)]
        text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        look = f"line c{number % 6}" + (" faint" if one.faint else "")
        draw.add('<polyline class="{c}" points="{p}"><title>{n}</title></polyline>',
                 c=look, p=text, n=one.name)  # fmt: skip
    return draw.done(WIDTH, HEIGHT, title)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that span `low` to `high`."""
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / (count - 1)
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(one * power for one in (1, 2, 2.5, 5, 10) if one * power >= rough - 1e-12)
    start = np.floor(low / step + 1e-9)
    end = np.ceil(high / step - 1e-9)
    return [float(round(step * number, 10)) for number in np.arange(start, end + 1)]


def confusion(table: Sequence[Sequence[int]], classes: Sequence[str], title: str) -> Markup:
    """Row-normalised: the colour is a cell's share of its row; counts and shares are written."""
    counts = np.asarray(table)
    total = counts.sum(1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)
    cell, left, top = 74, 112, 40
    draw = _Drawing()
    for number, name in enumerate(classes):
        middle = (number + 0.5) * cell
        short = name if len(name) <= 12 else name[:11] + "…"
        draw.add(
            '<text class="name mid" x="{x}" y="{y}">{n}</text>',
            x=left + middle,
            y=top - 10,
            n=short,
        )
        draw.add(
            '<text class="name end" x="{x}" y="{y}">{n}</text>', x=left - 8, y=top + middle, n=short
        )
        draw.add('<text class="tick end" x="{x}" y="{y}">{n} turns</text>',
                 x=left - 8, y=top + middle + 15, n=int(total[number, 0]))  # fmt: skip
    for row, column in np.ndindex(*counts.shape):
        x, y = left + column * cell, top + row * cell
        value = float(share[row, column])
        draw.add('<rect class="cell" x="{x}" y="{y}" width="{s}" height="{s}" '
                 'fill-opacity="{o:.3f}"><title>{t} taken for {p}: {n} of {m}</title></rect>',
                 x=x + 1, y=y + 1, s=cell - 2, o=value**0.8, t=classes[row], p=classes[column],
                 n=int(counts[row, column]), m=int(total[row, 0]))  # fmt: skip
        tone = "on" if value > 0.45 else "off"
        draw.add('<text class="count mid {c}" x="{x}" y="{y}">{n}</text>',
                 c=tone, x=x + cell / 2, y=y + 36, n=int(counts[row, column]))  # fmt: skip
        draw.add('<text class="share mid {c}" x="{x}" y="{y}">{n:.0f} %</text>',
                 c=tone, x=x + cell / 2, y=y + 54, n=100 * value)  # fmt: skip
    size = len(classes) * cell
    return draw.done(left + size + 4, top + size + 4, title)


def reliability(bins: Sequence[Bin], title: str) -> Markup:
    """Accuracy over confidence, with the number of turns in each bin."""
    side, left, top = 220, 40, 12
    draw = _Drawing()
    for tick in (0, 0.5, 1):
        y = top + (1 - tick) * side
        draw.add(
            '<line class="grid" x1="{a}" x2="{b}" y1="{y}" y2="{y}"/>', a=left, b=left + side, y=y
        )
        draw.add(
            '<text class="tick end" x="{x}" y="{y}">{t:.0f}</text>',
            x=left - 5,
            y=y + 4,
            t=100 * tick,
        )
        draw.add('<text class="tick mid" x="{x}" y="{y}">{t:.0f}</text>',
                 x=left + tick * side, y=top + side + 15, t=100 * tick)  # fmt: skip
    for one in bins:
        if not one.turns:
            continue
        x, width = left + one.low * side + 1, (one.high - one.low) * side - 2
        draw.add('<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" '
                 'height="{h:.1f}"><title>{n} turns: confidence {c:.1f} %, right {r:.1f} %</title>'
                 "</rect>",
                 x=x, y=top + (1 - one.accuracy) * side, w=width, h=max(0.5, one.accuracy * side),
                 n=one.turns, c=100 * one.confidence, r=100 * one.accuracy)  # fmt: skip
        draw.add('<line class="claim" x1="{a:.1f}" x2="{b:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>',
                 a=x, b=x + width, y=top + (1 - one.confidence) * side)  # fmt: skip
    draw.add('<line class="mark" x1="{a}" y1="{b}" x2="{c}" y2="{d}"/>',
             a=left, b=top + side, c=left + side, d=top)  # fmt: skip
    draw.add(
        '<text class="tick mid" x="{x}" y="{y}">confidence %</text>',
        x=left + side / 2,
        y=top + side + 30,
    )
    return draw.done(left + side + 16, top + side + 36, title)


def shares(values: dict[str, int], title: str) -> Markup:
    """Counts as horizontal bars, with their shares."""
    total, row, left, width = max(1, sum(values.values())), 22, 120, 240
    most = max(values.values(), default=1)
    draw = _Drawing()
    for number, (name, count) in enumerate(values.items()):
        y = number * row
        draw.add('<text class="name end" x="{x}" y="{y}">{n}</text>', x=left - 8, y=y + 15, n=name)
        draw.add('<rect class="bar" x="{x}" y="{y}" width="{w:.1f}" height="{h}"/>',
                 x=left, y=y + 3, w=max(1.0, width * count / max(1, most)), h=row - 7)  # fmt: skip
        draw.add('<text class="tick" x="{x:.1f}" y="{y}">{n:,} · {s:.0f} %</text>',
                 x=left + width * count / max(1, most) + 6, y=y + 15, n=count,
                 s=100 * count / total)  # fmt: skip
    return draw.done(left + width + 96, max(1, len(values)) * row, title)


def legend(names: Sequence[str], shown: Callable[[str], str] = str) -> Markup:
    """Names beside the colours of `curves`."""
    keys = [
        Markup('<span class="key"><i class="c{n}"></i>{name}</span>').format(
            n=number % 6, name=escape(shown(name))
        )
        for number, name in enumerate(names)
    ]
    return Markup('<p class="legend">{}</p>').format(Markup("").join(keys))
