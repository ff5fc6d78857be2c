"""Reads a corpus in the layout of the IEMOCAP release (Busso et al. 2008).

```
Session{n}/dialog/EmoEvaluation/<dialogue>.txt     labels and votes; only the top-level *.txt
Session{n}/dialog/transcriptions/<dialogue>.txt    one turn a line
Session{n}/sentences/wav/<dialogue>/<turn>.wav     one file a turn
```
Only turns with a label are read. In `Ses01F_impro01_M003` the first F is the actor who wears the
markers; the *speaker* is the letter of the last part, here the man of session 1.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field

from shards.configfile import Config
from shards.corpora.attributes import Attribute, attribute
from shards.corpora.base import (
    MISSING_AUDIO,
    MISSING_TRANSCRIPT,
    TRUTH,
    Corpus,
    CorpusError,
    Errors,
    FileIndex,
    Modality,
    Problem,
    check_problems,
    count_table,
    same_recordings,
)
from shards.corpora.iemocap import release
from shards.corpora.iemocap.files import LabelledTurn, Transcript, parse_labels
from shards.corpora.incomplete import settle
from shards.corpora.utterance import Utterance

VOTES_A_TURN = 3
ATTRIBUTES = ("valence", "arousal", "dominance")  # in the order of the label files
SCALE = (1.0, 5.0)
LABELS, TRANSCRIPTS = "dialog/EmoEvaluation", "dialog/transcriptions"
AUDIO = "sentences/wav"

_DIALOGUE = re.compile(r"Ses(\d\d)[FM]_\w+")


class IemocapConfig(Config):
    """Where the corpus is, and what to read of it."""

    reader: Literal["iemocap"] = "iemocap"
    root: Path  # the folder that holds Session1 … Session5
    modalities: tuple[Modality, ...] = Field(default=("audio", "text"), min_length=1)
    max_problems: int = Field(default=0, ge=0)  # turns without audio or transcript that are allowed
    attributes: bool = False  # whether to read valence, arousal (IEMOCAP: activation), dominance

    def read(self, keep_incomplete: bool = False) -> Corpus:
        """Read the corpus; see `read` below."""
        return read(self, keep_incomplete)


@dataclass
class _Progress:
    """What has been read so far, over all sessions."""

    attributes: bool = False  # whether they are read
    turns: list[tuple[str, LabelledTurn]] = field(default_factory=list)  # with their session
    dialogues: dict[str, set[str]] = field(default_factory=dict)  # by session
    utterances: list[Utterance] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    errors: Errors = field(default_factory=Errors)
    sources: dict[str, str] = field(default_factory=dict)  # turn name -> file:line
    files: FileIndex = field(default_factory=FileIndex)


def read(config: IemocapConfig, keep_incomplete: bool = False) -> Corpus:
    """Read all labelled turns, and compare the counts with those of the full release.

    Args:
        keep_incomplete: as `incomplete.settle`'s `keep`.

    Raises:
        CorpusError: the folders are missing; label files have errors (the message lists them all);
            or more than `max_problems` turns lack their audio file or transcript.
    """
    root = config.root.expanduser()
    progress = _Progress(config.attributes)
    for session, folder in _sessions(root, config.modalities):
        progress.dialogues[session] = set()
        for path in _label_files(folder):
            _read_dialogue(path, session, folder, config.modalities, progress)
    progress.errors.raise_if_any(root)

    truth = root / TRUTH
    codes = [(session, turn.code) for session, turn in progress.turns]
    utterances, problems = settle(progress.utterances, progress.problems, keep_incomplete)
    notes = [*_describe(root, progress), *same_recordings(utterances)]
    if truth.is_file():
        notes.append(f"a made corpus with known answers ({TRUTH}): not compared with the release")
    else:
        notes += release.compare(codes, progress.dialogues)
    notes += check_problems(problems, config.max_problems, root)
    return Corpus(
        sorted(utterances, key=lambda utterance: utterance.id),
        notes,
        problems,
        truth if truth.is_file() else None,
    )


def _read_dialogue(
    path: Path, session: str, folder: Path, modalities: tuple[Modality, ...], progress: _Progress
) -> None:
    dialogue = path.stem
    match = _DIALOGUE.fullmatch(dialogue)
    if match is None or int(match[1]) != int(session):
        progress.errors.add(
            str(path),
            f"not the name of a dialogue of session {session}; only label files belong there",
        )
        return
    progress.dialogues[session].add(dialogue)
    transcript = Transcript.of(folder / TRANSCRIPTS / path.name)
    # Numbers count all labelled turns, so that leaving one out does not renumber the others.
    for number, turn in enumerate(parse_labels(path, progress.errors)):
        progress.turns.append((session, turn))
        letter = _speaker_letter(turn, dialogue, progress)
        audio = text = None
        if "audio" in modalities:
            audio = folder / AUDIO / dialogue / f"{turn.name}.wav"
            if audio not in progress.files:
                what = f"there is no file {audio}"
                progress.problems.append(Problem(MISSING_AUDIO, turn.name, what))
        if "text" in modalities:
            text = transcript.texts.get(turn.name)
            if text is None:
                why = transcript.why_missing()
                progress.problems.append(Problem(MISSING_TRANSCRIPT, turn.name, why))
        progress.utterances.append(
            Utterance(
                id=turn.name,
                audio=audio,
                text=text,
                label=turn.code,
                votes=turn.votes,
                speaker=f"Ses{match[1]}{letter}",
                session=session,
                dialogue=dialogue,
                turn=number,
                start=turn.start,
                end=turn.end,
                source=turn.source,
                attributes=_attributes(turn, progress) if progress.attributes else None,
            )
        )


def _attributes(turn: LabelledTurn, progress: _Progress) -> tuple[Attribute, ...]:
    found = []
    for name, mean, votes in zip(ATTRIBUTES, turn.vad, turn.ratings, strict=True):
        try:
            found.append(attribute(name, mean, [*votes], SCALE))
        except ValueError as error:
            progress.errors.add(turn.source, f"{turn.name}: {error}")
    return tuple(one for one in found if one is not None)


def _speaker_letter(turn: LabelledTurn, dialogue: str, progress: _Progress) -> str:
    first = progress.sources.setdefault(turn.name, turn.source)
    # Identity, not equality: `setdefault` gives back this very string if the name is new.
    if first is not turn.source:
        progress.errors.add(turn.source, f"{turn.name} was labelled before, at {first}; remove one")
    # The dialogue's name is a prefix of others (script01_1, script01_1b): compare it whole.
    prefix, _, last = turn.name.rpartition("_")
    if prefix != dialogue or last[:1] not in ("F", "M"):
        progress.errors.add(
            turn.source,
            f"{turn.name!r} is no turn of {dialogue}: expected {dialogue}_F… or {dialogue}_M…; "
            "correct the line, or restore the file from the release",
        )
    return last[:1]


def _sessions(root: Path, modalities: tuple[Modality, ...]) -> list[tuple[str, Path]]:
    """(session, folder) in order. Raises CorpusError if a folder of the layout is missing."""
    wanted = f"Session1 … Session5, each with {LABELS}"
    if not root.is_dir():
        raise CorpusError(
            f"there is no corpus folder {root}: set corpus.root to the folder that holds {wanted}"
        )
    folders = {
        path.name.removeprefix("Session"): path
        for path in root.glob("Session*")
        if path.is_dir() and path.name.removeprefix("Session").isdecimal()
    }
    if not folders:
        inner = sorted(path.parent for path in root.glob("*/Session1"))
        hint = f"; did you mean corpus.root={inner[0]}?" if inner else ""
        raise CorpusError(f"{root} holds no session folders; looked for {wanted}{hint}")
    needed = {LABELS: True, TRANSCRIPTS: "text" in modalities, AUDIO: "audio" in modalities}
    lacking = [
        str(folder / part)
        for folder in folders.values()
        for part, wants in needed.items()
        if wants and not (folder / part).is_dir()
    ]
    if lacking:
        raise CorpusError(
            f"the corpus {root} lacks {', '.join(sorted(lacking))}: restore what is missing, "
            "or set corpus.modalities to [audio] or [text] if the other one is not needed"
        )
    return sorted(folders.items(), key=lambda item: int(item[0]))


def _label_files(folder: Path) -> list[Path]:
    # Not recursive: sub-folders hold .txt files in other formats. macOS leaves files named `._x`.
    return sorted(path for path in (folder / LABELS).glob("*.txt") if not path.name.startswith("."))


def _describe(root: Path, progress: _Progress) -> list[str]:
    turns = [turn for _, turn in progress.turns]
    if not turns:
        raise CorpusError(f"the label files under {root}/Session*/{LABELS} hold no turns")
    improvised = sum("_impro" in turn.name for turn in turns)
    hours = sum(turn.end - turn.start for turn in turns) / 3600
    dialogues = sum(map(len, progress.dialogues.values()))
    codes = [(session, turn.code) for session, turn in progress.turns]
    notes = [
        f"{root}: {len(turns)} labelled turns ({improvised} improvised, {len(turns) - improvised} "
        f"scripted) in {dialogues} dialogues of {len(progress.dialogues)} sessions, {hours:.2f} h",
        count_table(codes, "by session"),
        release.kept_by_label_sets(codes),
    ]
    several = sum(len(vote) > 1 for turn in turns for vote in turn.votes)
    notes.append(f"{several} votes name more than one category")
    unusual = Counter(len(turn.votes) for turn in turns if len(turn.votes) != VOTES_A_TURN)
    if unusual:
        counts = ", ".join(f"{count} with {votes}" for votes, count in sorted(unusual.items()))
        notes.append(f"WARNING: turns have {VOTES_A_TURN} outside annotators, but {counts}")
    return notes
