"""The best possible predictions for a sample corpus: the exact posterior of its release labels.

`truth.jsonl` lies in the root of a sample corpus. Its first line is the process that the corpus was
drawn from (see `shards.sample.emotions`): a hidden emotion that follows a Markov chain per speaker
and dialogue, and the probabilities of words, prosody and votes given that emotion. Each further
line is one turn: `id`, `chain` (dialogue/speaker), `order` in the chain, the hidden `emotion`, and
`words` and `prosody`, the log-likelihoods of what is written and of how it is spoken under each
emotion.

A model predicts the code in the release, which results from three votes, for those turns whose code
is in a label set. So the ceiling of a model that sees the evidence E is the posterior

    P(class | E, kept)  ∝  Σ_emotion P(emotion | E) · P(code in class | emotion)

whose last factor is summed over every possible triple of votes. Nothing here is estimated.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shards.corpora.utterance import NO_MAJORITY
from shards.errors import UserError

if TYPE_CHECKING:
    from shards.corpora.labels import LabelSet

FORMAT = "emo-shards sample corpus"
RELEASE_RULE = "majority of the annotators, unique"  # what `release_code` does

# What a model may see of a turn: its words, its prosody, or both. "past" adds the same evidence
# from the speaker's earlier turns in the dialogue, "whole" from all of the speaker's turns there.
# The other speaker's turns are independent of it, and add nothing.
KINDS = ("text", "audio", "both", "text past", "audio past", "past", "text whole", "audio whole",
         "whole")  # fmt: skip


class TruthError(UserError):
    """A truth file that cannot be read, or a label set without a turn in the corpus."""


@dataclass(frozen=True)
class Process:
    """The process behind a corpus. E emotions, V kinds of vote; all arrays float64, rows sum to 1.

    `votes` are the kinds of vote, each a tuple of codes; `votes_given_emotion` is [E, V], `initial`
    [E], `transition` [E, E] (from, to).
    """

    emotions: tuple[str, ...]
    initial: np.ndarray
    transition: np.ndarray
    votes: tuple[tuple[str, ...], ...]
    votes_given_emotion: np.ndarray
    annotators: int

    def __post_init__(self) -> None:
        size, kinds = len(self.emotions), len(self.votes)
        for name, array, shape in (
            ("initial", self.initial, (size,)),
            ("transition", self.transition, (size, size)),
            ("votes_given_emotion", self.votes_given_emotion, (size, kinds)),
        ):
            if array.shape != shape:
                raise TruthError(f"{name}: shape {list(array.shape)}, expected {list(shape)}")
            if not np.allclose(array.sum(axis=-1), 1) or (array < 0).any():
                raise TruthError(f"{name}: every row must be probabilities that sum to 1")


@dataclass(frozen=True, slots=True)
class TrueTurn:
    """One turn's evidence. `words` and `prosody` are float64 [E], log-likelihoods."""

    id: str
    chain: str
    order: int
    emotion: str
    words: np.ndarray
    prosody: np.ndarray


@dataclass(frozen=True)
class Truth:
    """A whole truth file: `header` as written, the process in it, the turns in file order."""

    header: dict[str, Any]
    process: Process
    turns: tuple[TrueTurn, ...]


def release_code(votes: Sequence[Sequence[str]]) -> str:
    """The release's code for a turn's votes, one entry an annotator, each with the codes he named.

    An annotator who names two categories counts once for each. The code that was named most often
    wins, if at least two annotators named it and no other code was named as often; otherwise the
    result is `NO_MAJORITY`.
    """
    named = Counter(code for vote in votes for code in set(vote))
    top = named.most_common(2)
    if not top or top[0][1] < 2 or (len(top) == 2 and top[0][1] == top[1][1]):
        return NO_MAJORITY
    return top[0][0]


def code_given_emotion(process: Process) -> dict[str, np.ndarray]:
    """P(release code | emotion), float64 [E] for every possible code; together they sum to ones.

    Enumerates every outcome of the votes: V ** annotators of them.
    """
    result: dict[str, np.ndarray] = {}
    for outcome in itertools.product(range(len(process.votes)), repeat=process.annotators):
        code = release_code([process.votes[vote] for vote in outcome])
        probability = process.votes_given_emotion[:, list(outcome)].prod(axis=1)
        result[code] = result.get(code, np.zeros(len(process.emotions))) + probability
    return result


def class_given_emotion(process: Process, label_set: LabelSet) -> np.ndarray:
    """P(the turn is kept and carries class c | emotion), float64 [E, C].

    Raises `TruthError` if no code of the set is possible.
    """
    kept = np.zeros((len(process.emotions), len(label_set.classes)))
    for code, probability in code_given_emotion(process).items():
        index = label_set.class_of(code)
        if index >= 0:
            kept[:, index] += probability
    if not kept.any():
        raise TruthError(
            f"label set {label_set.name!r}: no annotator of the sample corpus ever names one of "
            f"its codes; choose a set with some of {', '.join(_codes(process))}"
        )
    return kept


