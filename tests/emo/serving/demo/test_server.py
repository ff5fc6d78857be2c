"""The demo's server: it answers what the model answers, and only this machine and its own page."""

import http.client
import io
import json
import threading

import numpy as np
import pytest
import soundfile

from emo import load
from emo.serving.demo.server import HOST, MOST, Demo


@pytest.fixture(scope="module")
def demo(trained_runs):
    server = Demo(load(trained_runs["fusion"], "cpu"), "tiny", 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def ask(demo, method, path, body=b"", **headers):
    link = http.client.HTTPConnection(HOST, demo.server_address[1], timeout=30)
    link.request(method, path, body, headers)
    answer = link.getresponse()
    return answer.status, answer.read()


def wav():
    file = io.BytesIO()
    wave = 0.2 * np.sin(np.arange(8000) / 5)
    soundfile.write(file, wave, 16000, format="WAV")
    return file.getvalue()


def test_the_page_needs_nothing_from_elsewhere(demo):
    status, page = ask(demo, "GET", "/")
    assert status == 200
    assert b"http://" not in page
    assert b"https://" not in page
    facts = json.loads(ask(demo, "GET", "/model")[1])
    assert facts == {"name": "tiny", "reads": ["text", "audio"], "classes": demo.model.classes}


def test_sound_and_words_are_predicted_as_by_the_model(demo):
    samples, rate = soundfile.read(io.BytesIO(wav()), dtype="float32")
    expected = demo.model(samples, "so sad ✓", rate=rate)
    status, found = ask(demo, "POST", "/predict", wav(), **{"X-Text": "so%20sad%20%E2%9C%93"})
    assert status == 200
    found = json.loads(found)
    assert found["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)
    assert found["label"] == expected.label
    alone = json.loads(ask(demo, "POST", "/predict", wav())[1])
    assert "without text" in alone["notes"][0]


def test_what_cannot_be_used_is_said(demo):
    assert "no WAV" in json.loads(ask(demo, "POST", "/predict", b"noise")[1])["error"]
    assert "give that as input" in json.loads(ask(demo, "POST", "/predict")[1])["error"]


def test_strangers_are_turned_away(demo):
    assert demo.server_address[0] == "127.0.0.1"
    assert ask(demo, "GET", "/../../etc/passwd")[0] == 404
    assert ask(demo, "POST", "/predict", wav(), Host="evil.example")[0] == 404
    assert ask(demo, "POST", "/predict", **{"Content-Length": str(MOST + 1)})[0] == 413
