"""Writes the sample corpus: made-up speech in IEMOCAP's layout, with known answers.

    ROOT/README.txt, truth.jsonl
    ROOT/Session{1..5}/dialog/EmoEvaluation/<dialog>.txt      labels and votes
    ROOT/Session{1..5}/dialog/transcriptions/<dialog>.txt     transcripts
    ROOT/Session{1..5}/sentences/wav/<dialog>/<turn>.wav      audio, 16 kHz mono 16 bit

`emotions` draws emotions, cues and votes; `sentences` holds the written lines; `render` makes the
audio; `ceilings` computes the best possible predictions.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from shards import atomic
from shards.corpora.base import TRUTH
from shards.errors import UserError
from shards.processes import die_with_parent
from shards.sample import emotions, espeak, render
from shards.sample.attributes import draw_ratings
from shards.sample.ceilings import FORMAT, read_header
from shards.sample.emotions import EMOTIONS, DrawnTurn
from shards.sample.sentences import lines

VERSION = 1  # of the recipe: raise it with every change that makes another corpus of the same seed
SESSIONS = 5
_OWN_ENTRIES = {"README.txt", TRUTH, *(f"Session{n}" for n in range(1, SESSIONS + 1))}

# A session's 30 dialogues: eight improvisations and seven scripts, each recorded with the markers
# on the female and on the male speaker.
_SCENES = (*(f"impro{n:02d}" for n in range(1, 9)), "script01_1", "script01_2", "script01_3",
           "script02_1", "script02_2", "script03_1", "script03_2")  # fmt: skip
_PER_SESSION = 2 * len(_SCENES)
MAX_DIALOGUES = SESSIONS * _PER_SESSION

_WORDS = {
    "ang": "Anger", "hap": "Happiness", "exc": "Excited", "sad": "Sadness", "neu": "Neutral",
    "fru": "Frustration", "sur": "Surprise", "fea": "Fear", "dis": "Disgust", "oth": "Other",
}  # fmt: skip
_TAGS = ("[BREATHING]", "[LAUGHTER]", "[LIPSMACK]", "[GARBAGE]")  # independent of all else
_TAG_SHARE = 0.04

_README = """A sample corpus in the layout of IEMOCAP. Nothing in it is a recording of a person.

