"""The process that the sample corpus is drawn from; `ceilings` inverts the same tables.

A hidden emotion follows one Markov chain per speaker and dialogue. Given the emotion, three things
are independent: the word cue (which kind of line is written), the prosody cue (how the turn is
spoken) and each annotator's vote. The tables were chosen by a search to give ceilings near 75 % for
words, 60 % for prosody, 84 % for both, 90 % with the past and 93 % with the whole dialogue. Words
confuse what prosody tells apart (anger with frustration, happiness with neutral), and prosody
confuses what words tell apart (anger with happiness, neutral with sadness). What both together
leave open, context can settle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shards.sample.ceilings import RELEASE_RULE, Process, release_code

EMOTIONS = ("anger", "frustration", "happiness", "neutral", "sadness")
SHARES = np.array([0.17, 0.22, 0.22, 0.22, 0.17])  # of each emotion, at any time

# With this probability a turn keeps the last turn's emotion; otherwise one is drawn from SHARES,
# which may be the same. Altogether an emotion persists with a probability of about 0.76.
KEEP = 0.70

WORDS_GIVEN_EMOTION = np.array(  # rows: emotion; columns: the cue that the line carries
    [
        [0.78, 0.06, 0.01, 0.08, 0.07],
        [0.30, 0.67, 0.01, 0.01, 0.01],
        [0.01, 0.03, 0.73, 0.17, 0.06],
        [0.01, 0.01, 0.17, 0.80, 0.01],
        [0.01, 0.08, 0.01, 0.02, 0.88],
    ]
)
PROSODY_GIVEN_EMOTION = np.array(  # rows: emotion; columns: the cue that is spoken
    [
        [0.73, 0.01, 0.24, 0.01, 0.01],
        [0.03, 0.54, 0.03, 0.30, 0.10],
        [0.35, 0.05, 0.57, 0.01, 0.02],
        [0.01, 0.26, 0.11, 0.57, 0.05],
        [0.03, 0.01, 0.04, 0.19, 0.73],
    ]
)

ANNOTATORS = 3
# One annotator's vote in per mille. A vote may name two categories, as 4 % of IEMOCAP's do.
_VOTES: dict[str, dict[tuple[str, ...], int]] = {
    "anger": {
        ("ang",): 735, ("fru",): 90, ("dis",): 35, ("sur",): 25, ("oth",): 25, ("neu",): 20,
        ("sad",): 15, ("fea",): 15, ("hap",): 5, ("exc",): 5, ("ang", "fru"): 30,
    },
    "frustration": {
        ("fru",): 735, ("ang",): 75, ("neu",): 45, ("oth",): 30, ("sad",): 25,
        ("dis",): 20, ("sur",): 15, ("fea",): 10, ("hap",): 5, ("exc",): 5,
        ("neu", "fru"): 20, ("ang", "fru"): 15,
    },
    "happiness": {
        ("exc",): 550, ("hap",): 270, ("neu",): 50, ("sur",): 50, ("oth",): 20, ("fru",): 10,
        ("ang",): 5, ("sad",): 5, ("hap", "exc"): 40,
    },
    "neutral": {
        ("neu",): 735, ("fru",): 65, ("sad",): 40, ("hap",): 30, ("oth",): 25, ("exc",): 20,
        ("sur",): 20, ("ang",): 15, ("dis",): 10, ("fea",): 5,
        ("neu", "fru"): 20, ("sad", "neu"): 15,
    },
    "sadness": {
        ("sad",): 750, ("fru",): 65, ("neu",): 55, ("fea",): 35, ("oth",): 30, ("ang",): 15,
        ("sur",): 15, ("hap",): 10, ("sad", "neu"): 25,
    },
}  # fmt: skip
VOTES = tuple(sorted({vote for row in _VOTES.values() for vote in row}))

PROCESS = Process(
    emotions=EMOTIONS,
    initial=SHARES,
    transition=KEEP * np.eye(len(EMOTIONS)) + (1 - KEEP) * SHARES,
    votes=VOTES,
    votes_given_emotion=np.array(
        [[_VOTES[emotion].get(vote, 0) / 1000 for vote in VOTES] for emotion in EMOTIONS]
    ),
    annotators=ANNOTATORS,
)

MIN_TURNS, MAX_TURNS = 24, 32  # of a dialogue: 28 on average
CHANGE = 0.8  # probability that the other speaker has the next turn


@dataclass(frozen=True, slots=True)
class DrawnTurn:
    """One turn: who speaks ("F" or "M"), and what was drawn for it.

    `order` counts the speaker's turns of the dialogue from 0. `emotion`, `word_cue` and
    `prosody_cue` index `EMOTIONS`; `votes` holds one annotator's codes an entry; `label` is the
    release's code.
    """

    speaker: str
    order: int
    emotion: int
    word_cue: int
    prosody_cue: int
    votes: tuple[tuple[str, ...], ...]
    label: str


def draw_dialogue(rng: np.random.Generator) -> list[DrawnTurn]:
    """One dialogue of two speakers, each with an emotion of his own that follows the chain."""
    speaker = "FM"[rng.integers(2)]
    last: dict[str, int] = {}
    count = {"F": 0, "M": 0}
    turns = []
    # The order of the draws below is part of the recipe (`corpus.VERSION`): another order would
    # make another corpus of the same seed.
    for _ in range(int(rng.integers(MIN_TURNS, MAX_TURNS + 1))):
        odds = PROCESS.transition[last[speaker]] if speaker in last else PROCESS.initial
        emotion = last[speaker] = _draw(odds, rng)
        votes = tuple(
            VOTES[_draw(PROCESS.votes_given_emotion[emotion], rng)] for _ in range(ANNOTATORS)
        )
        turns.append(
            DrawnTurn(
                speaker=speaker,
                order=count[speaker],
                emotion=emotion,
                word_cue=_draw(WORDS_GIVEN_EMOTION[emotion], rng),
                prosody_cue=_draw(PROSODY_GIVEN_EMOTION[emotion], rng),
                votes=votes,
                label=release_code(votes),
            )
        )
        count[speaker] += 1
        if rng.random() < CHANGE:
            speaker = "M" if speaker == "F" else "F"
    return turns


def process_header() -> dict[str, object]:
    """The process as the header of a truth file states it."""
    return {
        "emotions": list(EMOTIONS),
        "initial": PROCESS.initial.tolist(),
        "transition": PROCESS.transition.tolist(),
        "words_given_emotion": WORDS_GIVEN_EMOTION.tolist(),
        "prosody_given_emotion": PROSODY_GIVEN_EMOTION.tolist(),
        "annotators": ANNOTATORS,
        "votes": [list(vote) for vote in VOTES],
        "votes_given_emotion": PROCESS.votes_given_emotion.tolist(),
        "release_rule": RELEASE_RULE,
    }


def _draw(odds: np.ndarray, rng: np.random.Generator) -> int:
    return int(rng.choice(len(odds), p=odds))
