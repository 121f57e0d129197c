"""A kernel of its own: its process and the requests that it answers, through jupyter_client."""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any
from uuid import uuid4

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.paths import jupyter_runtime_dir

from ..errors import ExecutorError
from ..events import is_output
from ..outputs import plain
from .kernelspecs import find_kernel
from .sink import Sink

_OUTPUTS = {"stream", "display_data", "execute_result", "error", "update_display_data", "clear_output"}
_START = 30.0  # seconds that a kernel has to answer, twice: its ports may be taken before it has them
_LONGEST = 95  # bytes of a path that a local socket can have, less what the kernel appends
_AGAIN = 0.25  # seconds between two attempts to reach a kernel that is starting
_POLL = 0.05  # seconds between two looks at the process
_GUARD = 'read -r _; kill -9 -"$1" 2>/dev/null'  # the pipe ends with the owner

_LOG = logging.getLogger("codeact_magic.kernels")  # jupyter_client logs what we raise
_LOG.addHandler(logging.NullHandler())
_LOG.propagate = False

Read = Callable[[str, bool], Awaitable[str]]
"""Answers the code's ``input()``: a prompt, and whether it is a password."""


class Request:
    """A request under way; ``done`` is set once the kernel has replied and is idle again."""

    def __init__(self, sink: Sink | None = None) -> None:
        self.sink = sink
        self.reply: dict[str, Any] = {}
        self.idle = False
        self.done = asyncio.Event()

    def settle(self) -> None:
        """Note what has come."""
        if self.reply and self.idle:
            self.done.set()


