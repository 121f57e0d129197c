"""``%%in_kernel``: cells of this notebook that run in other kernels, and turns whose cells do.

The other kernels are driven by a loop of their own on a thread, so that they work whatever the notebook's loop does,
also while a cell blocks it.
"""

import asyncio
import contextlib
import os
import queue
import re
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, replace
from getpass import getpass
from typing import Any, TypeVar

from jupyter_client.kernelspec import KernelSpecManager

from ..errors import ExecutorError
from ..events import Output
from ..ports import CellBegan, CellDone
from .kernel import KernelExecutor
from .kernelspecs import find_kernel
from .live import LiveExecutor

T = TypeVar("T")


class RemoteError(Exception):
    """Code failed in another kernel: its own error, shown as that kernel shows it."""

    traceback: tuple[str, ...] = ()

    def _render_traceback_(self) -> list[str]:
        return list(self.traceback) or [f"{type(self).__name__}: {self}"]


class RemoteInterrupt(KeyboardInterrupt):
    """The user interrupted code in another kernel."""

    def _render_traceback_(self) -> list[str]:
        return [f"KeyboardInterrupt: {self}"]


@dataclass(slots=True)
class _Question:
    """The other kernel's ``input()``; it is put to the user on the main thread."""

    prompt: str
    secret: bool
    answer: "Future[str]"


