"""Runs cells in the user's own kernel: same namespace, main thread, IPython's own machinery.

Whatever a hand-written cell can do, a generated one can: results, magics, shell commands, top-level await, figures,
widgets, ``input()``. Only ending the kernel is refused.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, Protocol

from ..events import Output
from ..outputs import secrets_in
from ..ports import CellBegan, CellDone
from .interrupts import Interrupts, Watchdog, interrupt_self, trimmed
from .iopub import KernelOutputs, new_message
from .namespace import changes_from, context_from
from .pip import folding
from .probe import Probe
from .sink import Sink, Watch
from .terminal import TerminalOutputs, _replaced

_GRACE = 2.0  # seconds that a cancelled cell has to end


class OutputSource(Protocol):
    """Where the outputs of a shell come from."""

    def begin(self) -> None:
        """Prepare for a turn."""

    def capture(self, sink: Sink, code: str, message: str, count: int) -> contextlib.AbstractContextManager[None]:
        """Hand the outputs of the code that runs within to ``sink``."""

    def close(self) -> None:
        """Leave the shell as it was."""


def source_from(shell: Any) -> KernelOutputs | TerminalOutputs:
    """Give the source of a shell's outputs: a kernel's, or a terminal's."""
    return KernelOutputs(shell) if getattr(shell, "kernel", None) is not None else TerminalOutputs(shell)