def filter_and_smooth(
    initial: np.ndarray, transition: np.ndarray, evidence: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Posteriors of a chain's hidden states: given the past and present, and given everything.

    `evidence` is float64 [T, E], log-likelihoods; both results are float64 [T, E], rows sum to 1.
    The forward-backward algorithm (Rabiner 1989, section III), scaled at every step.
    """
    # The maximum is subtracted so that exp does not underflow to 0 everywhere. A common factor of a
    # step cancels when the step is normalised.
    likelihood = np.exp(evidence - evidence.max(axis=1, keepdims=True))
    past = np.empty_like(likelihood)
    predicted = initial
    for t, now in enumerate(likelihood):
        past[t] = predicted * now / (predicted @ now)
        predicted = past[t] @ transition
    whole = np.empty_like(likelihood)
    future = np.ones_like(initial)
    for t in range(len(likelihood) - 1, -1, -1):
        whole[t] = past[t] * future / (past[t] @ future)
        future = transition @ (likelihood[t] * future)
        future /= future.sum()
    return past, whole


def emotion_posteriors(truth: Truth) -> dict[str, dict[str, np.ndarray]]:
    """P(hidden emotion | evidence), float64 [E], per kind of evidence (`KINDS`) and turn id."""
    process = truth.process
    result: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in KINDS}
    for chain in _chains(truth.turns):
        words = np.stack([turn.words for turn in chain])
        prosody = np.stack([turn.prosody for turn in chain])
        # A turn by itself: what is known before its evidence is the distribution at its place in
        # the chain, which does not depend on the other turns' evidence.
        prior = process.initial
        for turn, w, p in zip(chain, words, prosody, strict=True):
            for kind, evidence in (("text", w), ("audio", p), ("both", w + p)):
                posterior = prior * np.exp(evidence - evidence.max())
                result[kind][turn.id] = posterior / posterior.sum()
            prior = prior @ process.transition
        for name, seen in (("text ", words), ("audio ", prosody), ("", words + prosody)):
            past, whole = filter_and_smooth(process.initial, process.transition, seen)
            for turn, before, everything in zip(chain, past, whole, strict=True):
                result[f"{name}past"][turn.id] = before
                result[f"{name}whole"][turn.id] = everything
    return result


def ceilings(path: Path, label_set: LabelSet) -> dict[str, dict[str, np.ndarray]]:
    """Exact P(class | evidence, the turn is kept in the label set), from a truth file.

    Returns, by kind of evidence (`KINDS`) and turn id, float64 [C] that sums to 1, for every turn
    of the corpus. The accuracy of its argmax on a set of kept turns is the ceiling for a model with
    that evidence; the mean of its maximum is the expected value of that accuracy. Raises
    `TruthError`.
    """
    truth = read_truth(path)
    kept = class_given_emotion(truth.process, label_set)
    result: dict[str, dict[str, np.ndarray]] = {}
    for kind, posteriors in emotion_posteriors(truth).items():
        result[kind] = {}
        for turn, posterior in posteriors.items():
            joint = posterior @ kept
            result[kind][turn] = joint / joint.sum()
    return result


def read_header(path: Path) -> dict[str, Any] | None:
    """The first line of a truth file, or None if `path` is no truth file of a sample corpus."""
    try:
        with path.open(encoding="utf-8") as file:
            header = json.loads(file.readline())
    except (OSError, ValueError):
        return None
    return header if isinstance(header, dict) and header.get("format") == FORMAT else None


def read_truth(path: Path) -> Truth:
    """Read a truth file. Raises `TruthError`, which names file and line."""
    header = read_header(path)
    if header is None:
        raise TruthError(
            f"{path}: not the truth file of a sample corpus; write one with "
            "`emo-shards sample-corpus`"
        )
    try:
        if header["release_rule"] != RELEASE_RULE:
            raise ValueError(f"release rule {header['release_rule']!r} is unknown here")
        process = Process(
            emotions=tuple(header["emotions"]),
            initial=np.array(header["initial"], dtype=np.float64),
            transition=np.array(header["transition"], dtype=np.float64),
            votes=tuple(tuple(vote) for vote in header["votes"]),
            votes_given_emotion=np.array(header["votes_given_emotion"], dtype=np.float64),
            annotators=int(header["annotators"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise TruthError(f"{path}:1: damaged: {error!r}; write the corpus anew") from None
    turns = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                continue
            try:
                turns.append(_turn(json.loads(line), len(process.emotions)))
            except (KeyError, TypeError, ValueError) as error:
                raise TruthError(
                    f"{path}:{number}: damaged: {error!r}; write the corpus anew"
                ) from None
    return Truth(header, process, tuple(turns))


def _turn(record: dict[str, Any], emotions: int) -> TrueTurn:
    words = np.array(record["words"], dtype=np.float64)
    prosody = np.array(record["prosody"], dtype=np.float64)
    for name, array in (("words", words), ("prosody", prosody)):
        if array.shape != (emotions,) or np.isnan(array).any():
            raise ValueError(f"{name}: {emotions} log-likelihoods expected")
    return TrueTurn(
        str(record["id"]),
        str(record["chain"]),
        int(record["order"]),
        str(record["emotion"]),
        words,
        prosody,
    )


def _chains(turns: Sequence[TrueTurn]) -> Iterator[list[TrueTurn]]:
    """The turns grouped into their chains, in order. Raises `TruthError` if one is missing."""
    chains: dict[str, list[TrueTurn]] = {}
    for turn in turns:
        chains.setdefault(turn.chain, []).append(turn)
    for name, chain in chains.items():
        chain.sort(key=lambda turn: turn.order)
        if [turn.order for turn in chain] != list(range(len(chain))):
            raise TruthError(f"chain {name}: its turns are not numbered from 0 without a gap")
        yield chain


def _codes(process: Process) -> list[str]:
    return sorted({code for vote in process.votes for code in vote})
