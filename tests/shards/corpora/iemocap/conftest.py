"""Writes small corpora in the layout and formats of the IEMOCAP release, quirks included."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

WORDS = {
    "ang": "Anger",
    "hap": "Happiness",
    "exc": "Excited",
    "sad": "Sadness",
    "neu": "Neutral",
    "fru": "Frustration",
    "sur": "Surprise",
    "fea": "Fear",
    "dis": "Disgust",
    "oth": "Other",
}


@dataclass
class Turn:
    """One turn to write. `votes` are the three outside annotators' fields as the file has them."""

    name: str
    code: str = "neu"
    start: float = 1.0
    end: float = 2.5
    votes: Sequence[str] = ()
    vad: str = "[2.5000, 2.5000, 2.5000]"
    text: str | None = "Excuse me."  # None: no line in the transcript
    audio: bool = True
    extra: Sequence[str] = ("C-F1:\tAnger;\t(curious)", "A-E3:\tval 3; act 2; dom  2;\t()")

    def block(self) -> list[str]:
        word = WORDS.get(self.code, "Neutral state")
        votes = self.votes or [f"{word};\t()"] * 3
        return [
            f"[{self.start:.4f} - {self.end:.4f}]\t{self.name}\t{self.code}\t{self.vad}",
            *(f"C-E{number}:\t{vote}" for number, vote in enumerate(votes, start=2)),
            *self.extra,
            "",
        ]

    def line(self) -> str:
        return f"{self.name} [{self.start:08.4f}-{self.end:08.4f}]: {self.text}"


@dataclass
class Release:
    """A folder like the release's; `dialogue` adds one and returns its label file."""

    root: Path
    line_end: str = "\n"
    wave: bytes = field(default=b"RIFF", repr=False)

    def dialogue(self, name: str, turns: Sequence[Turn]) -> Path:
        session = self.root / f"Session{int(name[3:5])}"
        labels = session / "dialog/EmoEvaluation" / f"{name}.txt"
        transcript = session / "dialog/transcriptions" / f"{name}.txt"
        waves = session / "sentences/wav" / name
        for folder in (labels.parent, transcript.parent, waves):
            folder.mkdir(parents=True, exist_ok=True)
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        for turn in turns:
            lines += turn.block()
            if turn.audio:
                (waves / f"{turn.name}.wav").write_bytes(self.wave + turn.name.encode())
        spoken = [turn.line() for turn in turns if turn.text is not None]
        self.write(labels, lines)
        self.write(transcript, spoken)
        return labels

    def write(self, path: Path, lines: Sequence[str]) -> None:
        path.write_bytes("".join(line + self.line_end for line in lines).encode())


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return Release(tmp_path / "IEMOCAP_full_release")


@pytest.fixture
def turn() -> Callable[..., Turn]:
    return Turn
