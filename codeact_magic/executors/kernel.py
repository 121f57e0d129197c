"""Runs cells in a kernel of its own, by any installed kernelspec, with limits that hold."""

import ast
import asyncio
import contextlib
import json
import os
import signal
import weakref
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from ..errors import ExecutorError
from ..events import Changes, Output, Status
from ..outputs import secrets_in
from ..ports import CellBegan, CellDone
from . import probe
from .kernelspecs import find_kernel
from .namespace import changes_from, context_from
from .pip import folding
from .process import KernelProcess, Read, Request
from .sink import Sink, Watch

GRACE = 2.0
"""Seconds that code has to end after an interrupt, before its kernel is ended."""
_LOOK = 0.5  # seconds between two looks at a cell of which nothing is heard
_MUTE = 4  # of them until a kernel that is idle without a reply is asked whether it is well
_PROBED = 5.0  # seconds that a look at the names may take
_RESTART = "The next cell starts a new one."


class KernelExecutor:
    """Runs cells in a kernel of its own, which starts with the first cell and ends with its owner.

    An executor belongs to the event loop that it is first used on.

    Args:
        name: the kernelspec's name, such as ``"python3"`` or ``"ir"``.
        cwd: its working directory; the current one by default.
        env: variables over those of this process.
        limit: seconds that a cell may take; None for no limit. The cell is interrupted then; code that does not end
            within ``GRACE`` is ended with its kernel.
        read: answers ``input()``; None refuses it.
        watch: sees each output at its source.

    Raises:
        ExecutorError: there is no such kernel, or no such folder.
    """

    def __init__(
        self,
        name: str = "python3",
        *,
        cwd: str | os.PathLike[str] = "",
        env: Mapping[str, str] | None = None,
        limit: float | None = None,
        read: Read | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.name, spec = find_kernel(name)
        self.language = str(spec.language or self.name).lower()
        self.folder = _folder(os.fspath(cwd) or ".")
        self.limit = limit
        self.probing = True
        """Whether what a cell changes is told."""
        self._env = env
        self._read = read
        self._watch = watch
        self._process: KernelProcess | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: Request | None = None
        self._lock = asyncio.Lock()  # one cell at a time, also where the one before is being ended
        self._executing = False  # also while the kernel starts for a cell
        self._interrupts = 0  # by the user, of the running cell
        self._count = 0
        self._files = probe.Files()  # of a kernel that cannot be asked
        self._end = weakref.finalize(self, lambda: None)

    def __repr__(self) -> str:
        return f"KernelExecutor({self.name!r})"

    @property
    def running(self) -> bool:
        """Whether the kernel is there."""
        return self._process is not None and self._process.alive

    async def context(self) -> str:
        """Name the kernel's variables that are new or changed since the model last heard of them."""
        self._enter()
        process = await self._started()
        if self.language == "python":
            return context_from(await self._probed(process, probe.CONTEXT))
        self._files = probe.files(self.folder)
        return f"Your code runs as {self.language}: fence its blocks as ```{self.language}."

    def interrupt(self) -> None:
        """Interrupt the running cell, from any thread; a second time, code that goes on is ended with its kernel."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._interrupted)

    async def restart(self) -> None:
        """End the kernel; the next cell starts a new one."""
        process, self._process = self._process, None
        self._end.detach()
        self._count = 0
        if process is not None:
            await process.kill()

    async def aclose(self) -> None:
        """End the kernel."""
        process, self._process = self._process, None
        self._end.detach()
        if process is not None:
            await process.kill(politely=True)

    async def execute(self, code: str, cell: str) -> AsyncGenerator[CellBegan | Output | CellDone, None]:
        """Run ``code`` as a cell; see ``ports.Executor``."""
        self._enter()
        async with self._lock:
            self._interrupts, self._executing = 0, True
            try:
                async with contextlib.aclosing(self._executed(code, cell)) as items:
                    async for item in items:
                        yield item
            finally:
                self._executing = False

    async def _executed(self, code: str, cell: str) -> AsyncGenerator[CellBegan | Output | CellDone, None]:
        process = await self._started()
        sink = Sink(cell, secrets_in(), self._watch, folding(code))
        yield CellBegan(execution_count=self._count + 1)
        if self._interrupts:
            yield CellDone(status="stopped", detail="It was stopped before it began.")
            return
        expressions = {"codeact": probe.CHANGES} if self.language == "python" and self.probing else {}
        message = process.execute(code, sink, expressions=expressions)
        request = self._running = process.request(message)
        try:
            async with contextlib.aclosing(self._followed(process, request, sink)) as items:
                async for output in items:
                    yield output
            status, detail = await self._ending(process, request)
            sink.finish()
            for output in sink.drain():
                yield output
            yield CellDone(status=status, changes=await self._changes(process, request), detail=detail)
        finally:
            self._running = None
            if not request.done.is_set() and self._process is process and process.alive:
                await self._stopped(process, request)
            process.forget(message)

    def _enter(self) -> None:
        """Take note of the loop; what was driven by another one cannot be reached any more."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._process is not None:
                self._process.end_now()
            self._process, self._loop, self._lock = None, loop, asyncio.Lock()

    async def _started(self) -> KernelProcess:
        if self._process is not None and not self._process.alive:
            await self.restart()
        if self._process is None:
            self._process = await KernelProcess.start(self.name, cwd=self.folder, env=self._env, read=self._read)
            self._end = weakref.finalize(self, self._process.end_now)
            if self.language == "python":
                await self._silently(self._process, probe.source())
        return self._process

    async def _followed(self, process: KernelProcess, request: Request, sink: Sink) -> AsyncGenerator[Output, None]:
        """Yield outputs until the cell is done, the kernel has died, or the time is up."""
        done = asyncio.ensure_future(request.done.wait())
        died = asyncio.ensure_future(process.ended())
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.limit if self.limit is not None else float("inf")
        mute = 0  # looks at a kernel that is idle and has not replied
        try:
            while not (done.done() or died.done()) and loop.time() < deadline and mute < _MUTE and self._interrupts < 2:
                news = asyncio.ensure_future(sink.wait())
                left = min(max(deadline - loop.time(), 0), _LOOK)
                await asyncio.wait({done, died, news}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
                for output in sink.drain():
                    yield output
                mute = mute + 1 if request.idle and not request.reply else 0
        finally:
            done.cancel()
            died.cancel()

    async def _ending(self, process: KernelProcess, request: Request) -> tuple[Status, str]:
        """Say how a cell ended; one that has not is ended now."""
        done = request.done.is_set()
        if not done and process.alive and request.idle and await self._answers(process):
            told = "" if self._interrupts else f"The kernel {self.name!r} did not say how it ended."
            return ("stopped" if self._interrupts else "error"), told
        if not done and process.alive:
            kept = await self._stopped(process, request)
            self._counted(request)
            told = (
                f"It ran longer than the limit of {self.limit or 0:g} s" if not self._interrupts else "It was stopped"
            )
            how = f"and was interrupted; the kernel {self.name!r} and its names are kept."
            if not kept:
                how = (
                    f"and did not end when it was interrupted: the kernel {self.name!r} was ended, its names are gone. "
                )
                how += _RESTART
            return "stopped" if self._interrupts else "timeout", f"{told} {how}"
        payload = request.reply.get("payload") or ()
        leaving = any(isinstance(each, dict) and each.get("source") == "ask_exit" for each in payload)
        if leaving or not done:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.ended(), GRACE)
        if not process.alive or leaving:
            said = "The code ended it with exit()" if leaving else _cause(process.status)
            await self.restart()
            return "died", f"The kernel {self.name!r} died. {said}. Its names are gone. {_RESTART}"
        self._counted(request)
        if self._interrupts:
            return "stopped", ""
        return ("ok" if request.reply.get("status") == "ok" else "error"), ""

    def _counted(self, request: Request) -> None:
        count = request.reply.get("execution_count")
        self._count = count if type(count) is int else self._count + bool(request.reply)

    async def _stopped(self, process: KernelProcess, request: Request) -> bool:
        """Interrupt a cell, end its kernel if it goes on; say whether the kernel is kept."""
        process.interrupt()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(request.done.wait(), GRACE)
        if request.done.is_set() or (request.idle and await self._answers(process)):
            return True
        await self.restart()
        return False

    async def _answers(self, process: KernelProcess) -> bool:
        """Say whether the kernel is well: an interrupt that met it at the very end of a cell took only the reply."""
        return (await self._silently(process, "")).done.is_set()

    def _interrupted(self) -> None:
        if not self._executing:
            return
        self._interrupts += 1
        if self._running is not None and self._process is not None and not self._running.done.is_set():
            self._process.interrupt()

    async def _changes(self, process: KernelProcess, request: Request) -> Changes:
        if not self.probing:
            return Changes()
        if self.language != "python":
            before, self._files = self._files, probe.files(self.folder)
            return changes_from({"files": probe.changed(before, self._files)})
        if self._process is not process or not process.alive:
            return Changes()
        told = request.reply.get("user_expressions") or {}
        return changes_from(_read(told.get("codeact")) or await self._probed(process, probe.CHANGES))

    async def _probed(self, process: KernelProcess, expression: str) -> dict[str, Any]:
        """Evaluate one of the probe's expressions; empty where that fails."""
        request = await self._silently(process, "", {"codeact": expression})
        return _read((request.reply.get("user_expressions") or {}).get("codeact"))

    async def _silently(
        self, process: KernelProcess, code: str, expressions: Mapping[str, str] | None = None
    ) -> Request:
        message = process.execute(code, expressions=expressions)
        request = process.request(message)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(request.done.wait(), _PROBED)
        process.forget(message)
        return request


def _folder(cwd: str) -> str:
    try:
        folder = os.path.abspath(cwd)  # noqa: PTH100 - as text
    except OSError:
        raise ExecutorError("The working directory is gone: name another one.") from None
    if not os.path.isdir(folder):  # noqa: PTH112 - the same
        raise ExecutorError(f"There is no folder {folder} for the kernel to work in.")
    return folder


def _read(told: Any) -> dict[str, Any]:
    """Read a probe's answer. It comes from a kernel that runs a model's code, and may be anything."""
    try:
        value = json.loads(ast.literal_eval(told["data"]["text/plain"]))
    except (ValueError, TypeError, KeyError, SyntaxError, RecursionError, MemoryError):
        return {}
    return value if isinstance(value, dict) else {}


def _cause(status: int | None) -> str:
    """Say what the end of a process means."""
    if status == -signal.SIGKILL:
        return "It was killed (signal 9), as the system does when memory runs out"
    if status is not None and status < 0:
        return f"It was ended by signal {-status} ({signal.strsignal(-status) or 'unknown'})"
    return f"It exited with status {status}" if status is not None else "It is gone"
