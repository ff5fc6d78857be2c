"""Label files of the MSP corpora: blocks of a clip's line and one line for each rater.

```
MSP-PODCAST_0001_0008.wav; N; A:2.400000; V:4.000000; D:2.800000;
WORKER00000325; Neutral; Concerned,Depressed; A:2.000000; V:4.000000; D:2.000000;
```
A blank line ends a block. `blocks` reads the first lines (columns clip, label, and A, V, D, N as
they are named), `raters` the others (also rater and other, which holds secondary emotions).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from shards.corpora.table.formats.text import open_text
from shards.corpora.table.layout import Records, Request, Table

CLIP = re.compile(r"\.\w{3,4}$")  # a clip's line begins with a file's name
NUMBER = re.compile(r"^(\w+) *: *(\S*)$")


def read_heads(one: Request) -> Table:
    """One row a clip."""
    columns, records = {"clip", "label"}, list[tuple[dict[str, str], str]]()
    for clip, fields, where in _lines(one):
        if fields[0] == clip:
            words, numbers = _fields(fields[1:])
            records.append(({"clip": clip, "label": (words or [""])[0], **numbers}, where))
            columns |= numbers.keys()
    return Table(columns, list(records))


def read_raters(one: Request) -> Table:
    """One row a rater and clip; a line that stands twice in its block counts once."""
    columns, records = {"clip", "rater", "label", "other"}, Records()
    twice, seen, block = 0, set[tuple[str, ...]](), ""
    quick = {*one.needed} <= {"clip", "label"}
    for clip, fields, where in _lines(one):
        if clip != block:
            block, seen = clip, set()
        if fields[0] == clip:
            continue
        facts = tuple(fields)
        if facts in seen:
            twice += 1
            continue
        seen.add(facts)
        if quick and len(fields) > 1 and ":" not in fields[1]:
            records.append(({"clip": clip, "label": sys.intern(fields[1])}, where))
            continue
        words, numbers = _fields(fields[1:])
        row = dict(zip(("label", "other"), [*words, "", ""], strict=False))
        wanted = {"clip": clip, "rater": fields[0], **row, **numbers}
        records.append(({k: v for k, v in wanted.items() if k in one.needed}, where))
        columns |= numbers.keys()
    if twice:
        one.notes.append(f"{twice} raters' lines of {one.path} stand there twice and count once")
    return Table(columns, records)


def _lines(one: Request) -> Iterator[tuple[str, list[str], str]]:
    """(clip, fields, where) of each line that is not blank."""
    clip, path = "", str(one.path)
    with open_text(one.path, one.layout.encoding) as file:
        for number, line in enumerate(file, start=1):
            line = line.strip()
            if not line:
                clip = ""
                continue
            fields = [field.strip() for field in line.rstrip(";").split(";")]
            if not clip or CLIP.search(fields[0]):
                clip = fields[0] if CLIP.search(fields[0]) else ""
            if not clip:
                one.errors.add(
                    f"{path}:{number}", f"a rater's line without a clip's before it: {fields[0]!r}"
                )
                continue
            yield clip, fields, f"{path}:{number}"


def _fields(fields: list[str]) -> tuple[list[str], dict[str, str]]:
    """Words in their order, and the numbers by their names."""
    words, numbers = [], {}
    for field in fields:
        if match := NUMBER.match(field):
            numbers[match[1]] = "" if match[2].lower() == "nan" else sys.intern(match[2])
        else:
            words.append(sys.intern(field))
    return words, numbers