Every turn was drawn from a known process and spoken by eSpeak NG as random syllables; the written
lines are not what is heard. truth.jsonl holds the process and what it says about each turn.
It serves to check a training system, not to learn about emotions.
"""

Progress = Callable[[int, int], None]


class SampleError(UserError):
    """The sample corpus cannot be written where it was asked for."""


def write_corpus(
    root: Path,
    seed: int,
    dialogues: int = MAX_DIALOGUES,
    progress: Progress | None = None,
    prosody: bool = True,
    workers: int | None = None,
) -> bool:
    """Write the sample corpus into the folder `root`; about 28 turns a dialogue.

    The files depend on `seed`, `dialogues` and `prosody` alone, not on `workers` (processes; by
    default one a core, at most four). Without `prosody` every turn is spoken in the same manner,
    and the truth file says that the audio tells nothing. `progress` is called with the number of
    dialogues that are done, and of all. The corpus is built in a folder beside `root` and renamed
    at the end, so that `root` never holds a part of it.

    Returns False and does nothing if `root` holds this very corpus. Another sample corpus is
    replaced. Raises `SampleError` if `root` holds anything else, `VoiceError` without eSpeak NG.
    """
    if not 1 <= dialogues <= MAX_DIALOGUES:
        raise SampleError(f"dialogues: {dialogues} is out of range; ask for 1 to {MAX_DIALOGUES}")
    if seed < 0:
        raise SampleError(f"seed: {seed} is negative; give 0 or more")
    root = root.absolute()
    header = _header(seed, dialogues, prosody)
    if read_header(root / TRUTH) == header:
        return False
    _check_replaceable(root)
    espeak.version()  # a missing wheel is reported before anything is written

    with atomic.disk_errors(root):
        root.parent.mkdir(parents=True, exist_ok=True)
        atomic.remove_stale(root.parent)
        draft = atomic.temporary(root)
        draft.mkdir()
        try:
            records = _write_dialogues(draft, seed, dialogues, prosody, workers, progress)
            _write_text(
                draft / TRUTH,
                "".join(json.dumps(record) + "\n" for record in [header, *records]),
            )
            _write_text(draft / "README.txt", _README)
            _put_in_place(draft, root)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return True


def dialogue_name(index: int) -> str:
    """The name of dialogue `index`, as IEMOCAP would name it; sessions take turns."""
    session, place = index % SESSIONS + 1, index // SESSIONS
    # In steps of 8 through 15 scenes: small corpora, too, get improvised and scripted ones. 8 and
    # 15 have no common divisor, so every scene comes up.
    scene = _SCENES[(place // 2 * 8) % len(_SCENES)]
    return f"Ses{session:02d}{'FM'[place % 2]}_{scene}"


def _header(seed: int, dialogues: int, prosody: bool) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "seed": seed,
        "dialogues": dialogues,
        "prosody": prosody,
        **emotions.process_header(),
        "rendering": render.describe(),
    }


def _write_dialogues(
    root: Path,
    seed: int,
    dialogues: int,
    prosody: bool,
    workers: int | None,
    progress: Progress | None,
) -> list[dict[str, Any]]:
    """Write every dialogue's files below `root`; return the truth file's records in order."""
    workers = min(workers or min(4, len(os.sched_getaffinity(0))), dialogues)
    write = partial(_write_dialogue, root, seed, prosody)
    records: dict[int, list[dict[str, Any]]] = {}

    def finished(index: int, result: list[dict[str, Any]]) -> None:
        records[index] = result
        if progress:
            progress(len(records), dialogues)

    if workers == 1:
        for index in range(dialogues):
            finished(index, write(index))
    else:
        # Spawned, because a fork would copy locks that threads of other libraries hold.
        with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker) as pool:
            try:
                futures = {pool.submit(write, index): index for index in range(dialogues)}
                for future in as_completed(futures):
                    finished(futures[future], future.result())
            except BaseException:
                # Waits for the dialogues in work: nobody may write into a folder that is removed.
                pool.shutdown(cancel_futures=True)
                raise
    return [record for index in range(dialogues) for record in records[index]]


def _start_worker() -> None:
    """In a worker process: leave Ctrl-C to the parent, and die with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()


def _write_dialogue(root: Path, seed: int, prosody: bool, index: int) -> list[dict[str, Any]]:
    """Write one dialogue: its turns' audio, its label file, its transcript. Returns its truth."""
    import soundfile

    # One random stream for each purpose. A draw more or less in one then changes nothing in the
    # others: a corpus without prosody differs in nothing else. The order of the five is part of the
    # recipe (`VERSION`).
    drawing, writing, syllables, rendering, rating = (
        np.random.default_rng(stream)
        for stream in np.random.SeedSequence(seed, spawn_key=(index,)).spawn(5)
    )
    name = dialogue_name(index)
    session = name[4]
    base = root / f"Session{session}"
    wav = base / "sentences" / "wav" / name
    wav.mkdir(parents=True)

    clock = rating.uniform(0.5, 8.0)
    labels, transcript, records = [_LABEL_FILE_TITLE], [], []
    for turn in emotions.draw_dialogue(drawing):
        identity = f"{name}_{turn.speaker}{turn.order:03d}"
        line = str(writing.choice(lines(EMOTIONS[turn.word_cue])))
        spoken = render.draw_syllables(syllables)
        manner = render.PROSODIES[turn.prosody_cue] if prosody else render.FLAT
        samples = render.render(spoken, session + turn.speaker, manner, rendering)
        soundfile.write(wav / f"{identity}.wav", samples, render.SAMPLE_RATE, subtype="PCM_16")

        end = clock + len(samples) / render.SAMPLE_RATE
        labels.append(_label_block(identity, turn, clock, end, rating))
        transcript.append(f"{identity} [{clock:08.4f}-{end:08.4f}]: {_with_tag(line, rating)}\n")
        records.append(_truth_record(identity, name, turn, spoken, prosody))
        clock = end + rating.uniform(0.1, 1.5)
    _write_text(base / "dialog" / "EmoEvaluation" / f"{name}.txt", "\n".join(labels))
    _write_text(base / "dialog" / "transcriptions" / f"{name}.txt", "".join(transcript))
    return records


