"""The line a minute within an epoch, by a clock that the test sets."""

from emo.training.pace import Pace


def test_a_line_a_minute_and_none_in_a_short_epoch():
    time = 100.0
    pace = Pace(now=lambda: time)
    due = []
    for step in range(1, 91):  # 2 s a step
        time += 2.0
        if pace.is_due(24):
            due.append((step, pace.line(step, 1000, 0.5)))
    assert [step for step, _ in due] == [30, 60, 90]
    assert due[0][1] == (
        "step 30 of 1000 · loss 0.500 · 12.0 samples/s · 32 min left in this epoch"
    )
    short = Pace(now=lambda: time)
    for _ in range(29):
        time += 2.0
        assert not short.is_due(24)


def test_time_left_counts_the_steps_of_this_start_alone():
    time = 0.0
    pace = Pace(now=lambda: time)
    time = 60.0
    assert pace.is_due(10)  # one step of a minute, after a resume in the middle of an epoch
    assert pace.line(500, 600, 1.0).endswith("· 0.2 samples/s · 1 h 40 min left in this epoch")
    assert pace.line(600, 600, 1.0).endswith("less than a minute left in this epoch")
