"""SIGINT while a turn runs: it stops the generated code, or wakes the loop, and never leaves the kernel's loop.

ipykernel's own handler for awaited cells only schedules a cancellation, which cannot stop synchronous code that was
started by the cell; and a ``KeyboardInterrupt`` raised in the loop itself would end the kernel.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Literal, Self

from IPython.core.interactiveshell import InteractiveShell

Where = Literal["cell", "task", "loop"]


class Interrupts:
    """Handles SIGINT while the context is open; outside the main thread it does nothing.

    Args:
        stop: called on the loop when the user's interrupt met no generated code on the stack.
        cancel: the same for an interrupt by a cell's time limit: it ends the cell, not the turn.
        root: the code object below which the turn runs; frames beneath it are the caller's.
    """

    def __init__(self, stop: Callable[[], object], cancel: Callable[[], object], root: Any = None) -> None:
        self._stop = stop
        self._cancel = cancel
        self._root = root
        self._old: Any = None
        self.hits = 0  # the user's
        self.by_limit = False  # the next interrupt comes from a time limit
        self.asking = False  # the main thread waits for the user's word

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            self._old = signal.getsignal(signal.SIGINT)
            self.install()
        return self

    def install(self) -> None:
        """Take SIGINT, again where a cell has set a handler of its own."""
        if self._old is not None:
            signal.signal(signal.SIGINT, self._handle)

    def __exit__(self, *_: object) -> None:
        if self._old is not None:
            signal.signal(signal.SIGINT, self._old)
            self._old = None

    def stop_soon(self) -> None:
        """Stop from any thread, as SIGINT does where no generated code is on the stack."""
        self.hits += 1
        self._loop.call_soon_threadsafe(self._stop)

    def _handle(self, _signum: int, frame: FrameType | None) -> None:
        by_limit, self.by_limit = self.by_limit, False
        self.hits += not by_limit
        where = self._where(frame)
        if where == "cell" or self.asking:
            raise KeyboardInterrupt  # IPython's run_code catches it
        self._loop.call_soon_threadsafe(self._cancel if by_limit else self._stop)
        if where == "task":
            raise asyncio.CancelledError  # only that task ends; a KeyboardInterrupt would leave the loop

    def _where(self, frame: FrameType | None) -> Where:
        """Say what the signal met: a generated cell, a task that a cell left in the loop, or the waiting loop."""
        found: Where = "loop"
        while frame is not None and frame.f_code is not self._root:
            if frame.f_code is InteractiveShell.run_code.__code__:
                return "cell"
            if _is_cell_file(frame.f_code.co_filename):
                found = "task"
            frame = frame.f_back
        return found


def _is_cell_file(name: str) -> bool:
    return name.startswith("<ipython-input") or f"ipykernel_{os.getpid()}" in name


def trimmed(trace: TracebackType | None) -> TracebackType | None:
    """Give a traceback without our handler's frame: it ends where the user's code was interrupted."""
    if trace is None or trace.tb_frame.f_code is Interrupts._handle.__code__:  # noqa: SLF001
        return None
    return TracebackType(trimmed(trace.tb_next), trace.tb_frame, trace.tb_lasti, trace.tb_lineno)


def interrupt_self() -> None:
    """Send this process SIGINT as a frontend would: to its process group where it leads one, for its children too."""
    if not hasattr(signal, "pthread_kill"):
        signal.raise_signal(signal.SIGINT)
    elif os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGINT)
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


class Watchdog:
    """Interrupts this process when its time is up, again every two seconds until it is closed.

    Args:
        seconds: the limit; None for none.
        interrupts: is told that the interrupt is ours.
    """

    _AGAIN = 2.0

    def __init__(self, seconds: float | None, interrupts: Interrupts) -> None:
        self._seconds = seconds
        self._interrupts = interrupts
        self._done = threading.Event()
        self._lock = threading.Lock()
        self.fired = False

    def __enter__(self) -> Self:
        if self._seconds is not None:
            threading.Thread(target=self._watch, args=(self._seconds,), daemon=True, name="codeact-watchdog").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:  # an interrupt must not go out once the cell is over
            self._done.set()

    def _watch(self, wait: float) -> None:
        while not self._done.wait(wait):
            with self._lock:
                if self._done.is_set():
                    return
                self.fired = self._interrupts.by_limit = True
                interrupt_self()
            wait = self._AGAIN
