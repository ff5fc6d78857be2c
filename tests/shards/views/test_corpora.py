"""Several corpora in one view: one left out, and the same sound of two corpora on one side."""

import numpy as np
import pytest
from made_turns import INDEX, PARTS
from test_recordings import apart, columns

from shards.views.view import ViewConfig, ViewError, folds, make_view


def of_two(turns=400, recordings=None):
    """The made index, the dialogues of every third in a corpus of its own, with own speakers."""
    index = columns(turns, recordings)
    corpora = ["podcasts" if int(name[1:]) % 3 == 0 else "acted" for name in index["dialogue"]]
    for fact in ("speaker", "session", "dialogue", "utterance"):
        index[fact] = [f"{c}/{value}" for c, value in zip(corpora, index[fact], strict=True)]
    return index | {"corpus": corpora}


def test_leave_one_corpus_out_tests_each_turn_once_on_an_unknown_corpus():
    index = of_two(recordings=apart())
    config = ViewConfig(protocol="leave_one_corpus_out", labels="four")
    assert folds(index, config) == ["acted", "podcasts"]
    corpus, speaker = (np.array(index[name], object) for name in ("corpus", "speaker"))
    for fold in folds(index, config):
        view = make_view(index, config.model_copy(update={"fold": fold}))
        assert set(corpus[view.test]) == {fold}
        assert set(corpus[view.train]) == set(corpus[view.val]) == {"acted", "podcasts"} - {fold}
        assert len(view.test) == sum(corpus == fold)
        assert not set(speaker[view.train]) & set(speaker[view.val])
        assert view.name == f"leave_one_corpus_out {fold}"
    named = config.model_copy(update={"fold": "acted", "val_speakers": 2})
    assert len(set(speaker[make_view(index, named).val])) == 2
    with pytest.raises(ViewError, match="has no fold 'actd'; the folds are: acted, podcasts"):
        make_view(index, config.model_copy(update={"fold": "actd"}))
    with pytest.raises(ViewError, match=r"name their folders in data\.shards"):
        make_view(INDEX, ViewConfig(protocol="leave_one_corpus_out", fold="acted"))


@pytest.mark.parametrize(
    "options",
    [
        {"protocol": "random"},
        {"protocol": "official"},
        {"protocol": "leave_one_corpus_out", "fold": "podcasts"},
        {"protocol": "speakers", "test": 0.2},
    ],
)
def test_the_same_sound_of_two_corpora_stands_on_one_side(options):
    names = apart()
    index = of_two()
    corpus = np.array(index["corpus"])
    own, other = np.flatnonzero(corpus == "acted"), np.flatnonzero(corpus == "podcasts")
    for one, two in zip(own[::5], other[::4], strict=False):
        names[two] = names[one]
    split = index | {"split": [["train", "test"][n % 7 == 0] for n in range(len(names))]}
    view = make_view(split | {"recording": names}, ViewConfig(**options, labels="four"))
    sides = {}
    for part in PARTS:
        for row in view.rows(part):
            assert sides.setdefault(names[row], part) == part
    assert any("same recording" in note for note in view.notes)


def test_in_a_corpus_own_split_only_what_corpora_share_is_left_out():
    names, index = apart(), of_two()
    corpus = np.array(index["corpus"])
    split = np.array(["train"] * 400, object)
    split[::3] = "test"
    own = np.flatnonzero((corpus == "acted") & (split == "train"))[0]
    twin = np.flatnonzero((corpus == "acted") & (split == "test"))[0]
    names[twin] = names[own]
    index |= {"split": split.tolist(), "recording": names}
    view = make_view(index, ViewConfig(protocol="official", labels="four"))
    assert sum(len(view.rows(part)) for part in PARTS) == 400
    assert view.overlap["train-test"]["recording"]["turns"] in (0, 1)  # drawn into validation
    stranger = np.flatnonzero((corpus == "podcasts") & (split == "test"))[0]
    names[stranger] = names[own]
    view = make_view(index | {"recording": names}, ViewConfig(protocol="official", labels="four"))
    assert sum(len(view.rows(part)) for part in PARTS) < 400
