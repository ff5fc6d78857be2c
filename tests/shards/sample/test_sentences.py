from shards.sample.emotions import EMOTIONS
from shards.sample.sentences import SENTENCES, THINGS, lines


def test_several_hundred_lines_each_of_one_cue():
    assert tuple(SENTENCES) == EMOTIONS
    everything = [line for cue in EMOTIONS for line in lines(cue)]
    assert len(everything) == len(set(everything)) == 5 * 12 * len(THINGS) == 480


def test_no_line_hides_a_cue_in_the_thing_it_speaks_about():
    for cue in EMOTIONS:
        for thing in THINGS:
            assert sum(thing.lower() in line.lower() for line in lines(cue)) == 12


def test_lines_are_whole_sentences():
    for cue in EMOTIONS:
        for line in lines(cue):
            assert line[0].isupper()
            assert line[-1] in ".!?"
            assert "{" not in line
