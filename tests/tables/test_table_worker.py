"""One run of a table, in this process: it is recorded, goes on after a stop,
and fails in one sentence that is kept or not.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_tables import TINY, write_table

from pointlift.commands.messages import explain
from pointlift.runs import engine
from pointlift.runs.recipes import Recipe
from pointlift.tables.definition import read_table
from pointlift.tables.measures import MEASURES, measure, measured
from pointlift.tables.plan import Plan, Run, make_plan
from pointlift.tables.run import collect
from pointlift.tables.store import Store
from pointlift.tables.worker import Reply, Task, execute, explained

ONE: dict[str, Any] = {"rows": ["r"], "columns": ["c"], "paper": {}}


def plan_of(folder: Path, **settings: Any) -> Plan:
    scales = {"toy": {"recipe": "image2point/demo.yaml", "set": {**TINY, "data.shots": 4, **settings}}}
    return make_plan(
        read_table(str(write_table(folder, **{**ONE, "scales": scales}))), "toy", str(folder / "data")
    )


def do(plan: Plan, out: Path, retry: bool = False, measures: tuple[str, ...] = ()) -> tuple[Reply, Run]:
    (run,) = plan.runs.values()
    return execute(Task(run, str(out), plan.data, measures, retry), explain), run


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path, Run]:
    """A finished run of three epochs; not to be changed."""
    out = tmp_path_factory.mktemp("out")
    plan = plan_of(out, **{"optim.epochs": 3})
    reply, run = do(plan, out, measures=("curves",))
    assert reply.status == "done" and reply.seconds > 0 and not reply.resumed
    return plan, out, run


def test_a_finished_run_is_on_record(done: tuple[Plan, Path, Run]) -> None:
    plan, out, run = done
    store = Store(out)
    record = store.record(run.key)
    assert record is not None
    stored = json.loads((store.run(run.key) / "result.json").read_text())
    assert (
        record.metrics == stored["metrics"]
        and record.best == stored["best"]
        and record.seconds == stored["seconds"]
    )
    assert (
        record.info["environment"]["torch"]
        and record.info["seed"] == 0
        and record.info["recipe"]["optim"]["epochs"] == 3
    )
    assert (
        not (store.run(run.key) / "last.ckpt").exists()
        and (store.run(run.key) / "model.safetensors").is_file()
    )
    assert measured("curves", store.run(run.key)) == measure("curves", store.run(run.key), run.content)
    (cell,) = collect(plan, store).cells
    assert (
        cell.status == "done"
        and cell.number == stored["metrics"]["val_accuracy"]
        and cell.recipe["method"] == "image2point"
    )


def test_a_finished_run_is_not_repeated(
    done: tuple[Plan, Path, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, out, _ = done
    monkeypatch.setattr(Recipe, "run", forbidden)
    assert do(plan, out)[0].status == "done" and do(plan, out, retry=True)[0].status == "done"


def test_a_run_that_was_stopped_goes_on_exactly(
    done: tuple[Plan, Path, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, out, run = done
    write = engine.RunRecord.on_train_epoch_end

    def stop_after_the_second(self: Any, trainer: Any, module: Any) -> None:
        write(self, trainer, module)
        if trainer.current_epoch == 1:
            raise OSError("the machine was lost")

    with monkeypatch.context() as patch:
        patch.setattr(engine.RunRecord, "on_train_epoch_end", stop_after_the_second)
        reply, _ = do(plan, tmp_path)
    store = Store(tmp_path)
    assert reply.status == "failed" and reply.why == "the machine was lost"
    assert store.failure(run.key) is None and store.record(run.key) is None and store.started(run.key)
    reply, _ = do(plan, tmp_path)
    assert reply.status == "done" and reply.resumed
    same_weights(store.run(run.key), Store(out).run(run.key))
    whole, resumed = Store(out).record(run.key), store.record(run.key)
    assert (
        whole is not None
        and resumed is not None
        and whole.metrics == resumed.metrics
        and whole.best == resumed.best
    )


def test_a_run_of_another_place_starts_again(done: tuple[Plan, Path, Run], tmp_path: Path) -> None:
    plan, out, run = done
    store = Store(tmp_path)
    shutil.copytree(Store(out).run(run.key), store.run(run.key))
    for name in ("result.json", "model.safetensors"):
        (store.run(run.key) / name).unlink()
    (store.run(run.key) / "last.ckpt").write_bytes(b"damaged")
    reply, _ = do(plan, tmp_path)
    assert reply.status == "done"
    same_weights(store.run(run.key), Store(out).run(run.key))


def test_divergence_is_a_failure_that_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path, **{"optim.lr": 1e9, "optim.epochs": 30, "model.regime": "all"})
    reply, run = do(plan, tmp_path)
    assert (
        reply.status == "failed"
        and "loss" in reply.why
        and ("NaN" in reply.why or "infinite" in reply.why)
        and "step" in reply.why
    )
    assert Store(tmp_path).failure(run.key) == reply.why
    (cell,) = collect(plan, Store(tmp_path), {run.key: reply.why}).cells
    assert cell.status == "failed" and cell.why == reply.why and cell.number is None
    with monkeypatch.context() as patch:
        patch.setattr(Recipe, "run", forbidden)
        assert do(plan, tmp_path)[0] == Reply(run.key, "failed", reply.why), "not tried again by itself"
    again = do(plan, tmp_path, retry=True)[0]
    assert again.why == reply.why and not again.resumed


@pytest.mark.parametrize(
    ("error", "lasting", "sentence"),
    [
        (ValueError("Loss is NaN."), True, "Loss is NaN"),
        (FileNotFoundError("No file x.pth: fetch it."), False, "No file x.pth: fetch it"),
        (MemoryError("400 GB"), False, "out of memory"),
        (ModuleNotFoundError("No module named 'laspy'"), False, "No module named 'laspy'"),
        (KeyError("weight"), True, "KeyError: 'weight' in test_table_worker.py, line"),
    ],
)
def test_what_is_kept_and_what_may_be_mended(error: Exception, lasting: bool, sentence: str) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        fail()
    why, kept = explained(caught.value, explain)
    assert sentence in why and kept == lasting and "\n" not in why


def test_weights_that_are_missing_are_not_remembered(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, **{"model.weights": str(tmp_path / "absent.pth")})
    reply, run = do(plan, tmp_path)
    assert reply.status == "failed" and "absent.pth" in reply.why and Store(tmp_path).failure(run.key) is None


def test_a_record_of_another_format_is_never_read(done: tuple[Plan, Path, Run], tmp_path: Path) -> None:
    plan, out, run = done
    store = Store(tmp_path)
    file = store.folder(run.key) / "cell.json"
    file.parent.mkdir(parents=True)
    content = json.loads((Store(out).folder(run.key) / "cell.json").read_text())
    for damaged in (
        '{"format": 1',
        json.dumps({**content, "format": 1}),
        json.dumps({**content, "key": "other"}),
        "[]",
    ):
        file.write_text(damaged)
        assert store.record(run.key) is None
        assert store.strangers([(run.recipe_hash, run.key)])[1] == ('"key": "other"' not in damaged)
    assert collect(plan, store).cells[0].status == "not run"
    other = store.folder("0" * 40) / "cell.json"
    other.parent.mkdir()
    other.write_text(json.dumps({**content, "key": "0" * 40}))
    file.unlink()
    assert store.strangers([(run.recipe_hash, run.key)]) == (1, 0), "the same recipe by other code"


def test_a_method_without_numbers_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path)
    for content, sentence in (
        (None, "left no result.json"),
        ({"a": 1}, "has no metrics"),
        ({"metrics": {"x": float("nan")}}, "x = nan"),
    ):
        monkeypatch.setattr(Recipe, "run", leaving(content))
        reply, _ = do(plan, tmp_path, retry=True)
        assert reply.status == "failed" and sentence in reply.why


def test_curves_of_a_run(done: tuple[Plan, Path, Run], tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,val_accuracy\n0,0.4\n1,\n2,0.75\n3,0.7\n")
    found = measure("curves", tmp_path, {})
    assert found["epochs_to_50"] == 3 and found["epochs_to_70"] == 3 and found["epochs_to_80"] == float("inf")
    assert found["best_accuracy"] == 0.75 and found["best_epoch"] == 3 and found["epochs"] == 4
    (tmp_path / "metrics.csv").unlink()
    assert measure("curves", tmp_path, {}) == found, "kept"
    (tmp_path / "measures" / "curves.json").write_text('{"code": "other", "numbers": {}}')
    assert measured("curves", tmp_path) is None, "measured by other code"
    with pytest.raises(ValueError, match="did you mean curves"):
        measure("curve", tmp_path, {})
    assert "curves" in MEASURES


def forbidden(self: Recipe, **changes: Any) -> None:
    raise AssertionError("trained again")


def leaving(content: dict[str, Any] | None) -> Callable[..., None]:
    def run(self: Recipe, out: str, **changes: Any) -> None:
        Path(out).mkdir(parents=True, exist_ok=True)
        if content is not None:
            (Path(out) / "result.json").write_text(json.dumps(content))

    return run


def same_weights(a: Path, b: Path) -> None:
    """Bit for bit."""
    one, other = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
    assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
