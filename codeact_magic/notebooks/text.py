"""A turn as plain text in a terminal: generated cells look like cells that the user typed."""

import sys
from collections.abc import Callable

from ..events import (
    CellFinished,
    CellProposed,
    CellStarted,
    Event,
    ModelRetried,
    ReplyDelta,
    ReplyDiscarded,
    ReplyFinished,
    TurnFinished,
)
from ..replies import Narration, ReplyParser, narration
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
        self._said: list[str] = []  # of the reply, behind each of its blocks
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
                self._narrate(_before_blocks(self._parser))
            case ReplyFinished():
                first, *self._said = narration(event.text)
                self._narrate(first + "\n" if first else "")
                self._parser, self._printed = ReplyParser(), 0
            case ReplyDiscarded() | ModelRetried():
                self._print(f"\n[{self._turn.notice}]\n")
                self._parser, self._printed = ReplyParser(), 0
            case CellProposed():
                self._codes[event.cell] = event.code
            case CellStarted():
                self._print(self._cell(event))
            case CellFinished():
                if event.detail:
                    self._print(f"\n[{event.detail}]\n")
                if event.status == "ok" and self._said and (text := self._said.pop(0)):
                    self._print(f"\n{text}\n")
            case TurnFinished():
                self._print(f"\n[{summary(self._turn)}]\n")
            case _:
                pass

    def _cell(self, event: CellStarted) -> str:
        prompt = f"In [{event.execution_count if event.execution_count is not None else ' '}]: "
        dots = "...: ".rjust(len(prompt))
        return f"\n{prompt}{self._colour(self._codes.pop(event.cell, '')).rstrip().replace(chr(10), chr(10) + dots)}\n"

    def _narrate(self, text: str) -> None:
        """Print what is new of a reply's first text, apart from the outputs above it."""
        if len(text) > self._printed:
            apart = "\n" if not self._printed and self._turn.cells else ""
            self._print(apart + text[self._printed :])
            self._printed = len(text)

    def _print(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def _before_blocks(parser: ReplyParser) -> str:
    """Give the text before the first block; a line is known to be text when it has ended."""
    parts = parser.reply.parts
    return parts[0].text if parts and isinstance(parts[0], Narration) else ""
