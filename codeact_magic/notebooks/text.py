"""A turn as plain text in a terminal: generated cells look like cells that the user typed."""

import sys
from collections.abc import Callable

from ..events import (
    CellDecided,
    CellFinished,
    CellProposed,
    CellStarted,
    Event,
    ModelRetried,
    ReplyDelta,
    ReplyDiscarded,
    ReplyFinished,
    TurnFinished,
    TurnStarted,
)
from ..observations import file_line
from ..outputs import visible
from ..replies import Narration, ReplyParser, narration
from ..turns import Turn, summary
from . import questions


class TextNotebook:
    """Prints a turn as it goes. Outputs are not printed: the terminal has shown them already.

    Args:
        colour: highlights a cell's code; None leaves it plain.
        read: asks the user for a line; see ``questions.Read``.
    """

    def __init__(self, colour: Callable[[str], str] | None = None, read: questions.Read | None = None) -> None:
        self._read = read
        self._colour = colour or (lambda code: code)
        self._turn = Turn()
        self._parser = ReplyParser()
        self._printed = 0
        self._said: list[str] = []  # of the reply, behind each of its blocks
        self._codes: dict[str, str] = {}  # of the cells that are not shown yet

    @property
    def turn(self) -> Turn:
        """The turn so far."""
        return self._turn

    async def show(self, event: Event) -> None:
        """Print what an event adds."""
        self._turn.apply(event)
        match event:
            case TurnStarted():
                self._parser = ReplyParser(event.language)
            case ReplyDelta():
                self._parser.feed(event.text)
                self._narrate(_before_blocks(self._parser))
            case ReplyFinished():
                first, *self._said = narration(event.text, self._turn.language)
                self._narrate(first + "\n" if first else "")
                self._parser, self._printed = ReplyParser(self._turn.language), 0
            case ReplyDiscarded() | ModelRetried():
                self._print(f"\n[{self._turn.notice}]\n")
                self._parser, self._printed = ReplyParser(self._turn.language), 0
            case CellProposed():
                self._codes[event.cell] = event.code
            case CellDecided(decision="rejected"):
                self._show_code(event.cell, "?")
                self._print(f"[{_not_run(event)}]\n")
            case CellDecided(decision="edited"):
                self._codes[event.cell] = event.code
            case CellStarted():
                self._show_code(event.cell, event.execution_count if event.execution_count is not None else " ")
            case CellFinished():
                if event.detail:
                    self._print(f"\n[{event.detail}]\n")
                for file in event.changes.files:
                    self._print(f"[{file_line(file)}]\n")
                cell = self._turn.cell(event.cell)
                installed = cell is not None and cell.cause == "install"  # its block is still to run again
                if event.status == "ok" and not installed and self._said and (text := self._said.pop(0)):
                    self._print(f"\n{text}\n")
            case TurnFinished():
                self._print(f"\n[{summary(self._turn)}]\n")
            case _:
                pass

    async def decide(self, cell: CellProposed, risk: str) -> CellDecided:
        """Show the cell and ask in the terminal."""
        self._show_code(cell.cell, "?")
        return questions.ask(cell, risk, self._read)

    def _show_code(self, cell: str, count: object) -> None:
        """Print a cell as if it had been typed, unless it was printed with the question."""
        if code := self._codes.pop(cell, ""):
            prompt = f"In [{count}]: "
            dots = "...: ".rjust(len(prompt))
            self._print(f"\n{prompt}{self._colour(visible(code)).rstrip().replace(chr(10), chr(10) + dots)}\n")

    def _narrate(self, text: str) -> None:
        """Print what is new of a reply's first text, apart from the outputs above it."""
        if len(text) > self._printed:
            apart = "\n" if not self._printed and self._turn.cells else ""
            self._print(apart + text[self._printed :])
            self._printed = len(text)

    def _print(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def _not_run(decided: CellDecided) -> str:
    """Say that a cell was not run; a reason of the user's has just been typed."""
    return f"Not run: {decided.reason}" if decided.by == "setting" and decided.reason else "Not run"


def _before_blocks(parser: ReplyParser) -> str:
    """Give the text before the first block; a line is known to be text when it has ended."""
    parts = parser.reply.parts
    return parts[0].text if parts and isinstance(parts[0], Narration) else ""
