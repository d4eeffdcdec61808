"""What is said of kernels that are being compiled: little, in whole lines, and only to those who ask."""

import logging
import subprocess
import sys
from types import SimpleNamespace

import pytest
from numba.core import event

from pointlift.ops._numba import compiling


def compiled(module, status):
    dispatcher = SimpleNamespace(py_func=SimpleNamespace(__module__=module))
    return event.Event("numba:compile", status, {"dispatcher": dispatcher})


@pytest.fixture
def told(monkeypatch, caplog):
    """compile(seconds) of a kernel, and the lines that came of it."""
    now = [100.0]
    monkeypatch.setattr(compiling, "time", SimpleNamespace(monotonic=lambda: now[0]))
    caplog.set_level(logging.INFO, "pointlift.kernels")
    listener = compiling.CompilingTold()

    def compile(seconds, module="pointlift.ops.x.cpu", inner=0):
        listener.notify(compiled(module, event.EventStatus.START))
        for _ in range(inner):
            compile(seconds / (2 * inner), module)
        now[0] += seconds / 2 if inner else seconds
        listener.notify(compiled(module, event.EventStatus.END))

    return compile, lambda: [record.getMessage() for record in caplog.records], now


def test_short_compiling_is_not_told(told):
    compile, lines, now = told
    compile(1.5)
    now[0] += 60
    assert lines() == []


def test_a_line_after_two_seconds_and_then_every_ten(told):
    compile, lines, _ = told
    compile(1.0)
    compile(3.0)
    assert lines() == ["compiling kernels for this machine, at their first use only: 2 done in 4 s"]
    for _ in range(9):
        compile(1.0)
    assert len(lines()) == 1
    compile(2.0)
    assert lines()[1:] == ["compiling kernels for this machine, at their first use only: 12 done in 15 s"]


def test_kernels_within_kernels_count_but_their_time_does_so_once(told):
    compile, lines, _ = told
    compile(8.0, inner=2)
    assert lines()[-1].endswith("1 done in 2 s") or lines()[-1].endswith("2 done in 4 s")
    compile(12.0)
    assert lines()[-1].endswith("4 done in 20 s")


def test_kernels_of_others_are_not_ours(told):
    compile, lines, _ = told
    compile(50.0, module="somebody.elses")
    assert lines() == []


KERNEL = """
import logging, numba, sys, time
import pointlift.ops._numba.compiling as compiling
compiling.AFTER, compiling.EVERY = 0.0, 1e9
if sys.argv[1] == "command":
    from pointlift.commands.messages import notes_shown
    notes = notes_shown(); notes.__enter__()
def kernel(x):
    return x + 1
kernel.__module__ = "pointlift.imagined"
numba.njit(kernel)(1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("who", ["command", "library"])
def test_commands_show_it_and_libraries_do_not(who):
    done = subprocess.run([sys.executable, "-c", KERNEL, who], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == (1 if who == "command" else 0) and "\r" not in done.stderr