class KernelProcess:
    """One kernel process; made by ``start``, on the event loop that uses it.

    Args:
        manager: of the process.
        log: what the process prints by itself.
        read: answers ``input()``; None refuses it.
    """

    def __init__(self, manager: AsyncKernelManager, log: Any, read: Read | None) -> None:
        self._manager = manager
        self._log = log
        self._read = read
        self._client: AsyncKernelClient = None
        self._requests: dict[str, Request] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._guard: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self.status: int | None = None  # of the process, once it has ended
        self.info: dict[str, Any] = {}

    @classmethod
    async def start(cls, name: str, *, cwd: str, env: Mapping[str, str] | None, read: Read | None) -> "KernelProcess":
        """Start a kernel and wait until it answers.

        Raises:
            ExecutorError: it is not installed, does not start, or does not answer.
        """
        name, spec = find_kernel(name)
        ours = any("ipykernel" in each for each in spec.argv)
        for attempt in (1, 2):
            manager = AsyncKernelManager(kernel_name=name, log=_LOG)
            if ours and (path := _socket_path()):  # no port that another process could take, and nobody else's to reach
                manager.transport, manager.connection_file = "ipc", path
            kernel = cls(manager, tempfile.TemporaryFile(), read)  # noqa: SIM115 - closed with the kernel
            try:
                await kernel._launch(cwd, {**os.environ, **(env or {})}, guarded=not ours)
            except TimeoutError:
                await kernel.kill()
                if attempt == 2:
                    break
            except BaseException as error:
                said = kernel._said()
                await kernel.kill()
                if isinstance(error, ExecutorError) or not isinstance(error, Exception):
                    raise
                raise ExecutorError(f"The kernel {name!r} did not start: {said or error}.") from None
            else:
                return kernel
        raise ExecutorError(f"The kernel {name!r} gave no answer for {_START:g} s, twice.")

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        process = getattr(self._manager.provisioner, "process", None)
        if process is not None and self.status is None:
            self.status = process.poll()
        return self.status is None and self._manager.has_kernel

    def execute(self, code: str, sink: Sink | None = None, *, expressions: Mapping[str, str] | None = None) -> str:
        """Send code and give the request's id; without a sink it is silent."""
        return self._sent(
            self._client.execute(
                code,
                silent=sink is None,
                store_history=sink is not None,
                user_expressions=dict(expressions or {}),
                allow_stdin=sink is not None and self._read is not None,
                stop_on_error=False,
            ),
            Request(sink),
        )

    def request(self, message: str) -> Request:
        """Give a request by its id."""
        return self._requests[message]

    def forget(self, message: str) -> None:
        """Drop a request; what still comes for it is passed over."""
        self._requests.pop(message, None)

    async def ended(self) -> None:
        """Wait for the end of the process, then for what it had still sent."""
        while self.alive:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(_POLL)
        await asyncio.sleep(_POLL)

    def interrupt(self) -> None:
        """Interrupt the running code as the kernel wants it: by SIGINT to its process group, or by a message."""
        if self._manager.kernel_spec.interrupt_mode == "message":
            self._client.control_channel.send(self._client.session.msg("interrupt_request", {}))
        elif self.alive:
            with contextlib.suppress(OSError):
                os.killpg(self._manager.provisioner.pgid, signal.SIGINT)

    async def kill(self, *, politely: bool = False) -> None:
        """End the process, and all that belongs to it."""
        alive = self.alive
        with contextlib.suppress(Exception):  # whatever state it is in, it goes
            if politely and alive:
                self._manager.shutdown_wait_time = 2.0
            await self._manager.shutdown_kernel(now=not politely or not alive)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            self._client.stop_channels()
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
        self._log.close()

    def end_now(self) -> None:
        """End the process where no loop runs any more; a forked child of its owner does not."""
        provisioner = self._manager.provisioner
        if os.getpid() != self._owner:
            return
        if self.alive and getattr(provisioner, "pgid", None):
            with contextlib.suppress(OSError):
                os.killpg(provisioner.pgid, signal.SIGKILL)
                provisioner.process.wait(1)
        for task in self._tasks:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                task.get_loop().call_soon_threadsafe(task.cancel)
        left = [self._log.close, self._manager.cleanup_connection_file, self._manager.cleanup_ipc_files]
        if self._client is not None:
            left += [self._client.stop_channels, self._client.context.destroy, self._manager.context.destroy]
        for each in left:
            with contextlib.suppress(Exception):  # whatever state it is in
                each()

    async def _launch(self, cwd: str, env: Mapping[str, str], *, guarded: bool) -> None:
        await self._manager.start_kernel(
            cwd=cwd or None, env=env, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        if guarded:  # an ipykernel ends with its owner by itself
            self._watch_owner()
        self._connect()
        await self._greet()

    def _connect(self) -> None:
        self._client = self._manager.client()  # the addresses are known now
        self._client.start_channels(hb=False, control=True)
        readers = [self._read_iopub(), self._read_shell(), *([self._read_stdin()] if self._read else [])]
        self._tasks = [asyncio.ensure_future(reader) for reader in readers]

    async def _greet(self) -> None:
        """Ask until the kernel has answered on both channels: the outputs' comes up a little later."""
        deadline = asyncio.get_running_loop().time() + _START
        while True:
            request = Request()
            message = self._sent(self._client.kernel_info(), request)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(request.done.wait(), _AGAIN)
            self.forget(message)
            self.info = request.reply or self.info
            if request.done.is_set():
                return
            if not self.alive:
                raise ExecutorError(
                    f"The kernel {self._manager.kernel_name!r} ended at once: {self._said() or 'it printed nothing'}."
                )
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError

    def _sent(self, message: str, request: Request) -> str:
        self._requests[message] = request
        return message

    async def _read_shell(self) -> None:
        while True:
            with _passed_over():
                reply = await self._client.get_shell_msg()
                if request := self._requests.get(reply["parent_header"].get("msg_id", "")):
                    request.reply = reply["content"]
                    request.settle()

    async def _read_iopub(self) -> None:
        while True:
            with _passed_over():
                message = await self._client.get_iopub_msg()
                request = self._requests.get(message["parent_header"].get("msg_id", ""))
                kind, content = message["msg_type"], message["content"]
                if request and kind == "status" and content.get("execution_state") == "idle":
                    request.idle = True
                    request.settle()
                elif request and request.sink and kind in _OUTPUTS:
                    output = {**content, "output_type": kind}
                    if is_output(output):
                        request.sink.take(output)

    async def _read_stdin(self) -> None:
        while True:
            with _passed_over():
                message = await self._client.get_stdin_msg()
                content = message["content"]
                if self._read and message["parent_header"].get("msg_id") in self._requests:
                    prompt, secret = str(content.get("prompt", "")), bool(content.get("password"))
                    try:
                        answer = await self._read(prompt, secret)
                    except Exception:  # noqa: BLE001 - nobody answers; the code must not wait for ever
                        answer = ""
                    self._client.input(answer)

    def _said(self) -> str:
        self._log.seek(0)
        lines = plain(self._log.read()[-2000:].decode(errors="replace")).strip().splitlines()
        return lines[-1][:300].rstrip(".") if lines else ""

    def _watch_owner(self) -> None:
        """Let the kernel end with this process, however that ends: the guard's input closes then."""
        group = getattr(self._manager.provisioner, "pgid", None)
        if group and os.name == "posix":
            self._guard = subprocess.Popen(  # noqa: S603 - our own words
                ["/bin/sh", "-c", _GUARD, "guard", str(group)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )


def _socket_path() -> str:
    """Give a connection file beside which local sockets fit; empty where there are none."""
    path = os.path.join(jupyter_runtime_dir(), f"kernel-{uuid4().hex[:16]}.json")  # noqa: PTH118 - as text
    return path if os.name == "posix" and len(os.fsencode(path)) <= _LONGEST else ""


@contextlib.contextmanager
def _passed_over() -> Iterator[None]:
    """Pass over a message that makes no sense: the kernel is not ours to trust."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
