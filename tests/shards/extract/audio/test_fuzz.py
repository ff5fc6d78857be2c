"""Damaged headers of every container: a file is read or rejected, at once, without a traceback.

A sample of the mutations runs always; the whole sweep carries the mark `torture`.
"""

import io
import resource
import time

import numpy as np
import pytest
import soundfile

from shards.extract import audio
from shards.extract.audio import AudioConfig, AudioError

KINDS = [("WAV", "PCM_16"), ("WAV", "GSM610"), ("RF64", "PCM_16"), ("W64", "PCM_16"),
         ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16"), ("VOC", "PCM_16"),
         ("NIST", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
         ("MP3", None)]  # fmt: skip
EXTREMES = (b"\0\0\0\0", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x80", b"\1\0\0\0")
HEADER = 512  # bytes, where most mutations fall
SECONDS, BYTES = 5.0, 2**30


def mutate(data, rng):
    """A copy of `data` with bits flipped, numbers replaced, bytes lost, added or repeated."""
    damaged = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        reach = min(len(damaged), HEADER if rng.random() < 0.8 else len(damaged))
        place = int(rng.integers(0, max(1, reach)))
        match rng.integers(0, 6):
            case 0:
                damaged[place : place + 1] = rng.bytes(1)
            case 1:
                damaged[place : place + 4] = EXTREMES[rng.integers(0, len(EXTREMES))]
            case 2:
                del damaged[place : place + int(rng.integers(1, 64))]
            case 3:
                damaged[place:place] = rng.bytes(int(rng.integers(1, 16)))
            case 4:
                del damaged[int(rng.integers(0, len(damaged) + 1)) :]
            case 5:
                damaged += damaged[place:]
    return bytes(damaged)


def peak():
    """The most memory that this process ever held, bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def sweep(tmp_path, count, seed):
    rng = np.random.default_rng(seed)
    wave = 0.4 * np.sin(2 * np.pi * 220 * np.arange(8000) / 16000)
    wave += 0.01 * rng.standard_normal(8000)
    originals = []
    for kind, subtype in KINDS:
        buffer = io.BytesIO()
        soundfile.write(buffer, wave, 16000, format=kind, subtype=subtype)
        originals.append(buffer.getvalue())
    config, path = AudioConfig(sample_rate=16000), tmp_path / "damaged"
    ends = {"read": 0, "rejected": 0}
    before = peak()
    for number in range(count):
        data = mutate(originals[number % len(originals)], rng)
        path.write_bytes(data)
        started = time.monotonic()
        segment = (0.1, 0.2) if number % 3 == 0 else None
        try:
            recording = audio.load(path, config, segment)
        except AudioError as error:
            str(error).encode()
            ends["rejected"] += 1
        else:
            assert recording.wave.dtype == np.float32
            assert np.isfinite(recording.wave).all()
            ends["read"] += 1
        assert time.monotonic() - started < SECONDS, (seed, number)
        assert peak() - before < BYTES, (seed, number)
    assert min(ends.values()) > count // 20, ends  # both ends are reached
    return ends


def test_a_sample_of_damaged_headers(tmp_path):
    sweep(tmp_path, 390, seed=1)


@pytest.mark.torture
def test_thousands_of_damaged_headers(tmp_path):
    print(sweep(tmp_path, 13_000, seed=2))
