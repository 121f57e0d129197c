"""The notebook port over a comm: events go to the client that owns the document, which inserts the cells.

Events are pipelined; no step waits for the client. Cells that it has not acknowledged when the turn ends are shown in
the prompt cell instead, so that nothing is lost.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

from ..approval import refused
from ..events import CellDecided, CellOutput, CellProposed, Event, ReplyDelta, TurnFinished
from .inline import InlineNotebook
from .protocol import (
    TARGET,
    Begin,
    Hello,
    Opening,
    ask_data,
    begin_data,
    decision_in,
    event_data,
    hello_in,
    opening_data,
)

PROBE = 0.4
"""Seconds in which a client must answer."""
_ACKNOWLEDGED = 2.0  # seconds that the client has for the last cells, once the turn is over
_INTERVAL = 0.05  # seconds between two pieces of streamed text


class Connection:
    """A comm to the client of one turn.

    Args:
        restore: puts the main thread's parent back; see ``KernelOutputs.restore``.
        stop: stops the turn.
    """

    def __init__(self, restore: Callable[[], None], stop: Callable[[], None]) -> None:
        self._restore = restore
        self._stop = stop
        self._comm: Any = None
        self.owner = ""
        self.acknowledged: set[str] = set()
        self.on_acknowledged: Callable[[], None] = lambda: None
        self._question: asyncio.Future[CellDecided] | None = None

    def open(self, opening: Opening) -> None:
        """Ask whether there is a client."""
        from comm import create_comm  # noqa: PLC0415 - only in a kernel

        self._loop = asyncio.get_running_loop()
        self._hello: asyncio.Future[Hello | None] = self._loop.create_future()
        self.owner = opening.owner
        self._comm = create_comm(target_name=TARGET, data=opening_data(opening))
        # Three mends for ipykernel 7: comm messages must be handled at once on any thread, must not fire the shell's
        # execute events there, and must not move the parent that the main thread's own threads print under.
        self._comm.handle_msg = self._received
        self._comm._reply_subshell_for = lambda _data, default: default  # noqa: SLF001
        self._comm.on_close(lambda _message: self._loop.call_soon_threadsafe(self._closed))
        self._deadline = self._loop.time() + PROBE

    async def answer(self) -> Hello | None:
        """Give the client's answer; None if it refuses or is silent."""
        wait = max(self._deadline - self._loop.time(), 0.05)  # an answer may have come while the loop was busy
        try:
            return await asyncio.wait_for(asyncio.shield(self._hello), wait)
        except TimeoutError:
            return None

    async def ask(self, cell: CellProposed, risk: str) -> CellDecided:
        """Ask the client whether a cell may run, and wait for its decision."""
        self._question = self._loop.create_future()
        self._asked = (cell, risk)
        try:
            self.send(ask_data(cell.cell, risk, owner=self.owner))
            return await self._question
        finally:
            self._question = None

    def send(self, data: dict[str, Any]) -> None:
        """Send one message to the client."""
        if self._comm is not None:
            self._comm.send(data)

    def close(self) -> None:
        """Close the comm."""
        if self._comm is not None:
            self._comm.close()
            self._comm = None

    def _received(self, message: dict[str, Any]) -> None:
        """Take a message on whatever thread it arrives."""
        if threading.current_thread() is not threading.main_thread():
            self._restore()
        else:  # ipykernel puts an older parent back when the handler has returned
            self._loop.call_later(0.02, self._restore)
        data = message["content"].get("data")
        sender = message["header"].get("session")
        if isinstance(data, dict):
            self._loop.call_soon_threadsafe(self._handle, data, sender)

    def _handle(self, data: dict[str, Any], sender: str) -> None:
        if sender != self.owner:  # another tab on the same kernel
            return
        match data.get("type"):
            case "hello":
                self._answer(hello_in(data))
            case "ack":
                self.acknowledged.add(str(data.get("cell")))
                self.on_acknowledged()
            case "stop":
                self._stop()
            case "decide" if self._question and data.get("cell") == self._asked[0].cell:
                self._decide(decision_in(data, self._asked[0].cell, self._asked[1]))
            case _:
                pass

    def _closed(self) -> None:
        """The client is gone: it answers nothing any more."""
        self._answer(None)
        if self._question:
            self._decide(refused(*self._asked))

    def _decide(self, decided: CellDecided) -> None:
        if self._question and not self._question.done():
            self._question.set_result(decided)

    def _answer(self, hello: Hello | None) -> None:
        if not self._hello.done():
            self._hello.set_result(hello)


class CommNotebook:
    """Shows a turn through a client.

    Args:
        connection: an open connection.
        inline: the prompt cell's own display, in its brief form.
    """

    def __init__(self, connection: Connection, inline: InlineNotebook) -> None:
        self._connection = connection
        self._inline = inline
        self._seq = 0
        self._text: list[str] = []
        self._sent = 0.0
        self._proposed: list[str] = []
        self._over = False
        self._news = asyncio.Event()
        connection.on_acknowledged = self._acknowledged

    def begin(self, begin: Begin) -> None:
        """Tell the client that the turn is asked, and which cells it replaces."""
        self._connection.send(begin_data(begin, owner=self._connection.owner))

    async def show(self, event: Event) -> None:
        """Send an event; streamed text is gathered for 50 ms, outputs go to the client by themselves."""
        if isinstance(event, ReplyDelta):
            self._text.append(event.text)
            if time.perf_counter() - self._sent >= _INTERVAL:
                self._flush()
        elif not isinstance(event, CellOutput):
            self._flush()
            self._send(event)
        if isinstance(event, CellProposed):
            self._proposed.append(event.cell)
        if isinstance(event, TurnFinished):
            try:
                await self._settled()
            finally:
                self._over = True
                await self._inline.show(event)
        else:
            await self._inline.show(event)

    async def decide(self, cell: CellProposed, risk: str) -> CellDecided:
        """Ask the client."""
        return await self._connection.ask(cell, risk)

    def _flush(self) -> None:
        if self._text:
            self._send(ReplyDelta(text="".join(self._text)))
            self._text.clear()
            self._sent = time.perf_counter()

    def _send(self, event: Event) -> None:
        self._seq += 1
        self._connection.send(event_data(event, seq=self._seq, owner=self._connection.owner))

    def _missing(self) -> set[str]:
        return set(self._proposed) - self._connection.acknowledged

    async def _settled(self) -> None:
        """Wait for the last acknowledgements; what is still missing is shown in the prompt cell."""
        try:
            async with asyncio.timeout(_ACKNOWLEDGED):
                while self._missing():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            self._inline.embed(self._missing())

    def _acknowledged(self) -> None:
        """A late acknowledgement takes the cell out of the prompt cell again."""
        self._news.set()
        if self._over:
            self._inline.embed(self._missing())
