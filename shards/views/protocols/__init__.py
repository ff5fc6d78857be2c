"""Protocols: which part of an experiment (training, validation, test) each turn belongs to.

=======================  ==========================================================================
`random`                 turns at random, stratified on the label, as scikit-learn's
                         `train_test_split` does it on turns sorted by id: test first, then
                         validation. Speakers, dialogues and texts are shared between the parts.
`random_dialogues`       whole dialogues at random: of many draws, the one whose parts come nearest
                         to the shares in every class.
`speakers`               no speaker in two parts. Whole speakers are drawn in the same way, or test
                         is `test_speakers`.
`speaker_folds`          speakers are dealt into `folds` groups with about the same number of turns
                         of every class. The fold's group is the test part, the next group
                         validation; with `val_from_train`, that share in whole speakers.
`leave_one_session_out`  the fold's session is the test part, the next session (in cyclic order)
                         validation, so that all three parts have their own speakers. With
                         `val_from_train`, validation is that share of the other sessions' turns,
                         in whole dialogues: more turns to train on, but validation then has
                         speakers of the training part.
`leave_one_speaker_out`  the fold's speaker is the test part; validation is the other speaker of
                         the session, as is customary (the next of them where there are more, the
                         next of all where there is none). This splits the two sides of a dialogue.
`leave_one_corpus_out`   of several corpora, the fold's is the test part. Validation is the share
                         `val` (or `val_from_train`) of the others' turns, in whole speakers.
`official`               the corpus' own split. A missing validation part is drawn from its
                         training part, in whole dialogues.
`official_folds`         the corpus' own folds, where its split column names folds. Validation is
                         the next fold, or with `val_from_train` drawn in whole dialogues.
`script_disjoint`        no script and no text in two parts. Turns of scripted dialogues are grouped
                         by script (`turns.script_of`), all others by text. A text that is still in
                         two parts ("Okay.") stays where most of its turns are; its other turns
                         leave the view, which states their number.
=======================  ==========================================================================

With `val_speakers`, the protocols that read it validate on whole other speakers instead: on so
many, drawn by seed so that their classes come near to those of all, or on those that are named.

Turns with the same recording are in one part: the others of them leave the view, which states their
number. The parts of official protocols are not ours to change: there this holds between corpora.
"""

from __future__ import annotations

from shards.views.protocols.base import Protocol
from shards.views.protocols.drawn import RANDOM, RANDOM_DIALOGUES, SCRIPT_DISJOINT
from shards.views.protocols.leave_out import (
    LEAVE_ONE_CORPUS_OUT,
    LEAVE_ONE_SESSION_OUT,
    LEAVE_ONE_SPEAKER_OUT,
    SPEAKER_FOLDS,
)
from shards.views.protocols.official import OFFICIAL, OFFICIAL_FOLDS
from shards.views.protocols.speakers import SPEAKERS

PROTOCOLS: dict[str, Protocol] = {
    "random": RANDOM,
    "random_dialogues": RANDOM_DIALOGUES,
    "speakers": SPEAKERS,
    "speaker_folds": SPEAKER_FOLDS,
    "leave_one_session_out": LEAVE_ONE_SESSION_OUT,
    "leave_one_speaker_out": LEAVE_ONE_SPEAKER_OUT,
    "leave_one_corpus_out": LEAVE_ONE_CORPUS_OUT,
    "official": OFFICIAL,
    "official_folds": OFFICIAL_FOLDS,
    "script_disjoint": SCRIPT_DISJOINT,
}
