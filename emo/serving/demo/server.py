"""`emo demo`: a page on this machine alone, to try a model with a microphone, a file or words.

Python's own server and one page of our own: no package besides, nothing from the network. The
browser turns what it has recorded or opened into WAV, so any format that it plays will do.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from io import BytesIO
from typing import Any

from emo.serving.items import Item, Prediction, Refusal, Sound
from emo.serving.predict import Predictor

HOST = "127.0.0.1"  # never another: there is no password
MOST = 64 * 2**20  # bytes of a request: twenty minutes of sound
TEXT_HEADER = "X-Text"  # what is said, percent-encoded


class Demo(ThreadingHTTPServer):
    """Serves the page and its one question, `POST /predict`: WAV in the body, words in a header."""

    daemon_threads = True

    def __init__(self, model: Predictor, name: str, port: int) -> None:
        """Listen on localhost, on any free port where `port` is 0. Raises OSError: it is taken."""
        super().__init__((HOST, port), _Handler)
        self.model, self.name = model, name
        self.one_at_a_time = threading.Lock()

    @property
    def address(self) -> str:
        """Where a browser finds the page."""
        return f"http://{HOST}:{self.server_address[1]}/"

    def answer(self, sound: bytes, words: str) -> dict[str, Any]:
        """The prediction as JSON, or why there is none."""
        try:
            item = Item("the recording", _sound(sound) if sound else None, words.strip() or None)
            with self.one_at_a_time:
                [result] = list(self.model.predictions([item], workers=1))
        except (ValueError, OSError) as error:
            result = Refusal("the recording", str(error))
        if isinstance(result, Prediction):
            return {"probabilities": result.probabilities, "label": result.label,
                    "notes": list(result.notes)}  # fmt: skip
        return {"error": result.reason}


def _sound(data: bytes) -> Sound:
    import soundfile

    try:
        samples, rate = soundfile.read(BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"this is no WAV: {error}") from None
    return Sound(samples, rate)


class _Handler(BaseHTTPRequestHandler):
    server: Demo

    def do_GET(self) -> None:
        pages: dict[str, Callable[[], bytes]] = {"/": self._page, "/model": self._model}
        if self.path not in pages:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        kind = "text/html; charset=utf-8" if self.path == "/" else "application/json"
        self._send(pages[self.path](), kind)

    def do_POST(self) -> None:
        from urllib.parse import unquote

        # A page of another site must not use this server through the visitor's browser.
        own = {
            f"{HOST}:{self.server.server_address[1]}",
            f"localhost:{self.server.server_address[1]}",
        }
        length = self.headers.get("Content-Length", "")
        if self.path != "/predict" or self.headers.get("Host") not in own:
            self.send_error(HTTPStatus.NOT_FOUND)
        elif not length.isdigit() or int(length) > MOST:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            words = unquote(self.headers.get(TEXT_HEADER, ""))
            answer = self.server.answer(self.rfile.read(int(length)), words)
            self._send(json.dumps(answer).encode(), "application/json")

    def _page(self) -> bytes:
        return files("emo.serving.demo").joinpath("page.html").read_bytes()

    def _model(self) -> bytes:
        model = self.server.model
        facts = {"name": self.server.name, "reads": model.reads, "classes": model.classes}
        return json.dumps(facts).encode()

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header(
            "Content-Security-Policy",
            "default-src 'self' 'unsafe-inline' blob: data:; frame-ancestors 'none'",
        )
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what matters stands on the page."""
