"""A conversation is its events; the messages that the model is sent are derived from them.

The messages only ever grow: those of one request begin with those of the request before, so that prompt caches work.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from . import prompts
from .events import (
    Cause,
    CellDecided,
    CellFinished,
    CellOutput,
    CellProposed,
    CellStarted,
    Event,
    Output,
    ReplyDelta,
    ReplyFinished,
    TurnFinished,
    TurnStarted,
    Usage,
)
from .observations import observed
from .ports import Message, Part, TextPart
from .replies import parse


@dataclass(slots=True)
class _Run:
    """One cell of the reply that is being worked off."""

    cause: Cause = "reply"
    label: str = "[ ]"
    outputs: list[Output] = field(default_factory=list)
    decided: CellDecided | None = None
    end: CellFinished | None = None


class Conversation:
    """The events of one thread, and the messages that follow from them."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.events: list[Event] = []
        self._messages: list[Message] = []  # settled: never changed again
        self._language = "python"
        self._reply: ReplyFinished | None = None  # the reply whose cells are still running
        self._runs: dict[str, _Run] = {}
        self._news = ""  # how the turn before ended, told with the next prompt
        for event in events:
            self.append(event)

    def append(self, event: Event) -> None:
        """Take an event. Deltas are shown but not stored."""
        if isinstance(event, ReplyDelta):
            return
        self.events.append(event)
        match event:
            case TurnStarted():
                self._settle()
                self._language = event.language
                self._messages.append(self._prompt(event))
            case ReplyFinished():
                self._settle()
                self._messages.append(Message("assistant", (TextPart(event.text, "reply"),)))
                self._reply, self._runs = event, {}
            case CellProposed():
                self._runs[event.cell] = _Run(event.cause)
            case CellDecided():
                self._runs.setdefault(event.cell, _Run()).decided = event
            case CellStarted():
                count = event.execution_count
                self._runs.setdefault(event.cell, _Run()).label = f"[{count}]" if count is not None else "[ ]"
            case CellOutput():
                self._runs.setdefault(event.cell, _Run()).outputs.append(event.output)
            case CellFinished():
                self._runs.setdefault(event.cell, _Run()).end = event
            case TurnFinished(reason=reason, detail=detail):
                self._settle()
                self._news = "" if reason == "answered" else prompts.ended(reason, detail)
            case _:
                pass

    def messages(self, system: str = "") -> tuple[Message, ...]:
        """Give the messages for the next request, after a system message if there is one."""
        self._settle()
        head = (Message("system", (TextPart(system, "system"),)),) if system else ()
        return (*head, *self._messages)

    def without(self, turn: str) -> "Conversation":
        """Give the conversation as it would be had a turn not been asked."""
        kept, inside = [], False
        for event in self.events:
            if isinstance(event, TurnStarted):
                inside = event.turn == turn
            if not inside:
                kept.append(event)
        return Conversation(kept)

    def _prompt(self, event: TurnStarted) -> Message:
        context = "\n".join(text for text in (self._news, event.context) if text)
        self._news = ""
        parts = (TextPart(context, "context"), TextPart(event.filled)) if context else (TextPart(event.filled),)
        return Message("user", parts)

    def _settle(self) -> None:
        """Turn the reply's cells into the observation that answers it."""
        if self._reply is None:
            return
        parts = observation(self._reply, list(self._runs.values()), self._language)
        if parts:
            self._messages.append(Message("user", tuple(parts)))
        self._reply = None


def observation(reply: ReplyFinished, runs: Sequence[_Run], language: str) -> list[Part]:
    """Tell the model what became of its reply; empty if the reply was the answer."""
    parsed = parse(reply.text, language)
    parts: list[Part] = []
    number = 0
    for run in runs:
        number += run.cause == "reply"
        what = {"reply": f"Block {number}", "install": "Install", "again": f"Block {number} again"}[run.cause]
        parts.extend(observed(what, run.label, run.outputs, run.end, run.decided, block=number))
    notes = []
    left = len(parsed.blocks) - number
    if number and left > 0:
        notes.append(prompts.not_run(left))
    if parsed.unclosed:
        notes.append(prompts.UNCLOSED)
    if reply.cut:
        notes.append(prompts.CUT)
    if not reply.text.strip():
        notes.append(prompts.EMPTY)
    if notes:
        parts.append(TextPart("\n".join(notes), "observation"))
    return parts


def usage_of(events: Iterable[Event]) -> Usage:
    """Add up the tokens of all replies."""
    return sum((event.usage for event in events if isinstance(event, ReplyFinished)), Usage())
