"""A turn as plain text in a terminal: generated cells look like cells that the user typed."""

import sys
from collections.abc import Callable

from ..events import (
    CellProposed,
    CellStarted,
    Event,
    ModelRetried,
    ReplyDelta,
    ReplyDiscarded,
    ReplyFinished,
    TurnFinished,
)
from ..replies import Narration, ReplyParser
from ..turns import Turn, summary


class TextNotebook:
    """Prints a turn as it goes. Outputs are not printed: the terminal has shown them already.

    Args:
        colour: highlights a cell's code; None leaves it plain.
    """

    def __init__(self, colour: Callable[[str], str] | None = None) -> None:
        self._colour = colour or (lambda code: code)
        self._turn = Turn()
        self._parser = ReplyParser()
        self._printed = 0
        self._codes: dict[str, str] = {}

    @property
    def turn(self) -> Turn:
        """The turn so far."""
        return self._turn

    async def show(self, event: Event) -> None:
        """Print what an event adds."""
        self._turn.apply(event)
        match event:
            case ReplyDelta():
                self._parser.feed(event.text)
                self._narrate(_narration(self._parser))
            case ReplyFinished():
                self._parser.close()
                said = _narration(self._parser).rstrip()
                self._narrate(said + "\n" if said else "")
                self._parser, self._printed = ReplyParser(), 0
            case ReplyDiscarded() | ModelRetried():
                self._print(f"\n[{self._turn.notice}]\n")
                self._parser, self._printed = ReplyParser(), 0
            case CellProposed():
                self._codes[event.cell] = event.code
            case CellStarted():
                self._print(self._cell(event))
            case TurnFinished():
                self._print(f"\n[{summary(self._turn)}]\n")
            case _:
                pass

    def _cell(self, event: CellStarted) -> str:
        prompt = f"In [{event.execution_count if event.execution_count is not None else ' '}]: "
        dots = "...: ".rjust(len(prompt))
        return f"\n{prompt}{self._colour(self._codes.pop(event.cell, '')).rstrip().replace(chr(10), chr(10) + dots)}\n"

    def _narrate(self, text: str) -> None:
        if len(text) > self._printed:
            self._print(text[self._printed :])
            self._printed = len(text)

    def _print(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def _narration(parser: ReplyParser) -> str:
    """Give the text outside blocks; a line is known to be one when it has ended."""
    return "".join(part.text for part in parser.reply.parts if isinstance(part, Narration))
