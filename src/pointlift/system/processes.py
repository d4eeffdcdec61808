"""Worker processes that end when they should: deaf to Ctrl-C, which their parent handles,
and gone when it is gone.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator

__all__ = ["end_with_parent", "interrupts_held"]


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Ctrl-C, which a terminal sends to all processes, waits until the block ends; processes started within
    never hear it, so that this one alone says what happens and no worker prints a traceback."""
    # Windows
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    # the mask is what workers inherit; it covers this thread only,
    # and another one of this process may take the signal instead
    handler = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler)
    if heard:
        raise KeyboardInterrupt


def end_with_parent() -> None:
    """In a worker: end when the process that started it does, however that ended,
    instead of waiting for work forever.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