class Kernels:
    """The other kernels of one shell, by name; each starts when it is first used and ends with this process.

    Args:
        shell: the user's ``InteractiveShell``.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._executors: dict[str, KernelExecutor] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()  # of the cell that runs
        self.in_turn = False
        self.limit: float | None = None
        """Seconds that a cell of a turn may take."""
        self.done: CellDone | None = None
        """How the last cell ended."""

    def listing(self) -> str:
        """Give the installed kernels, a line each, with their languages and which are in use."""
        known = KernelSpecManager().get_all_specs()
        width = max(map(len, known), default=0)
        return "\n".join(
            f"{name.ljust(width)}  {row['spec'].get('language', '?')}{', in use' if name in self._executors else ''}"
            for name, row in sorted(known.items())
        )

    def executor(self, name: str, *, cwd: str = "") -> KernelExecutor:
        """Give a kernel's executor; its working directory is the notebook's when it is first used.

        Raises:
            ExecutorError: there is no such kernel.
        """
        name = find_kernel(name)[0]
        if name not in self._executors:
            self._executors[name] = KernelExecutor(name, cwd=cwd, read=self._read)
        found = self._executors[name]
        if cwd and not found.running:
            found = self._executors[name] = KernelExecutor(name, cwd=cwd, read=self._read)
        if cwd and os.path.realpath(cwd) != os.path.realpath(found.folder):
            raise ExecutorError(f"The kernel {name!r} works in {found.folder}: end it first, %in_kernel {name} --stop.")
        return found

    def run(self, name: str, code: str, *, limit: float | None = None, cwd: str = "") -> None:
        """Run code in a kernel and show what it shows, as part of the cell that runs here.

        Raises:
            ExecutorError: there is no such kernel, it does not start, it died, or the time was up.
            RemoteError: the code failed.
            RemoteInterrupt: the user interrupted it.
        """
        if not self._lock.acquire(blocking=False):
            raise ExecutorError("Another cell of this notebook is running in another kernel: wait for its end.")
        try:
            self.done = None
            executor = self.executor(name, cwd=cwd)
            executor.limit = self.limit if limit is None else limit
            executor.probing = self.in_turn  # what the user's own cells change, a model hears when it is asked
            error, interrupted = self._follow(executor, code)
        finally:
            self._lock.release()
        assert self.done is not None, "KernelExecutor.execute ends with CellDone"
        self._raise(self.done, error, interrupted)

    def _follow(self, executor: KernelExecutor, code: str) -> tuple[Output | None, bool]:
        """Show what a cell shows until it has ended; give its error, and whether the user interrupted it.

        However this is left, the cell is over or being ended: an interrupt may come at any point here.
        """
        items = self._items = queue.SimpleQueue[Any]()
        running = self.submit(self._execute(executor, code, items))
        running.add_done_callback(lambda _: items.put(None))
        error: Output | None = None
        asked = sent = 0  # interrupts
        try:
            while True:
                try:
                    while sent < asked:
                        sent += 1
                        self._call(executor.interrupt)
                    if (item := items.get()) is None:
                        running.result()
                        return error, asked > 0
                    error = self._take(item) or error
                except KeyboardInterrupt:
                    asked += 1
        finally:
            running.cancel()

    def _take(self, item: Any) -> Output | None:
        """Take what came from a cell; give it back if it is an error."""
        if isinstance(item, _Question):
            self._answer(item)
        elif isinstance(item, CellDone):
            self.done = item
        elif not isinstance(item, CellBegan):
            self._show(item)
            return dict(item) if item["output_type"] == "error" else None
        return None

    def _call(self, function: Callable[[], object]) -> None:
        assert self._loop is not None, "a cell was submitted"
        self._loop.call_soon_threadsafe(function)

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run a coroutine on the kernels' own loop."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, daemon=True, name="codeact-kernels").start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def stop(self, name: str) -> str:
        """End a kernel, and say so.

        Raises:
            ExecutorError: there is no such kernel.
        """
        name = find_kernel(name)[0]
        executor = self._executors.pop(name, None)
        if executor is None:
            return f"The kernel {name!r} is not in use."
        with contextlib.suppress(TimeoutError):
            self.submit(executor.aclose()).result(5)
        return f"The kernel {name!r} is ended; its next cell starts a new one."

    def close(self) -> None:
        """End all kernels."""
        for name in list(self._executors):
            self.stop(name)

    async def _execute(self, executor: KernelExecutor, code: str, items: "queue.SimpleQueue[Any]") -> None:
        async with contextlib.aclosing(executor.execute(code, "")) as shown:
            async for item in shown:
                items.put(item)

    async def _read(self, prompt: str, secret: bool) -> str:
        question = _Question(prompt, secret, Future())
        self._items.put(question)
        return await asyncio.wrap_future(question.answer)

    def _answer(self, question: _Question) -> None:
        ask = getpass if question.secret else input
        try:
            question.answer.set_result(ask(question.prompt))
        except (EOFError, NotImplementedError):  # nobody can be asked here
            question.answer.set_result("")
        except KeyboardInterrupt:
            question.answer.set_result("")
            raise

    def _show(self, output: Output) -> None:
        from IPython.display import clear_output  # noqa: PLC0415 - only in a shell

        match output["output_type"]:
            case "stream":
                stream = sys.stderr if output["name"] == "stderr" else sys.stdout
                stream.write(output["text"])
                stream.flush()
            case "clear_output":
                clear_output(wait=bool(output.get("wait")))
            case "error":
                pass  # it is raised when the cell has ended
            case kind:
                data = {mime: value for mime, value in output["data"].items() if "widget-view" not in mime}
                self._shell.display_pub.publish(
                    data=data,
                    metadata=output.get("metadata") or {},
                    transient=output.get("transient") or {},
                    update=kind == "update_display_data",
                )

    def _raise(self, done: CellDone, error: Output | None, interrupted: bool) -> None:
        if interrupted or done.status == "stopped":
            raise RemoteInterrupt(done.detail or "the cell was interrupted; its kernel and its names are kept.")
        if done.status in ("timeout", "died"):
            raise ExecutorError(done.detail)
        if error is not None:
            name = re.sub(r"\W", "_", str(error.get("ename")))[:80] or "Error"
            failure = type(name, (RemoteError,), {"traceback": tuple(map(str, error.get("traceback") or ()))})
            raise failure(str(error.get("evalue")))
        if done.status != "ok":
            raise ExecutorError(done.detail or "The code failed, and its kernel does not say how.")


class BridgedExecutor:
    """Runs the cells of a turn in this notebook, where each goes to another kernel by ``%%in_kernel``.

    Args:
        live: runs the cells here.
        kernels: the shell's other kernels.
        name: of the kernel.
        limit: seconds that a cell may take.

    Raises:
        ExecutorError: there is no such kernel.
    """

    def __init__(self, live: LiveExecutor, kernels: Kernels, name: str, *, limit: float | None = None) -> None:
        self._live = live
        self._kernels = kernels
        self._limit = limit
        self._executor = kernels.executor(name)
        self.name = self._executor.name
        self.language = self._executor.language
        self.folder = self._executor.folder

    async def context(self) -> str:
        """Say which kernel it is, and what it knows."""
        state = await asyncio.wrap_future(self._kernels.submit(self._executor.context()))
        return f"Your code runs in the kernel {self.name!r}, not in the notebook's own.\n{state}".strip()

    async def execute(self, code: str, cell: str) -> AsyncGenerator[CellBegan | Output | CellDone, None]:
        """Run ``code``, which begins with ``%%in_kernel``; how it ended is what its kernel says."""
        kernels = self._kernels
        kernels.in_turn, kernels.limit, kernels.done = True, self._limit, None
        try:
            async with contextlib.aclosing(self._live.execute(code, cell)) as items:
                async for item in items:
                    yield self._ended(item) if isinstance(item, CellDone) else item
        finally:
            kernels.in_turn, kernels.limit = False, None

    def _ended(self, here: CellDone) -> CellDone:
        done = self._kernels.done
        if done is None:  # it did not come so far
            return here
        files = done.changes.files or here.changes.files
        status = here.status if here.status == "stopped" else done.status
        return replace(done, status=status, changes=replace(done.changes, files=files))

    def interrupt(self) -> None:
        """Interrupt the running cell."""
        self._live.interrupt()

    async def aclose(self) -> None:
        """Nothing is held: the kernel is the notebook's."""
