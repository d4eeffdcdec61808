"""The whole command: runs what is missing, shares a directory with other runners,
and can be killed at any moment.
"""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_tables import TINY, write_table

from pointlift.commands.main import main
from pointlift.runs.recipes import Recipe
from pointlift.tables import claims
from pointlift.tables.definition import read_table
from pointlift.tables.plan import Plan, make_plan
from pointlift.tables.store import Store

COMMAND = [
    sys.executable,
    "-c",
    "import sys; from pointlift.commands.main import main; sys.exit(main())",
    "table",
]


def scales(**settings: Any) -> dict[str, Any]:
    return {"toy": {"recipe": "image2point/demo.yaml", "set": {**TINY, **settings}, "seeds": 1}}


def start(table: Path, out: Path, *words: str) -> subprocess.Popen[str]:
    """The command in a process group of its own, so that a signal reaches only it or, sent to the group,
    all of it.
    """
    command = [*COMMAND, str(table), "--out", str(out), *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def said_by(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=600)
    return said


def plan_of(table: Path) -> Plan:
    return make_plan(read_table(str(table)), "toy")


def numbers(out: Path, plan: Plan) -> dict[str, Any]:
    records = {key: Store(out).record(key) for key in plan.runs}
    return {key: record.metrics for key, record in records.items() if record is not None}


def trainings(out: Path, key: str) -> int:
    return Store(out).log(key).read_text().count("starts at the beginning")


def same_results(plan: Plan, one: Path, other: Path) -> None:
    """Numbers and weights, bit for bit."""
    assert numbers(one, plan) == numbers(other, plan) and len(numbers(one, plan)) == len(plan.runs)
    for key in plan.runs:
        a, b = (load_file(Store(out).run(key) / "model.safetensors") for out in (one, other))
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def wait_for(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not true():
        assert process.poll() is None, said_by(process)
        assert time.monotonic() < deadline
        time.sleep(0.005)


def children(process: int) -> list[int]:
    """Processes that a process has started, and those they have."""
    found = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *children(child)]
    return found


# -------------------------------------------------------------------------- a table, from nothing to pages


@pytest.mark.slow
def test_a_table_with_a_foundation_and_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = {"recipe": "image2point/demo.yaml", **TINY}
    table = write_table(
        tmp_path,
        before={"net": {"toy": net}},
        rows=["r"],
        columns=[
            {"name": "plain"},
            {
                "name": "built",
                "set": {"model.cloud_weights": "@net"},
                "measure": "curves",
                "value": "epochs",
                "unit": "",
            },
            {"name": "diverging", "set": {"optim.lr": 1e9, "optim.epochs": 20, "model.regime": "all"}},
        ],
        paper={"r": {"plain": "99.9"}},
        scales=scales(**{"optim.lr": 0.05}),
        figure={"kind": "bars"},
    )
    out = tmp_path / "out"
    words = ["table", str(table), "--out", str(out)]
    assert main(words) == 1
    said = capsys.readouterr().out
    assert (
        "3 cells, 4 runs, 4 to do" in said
        and "before: net: done" in said
        and "r / built, seed 0: done" in said
        and "r / diverging, seed 0: failed: " in said
    )
    assert (
        "failed: " in said
        and "NaN" in said.replace("infinite", "NaN")
        and "99.9" in said
        and "run again with --retry" in said
    )
    with (out / "tiny" / "toy.csv").open(newline="") as file:
        rows = {row["column"]: row for row in csv.DictReader(file)}
    assert (
        rows["built"]["number"] == "2.0"
        and rows["diverging"]["status"] == "failed"
        and rows["diverging"]["number"] == ""
    )
    plan = plan_of(table)
    record = Store(out).record(plan.cells[0].runs[0].key)
    assert record is not None and float(rows["plain"]["number"]) == 100 * record.metrics["val_accuracy"]
    built = plan.cells[1].runs[0]
    protocol = json.loads((Store(out).run(built.key) / "protocol.json").read_text())
    assert protocol["recipe"]["model"]["cloud_weights"] == str(
        Store(out).run(built.after[0]) / "model.safetensors"
    )
    monkeypatch.setattr(Recipe, "run", None)  # nor are worker processes started
    begun = time.perf_counter()
    assert main(words) == 1 and "0 to do" in capsys.readouterr().out, "a failure stays one"
    assert main([*words, "--only", "diverg"]) == 1 and "1 cells, 1 runs, 0 to do" in capsys.readouterr().out
    assert time.perf_counter() - begun < 60
    assert (out / "tiny" / "toy_bars.png").is_file() and "toy_bars.png" in (
        out / "tiny" / "toy.md"
    ).read_text()


def test_bad_input_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = str(write_table(tmp_path))
    needy = str(
        write_table(
            tmp_path,
            "needy",
            columns=["x"],
            paper={},
            scales=scales(**{"data.source": "modelnet:{data}/m", "data.classes": None}),
        )
    )
    out = ["--out", str(tmp_path / "out")]
    cases = [
        (["image2point/44"], "did you mean image2point/4"),
        ([], "table needs the name of a table"),
        ([table, "--scale", "ful"], "has no scale 'ful'"),
        ([table, "--only", "scrap"], "did you mean scratch"),
        ([table, "--jobs", "0"], "--jobs is 0"),
        ([table, "--shots", "3"], "unknown option --shots"),
        ([str(write_table(tmp_path, "m", measure="colapse"))], "did you mean collapse?"),
        ([str(write_table(tmp_path, "f", figure={"kind": "bar"}))], "did you mean bars?"),
        ([needy, "--data", str(tmp_path / "d")], "ply_data_train"),
    ]
    (tmp_path / "file").touch()
    cases.append(([table, "--out", str(tmp_path / "file")], "is a file, a folder for the results"))
    for words, sentence in cases:
        assert main(["table", *words, *([] if "--out" in words else out)]) == 2
        error = capsys.readouterr().err
        assert sentence in error and error.startswith("pointlift: ") and error.count("\n") == 1
    assert not (tmp_path / "out" / "cells").exists(), "nothing was run"


@pytest.mark.slow
def test_a_run_of_another_runner_is_left_to_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, out = write_table(tmp_path), tmp_path / "out"
    plan = plan_of(table)
    held = [claims.try_claim(Store(out).folder(key), lambda: None) for key in plan.runs]
    assert all(held)
    assert main(["table", str(table), "--out", str(out), "--no_wait"]) == 0
    said = capsys.readouterr().out
    assert "running elsewhere" in said and "4 to do" in said and numbers(out, plan) == {}


def test_the_list_names_every_table(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pointlift.tables import listing

    monkeypatch.setattr(listing, "list_tables", lambda: ["image2point/8", "image2point/nonsense"])
    assert main(["table", "--list", "--out", str(tmp_path), "--data", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    line = next(line for line in said.splitlines() if line.startswith("image2point/8 "))
    assert (
        " 0/" in line
        and "full 0/" in line
        and line.split("  ")[-1] == "Inflation along x, y and z"
        and len(line) < 120
    )
    place = next(line for line in said.splitlines() if line.startswith("1 "))
    assert (
        str(tmp_path / "modelnet40_ply_hdf5_2048") in place
        and "missing" in place
        and "PointNet's project page" in place
    )
    assert "not readable" in said and "there is no table 'image2point/nonsense'" in said


# -------------------------------------------------------------------------- killed, interrupted, side by side


@pytest.fixture(scope="module")
def long_table(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A table of four runs that take a while, and its results without any disturbance. Bits depend on the
    threads of a run, and these on --jobs, so that all runners here have two."""
    folder = tmp_path_factory.mktemp("long")
    table = write_table(folder, "long", scales=scales(**{"optim.epochs": 25}))
    process = start(table, folder / "out", "--jobs", "2")
    assert process.wait(600) == 0, said_by(process)
    return table, folder / "out"


def under_way(out: Path, plan: Plan) -> bool:
    """Whether a run has trained some epochs and is not done."""
    for key in plan.runs:
        metrics = Store(out).run(key) / "metrics.csv"
        if Store(out).started(key) and metrics.is_file() and 3 < len(metrics.read_text().splitlines()) < 15:
            return True
    return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes as Linux shows them")
@pytest.mark.parametrize("how", ["kill", "interrupt", "terminate"])
def test_a_stopped_runner_leaves_no_process_and_goes_on_exactly(
    how: str, long_table: tuple[Path, Path], tmp_path: Path
) -> None:
    table, whole = long_table
    plan, out = plan_of(table), tmp_path / "out"
    process = start(table, out, "--jobs", "2")
    wait_for(lambda: under_way(out, plan), process)
    workers = children(process.pid)
    assert len(workers) >= 2
    if how == "kill":
        process.kill()
    elif how == "interrupt":
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
    else:
        process.terminate()
    said = said_by(process)
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "workers outlive their runner"
        time.sleep(0.05)
    if how != "kill":
        assert process.returncode == (130 if how == "interrupt" else 143)
        assert "the same command goes on where this one stopped" in said and "Traceback" not in said
    assert len(numbers(out, plan)) < len(plan.runs)
    again = start(table, out, "--jobs", "2")
    said = said_by(again)
    assert again.returncode == 0 and "after going on from its last checkpoint" in said
    same_results(plan, out, whole)


@pytest.mark.slow
def test_two_runners_divide_the_work(long_table: tuple[Path, Path], tmp_path: Path) -> None:
    table, whole = long_table
    plan, out = plan_of(table), tmp_path / "out"
    runners = [start(table, out, "--jobs", "2") for _ in range(2)]
    said = [said_by(runner) for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0], said
    assert all("not run" not in text and "running elsewhere" not in text for text in said), (
        "both have the whole table"
    )
    assert [trainings(out, key) for key in plan.runs] == [1] * len(plan.runs), "no cell was run twice"
    own = [text.count(": done (") for text in said]
    assert sum(own) == len(plan.runs) and all(
        "done by another runner" in text or "0 to do" in text for text in said
    ), said
    same_results(plan, out, whole)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes as Linux shows them")
def test_a_worker_that_is_killed_is_replaced(long_table: tuple[Path, Path], tmp_path: Path) -> None:
    table, whole = long_table
    plan, out = plan_of(table), tmp_path / "out"
    process = start(table, out, "--jobs", "2")
    wait_for(lambda: under_way(out, plan), process)
    workers = [
        pid for pid in children(process.pid) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(workers[0], signal.SIGKILL)
    said = said_by(process)
    events = re.findall(r"^\[\d/4\] (.*)", said, re.MULTILINE)
    assert process.returncode == 1 and len(events) == 4
    assert sum("its process was ended from outside (signal 9" in event for event in events) == 1
    assert len(numbers(out, plan)) == len(plan.runs) - 1, (
        "the others were run, and the failure is not remembered"
    )
    assert start(table, out, "--jobs", "2").wait(600) == 0
    same_results(plan, out, whole)
