"""Who runs which cell: claims in a shared folder, safe between threads, processes and machines, on NFS too.

A claim is a file `claim.<n>` in the cell's folder. It appears whole or not at all and exactly once, because
it is made with a hard link, which is atomic on NFS. The claim with the highest number holds; it is never
deleted, only marked as released, so that a number is never given twice. A claim whose process is dead is
taken over by whoever makes the next number first.
"""

from __future__ import annotations

import json
import os
import platform
import re
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from pointlift.system.atomic import atomic_write

__all__ = ["Claim", "Holder", "holder", "try_claim"]

HEARTBEAT = 15.0  # seconds between two signs of life
STALE = 300.0  # without one for so long, the claim of another machine is dead


@dataclass(frozen=True)
class Holder:
    """Who made a claim. machine: name, boot and process namespace,
    within which a process id means something.
    """

    host: str
    machine: str
    pid: int
    started: str
    released: bool = False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Claim:
    """A cell that this process may run. As a context manager it shows signs of life and is released at the
    end.

    on_lost: called, in another thread, when someone else has taken the claim over because this process seemed
    dead.
    """

    def __init__(self, folder: Path, number: int, on_lost: Callable[[], None]) -> None:
        self.folder, self.number, self.on_lost = folder, number, on_lost
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Claim:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        if self.holds():
            self.release()

    def holds(self) -> bool:
        """Whether nobody has taken the claim over."""
        return _highest(self.folder) == self.number

    def release(self) -> None:
        """Let others have the cell."""
        content = {**asdict(_myself()), "released": True}
        with atomic_write(_file(self.folder, self.number)) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT):
            if not self.holds():
                self.on_lost()
                return
            try:
                os.utime(_file(self.folder, self.number))
            except OSError:
                # a network drive that is away for a moment; if it stays away, others see no sign of life
                continue


def try_claim(folder: Path, on_lost: Callable[[], None]) -> Claim | None:
    """A claim on the cell in `folder`, or None where a living process has one or was faster."""
    folder.mkdir(parents=True, exist_ok=True)
    last = _highest(folder)
    if last and holder(folder) is not None:
        return None
    number = last + 1
    if not _create(_file(folder, number), json.dumps(asdict(_myself()))):
        return None
    return Claim(folder, number, on_lost)


def holder(folder: Path) -> Holder | None:
    """The living process that has claimed the cell; None where it is free."""
    number = _highest(folder)
    if not number:
        return None
    file = _file(folder, number)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        found = Holder(**content)
        beat = file.stat().st_mtime
    except (ValueError, TypeError):
        # a claim that another version wrote: alive as long as it shows signs of life
        found, beat = Holder("unknown host", "", 0, ""), file.stat().st_mtime
    except OSError:  # replaced under our eyes on a network drive: whoever asked looks again
        return Holder("unknown host", "", 0, "")
    if found.released:
        return None
    me = _myself()
    if found.machine == me.machine and found.machine:
        return found if found.started == _process_start(found.pid) else None
    return found if _now(folder) - beat < STALE else None


def _file(folder: Path, number: int) -> Path:
    return folder / f"claim.{number}"


def _highest(folder: Path) -> int:
    """Number of the newest claim, 0 where there is none."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return 0
    return max((int(n[6:]) for n in names if re.fullmatch(r"claim\.\d+", n)), default=0)


def _create(path: Path, text: str) -> bool:
    """Make a file with this content unless it exists; whether it was made here. Never seen half written."""
    handle, name = tempfile.mkstemp(prefix=".claim.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(name, path)
        except FileExistsError:
            # an NFS server whose answer was lost is asked again and then says that the link exists:
            # the count of links knows better
            return os.stat(name).st_nlink == 2
        except OSError:
            # a file system without hard links: exclusive creation,
            # which may be seen half written for a moment
            return _create_exclusively(path, text)
        return True
    finally:
        os.unlink(name)


def _create_exclusively(path: Path, text: str) -> bool:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


def _now(folder: Path) -> float:
    """The time by the clock of the drive, as the signs of life of other machines are stamped by it."""
    with tempfile.NamedTemporaryFile(prefix=".clock.", dir=folder) as file:
        os.utime(file.name)
        return os.stat(file.name).st_mtime


def _myself() -> Holder:
    pid = os.getpid()
    return Holder(platform.node(), _machine(), pid, _process_start(pid))


def _machine() -> str:
    """Within what a process id is unique; empty where the system does not tell, and signs of life decide."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{platform.node()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node() if os.name == "posix" else ""


def _process_start(pid: int) -> str:
    """When a process started, which tells it from a later one with the same id;
    empty for one that is gone or only waited for.
    """
    if not Path("/proc/self/stat").is_file():
        return _answers(pid)
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]


def _answers(pid: int) -> str:
    """Where the system does not tell when a process started: "running" for one that is there.
    Windows would end it when asked.
    """
    if os.name != "posix":
        return "running"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:  # somebody else's
        return "running"
    return "running"