class LiveExecutor:
    """Runs cells in ``shell``, one at a time, on the thread that iterates.

    Args:
        shell: the user's ``InteractiveShell``.
        source: where its outputs come from; see ``source_from``.
        limit: seconds that a cell may take before it is interrupted; None for no limit.
    """

    def __init__(self, shell: Any, source: OutputSource, *, limit: float | None = None) -> None:
        self._shell = shell
        self._source = source
        self._limit = limit
        self._watch: Watch | None = None
        self._blocked = False  # a cell runs synchronously
        self._interrupts: Interrupts | None = None
        self._task: asyncio.Task[Any] | None = None
        self._probe = Probe(shell.user_ns, shell.user_ns_hidden)

    language = "python"

    @property
    def folder(self) -> str:
        """The kernel's working directory."""
        try:
            return os.getcwd()  # noqa: PTH109 - as text
        except OSError:  # a cell has deleted it
            return ""

    async def context(self) -> str:
        """Name the user's variables that are new or changed since the model last heard of them."""
        return context_from(self._probe.context())

    def prepare(self, *, limit: float | None, watch: Watch | None) -> None:
        """Set a turn's limit per cell, and who sees each output at its source, also while a cell blocks."""
        self._limit, self._watch = limit, watch

    def forget(self) -> None:
        """Begin a new thread: the model has heard of no variable yet."""
        self._probe.forget()

    def cancel(self) -> bool:
        """Cancel the cell that is awaited, if there is one."""
        if self._task is None or self._task.done():
            return False
        self._task.cancel()
        return True

    def interrupt(self) -> None:
        """Interrupt the running cell, from any thread."""
        if self._blocked or (self._task and not self._task.done()):
            interrupt_self()

    def stop(self) -> None:
        """End the running cell, or the turn where none runs; callable from any thread."""
        if self._blocked:
            interrupt_self()
        elif self._interrupts:
            self._interrupts.stop_soon()

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Let an interrupt raise ``KeyboardInterrupt`` in the main thread, which waits for the user's word within."""
        interrupts = self._interrupts
        if interrupts is None:
            yield
            return
        interrupts.asking = True
        try:
            yield
        finally:
            interrupts.asking = False

    @contextlib.contextmanager
    def interruptible(self, stop: Callable[[], object], root: Any = None) -> Iterator[Interrupts]:
        """Handle SIGINT for a turn: it ends the running cell, or calls ``stop`` where none runs."""

        def stop_cell_or_turn() -> None:
            if not self.cancel() or (self._interrupts and self._interrupts.hits > 1):
                stop()

        with Interrupts(stop_cell_or_turn, self.cancel, root) as interrupts:
            self._interrupts = interrupts
            try:
                yield interrupts
            finally:
                self._interrupts = None

    async def execute(self, code: str, cell: str) -> AsyncGenerator[CellBegan | Output | CellDone, None]:
        """Run ``code`` as a cell; see ``ports.Executor``."""
        shell, message = self._shell, new_message()
        count = shell.execution_count
        yield CellBegan(execution_count=count, message=message)
        with contextlib.ExitStack() as stack:
            interrupts = self._interrupts or stack.enter_context(self.interruptible(lambda: None))
            interrupts.install()
            self._probe.began()
            sink = Sink(cell, secrets_in(), self._watch, folding(code))
            succeeded = False
            with self._source.capture(sink, code, message, count), self._guarded():
                watchdog = stack.enter_context(Watchdog(self._limit, interrupts))
                transformed, awaited = self._prepared(code)
                if interrupts.hits:
                    pass  # it came between the reply and the cell, which does not run
                elif awaited:
                    self._task = asyncio.ensure_future(self._run_async(code, transformed, cell))
                    async with contextlib.aclosing(self._followed(self._task, sink)) as outputs:
                        async for output in outputs:
                            yield output
                    succeeded = self._succeeded(self._task)
                else:
                    succeeded = self._run(code, cell)
            interrupts.install()
        for output in sink.drain():
            yield output
        changes = changes_from(self._probe.changes())
        if interrupts.hits:
            yield CellDone(status="stopped", changes=changes)
        elif watchdog.fired:
            detail = f"It ran longer than the limit of {self._limit:g} s; the kernel and its names are kept."
            yield CellDone(status="timeout", changes=changes, detail=detail)
        else:
            yield CellDone(status="ok" if succeeded else "error", changes=changes)

    async def aclose(self) -> None:
        """Nothing is held between cells."""

    def _prepared(self, code: str) -> tuple[str | None, bool]:
        """Transform a cell as the kernel does, and say whether it must be awaited."""
        try:
            transformed = self._shell.transform_cell(code)
        except Exception:  # noqa: BLE001 - run_cell meets it again and shows it
            return None, False
        return transformed, self._shell.should_run_async(code, transformed_cell=transformed)

    def _run(self, code: str, cell: str) -> bool:
        self._blocked = True
        try:
            result = self._shell.run_cell(code, store_history=True, cell_id=cell)
        except KeyboardInterrupt:  # it came when the code had just ended
            return False
        finally:
            self._blocked = False
        return bool(result.success) and not getattr(self._shell, "_last_traceback_during_displayhook", False)

    async def _run_async(self, code: str, transformed: str | None, cell: str) -> Any:
        shell, result = self._shell, None
        try:
            result = await shell.run_cell_async(code, store_history=True, transformed_cell=transformed, cell_id=cell)
        finally:
            shell.events.trigger("post_execute")
            shell.events.trigger("post_run_cell", result)
        return result

    async def _followed(self, task: "asyncio.Task[Any]", sink: Sink) -> AsyncGenerator[Output, None]:
        """Yield outputs while ``task`` runs; if the turn is cancelled, so is the task."""
        try:
            while not task.done():
                news = asyncio.ensure_future(sink.wait())
                await asyncio.wait({task, news}, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
                for output in sink.drain():
                    yield output
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=_GRACE)

    def _succeeded(self, task: "asyncio.Task[Any]") -> bool:
        if task.cancelled() or task.exception() is not None:
            return False
        return bool(task.result() is not None and task.result().success)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Refuse ``exit()``, as the kernel is the user's; keep our handler out of an interrupt's traceback."""
        shell = self._shell
        show = shell.showtraceback

        def refuse(*_: object, **__: object) -> None:
            raise SystemExit("a generated cell cannot end the kernel; the session goes on")

        def shown(exc_tuple: Any = None, *arguments: Any, **options: Any) -> None:
            kind, error, trace = exc_tuple or sys.exc_info()
            if isinstance(error, KeyboardInterrupt):
                exc_tuple = (kind, error, trimmed(trace))
            show(exc_tuple, *arguments, **options)

        with _replaced(shell, ask_exit=refuse, showtraceback=shown):
            yield
