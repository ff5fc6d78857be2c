import subprocess
import sys

import numpy as np
import pytest

from shards.sample.espeak import SAMPLE_RATE, Manner, VoiceError, speak

SENTENCE = "b'a:di:ku: l'u:ma:"
PLAIN = Manner(rate=170, pitch=50, range=50)


def test_a_sentence_sounds_the_same_whatever_was_said_before():
    first = speak(SENTENCE, "en+f2", PLAIN)
    for count in (1, 3, 7):
        speak("g'a:" + "ku:" * count, f"en+m{count}", Manner(90 + 30 * count, 10 * count, 99))
        np.testing.assert_array_equal(speak(SENTENCE, "en+f2", PLAIN), first)


def test_rate_and_pitch_do_what_they_say():
    slow = speak(SENTENCE, "en+m1", Manner(rate=110, pitch=50, range=50))
    fast = speak(SENTENCE, "en+m1", Manner(rate=250, pitch=50, range=50))
    assert 1.6 < len(slow) / len(fast) < 3

    low, high = (
        f0(speak("m'a:ma:ma:", "en+m1", Manner(rate=170, pitch=pitch, range=20)))
        for pitch in (15, 90)
    )
    assert 60 < low < 150
    assert high > 1.3 * low


def f0(wave: np.ndarray) -> float:
    """Hz, from the highest peak of the autocorrelation of the loudest 60 ms, 60 to 180 Hz."""
    size = int(0.06 * SAMPLE_RATE)
    start = max(range(0, len(wave) - size, size), key=lambda n: np.abs(wave[n : n + size]).sum())
    frame = wave[start : start + size] / 32768
    lags = np.fft.irfft(np.abs(np.fft.rfft(frame, 2 * size)) ** 2)[: SAMPLE_RATE // 60]
    lags /= size - np.arange(len(lags))  # fewer products at longer lags
    shortest = SAMPLE_RATE // 180
    return SAMPLE_RATE / (shortest + int(lags[shortest:].argmax()))


def test_an_unknown_voice_is_named():
    with pytest.raises(VoiceError, match="no voice 'martian'"):
        speak(SENTENCE, "martian", PLAIN)


def test_a_missing_wheel_is_reported_with_the_command_that_installs_it(tmp_path):
    """In a process of its own where the wheel cannot be imported; nothing is written."""
    program = (
        "import sys; sys.modules['espeakng_loader'] = None\n"
        "from pathlib import Path\n"
        "from shards.errors import UserError\n"
        "from shards.sample.corpus import write_corpus\n"
        "try: write_corpus(Path(sys.argv[1]), seed=0, dialogues=1)\n"
        "except UserError as error: print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "new" / "corpus")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pip install '.[sample]'" in result.stdout
    assert not (tmp_path / "new").exists()
