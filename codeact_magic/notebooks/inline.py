"""The prompt cell's own output, where no client owns the document: one display, updated in place while the turn runs.

It is painted by a thread, at most 20 times a second, so that it also moves while a cell blocks the main thread.
"""

import html
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from ..events import CellDecided, CellOutput, CellProposed, Event, Output, TurnFinished, TurnStarted
from ..record import MIME
from ..replies import Block, Narration
from ..turns import Turn, summary
from . import questions, render

_INTERVAL = 0.05  # seconds between two paints
_TICK = 1.0  # seconds between paints where only the clock moves
_RESTRAINT = 4  # times longer that the painter rests than it paints
_BYTES_PER_SECOND = 4_000_000  # a large display is painted less often

Publish = Callable[[str, dict[str, Any]], None]
"""Publishes a message (``display_data`` or ``update_display_data``) as the prompt cell's, from any thread."""


class InlineNotebook:
    """Shows a turn in the prompt cell.

    Args:
        publish: sends a display message.
        record: gives the turn's record when it has ended; see ``record.py``.
        brief: shows the state in one line only, as where a client shows the cells.
        read: asks the user for a line; see ``questions.Read``.
    """

    def __init__(
        self,
        publish: Publish,
        record: Callable[[], Mapping[str, Any]] | None = None,
        *,
        brief: bool = False,
        read: questions.Read | None = None,
    ) -> None:
        self._read = read
        self._publish = publish
        self._record = record
        self._brief = brief
        self._inline: set[str] = set()  # cells to show although a client shows the others
        self._turn = Turn()
        self._lock = threading.RLock()
        self._painter: threading.Thread | None = None
        self._dirty, self._done = threading.Event(), threading.Event()
        self._display = uuid4().hex
        self._frozen: dict[int, str] = {}  # steps that are over, rendered once
        self._watched: set[str] = set()
        self._began = time.perf_counter()

    @property
    def turn(self) -> Turn:
        """The turn so far."""
        return self._turn

    async def show(self, event: Event) -> None:
        """Fold an event in; it is painted soon, and the end at once."""
        with self._lock:
            if isinstance(event, TurnStarted):
                self._begin()
            if not (isinstance(event, CellOutput) and event.cell in self._watched):
                self._turn.apply(event)
        self._dirty.set()
        if isinstance(event, TurnFinished):
            self._end()

    async def decide(self, cell: CellProposed, risk: str) -> CellDecided:
        """Ask below the display, which shows the cell already."""
        if self._read:
            self._paint(final=False)
        return questions.ask(cell, risk, self._read)

    def watch(self, cell: str, output: Output) -> None:
        """Take an output at its source, on any thread, before the loop can hand it on."""
        with self._lock:
            self._watched.add(cell)
            self._turn.apply(CellOutput(cell=cell, output=output))
        self._dirty.set()

    def embed(self, cells: set[str]) -> None:
        """Show these cells here although a client was to show them: it has not said that it does."""
        with self._lock:
            if cells != self._inline:
                self._inline = set(cells)
                self._frozen.clear()
                self._dirty.set()
        if self._done.is_set():
            self._paint(final=True)

    def note(self, text: str) -> None:
        """Show one line instead of a turn."""
        self._publish("display_data", _message({"text/markdown": text, "text/plain": text}, self._display))

    def _begin(self) -> None:
        self._began = time.perf_counter()
        self._publish("display_data", _message(self._bundle(final=False), self._display))
        self._painter = threading.Thread(target=self._keep_painting, daemon=True, name="codeact-painter")
        self._painter.start()

    def _end(self) -> None:
        self._done.set()
        self._dirty.set()
        if self._painter:
            self._painter.join(timeout=5)
        self._paint(final=True)

    def _keep_painting(self) -> None:
        wait = _INTERVAL
        while not self._done.wait(wait):
            self._dirty.wait(timeout=_TICK)
            if self._done.is_set():
                return
            self._dirty.clear()
            began = time.perf_counter()
            size = self._paint(final=False)
            wait = max(_INTERVAL, size / _BYTES_PER_SECOND, _RESTRAINT * (time.perf_counter() - began))

    def _paint(self, *, final: bool) -> int:
        """Publish the display; give its size in characters."""
        with self._lock:
            try:
                bundle = self._bundle(final=final)
            except Exception as error:  # noqa: BLE001 - whatever a cell has shown, the record and the painter live on
                line = f"{summary(self._turn)} (the display failed: {type(error).__name__})"
                bundle = {"text/plain": line, "text/markdown": line}
                if final and self._record:
                    bundle[MIME] = self._record()
        self._publish("update_display_data", _message(bundle, self._display))
        return sum(len(value) for value in bundle.values() if isinstance(value, str))

    def _bundle(self, *, final: bool) -> dict[str, Any]:
        turn = self._turn
        seconds = None if turn.reason else time.perf_counter() - self._began
        line = summary(turn, seconds)
        if self._brief and not self._inline:
            line = line if turn.reason else f"{line} {turn.notice}".strip()
            return {"text/markdown": line, "text/plain": line}
        bundle: dict[str, Any] = {
            "text/html": self._html(line),
            "text/plain": render.turn_text(turn) if final else line,
        }
        if final:
            bundle["text/markdown"] = render.turn_markdown(turn)
            if self._record:
                bundle[MIME] = self._record()
        return bundle

    def _html(self, line: str) -> str:
        turn, parts = self._turn, []
        for place, step in enumerate(turn.steps):
            if self._inline and not any(cell.id in self._inline for cell in step.cells):
                continue
            over = all(cell.status not in ("proposed", "running") for cell in step.cells)
            if place < len(turn.steps) - 1 and over:
                if place not in self._frozen:
                    self._frozen[place] = render.step_html(step)
                parts.append(self._frozen[place])
            else:
                parts.append(render.step_html(step))
        if not self._inline:
            parts.append(self._streaming())
            parts.append(render.markdown_html(turn.answer) if turn.answer else "")
        elif turn.reason:
            parts.insert(0, '<div class="ca-head">These cells could not be inserted into the notebook:</div>')
        notice = f" {turn.notice}" if turn.notice else ""
        foot = html.escape(line + notice).replace("`%agent continue`", "<code>%agent continue</code>")
        return f'{render.STYLE}<div class="codeact">{"".join(parts)}<div class="ca-foot">{foot}</div></div>'

    def _streaming(self) -> str:
        """Render the reply that is coming in."""
        parser = self._turn.parser
        if parser is None:
            return ""
        pieces = []
        for part in parser.reply.parts:
            text = "".join(part.lines)
            if part is parser.reply.parts[-1]:
                text += parser.unfinished
            pieces.append(render.code_html(text) if isinstance(part, Block) else render.markdown_html(text))
        if not parser.reply.parts and parser.unfinished:
            pieces.append(render.markdown_html(Narration([parser.unfinished]).text))
        return f'<div class="ca-step">{"".join(pieces)}</div>'


def _message(data: dict[str, Any], display: str) -> dict[str, Any]:
    return {"data": data, "metadata": {}, "transient": {"display_id": display}}
