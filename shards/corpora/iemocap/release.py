"""The dialogues and counts of the full IEMOCAP release, to compare a user's copy with it.

Sources: the names follow the release's scheme (five sessions, each recorded twice, with the markers
on the woman and on the man); the counts are those of the release's label files as published, and
add up to Busso et al. 2008 (10,039 turns) and to the usual 7,380 and 5,531 turns of five and four
classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from shards.corpora.labels import label_set
from shards.corpora.words import CODE_NAMES

SESSIONS = ("1", "2", "3", "4", "5")
SCRIPTS = ("01_1", "01_2", "01_3", "02_1", "02_2", "03_1", "03_2")

# Turns of each code in sessions 1 to 5.
COUNTS: dict[str, tuple[int, int, int, int, int]] = {
    "ang": (229, 137, 240, 327, 170),
    "hap": (135, 117, 135, 65, 143),
    "exc": (143, 210, 151, 238, 299),
    "sad": (194, 197, 305, 143, 245),
    "neu": (384, 362, 320, 258, 384),
    "fru": (280, 325, 382, 481, 381),
    "sur": (25, 17, 28, 19, 18),
    "fea": (12, 9, 2, 7, 10),
    "dis": (1, 0, 1, 0, 0),
    "oth": (1, 1, 0, 1, 0),
    "xxx": (415, 436, 572, 564, 520),
}


def _dialogues(session: str) -> frozenset[str]:
    # Eight improvised scenes and seven scripts, each twice; three sessions deviate from that.
    improvised = {marker: [f"{n:02d}" for n in range(1, 9)] for marker in "FM"}
    scripted = {marker: [*SCRIPTS] for marker in "FM"}
    if session == "1":
        improvised = {marker: names[:7] for marker, names in improvised.items()}
    if session == "3":
        improvised["M"] = ["01", "02", "03", "04", "05a", "05b", "06", "07", "08a", "08b"]
    if session == "5":
        scripted["M"].append("01_1b")
    return frozenset(
        f"Ses0{session}{marker}_{kind}{name}"
        for kind, names in (("impro", improvised), ("script", scripted))
        for marker in "FM"
        for name in names[marker]
    )


DIALOGUES: dict[str, frozenset[str]] = {session: _dialogues(session) for session in SESSIONS}


def compare(turns: Iterable[tuple[str, str]], dialogues: Mapping[str, set[str]]) -> list[str]:
    """Notes on how a corpus compares with the full release.

    Args:
        turns: (session, code) of every labelled turn.
        dialogues: the dialogue names found, by session.

    Returns:
        One note if all counts are as published; otherwise a warning for each class and session that
        differs, and for each session that lacks dialogues. For another corpus in the same format,
        one note.
    """
    foreign = sorted(
        name for session, names in dialogues.items() for name in names - _known(session)
    )
    if foreign:
        return [
            f"not the IEMOCAP release ({foreign[0]} is none of its 151 dialogues): "
            "the counts are not compared with the published ones"
        ]
    counted = Counter(turns)
    warnings = []
    for index, session in enumerate(SESSIONS):
        missing = sorted(DIALOGUES[session] - dialogues.get(session, set()))
        if session not in dialogues:
            warnings.append(f"WARNING: session {session} of the release is not there at all")
        elif missing:
            warnings.append(
                f"WARNING: session {session} lacks {len(missing)} of the release's "
                f"{len(DIALOGUES[session])} dialogues: {', '.join(missing[:8])}"
                + (", …" if len(missing) > 8 else "")
            )
        else:
            warnings += [
                f"WARNING: session {session}, {CODE_NAMES.get(code, 'no majority')} ({code}): "
                f"{counted[session, code]} turns, but the published release has {counts[index]}"
                for code, counts in COUNTS.items()
                if counted[session, code] != counts[index]
            ]
    if warnings:
        return [*warnings, "WARNING: restore the files named above from the release"]
    return ["full release: every count by class and session equals the published one"]


def kept_by_label_sets(turns: Iterable[tuple[str, str]]) -> str:
    """How many turns the usual label sets keep, by session: shows a corpus that is incomplete."""
    counted = Counter(turns)
    sessions = sorted({session for session, _ in counted})
    lines = []
    for name in ("four", "five", "six"):
        codes = [code for group in label_set(name).codes for code in group]
        kept = [sum(counted[session, code] for code in codes) for session in sessions]
        lines.append(f"{name} classes {sum(kept)} ({'/'.join(map(str, kept))})")
    return "turns kept, in all and by session: " + ", ".join(lines)


def _known(session: str) -> frozenset[str]:
    return DIALOGUES.get(session, frozenset())