_LABEL_FILE_TITLE = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n"


def _label_block(
    identity: str, turn: DrawnTurn, start: float, end: float, rng: np.random.Generator
) -> str:
    """One turn's block of the label file, as IEMOCAP writes it."""
    emotion = EMOTIONS[turn.emotion]
    ratings = draw_ratings(emotion, rng)
    means = ", ".join(f"{mean:.4f}" for mean in ratings.mean(axis=0))
    rows = [f"[{start:.4f} - {end:.4f}]\t{identity}\t{turn.label}\t[{means}]"]
    rows += [
        f"C-E{number}:\t{_categories(vote, rng)}\t()"
        for number, vote in zip((2, 3, 4), turn.votes, strict=True)
    ]
    # The speaker's own rating, which is no vote: drawn by itself, often another word.
    rows.append(f"C-{turn.speaker}1:\t{_WORDS[str(rng.choice(list(_WORDS)))]};\t()")
    for who, (valence, activation, dominance) in zip(("E3", "E4"), ratings, strict=True):
        rows.append(f"A-{who}:\tval {valence:.0f}; act {activation:.0f}; dom  {dominance:.0f};\t()")
    own = rng.integers(1, 6, size=3)
    rows.append(f"A-{turn.speaker}1:\tval {own[0]}; act {own[1]}; dom  {own[2]};\t()")
    return "\n".join(rows) + "\n"


def _categories(vote: tuple[str, ...], rng: np.random.Generator) -> str:
    words = [_WORDS[code] for code in vote]
    if words == ["Neutral"] and rng.random() < 0.3:
        words = ["Neutral state"]  # the release writes both
    return " ".join(f"{word};" for word in words)


def _with_tag(line: str, rng: np.random.Generator) -> str:
    return f"{rng.choice(_TAGS)} {line}" if rng.random() < _TAG_SHARE else line


def _truth_record(
    identity: str, dialogue: str, turn: DrawnTurn, spoken: str, prosody: bool
) -> dict[str, Any]:
    heard = emotions.PROSODY_GIVEN_EMOTION[:, turn.prosody_cue]
    return {
        "id": identity,
        "chain": f"{dialogue}/{turn.speaker}",
        "order": turn.order,
        "emotion": EMOTIONS[turn.emotion],
        "word_cue": EMOTIONS[turn.word_cue],
        "prosody_cue": EMOTIONS[turn.prosody_cue] if prosody else None,
        "spoken": spoken,
        "words": np.log(emotions.WORDS_GIVEN_EMOTION[:, turn.word_cue]).tolist(),
        "prosody": np.log(heard).tolist() if prosody else [0.0] * len(EMOTIONS),
    }


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def _check_replaceable(root: Path) -> None:
    if not root.exists():
        return
    remedy = "name a folder that is new or empty"
    if not root.is_dir():
        raise SampleError(f"{root} is not a folder; {remedy}")
    entries = {entry.name for entry in root.iterdir()}
    if not entries:
        return
    if read_header(root / TRUTH) is None:
        raise SampleError(f"{root} holds something that is no sample corpus; {remedy}")
    if foreign := sorted(entries - _OWN_ENTRIES):
        raise SampleError(
            f"{root} holds another sample corpus, and {foreign[0]!r}, which is not part of it; "
            f"move that away, or {remedy}"
        )


def _put_in_place(draft: Path, root: Path) -> None:
    """Rename the finished folder to `root`, and remove the sample corpus that was there.

    Nothing is fsynced: for thousands of small files that would take longer than making them. What a
    power failure damages can be made again.
    """
    # A folder cannot be renamed over one that is not empty, so the old one makes way first. It has
    # a temporary's name: if we are killed here, the next call removes it.
    old = atomic.temporary(root.with_name(f"{root.name}.old"))
    if root.exists():
        root.rename(old)
    draft.rename(root)
    shutil.rmtree(old, ignore_errors=True)
