"""A client without a browser: nbclient, with generated cells spliced into the notebook as they run.

It owns the document: it answers the kernel's opening, inserts cells, keeps the record in the prompt cell's metadata,
and saves the file after every cell.
"""

import asyncio
import contextlib
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionComplete, DeadKernelError
from nbclient.util import ensure_async
from nbformat import NotebookNode

from ..approval import refused
from ..errors import ExecutorError
from ..events import (
    CellDecided,
    CellFinished,
    CellOutput,
    CellProposed,
    CellStarted,
    Event,
    Output,
    ReplyFinished,
    TurnFinished,
    TurnStarted,
)
from ..outputs import fold
from ..record import ANSWER, CELL, KEY, NARRATION, PROMPT, digest, mark, record_from
from ..replies import narration
from .protocol import TARGET, Hello, decide_data, event_in, hello_data

_DAY = 86_400.0
_BEAT = 0.1  # seconds between two looks at the kernel's process
_STARTS = 3  # a port may be taken by another process before the kernel has it
_PATIENCE = 10  # interrupts, one a second, before a kernel that does not stop is ended
Observe = Callable[[Event], None]
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
        self._observe = observe
        self._say = narrate
        self._options = options
        self._decide = decide
        self._proposed: CellProposed | None = None
        self._deciding: asyncio.Task[None] | None = None
        self._routes: dict[str, str] = {}  # message id -> generated cell
        self._made: set[str] = set()
        self._prompt: NotebookNode | None = None
        self._last = ""  # the cell after which the next one goes
        self._comm = self._owner = ""
        self._subshell: str | None = None
        self._turn: list[Event] = []
        self._narration: list[str] = []  # of the reply that is worked off: before each block, and behind the last
        self._seen: dict[str, list[Output]] = {}  # outputs of generated cells when they had ended
        self._stopping = False
        self._replaced: set[str] = set()  # the old turn's cells, until a reply has come
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
            self._close_record("the kernel died in mid-turn")
            raise ExecutorError("The kernel died. The notebook is saved as far as it came.") from None
        finally:
            self._save()
            await self._ended()

    async def _work(self) -> None:
        await self._learn()
        done: set[str] = set()
        while not self._stopping and (cell := self._next(done)) is not None:
            done.add(cell.id)
            await self._execute(cell, self._index(cell.id, default=0))
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
        return next((cell for cell in self.nb.cells if cell.id not in done | self._made), None)

    async def _ended(self) -> None:
        with contextlib.suppress(Exception):  # a kernel that is gone cannot be cleaned up twice
            await self._async_cleanup_kernel()

    async def _execute(self, cell: NotebookNode, index: int) -> None:
        self._prompt, self._last = cell, cell.id
        try:
            await self.async_execute_cell(cell, index)
        finally:
            if cell.cell_type == "code":
                cell.outputs = _folded(cell)
                self._save()

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
                    self.process_message(msg, cell, self._index(cell.id, default=cell_index))
                except CellExecutionComplete:
                    return
            elif (made := self._routes.get(parent)) and (index := self._index(made, default=-1)) >= 0:
                with contextlib.suppress(CellExecutionComplete):
                    self.process_message(msg, self.nb.cells[index], index)

    def _index(self, cell: str, *, default: int) -> int:
        return next((index for index, each in enumerate(self.nb.cells) if each.id == cell), default)

    def _send(self, data: dict[str, Any]) -> None:
        msg = self.kc.session.msg("comm_msg", {"comm_id": self._comm, "data": data})
        if self._subshell:
            msg["header"]["subshell_id"] = self._subshell
        self.kc.shell_channel.send(msg)

    def _hello(self) -> Hello:
        prompt = self._prompt
        cells = tuple(cell for cell in self.nb.cells if mark(cell) or cell is prompt)
        return Hello(
            client="codeact run",
            document=str(self._document),
            cell=prompt.id if prompt else "",
            cells=cells,
            options=dict(self._options),
        )

    def _take(self, data: dict[str, Any]) -> None:
        if data.get("owner") != self._owner:
            return
        if data.get("type") == "begin":
            self._replaced = set(data.get("replace") or ())
            self._turn, self._narration = [], []
        elif data.get("type") == "kept":
            self.kept += 1
        elif data.get("type") == "event":
            self._apply(event_in(data))
        elif data.get("type") == "ask" and self._proposed is not None:
            self._deciding = asyncio.ensure_future(self._answer(self._proposed, str(data.get("risk") or "")))

    async def _answer(self, cell: CellProposed, risk: str) -> None:
        decided = await self._decide(cell, risk) if self._decide else refused(cell, risk)
        self._send(decide_data(decided))

    def _apply(self, event: Event) -> None:
        self._turn.append(event)
        match event:
            case ReplyFinished():
                self._replace()
                self._narration = narration(event.text, self._first.language)
            case CellProposed():
                self._proposed = event
                if event.cause == "reply":
                    self._narrate()
                self._insert(nbformat.v4.new_code_cell(event.code, id=event.cell), CELL, step=event.step)
                self._send({"type": "ack", "cell": event.cell})
            case CellDecided():
                self._decided(event)
            case CellStarted():
                self._routes[event.message] = event.cell
            case CellFinished():
                self._finish(event)
                self._keep_record()
            case TurnFinished():
                self._withdraw()
                if event.answer:
                    self._insert(nbformat.v4.new_markdown_cell(event.answer), ANSWER)
                self.outcomes.append(event)
                self._keep_record()
            case _:
                pass
        self._observe(event)
        if isinstance(event, CellFinished) and event.status == "ok":
            installed = self._proposed is not None and self._proposed.cause == "install"
            if len(self._narration) == 1 and not installed:
                self._narrate()  # what follows the last block

    @property
    def _first(self) -> TurnStarted:
        return next(event for event in self._turn if isinstance(event, TurnStarted))

    def _decided(self, event: CellDecided) -> None:
        """Take a rejected cell out again, the record keeps it; change an edited one."""
        index = self._index(event.cell, default=-1)
        if index < 0:
            return
        if event.decision == "rejected":
            self._remove(index)
            self._keep_record()
        elif event.decision == "edited":
            self.nb.cells[index].source = event.code
            self.nb.cells[index].metadata[KEY]["sha256"] = digest(event.code)

    def _withdraw(self) -> None:
        """Take out a cell that never ran, as the turn ended on its question: nobody has allowed it."""
        if self._deciding:
            self._deciding.cancel()
        last = self._proposed.cell if self._proposed else ""
        if last not in self._routes.values() and (index := self._index(last, default=-1)) >= 0:
            self._remove(index)

    def _remove(self, index: int) -> None:
        del self.nb.cells[index]
        self._last = self.nb.cells[index - 1].id if index else ""

    def _insert(self, cell: NotebookNode, role: str, **metadata: Any) -> None:
        start = self._first
        cell.metadata[KEY] = {"role": role, "turn": start.turn, "thread": start.thread, **metadata}
        cell.metadata[KEY]["sha256"] = digest(cell.source)
        self.nb.cells.insert(self._index(self._last, default=len(self.nb.cells) - 1) + 1, cell)
        self._made.add(cell.id)
        self._last = cell.id

    def _replace(self) -> None:
        """Remove the old turn's cells, now that a reply has come: a turn that fails before leaves them as they are."""
        here = self._index(self._prompt.id, default=-1) if self._prompt else -1
        keep = [cell for place, cell in enumerate(self.nb.cells) if place <= here or cell.id not in self._replaced]
        self.nb.cells = keep
        self._replaced = set()

    def _narrate(self) -> None:
        if self._narration and (text := self._narration.pop(0)):
            self._insert(nbformat.v4.new_markdown_cell(text), NARRATION)
            self._keep_record()
            self._say(text)

    def _finish(self, event: CellFinished) -> None:
        index = self._index(event.cell, default=-1)
        if index < 0:
            return
        cell = self.nb.cells[index]
        cell.outputs = _folded(cell)
        self._seen[cell.id] = [dict(output) for output in cell.outputs]
        cell.metadata[KEY] |= {"status": event.status, "seconds": event.seconds}
        for output in cell.outputs:
            self._observe(CellOutput(cell=cell.id, output=output))
        if event.status != "ok":  # the next run goes past it, as this one did
            cell.metadata["tags"] = ["raises-exception"]

    def _keep_record(self) -> None:
        if self._prompt is not None and not self._replaced:
            record = record_from(self._with_changed_outputs(), outputs=True)
            self._prompt.metadata[KEY] = nbformat.from_dict({"role": PROMPT, "record": record})
            self._save()

    def _with_changed_outputs(self) -> Iterator[Event]:
        """Give the turn's events; outputs stand in the record only where the document no longer shows them."""
        now = {cell.id: cell.outputs for cell in self.nb.cells if cell.id in self._seen}
        for event in self._turn:
            if isinstance(event, CellFinished) and (seen := self._seen.get(event.cell)) != now.get(event.cell):
                yield from (CellOutput(cell=event.cell, output=output) for output in seen or ())
            yield event

    def _close_record(self, detail: str) -> None:
        if self._turn and not isinstance(self._turn[-1], TurnFinished):
            self._withdraw()
            self._turn.append(TurnFinished(reason="failed", detail=detail))
            self._keep_record()


def _folded(cell: NotebookNode) -> list[NotebookNode]:
    return [nbformat.from_dict(output) for output in fold(cell.outputs)]


def _limit(cell: NotebookNode) -> float | None:
    """Give a cell that ran into its time limit the same time again; all others have all the time."""
    ours = mark(cell)
    seconds = ours.get("seconds")
    if ours.get("status") != "timeout" or not isinstance(seconds, int | float):
        return None
    return min(max(1.0, seconds), _DAY)  # metadata may come from a stranger
