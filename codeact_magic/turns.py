"""A turn as the views show it: the fold of its events into prompt, steps, cells and outcome."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from .events import (
    Cause,
    CellDecided,
    CellFinished,
    CellOutput,
    CellProposed,
    CellStarted,
    Changes,
    Event,
    ModelRetried,
    Output,
    Reason,
    ReplyDelta,
    ReplyDiscarded,
    ReplyFinished,
    TurnFinished,
    TurnStarted,
    Usage,
)
from .outputs import fold
from .replies import ReplyParser, narration

BROKEN = ("rejected", "error", "stopped", "timeout", "died")
"""Statuses of a cell behind which nothing of its reply was reached."""


@dataclass(slots=True)
class Cell:
    """One cell of a turn."""

    id: str
    step: int
    code: str
    cause: Cause = "reply"
    status: Literal["proposed", "running", "rejected", "ok", "error", "stopped", "timeout", "died"] = "proposed"
    decided: CellDecided | None = None
    execution_count: int | None = None
    published: list[Output] = field(default_factory=list)
    changes: Changes = field(default_factory=Changes)
    seconds: float = 0.0
    detail: str = ""

    @property
    def outputs(self) -> list[Output]:
        """The outputs as a notebook shows them."""
        return fold(self.published)


@dataclass(slots=True)
class Step:
    """One reply and the cells that it led to; ``said`` holds its text before each cell, and last that behind them."""

    said: list[str] = field(default_factory=lambda: [""])
    cells: list[Cell] = field(default_factory=list)
    text: str = ""

    @property
    def narration(self) -> str:
        """All that the model said beside its code."""
        return "\n\n".join(filter(None, self.said))

    @property
    def parts(self) -> list["str | Cell"]:
        """Text and cells in their order; what follows a cell that failed was never reached."""
        parts: list[str | Cell] = []
        blocks: list[list[Cell]] = []  # a block's own cell, and the install that it led to
        for cell in self.cells:
            if cell.cause == "reply" or not blocks:
                blocks.append([])
            blocks[-1].append(cell)
        for place, text in enumerate(self.said):
            reached = place <= len(blocks) and not any(group[-1].status in BROKEN for group in blocks[:place])
            parts.append(text if reached else "")
            parts.extend(cell for group in blocks[place : place + 1] for cell in group)
        return [part for part in parts if part]


@dataclass(slots=True)
class Turn:
    """A turn so far. ``parser`` holds the reply that is streaming; ``notice`` what the user should know meanwhile."""

    id: str = ""
    thread: str = ""
    prompt: str = ""
    steps: list[Step] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    retries: int = 0
    notice: str = ""
    reason: Reason | None = None
    answer: str = ""
    detail: str = ""
    seconds: float = 0.0
    parser: ReplyParser | None = None
    language: str = "python"

    @property
    def cells(self) -> list[Cell]:
        """All cells, in order."""
        return [cell for step in self.steps for cell in step.cells]

    def cell(self, name: str) -> Cell | None:
        """Find a cell by its id."""
        return next((cell for step in reversed(self.steps) for cell in step.cells if cell.id == name), None)

    def apply(self, event: Event) -> None:
        """Fold one more event in."""
        match event:
            case TurnStarted():
                self.id, self.thread, self.prompt = event.turn, event.thread, event.prompt
                self.language = event.language
            case ReplyDelta():
                self.notice = ""
                self.parser = self.parser or ReplyParser(self.language)
                self.parser.feed(event.text)
            case ReplyFinished():
                self._replied(event)
            case ReplyDiscarded():
                self.parser = None
                self.notice = f"A reply broke off and was discarded. {event.reason}"
            case ModelRetried():
                self.retries += 1
                self.notice = f"{event.reason} Asking again in {event.wait:g} s (retry {event.attempt})."
            case TurnFinished():
                self.parser, self.notice = None, ""
                self.reason, self.answer, self.detail = event.reason, event.answer, event.detail
                self.seconds = event.seconds
                if event.answer and self.steps:
                    self.steps[-1].said = [""]  # the answer is its last reply
            case _:
                self._celled(event)

    def _replied(self, event: ReplyFinished) -> None:
        self.steps.append(Step(narration(event.text, self.language), text=event.text))
        self.usage += event.usage
        self.model = event.model or self.model
        self.parser, self.notice = None, ""

    def _celled(self, event: Event) -> None:
        match event:
            case CellProposed():
                if not self.steps:
                    self.steps.append(Step())
                self.steps[-1].cells.append(Cell(event.cell, event.step, event.code, event.cause))
            case CellDecided():
                if cell := self.cell(event.cell):
                    cell.decided = event
                    cell.code = event.code or cell.code
                    cell.status = "rejected" if event.decision == "rejected" else cell.status
            case CellStarted():
                if cell := self.cell(event.cell):
                    cell.status, cell.execution_count = "running", event.execution_count
            case CellOutput():
                if cell := self.cell(event.cell):
                    cell.published.append(event.output)
            case CellFinished():
                if cell := self.cell(event.cell):
                    cell.status, cell.changes, cell.seconds = event.status, event.changes, event.seconds
                    cell.detail = event.detail
            case _:
                pass


def turn_from(events: Iterable[Event]) -> Turn:
    """Fold a turn's events."""
    turn = Turn()
    for event in events:
        turn.apply(event)
    return turn


CONTINUE = "`%agent continue` goes on."


def summary(turn: Turn, seconds: float | None = None, *, advice: str = CONTINUE) -> str:
    """Give a turn in one line: outcome, steps, time, tokens, model, and where it was cut short what to do next."""
    steps = len([step for step in turn.steps if step.cells])
    outcome = {"answered": "Answered", "stopped": "Stopped", "limit": "Stopped at a limit", "failed": "Failed"}
    words = [outcome[turn.reason] if turn.reason else "Working"]
    if steps:
        words.append(f"{steps} step{'s' if steps > 1 else ''}")
    if rejected := sum(cell.status == "rejected" for cell in turn.cells):
        words.append(f"{rejected} cell{'s' if rejected > 1 else ''} not run")
    words.append(f"{turn.seconds if seconds is None else seconds:.1f} s")
    if turn.usage.total:
        cached = f" ({turn.usage.cached:,} cached)" if turn.usage.cached else ""
        words.append(f"{turn.usage.total:,} tokens{cached}")
    if turn.retries:
        words.append(f"{turn.retries} retr{'ies' if turn.retries > 1 else 'y'}")
    if turn.model:
        words.append(turn.model)
    line = " · ".join(words)
    if turn.reason in ("stopped", "limit"):
        line += f" — {turn.detail}." if turn.detail else "."
        line += f" {advice}"
    return line
