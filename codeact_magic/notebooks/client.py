"""A client without a browser: nbclient, with generated cells spliced into the notebook as they run.

It speaks for the document: it answers the kernel's opening, feeds ``Splice`` with the events, and routes what generated
cells publish to them.
"""

import asyncio
import contextlib
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionComplete, DeadKernelError
from nbclient.util import ensure_async
from nbformat import NotebookNode

from ..approval import refused
from ..errors import ExecutorError
from ..events import CellDecided, CellProposed, CellStarted, Event, TurnFinished
from ..record import mark
from .protocol import TARGET, Hello, decide_data, event_in, hello_data
from .splice import Observe, Splice

_DAY = 86_400.0
_BEAT = 0.1  # seconds between two looks at the kernel's process
_STARTS = 3  # a port may be taken by another process before the kernel has it
_PATIENCE = 10  # interrupts, one a second, before a kernel that does not stop is ended
Decide = Callable[[CellProposed, str], Awaitable[CellDecided]]


class AgentClient(NotebookClient):  # type: ignore[misc]
    """Runs a notebook and splices generated cells in.

    Args:
        nb: the notebook; it is changed in place.
        document: its path.
        save: called when something worth keeping has changed.
        observe: sees every event.
        narrate: is told what the model says beside its code, once that is saved.
        options: of this run: model, timeout, again.
        decide: asks the user whether a cell may run; None if there is nobody to ask.
    """

    def __init__(
        self,
        nb: NotebookNode,
        *,
        document: Path,
        save: Callable[[], None],
        observe: Observe,
        narrate: Callable[[str], None],
        options: Mapping[str, Any],
        decide: Decide | None = None,
    ) -> None:
        super().__init__(nb, resources={"metadata": {"path": str(document.parent)}}, record_timing=False)
        self.timeout_func = _limit
        self.interrupt_on_timeout = True
        self._document = document
        self._save = save
        self._options = options
        self._decide = decide
        self._splice = Splice(nb, save=save, observe=observe, narrate=narrate)
        self._deciding: asyncio.Task[None] | None = None
        self._routes: dict[str, str] = {}  # message id -> generated cell
        self._comm = self._owner = ""
        self._subshell: str | None = None
        self._stopping = False
        self.outcomes: list[TurnFinished] = []
        self.kept = 0  # answered prompts that were not asked again

    @property
    def stopping(self) -> bool:
        """Whether the user has asked to stop."""
        return self._stopping

    async def run(self) -> None:
        """Run the notebook from top to bottom.

        Raises:
            CellExecutionError: a cell of the user failed, or a turn did.
            ExecutorError: the kernel could not start, or died.
        """
        await self._start()
        try:
            await self._while_alive(self._work())
        except DeadKernelError:
            self._ask_no_more()
            self._splice.close("the kernel died in mid-turn")
            raise ExecutorError("The kernel died. The notebook is saved as far as it came.") from None
        finally:
            self._save()
            await self._ended()

    async def _work(self) -> None:
        await self._learn()
        done: set[str] = set()
        while not self._stopping and (cell := self._next(done)) is not None:
            done.add(cell.id)
            with self._splice.below(cell):
                await self.async_execute_cell(cell, self._splice.index(cell.id))
        self.set_widgets_metadata()

    async def _while_alive(self, work: Coroutine[Any, Any, None]) -> None:
        """Do work as long as the kernel lives; nbclient looks only once a second, and only while a cell runs.

        Raises:
            DeadKernelError: it died. What it had sent by then is taken.
        """
        task, alive = asyncio.ensure_future(work), True
        while alive and not task.done():
            alive = await ensure_async(self.km.is_alive())
            await asyncio.wait({task}, timeout=_BEAT)
        if task.cancel():
            await asyncio.gather(task, return_exceptions=True)
            raise DeadKernelError("Kernel died")
        task.result()

    async def _start(self) -> None:
        self.reset_execution_trackers()
        for left in reversed(range(_STARTS)):
            self.create_kernel_manager()
            if await self._started(again=left > 0):
                return

    async def _started(self, *, again: bool) -> bool:
        with tempfile.TemporaryFile() as log:  # what a kernel prints belongs to its cells, not to the terminal
            try:
                await self.async_start_new_kernel(stdout=subprocess.DEVNULL, stderr=log)
                await self.async_start_new_kernel_client()
            except Exception as error:  # noqa: BLE001 - kernels fail to start in many ways
                await self._ended()
                log.seek(0)
                said = (log.read()[-2000:].decode(errors="replace").strip().splitlines() or [""])[-1]
                if again and "Address already in use" in said:
                    return False
                raise ExecutorError(
                    f"The kernel {self.kernel_name or 'python3'!r} did not start: {said or error} "
                    "(`jupyter kernelspec list` shows the installed ones)."
                ) from None
        return True

    async def stop(self) -> None:
        """Interrupt the kernel: the running cell and its turn end. A second call ends the kernel."""
        if self.km is None:
            return
        seconds, self._stopping = (0 if self._stopping else _PATIENCE), True
        for _ in range(seconds):  # an interrupt that meets the kernel between two cells is lost
            if self.km is None or not self.km.has_kernel:
                return
            await ensure_async(self.km.interrupt_kernel())
            await asyncio.sleep(1)
        if self.km is not None and self.km.has_kernel:
            await ensure_async(self.km.shutdown_kernel(now=True))

    def _next(self, done: set[str]) -> NotebookNode | None:
        """Give the first cell that was neither run nor made in this run; cells come and go meanwhile."""
        return next((cell for cell in self.nb.cells if cell.id not in done | self._splice.made), None)

    async def _ended(self) -> None:
        with contextlib.suppress(Exception):  # a kernel that is gone cannot be cleaned up twice
            await self._async_cleanup_kernel()

    async def _learn(self) -> None:
        """Learn the kernel's language, and open a subshell so that messages arrive while a cell blocks."""
        reply = await self.async_wait_for_reply(await ensure_async(self.kc.kernel_info()))
        content = reply["content"] if reply else {}
        if "language_info" in content:
            self.nb.metadata["language_info"] = content["language_info"]
        if "kernel subshells" in content.get("supported_features", ()):
            self.kc.control_channel.send(self.kc.session.msg("create_subshell_request", {}))
            with contextlib.suppress(Exception):  # without one, messages wait until the cell awaits
                created = await ensure_async(self.kc.control_channel.get_msg(timeout=5))
                self._subshell = created["content"].get("subshell_id")

    def handle_comm_msg(self, outs: list[NotebookNode], msg: dict[str, Any], cell_index: int) -> None:
        """Take our comm's messages; all others are nbclient's."""
        content = msg["content"]
        if msg["msg_type"] == "comm_open" and content.get("target_name") == TARGET:
            self._comm, self._owner = content["comm_id"], content["data"].get("owner", "")
            self._send(hello_data(self._hello()))
        elif content.get("comm_id") == self._comm and self._comm:
            if msg["msg_type"] == "comm_msg":
                self._take(content.get("data") or {})
        else:
            super().handle_comm_msg(outs, msg, cell_index)

    async def _async_poll_output_msg(self, parent_msg_id: str, cell: NotebookNode, cell_index: int) -> None:
        """Route messages of generated cells to them; nbclient drops those of unknown parents."""
        while True:
            msg = await ensure_async(self.kc.iopub_channel.get_msg(timeout=None))
            parent = msg["parent_header"].get("msg_id")
            if parent == parent_msg_id:
                try:
                    self.process_message(msg, cell, self._splice.index(cell.id, default=cell_index))
                except CellExecutionComplete:
                    return
            elif (made := self._routes.get(parent)) and (index := self._splice.index(made)) >= 0:
                with contextlib.suppress(CellExecutionComplete):
                    self.process_message(msg, self.nb.cells[index], index)

    def _send(self, data: dict[str, Any]) -> None:
        msg = self.kc.session.msg("comm_msg", {"comm_id": self._comm, "data": data})
        if self._subshell:
            msg["header"]["subshell_id"] = self._subshell
        self.kc.shell_channel.send(msg)

    def _hello(self) -> Hello:
        return Hello(
            client="codeact run",
            document=str(self._document),
            cell=self._splice.prompt,
            cells=self._splice.marked,
            options=dict(self._options),
        )

    def _take(self, data: dict[str, Any]) -> None:
        if data.get("owner") != self._owner:
            return
        match data.get("type"):
            case "begin":
                self._splice.begin(data.get("replace") or ())
            case "kept":
                self.kept += 1
            case "event":
                self._apply(event_in(data))
            case "ask" if cell := self._splice.proposed:
                self._deciding = asyncio.ensure_future(self._answer(cell, str(data.get("risk") or "")))
            case _:
                pass

    async def _answer(self, cell: CellProposed, risk: str) -> None:
        decided = await self._decide(cell, risk) if self._decide else refused(cell, risk)
        self._send(decide_data(decided))

    def _apply(self, event: Event) -> None:
        match event:
            case CellStarted():
                self._routes[event.message] = event.cell
            case TurnFinished():
                self._ask_no_more()
                self.outcomes.append(event)
            case _:
                pass
        self._splice.apply(event)
        if isinstance(event, CellProposed):
            self._send({"type": "ack", "cell": event.cell})

    def _ask_no_more(self) -> None:
        """Withdraw the question that the turn has ended on."""
        if self._deciding:
            self._deciding.cancel()


def _limit(cell: NotebookNode) -> float | None:
    """Give a cell that ran into its time limit the same time again; all others have all the time."""
    ours = mark(cell)
    seconds = ours.get("seconds")
    if ours.get("status") != "timeout" or not isinstance(seconds, int | float):
        return None
    return min(max(1.0, seconds), _DAY)  # metadata may come from a stranger
