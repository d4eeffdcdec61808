"""How far a run is, where the output is no terminal: few whole lines, on stderr."""

import io
import logging
import re
from types import SimpleNamespace

import pytest

from pointlift.runs import progress
from pointlift.system import durations
from pointlift.system.durations import counted, in_words


class Watched(io.StringIO):
    def isatty(self):
        return True


def training(epochs=30):
    return SimpleNamespace(epochs=epochs)


def test_a_terminal_gets_the_bar_and_a_file_gets_lines():
    assert isinstance(progress.progress_of(training(), Watched()), progress.Bar)
    assert isinstance(progress.progress_of(training(), io.StringIO()), progress.Lines)


@pytest.fixture
def run(monkeypatch):
    """Train in a made-up time; the lines that were written."""

    def lines(epochs, batches, seconds, evaluated=0, start=0, max_steps=-1):
        now = [0.0]
        monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
        shown = progress.Lines(epochs, io.StringIO())
        trainer = SimpleNamespace(
            current_epoch=start, num_training_batches=batches, num_val_batches=[evaluated],
            max_steps=max_steps, accumulate_grad_batches=1, training=True, should_stop=False,
            progress_bar_metrics={}, is_last_batch=False, loggers=[],
        )  # fmt: skip
        module = SimpleNamespace()
        monkeypatch.setattr(
            shown, "get_metrics", lambda *_: {"loss": 0.51234, "val_accuracy": 0.8125, "v_num": "oard"}
        )
        monkeypatch.setattr(type(shown), "total_train_batches", batches)
        shown.on_train_start(trainer)
        for epoch in range(start, epochs):
            trainer.current_epoch = epoch
            for batch in range(batches):
                now[0] += seconds
                trainer.is_last_batch = batch == batches - 1
                shown.on_train_batch_end(trainer, module, None, None, batch)
            for batch in range(evaluated):
                now[0] += seconds
                shown.on_validation_batch_end(trainer, module, None, None, batch)
            shown.on_train_epoch_end(trainer, module)
        return shown.stream.getvalue().splitlines()

    return lines


def test_a_short_run_has_about_ten_lines_that_say_where_it_is(run):
    found = run(200, 50, 0.001)
    assert len(found) == 11 and found[0].startswith(
        "pointlift: epoch 1 of 200, loss 0.512, val_accuracy 81.2 %, about 10 s left"
    )
    assert [int(re.search(r"epoch (\d+)", line)[1]) for line in found[1:]] == list(range(20, 201, 20))
    assert "left" not in found[-1] and all("v_num" not in line for line in found)


def test_few_epochs_have_a_line_each(run):
    assert len(run(3, 5, 0.1)) == 3


def test_a_long_epoch_has_a_line_every_half_a_minute(run):
    found = run(1, 100, 3.0, evaluated=20)
    assert len(found) == 9 + 2 + 1
    assert (
        found[0]
        == "pointlift: epoch 1 of 1, batch 10 of 100, loss 0.512, val_accuracy 81.2 %, about 4 min left"
    )
    assert sum("evaluating, batch" in line for line in found) == 2


def test_a_run_that_goes_on_counts_from_where_it_was(run):
    found = run(100, 10, 0.01, start=50)
    assert found[0].startswith("pointlift: epoch 60 of 100") and len(found) == 5


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (12, "12 s"), (100, "2 min"), (3600, "60 min"), (9000, "2.5 h")]
)
def test_durations_in_words(seconds, words):
    assert in_words(seconds) == words


def test_many_clouds_are_counted_every_ten_seconds(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr(durations, "time", SimpleNamespace(monotonic=lambda: now[0]))
    caplog.set_level(logging.INFO)
    found = []
    for item in counted(range(2000), "clouds checked", logging.getLogger("pointlift.x")):
        found.append(item)
        now[0] += 0.0175
    assert found == list(range(2000))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3 and lines[0] == "572 of 2,000 clouds checked, about 25 s left"


def test_nothing_is_said_of_what_is_done_at_once(caplog):
    caplog.set_level(logging.INFO)
    assert list(counted([1, 2], "clouds", logging.getLogger("pointlift.x"))) == [1, 2] and not caplog.records
