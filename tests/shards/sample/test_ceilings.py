"""The exact predictions are held against sums over everything that could have happened."""

import itertools
import json

import numpy as np
import pytest

from shards.corpora.labels import label_set
from shards.sample.ceilings import (
    FORMAT,
    KINDS,
    RELEASE_RULE,
    Process,
    TruthError,
    ceilings,
    code_given_emotion,
    filter_and_smooth,
    read_truth,
    release_code,
)


@pytest.mark.parametrize(
    ("votes", "code"),
    [
        ([["ang"], ["ang"], ["ang"]], "ang"),
        ([["ang"], ["fru"], ["ang"]], "ang"),
        ([["ang"], ["fru"], ["neu"]], "xxx"),
        ([["hap"], ["exc"], ["exc"]], "exc"),  # they are codes of their own
        ([["hap"], ["exc"], ["neu"]], "xxx"),
        ([["neu", "fru"], ["neu"], ["sad"]], "neu"),  # a vote of two counts for each
        ([["neu", "fru"], ["neu"], ["fru"]], "xxx"),  # twice each: no majority
        ([["neu", "fru"], ["neu", "fru"], ["fru"]], "fru"),
        ([["ang", "ang"], ["fru"], ["neu"]], "xxx"),  # nobody counts twice
    ],
)
def test_release_code_is_the_unique_majority(votes, code):
    assert release_code(votes) == code


def small_process(rng):
    votes = (("ang",), ("hap",), ("exc",), ("neu",), ("sur",), ("ang", "neu"))
    return Process(
        emotions=("a", "h", "n"),
        initial=rng.dirichlet(np.ones(3)),
        transition=rng.dirichlet(np.ones(3), size=3),
        votes=votes,
        votes_given_emotion=rng.dirichlet(np.ones(len(votes)), size=3),
        annotators=3,
    )


def write_truth(path, process, chains, rng):
    """A truth file with random evidence; turns of the chains are interleaved, as in a dialogue."""
    header = {
        "format": FORMAT,
        "release_rule": RELEASE_RULE,
        "emotions": process.emotions,
        "initial": process.initial.tolist(),
        "transition": process.transition.tolist(),
        "votes": process.votes,
        "votes_given_emotion": process.votes_given_emotion.tolist(),
        "annotators": process.annotators,
    }
    turns = [
        {
            "id": f"{chain}{order}",
            "chain": chain,
            "order": order,
            "emotion": "a",
            "words": np.log(rng.dirichlet(np.ones(3))).tolist(),
            "prosody": np.log(rng.dirichlet(np.ones(3))).tolist(),
        }
        for order in range(max(chains.values()))
        for chain, length in chains.items()
        if order < length
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in [header, *turns]))
    return turns


def by_enumeration(process, evidence, at, labels):
    """P(class of turn `at` | likelihoods of the chain), over all emotions and all votes."""
    result = np.zeros(len(labels.classes))
    for states in itertools.product(range(3), repeat=len(evidence)):
        weight = process.initial[states[0]]
        for before, after in itertools.pairwise(states):
            weight *= process.transition[before, after]
        weight *= np.prod([evidence[t][state] for t, state in enumerate(states)])
        for votes in itertools.product(range(len(process.votes)), repeat=3):
            index = labels.class_of(release_code([process.votes[vote] for vote in votes]))
            if index >= 0:
                odds = process.votes_given_emotion[states[at]]
                result[index] += weight * odds[votes[0]] * odds[votes[1]] * odds[votes[2]]
    return result / result.sum()


@pytest.mark.parametrize("labels", ["four", "five", "six", "eight"])
def test_ceilings_equal_the_sum_over_all_that_could_have_happened(tmp_path, labels):
    rng = np.random.default_rng(7)
    process = small_process(rng)
    turns = write_truth(tmp_path / "truth.jsonl", process, {"x/F": 3, "x/M": 1}, rng)
    chosen = label_set(labels)
    found = ceilings(tmp_path / "truth.jsonl", chosen)
    assert tuple(found) == KINDS
    nothing = np.ones(3)
    for chain in ("x/F", "x/M"):
        mine = [turn for turn in turns if turn["chain"] == chain]
        words = [np.exp(turn["words"]) for turn in mine]
        prosody = [np.exp(turn["prosody"]) for turn in mine]
        both = [w * p for w, p in zip(words, prosody, strict=True)]
        for at, turn in enumerate(mine):
            alone = {
                kind: [part[at] if t == at else nothing for t in range(len(mine))]
                for kind, part in (("text", words), ("audio", prosody), ("both", both))
            }
            context = {}
            for name, seen in (("text ", words), ("audio ", prosody), ("", both)):
                context[f"{name}past"] = seen[: at + 1] + [nothing] * (len(mine) - at - 1)
                context[f"{name}whole"] = seen
            for kind, evidence in {**alone, **context}.items():
                expected = by_enumeration(process, evidence, at, chosen)
                np.testing.assert_allclose(found[kind][turn["id"]], expected, atol=1e-12)


def test_code_probabilities_are_those_of_a_binomial():
    process = Process(
        emotions=("a",),
        initial=np.ones(1),
        transition=np.ones((1, 1)),
        votes=(("ang",), ("fru",)),
        votes_given_emotion=np.array([[0.8, 0.2]]),
        annotators=3,
    )
    found = code_given_emotion(process)
    assert found["ang"][0] == pytest.approx(0.8**3 + 3 * 0.8**2 * 0.2)
    assert sum(float(p[0]) for p in found.values()) == pytest.approx(1)


def test_long_chains_of_unlikely_evidence_do_not_underflow():
    rng = np.random.default_rng(0)
    evidence = np.log(rng.dirichlet(np.ones(3), size=5000)) - 800
    transition = np.full((3, 3), 0.05) + 0.85 * np.eye(3)
    past, whole = filter_and_smooth(np.ones(3) / 3, transition, evidence)
    for posterior in (past, whole):
        assert np.isfinite(posterior).all()
        np.testing.assert_allclose(posterior.sum(axis=1), 1)
    np.testing.assert_allclose(past[-1], whole[-1])


def test_a_label_set_that_no_turn_can_carry_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    write_truth(tmp_path / "truth.jsonl", small_process(rng), {"x/F": 2}, rng)
    with pytest.raises(TruthError, match="ang, exc, hap, neu, sur"):
        ceilings(tmp_path / "truth.jsonl", label_set({"calm": ["cal"], "bored": ["bor"]}))


def test_a_damaged_line_is_named(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "truth.jsonl"
    write_truth(path, small_process(rng), {"x/F": 3}, rng)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2]) + lines[2][:40] + "\n" + lines[3])
    with pytest.raises(TruthError, match=r"truth\.jsonl:3"):
        read_truth(path)
    path.write_text("".join([lines[0], lines[1], lines[3]]))
    with pytest.raises(TruthError, match="chain x/F"):
        ceilings(path, label_set("five"))
    path.write_text("{}\n")
    with pytest.raises(TruthError, match="not the truth file"):
        read_truth(path)


def test_probabilities_that_are_none_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "truth.jsonl"
    write_truth(path, small_process(rng), {"x/F": 1}, rng)
    header, *turns = path.read_text().splitlines()
    broken = json.loads(header) | {"initial": [0.5, 0.5, 0.5]}
    path.write_text("\n".join([json.dumps(broken), *turns]))
    with pytest.raises(TruthError, match="initial"):
        read_truth(path)
