"""Run what a table still lacks, in worker processes that share the results directory with every other
runner.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from pointlift.system.environment import available_cores
from pointlift.system.processes import interrupts_held
from pointlift.tables.claims import Holder, holder
from pointlift.tables.measures import measured
from pointlift.tables.plan import Plan, Run
from pointlift.tables.progress import Progress
from pointlift.tables.store import Store
from pointlift.tables.worker import Explain, Reply, Task, serve

__all__ = ["Runner", "TableInterrupted"]

TICK = 0.5  # seconds between two looks at the workers while nothing happens
LOOK_AGAIN = 2.0  # seconds until a run that another runner has claimed is looked at again


class TableInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM while runs were under way; the message says how to go on. exit_code: 130 or 143."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as a job scheduler sends it."""


@dataclass
class _Worker:
    """A process, the pipe to it and what it does. idle: it has no task."""

    process: BaseProcess
    connection: Connection
    run: Run | None = None


@dataclass
class Runner:
    """Does the runs that are missing.

    Attributes:
        plan, store: what, and where results are. jobs: processes at once; the machine's cores (and GPUs) are
            divided among them, and a run's last bits may depend on its number of threads.
        retry: also run what failed before. wait_for_others:
            wait until runs that other runners have claimed are done.
        failures: key -> why, of what failed now or before; filled by `execute`.
        elsewhere: key -> who, of what others were still running when it ended without waiting.
    """

    plan: Plan
    store: Store
    explain: Explain
    jobs: int = 1
    retry: bool = False
    wait_for_others: bool = True
    failures: dict[str, str] = field(default_factory=dict)
    elsewhere: dict[str, Holder] = field(default_factory=dict)
    _workers: list[_Worker] = field(default_factory=list)
    _looks: dict[str, tuple[float, Holder | None]] = field(default_factory=dict)
    _told: frozenset[str] = frozenset()
    _crashes: Counter[str] = field(default_factory=Counter)

    def missing(self, runs: Iterable[Run], measures: Mapping[str, tuple[str, ...]]) -> list[Run]:
        """The runs that are still to be done; fills `failures` with those that failed before and are not
        tried again.
        """
        found = []
        for run in runs:
            why = (
                None if self.retry or self.store.record(run.key) is not None else self.store.failure(run.key)
            )
            if why is not None:
                self.failures[run.key] = why
            elif not self._complete(run, measures):
                found.append(run)
        return found

    def execute(self, runs: list[Run], measures: Mapping[str, tuple[str, ...]], total: int) -> None:
        """Do `runs` (see `missing`), each once it can be; total: runs of the table, for the bar.
        Raises TableInterrupted.
        """
        if not runs:
            return
        self._bar = Progress(total, total - len(runs))
        waiting = {run.key: run for run in runs}
        with _sigterm_raises():
            try:
                self._start(min(self.jobs, len(runs)))
                while waiting or any(w.run for w in self._workers):
                    if not self._hand_out(waiting, measures):
                        break
                    self._bar.show([w.run.label for w in self._workers if w.run])
                    self._collect(waiting)
            except KeyboardInterrupt as stop:
                over = self._bar.done + self._bar.failed
                what, code = ("terminated", 143) if isinstance(stop, _Terminated) else ("interrupted", 130)
                message = (
                    f"{what}: {over} of {self._bar.total} runs are done; "
                    "the same command goes on where this one stopped"
                )
                raise TableInterrupted(message, code) from None
            finally:
                self._end()
                self._bar.close()

    # -------------------------------------------------------------------------------------------- scheduling

    def _hand_out(self, waiting: dict[str, Run], measures: Mapping[str, tuple[str, ...]]) -> bool:
        """Give every idle worker a run; whether there is anything left to wait for."""
        idle = [w for w in self._workers if w.run is None]
        held: dict[str, Holder] = {}
        for run in list(waiting.values()) if idle else ():
            who = self._settle(run, waiting, measures)
            if who is not None:
                held[run.key] = who
            elif idle and run.key in waiting and self._ready(run, waiting):
                worker = idle.pop()
                worker.run = waiting.pop(run.key)
                worker.connection.send(
                    Task(run, str(self.store.out), self.plan.data, measures.get(run.key, ()), self.retry)
                )
        if not waiting or any(w.run for w in self._workers):
            return True
        if held and not self.wait_for_others:
            self.elsewhere.update(held)
            return False
        self._tell(held)
        return True

    def _settle(
        self, run: Run, waiting: dict[str, Run], measures: Mapping[str, tuple[str, ...]]
    ) -> Holder | None:
        """Take a run off the list that another runner has done, that failed there,
        or whose foundation failed; who else runs it now.
        """
        broken = next((key for key in run.after if key in self.failures), None)
        if broken is not None:
            self._failed(run, f"{self.plan.runs[broken].label} failed: {self.failures[broken]}", waiting)
            return None
        seen, who = self._looks.get(run.key, (-LOOK_AGAIN, None))
        if time.monotonic() - seen < LOOK_AGAIN:
            return who
        if self._complete(run, measures):
            del waiting[run.key]
            self._bar.finished(run.label, "done by another runner")
        elif not self.retry and (why := self.store.failure(run.key)) is not None:
            self._failed(run, why, waiting)
        else:
            who = holder(self.store.folder(run.key))
            self._looks[run.key] = (time.monotonic(), who)
            return who
        return None

    def _ready(self, run: Run, waiting: dict[str, Run]) -> bool:
        return not any(
            key in waiting or any(w.run and w.run.key == key for w in self._workers) for key in run.after
        )

    def _complete(self, run: Run, measures: Mapping[str, tuple[str, ...]]) -> bool:
        """Whether the run is done and everything of it is measured."""
        if self.store.record(run.key) is None:
            return False
        return all(measured(name, self.store.run(run.key)) is not None for name in measures.get(run.key, ()))

    def _failed(self, run: Run, why: str, waiting: dict[str, Run]) -> None:
        waiting.pop(run.key, None)
        self.failures[run.key] = why
        self._bar.finished(run.label, f"failed: {why}", failed=True)

    def _tell(self, held: Mapping[str, Holder]) -> None:
        """Say once for what and whom this runner waits."""
        if held and self._told != frozenset(held):
            self._told = frozenset(held)
            who = ", ".join(sorted({str(h) for h in held.values()}))
            self._bar.say(
                f"waiting for {len(held)} run{'s' if len(held) > 1 else ''} of other runners ({who}); "
                "--no_wait does not wait"
            )

    # -------------------------------------------------------------------------------------------- workers

    def _collect(self, waiting: dict[str, Run]) -> None:
        """Wait a moment for replies, and replace workers that died."""
        waitable: list[Any] = [w.connection for w in self._workers] + [
            w.process.sentinel for w in self._workers
        ]
        wait(waitable, TICK)
        for i, worker in enumerate(self._workers):
            ended, reply = not worker.process.is_alive(), None
            try:
                reply = worker.connection.recv() if worker.connection.poll() else None
            except (EOFError, OSError):  # nobody at the other end, perhaps in the middle of a word
                ended = True
            if isinstance(reply, Reply):
                self._received(worker, reply, waiting)
            elif ended:
                self._replace(i, waiting)

    def _received(self, worker: _Worker, reply: Reply, waiting: dict[str, Run]) -> None:
        assert worker.run is not None
        run, worker.run = worker.run, None
        if reply.status == "busy":
            waiting[run.key] = run
            self._looks.pop(run.key, None)
        elif reply.status == "failed":
            self._failed(run, reply.why, waiting)
        else:
            again = " after going on from its last checkpoint" if reply.resumed else ""
            self._bar.finished(run.label, f"done{again} ({reply.seconds:.0f} s)")

    def _replace(self, index: int, waiting: dict[str, Run]) -> None:
        """A worker was killed, probably for lack of memory:
        its run fails for now and is not remembered as a failure.
        """
        worker = self._workers[index]
        worker.process.join(10)
        worker.connection.close()
        code, run = worker.process.exitcode, worker.run
        self._workers[index] = self._spawn(index)
        if run is None:  # while it started
            self._crashes["start"] += 1
            if self._crashes["start"] > 3:
                raise OSError(
                    f"the worker processes end as soon as they start (exit code {code}); "
                    "run again with --jobs 1"
                )
            return
        if code == 3:  # its claim was taken over
            waiting[run.key] = run
            return
        how = (
            f"signal {-code}, probably for lack of memory"
            if code is not None and code < 0
            else f"exit code {code}"
        )
        self._failed(
            run,
            f"its process was ended from outside ({how}); run the same command again, with fewer --jobs",
            waiting,
        )

    def _start(self, count: int) -> None:
        self._threads = max(1, available_cores() // self.jobs)
        self._devices = _gpu_count()
        self._workers = [self._spawn(i) for i in range(count)]

    def _spawn(self, index: int) -> _Worker:
        context = multiprocessing.get_context("spawn")  # fork would copy torch's threads in an unknown state
        ours, theirs = context.Pipe()
        device = index % self._devices if self._devices > 1 else None
        # not daemons: those may have no children, and a recipe may load its data in processes
        process = context.Process(
            target=serve, args=(theirs, self._threads, device, self.explain), daemon=False
        )
        with interrupts_held():
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _end(self) -> None:
        """End all workers: idle ones are asked, others killed;
        what they trained is in their last checkpoints.
        """
        for worker in self._workers:
            if worker.run is None:
                with contextlib.suppress(OSError):  # already gone
                    worker.connection.send(None)
            else:
                worker.process.kill()
        for worker in self._workers:
            worker.process.join(10)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()
        self._workers = []


def _gpu_count() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM, as a job scheduler sends it, ends the runner like Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
