"""A run in the terminal: what happens, in one line a cell, and the question whether a cell may run."""

import contextlib
from collections.abc import Iterator
from typing import Any, Self

from rich.console import Console
from rich.markup import escape

from ..events import (
    CellDecided,
    CellFinished,
    CellProposed,
    Event,
    ModelRetried,
    ReplyDelta,
    ReplyDiscarded,
    ReplyFinished,
    TurnFinished,
    TurnStarted,
)
from ..observations import file_lines
from ..outputs import plain, visible
from ..turns import Turn, summary
from .keyboard import forget_typed, line_read
from .questions import decision, question

_FILES = 5  # files of a cell that are listed


class Progress:
    """What is happening, in the terminal: one line a cell, the answer at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._turn = Turn()
        self._status = console.status("Starting the kernel", spinner="dots")
        self._streamed = 0
        self._asking = False  # the cursor is behind a question

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def show(self, event: Event) -> None:
        """Show one event."""
        with self._going_on():
            self._show(event)

    def _show(self, event: Event) -> None:
        from rich.markdown import Markdown  # noqa: PLC0415 - slow, and a notebook without prompts needs none

        if isinstance(event, TurnStarted):
            self._turn = Turn()
        self._turn.apply(event)
        out = self._console.print
        if self._asking:  # the turn ended on it
            self._asking = False
            out()
        match event:
            case TurnStarted():
                out(f"[bold]%%agent[/] {escape(_line(event.prompt, 200))}")
                self._status.update("Thinking")
            case ReplyDelta():
                self._streamed += len(event.text)
                self._status.update(f"Writing, {self._streamed:,} characters")
            case ReplyFinished():
                self._streamed = 0
            case ReplyDiscarded() | ModelRetried():
                out(f"  [yellow]{escape(self._turn.notice)}[/]")
            case CellProposed():
                self._status.update(f"Running {escape(_code(event.code, 60))}")
            case CellDecided(decision="rejected"):
                self._rejected(event)
                self._status.update("Thinking")
            case CellFinished():
                out(self._cell(event))
                for line in file_lines(event.changes.files, _FILES):
                    out(f"      [dim]{escape(_line(line, 120))}[/]")
                self._status.update("Thinking")
            case TurnFinished():
                if event.answer:
                    out()
                    out(Markdown(event.answer))
                    out()
                colour = "green" if event.reason == "answered" else "yellow"
                out(f"[{colour}]{escape(summary(self._turn, advice='Run it again to ask anew.'))}[/]")
            case _:
                pass

    def narrate(self, text: str) -> None:
        """Show what the model says beside its code, in one line."""
        with self._going_on():
            self._console.print(f"  [dim]{escape(_line(text, 300))}[/]")

    @contextlib.contextmanager
    def _going_on(self) -> Iterator[None]:
        """What cannot be shown does not end the run."""
        try:
            yield
        except OSError:
            self._console.quiet = True

    async def decide(self, cell: CellProposed, risk: str) -> CellDecided:
        """Ask in the terminal whether a cell may run."""
        from rich.syntax import Syntax  # noqa: PLC0415 - slow, and few cells are asked about

        self._status.stop()
        try:
            self._console.print()
            self._console.print(Syntax(visible(cell.code), cell.language, background_color="default"))
            forget_typed()
            print(question(cell, risk), end="", flush=True)  # noqa: T201 - not a line of its own
            self._asking = True
            line = await line_read()
            if not line.endswith("\n"):
                self._console.print()
            self._asking = False
        finally:
            if self._console.is_terminal:
                self._status.start()
        return decision(cell, risk, line)

    def failed(self, error: Any) -> None:
        """Say which cell failed, and how."""
        said = plain(f"{error.ename}: {error.evalue}")
        self._console.print(f"[red]Failed.[/] {escape(_line(said, 1000))}")

    def _rejected(self, event: CellDecided) -> None:
        cell = self._turn.cell(event.cell)
        self._console.print(f"  \\[ ] [red]✗ not run[/] {escape(_code(cell.code if cell else '', 90))}")
        if event.by == "setting":  # what the user decided was asked right above
            for said in (f"It may {event.risk}." if event.risk else "", event.reason):
                if said:
                    self._console.print(f"      [yellow]{escape(_line(said, 200))}[/]")

    def _cell(self, event: CellFinished) -> str:
        cell = self._turn.cell(event.cell)
        if cell is None:
            return ""
        error = next((output for output in cell.published if output["output_type"] == "error"), None)
        said = plain(f"{error.get('ename')}: {error.get('evalue')}") if error else event.status
        mark = "[green]✓[/]" if event.status == "ok" else f"[red]✗ {escape(_line(said, 100))}[/]"
        count = f"\\[{cell.execution_count}]"
        return f"  {count} {mark} {escape(_code(cell.code, 90))} [dim]{event.seconds:.1f} s[/]"


def _code(code: str, length: int) -> str:
    return _line(" ⏎ ".join(filter(str.strip, code.splitlines())), length)


def _line(text: str, length: int) -> str:
    """Give text in one line of at most ``length`` characters, without control characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: length * 4]).split())
    return line if len(line) <= length else line[: length - 1] + "…"
