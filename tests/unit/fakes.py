"""Doubles of the executor and the notebook, written against the ports, and short ways to write outputs and replies."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

from codeact_magic.events import CellDecided, CellProposed, Changes, Event, Output, Status, TurnFinished
from codeact_magic.ports import CellBegan, CellDone, Message, TextPart
from codeact_magic.session import Session

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

HANGS = "hang()"
"""Code that never ends by itself."""


def stream(text: str, name: str = "stdout") -> Output:
    return {"output_type": "stream", "name": name, "text": text}


def display(data: Mapping[str, object], display_id: str = "") -> Output:
    output: Output = {"output_type": "display_data", "data": dict(data), "metadata": {}}
    return {**output, "transient": {"display_id": display_id}} if display_id else output


def update(data: Mapping[str, object], display_id: str) -> Output:
    return {**display(data, display_id), "output_type": "update_display_data"}


def clear(*, wait: bool) -> Output:
    return {"output_type": "clear_output", "wait": wait}


def failure(name: str = "ValueError", value: str = "bad", traceback: Sequence[str] = ()) -> Output:
    return {"output_type": "error", "ename": name, "evalue": value, "traceback": list(traceback)}


def python(code: str) -> str:
    return f"```python\n{code}\n```\n"


def text_of_message(message: Message) -> str:
    return "\n".join(part.text for part in message.parts if isinstance(part, TextPart))


Result = Sequence[Output] | Exception | CellDone


class FakeExecutor:
    """Gives code its outputs from a table; code that is not in it prints nothing.

    Args:
        results: by code: outputs, an exception to raise, or how the cell ends.
        state: what the model is told of the names.
    """

    language = "python"
    folder = "/nowhere"

    def __init__(self, results: Mapping[str, Result] | None = None, state: str = "") -> None:
        self.results = dict(results or {})
        self.state = state
        self.ran: list[str] = []
        self.cells: list[str] = []
        self.running = 0
        self.closed = False
        self.began = asyncio.Event()

    async def execute(self, code: str, cell: str) -> AsyncGenerator[CellBegan | Output | CellDone, None]:
        self.running += 1
        try:
            self.ran.append(code)
            self.cells.append(cell)
            yield CellBegan(execution_count=len(self.ran), message=f"message-{len(self.ran)}")
            self.began.set()
            if code == HANGS:
                await asyncio.Event().wait()
            result = self.results.get(code, ())
            if isinstance(result, Exception):
                raise result
            if isinstance(result, CellDone):
                yield result
                return
            status: Status = "ok"
            for output in result:
                await asyncio.sleep(0)
                yield output
                status = "error" if output["output_type"] == "error" else status
            yield CellDone(status=status, changes=Changes(created={"x": "int"} if "x =" in code else {}))
        finally:
            self.running -= 1

    async def context(self) -> str:
        return self.state

    def interrupt(self) -> None:
        pass

    async def aclose(self) -> None:
        self.closed = True


class RecordingNotebook:
    """Keeps what it is shown.

    Args:
        on: called with each event before it is kept; it may raise.
        decides: answers for the user, by the cell and its risk; None runs every cell.
    """

    def __init__(
        self,
        on: Callable[[Event], None] | None = None,
        decides: Callable[[CellProposed, str], CellDecided] | None = None,
    ) -> None:
        self.shown: list[Event] = []
        self.asked: list[tuple[str, str]] = []
        self._on = on
        self._decides = decides

    async def decide(self, cell: CellProposed, risk: str) -> CellDecided:
        await asyncio.sleep(0)
        self.asked.append((cell.code, risk))
        return self._decides(cell, risk) if self._decides else CellDecided(cell=cell.cell, decision="run", risk=risk)

    async def show(self, event: Event) -> None:
        await asyncio.sleep(0)
        if self._on:
            self._on(event)
        self.shown.append(event)


async def asked(session: Session, prompt: str = "Do it.") -> list[Event]:
    return [event async for event in session.ask(prompt)]


def ends(events: Sequence[Event]) -> list[TurnFinished]:
    return [event for event in events if isinstance(event, TurnFinished)]
