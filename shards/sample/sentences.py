"""The written lines of the sample corpus: what a transcript says, and which cue it carries.

Each line belongs to exactly one of the five word cues. The things spoken about are the same for all
cues, so that only what is said about them reveals the cue. Every sentence was made up for this
corpus.
"""

from __future__ import annotations

THINGS = (
    "the letter",
    "that old car",
    "the photograph",
    "the blue coat",
    "the piano",
    "my notebook",
    "the kitchen table",
    "the garden key",
)

SENTENCES: dict[str, tuple[str, ...]] = {
    "anger": (
        "Do not ever talk to me about {} again.",
        "I am furious about {}!",
        "How dare you bring up {}?",
        "Get out, and take {} with you!",
        "You lied to my face about {}.",
        "I swear I will smash {} to pieces.",
        "Shut up about {}, I mean it!",
        "Who gave you the right to touch {}?",
        "You ruined {}, and you do not even care!",
        "I hate {}, and I hate that you brought it here.",
        "Keep your hands off {}!",
        "This is an outrage, {} was never yours.",
    ),
    "frustration": (
        "I keep asking about {} and nobody listens.",
        "Nothing ever works out with {}.",
        "I just can't figure out what is wrong with {}.",
        "Why does it always have to be {}?",
        "We have been going in circles over {} all day.",
        "I am so tired of explaining {}.",
        "It is the third time that {} got lost.",
        "What am I supposed to do with {} now?",
        "They promised to fix {} weeks ago.",
        "I give up on {}, there is no point.",
        "No matter what I try, {} is still in the way.",
        "Every single time {} holds everything up.",
    ),
    "happiness": (
        "I am so glad that we found {}!",
        "You will love {}, it is wonderful!",
        "Guess what, they are giving us {}!",
        "What a lovely surprise, {} is here already!",
        "I could dance all night around {}.",
        "This is the best news about {} in years!",
        "I can't stop smiling when I see {}.",
        "Hooray, {} is finally ours!",
        "Everyone cheered when I brought {}.",
        "It makes me laugh whenever I think of {}.",
        "How beautiful {} looks today!",
        "We won, and {} is the prize!",
    ),
    "neutral": (
        "I think {} is in the other room.",
        "Could you move {} a little to the left?",
        "He said that {} comes on Tuesday.",
        "As far as I know, {} is listed on page two.",
        "There is a number written on {}.",
        "I will leave {} at the desk.",
        "We usually keep {} next to the door.",
        "Does {} belong on this list?",
        "The form also asks about {}.",
        "I put {} where it was before.",
        "Maybe they need {} for the afternoon.",
        "You can pick up {} after four o'clock.",
    ),
    "sadness": (
        "I miss her whenever I look at {}.",
        "She is gone, and all I have is {}.",
        "I cried over {} half the night.",
        "He never came back for {}.",
        "It breaks my heart to give away {}.",
        "Since the funeral nobody has touched {}.",
        "I feel so alone with {}.",
        "I wish I could have shown him {} once more.",
        "After all those years, only {} is left.",
        "We lost everything except {}.",
        "I am sorry, I can't look at {} without crying.",
        "The last thing he gave me was {}.",
    ),
}


def lines(cue: str) -> tuple[str, ...]:
    """All lines of a word cue (a key of `SENTENCES`), in a fixed order; no cue shares one."""
    return tuple(_begin(sentence.format(thing)) for sentence in SENTENCES[cue] for thing in THINGS)


def _begin(line: str) -> str:
    return line[0].upper() + line[1:]
