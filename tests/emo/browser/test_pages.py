"""The report and TensorBoard in a browser: what is there is seen and heard, and nothing fails."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PLAY = """async sound => {
    sound.muted = true;
    await sound.play();
    for (let n = 0; n < 50 && !sound.currentTime; n++) await new Promise(r => setTimeout(r, 50));
    return [sound.currentTime, sound.duration];
}"""


@pytest.fixture(scope="module")
def report_page(trained_runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    from emo.report.report import report

    path = tmp_path_factory.mktemp("report") / "report.html"
    report(list(trained_runs.values()), [path], "test", "A report")
    return path.as_uri()


@pytest.fixture(scope="module")
def tensorboard(trained_runs: dict[str, Path]) -> Iterator[str]:
    """The address of TensorBoard on the runs."""
    folder = trained_runs["fusion"].parent
    command = ["tensorboard", "--logdir", str(folder), "--host", "localhost", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    found = None
    for line in process.stdout:
        found = re.search(r"http://localhost:\d+/", line)
        if found:
            break
    try:
        assert found
        yield found[0]
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_is_readable_and_asks_nothing_from_outside(
    report_page: str, new_page: Callable[[int, str], Any], width: int, scheme: str
) -> None:
    page = new_page(width, scheme)
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    page.goto(report_page)
    assert not [one for one in asked if not one.startswith(("data:", "file:"))]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for chart in ("Confusion matrices", "Learning curves", "Calibration"):
        shown = page.locator("section", has=page.get_by_role("heading", name=chart)).locator("svg")
        assert shown.count() >= 3
        assert shown.first.bounding_box()["width"] > 200
    picture = page.locator("article.turn img").first
    assert picture.evaluate("one => one.naturalWidth") >= 160
    light = page.evaluate(
        "getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g)[0] > 127"
    )
    assert light == (scheme == "light")
    at, seconds = page.locator("audio").first.evaluate(PLAY)
    assert at > 0
    assert 0.2 < seconds < 1


def test_tensorboard_shows_curves_pictures_and_sound(
    tensorboard: str, new_page: Callable[[int, str], Any]
) -> None:
    page = new_page(1400, "dark")

    def open_tab(name: str) -> None:
        page.goto(f"{tensorboard}?darkMode=true#{name}")
        page.reload()

    open_tab("custom_scalars")
    page.get_by_text("loss, train and validation").first.wait_for()
    open_tab("images")
    page.get_by_text("confusion/val").first.wait_for()
    picture = page.locator("tf-image-loader img").first
    picture.wait_for()
    page.wait_for_function("one => one.naturalWidth > 300", arg=picture.element_handle())
    page.get_by_text("fusion", exact=True).first.wait_for()  # a run's name: that of its folder
    open_tab("audio")
    sound = page.locator("audio").first
    sound.wait_for()
    at, seconds = sound.evaluate(PLAY)
    assert at > 0
    assert 0.2 < seconds < 1
    open_tab("hparams")
    page.get_by_text("result_test/ua").first.wait_for()
    open_tab("pr_curves")
    page.get_by_text("val_precision_recall/").first.wait_for()
    open_tab("projector")
    projector = page.frame_locator("iframe").frame_locator("iframe")
    projector.locator(".numDataPoints", has_text="24").wait_for()
