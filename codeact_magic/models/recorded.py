"""Answers from a recorded notebook: no key, no network. It fails where the run departs from the record.

Prompts and code are compared to the letter. Outputs are compared without what differs from run to run: addresses,
paths, timings, execution counts, the frames of tracebacks and the bytes of pictures. The system prompt and what the
model was told of the kernel's names are not compared.
"""

import re
from collections.abc import AsyncGenerator, Sequence
from itertools import zip_longest
from pathlib import Path

from ..conversation import Conversation
from ..errors import RecordError
from ..events import CellDecided, CellProposed, Event, ReplyFinished, Usage
from ..ports import ImagePart, Message, ReplyEnd, TextPart
from ..record import cells_of, records_in

_ERROR = re.compile(r"\w*(?:Error|Exception|Interrupt)\b")
_PIECE = 24  # characters of one streamed piece
_VARYING = (
    (re.compile(r"(?ms)^(?:-{10,}\n)?([\w.]+) +Traceback \(most recent call last\)\n.*?^(?=\1:|\1$)"), ""),
    (re.compile(r"(?m)^.*Matplotlib is building the font cache.*\n?"), ""),
    (re.compile(r"0x[0-9a-fA-F]{4,}"), "0x"),
    (re.compile(r"(?:~|\.{0,2})(?:/[\w.@+-]+)+/"), "/"),
    (re.compile(r"[A-Za-z]:\\(?:[\w.@+ -]+\\)+"), "/"),
    (re.compile(r"\bIn ?\[\d+\]|\bcell \[\d+\]|<ipython-input-[\w-]+>|ipykernel_\d+"), "cell"),
    (re.compile(r"(?:\b\d+(?:\.\d+)?\s?(?:ns|[µμ]s|us|ms|s|sec|seconds?|min|minutes?|h)\b\s?)+"), "time "),
    (re.compile(r"\b[\d,]+ loops?\b"), "loops"),
    (re.compile(r"(?<=\.py):\d+"), ""),
    (re.compile(r"[ \t]+$", re.MULTILINE), ""),
)


class RecordedModel:
    """Replies as a recorded notebook says.

    Args:
        path: the notebook.

    Raises:
        RecordError: the notebook cannot be read, its record is broken, or it has none.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path).expanduser()
        self._replies: list[tuple[tuple[Message, ...], ReplyFinished]] = []
        self.rejected: dict[str, CellDecided] = {}
        """What the user or a setting rejected whenever it was proposed, by its code."""
        threads: dict[str, Conversation] = {}
        records = records_in(cells_of(self._path))
        for record in records:
            self._learn(threads.setdefault(record.thread, Conversation()), record.events)
        self._learn_rejected([event for record in records for event in record.events])
        if not self._replies:
            raise RecordError(f"{self._path} holds no recorded turn: run it once with a model.")

    @property
    def name(self) -> str:
        """The recording's name."""
        return f"recorded:{self._path.name}"

    def __repr__(self) -> str:
        return f"RecordedModel({str(self._path)!r})"

    async def stream(self, messages: Sequence[Message]) -> AsyncGenerator[str | ReplyEnd, None]:
        """Yield the reply that the record gives to these messages.

        Raises:
            RecordError: they depart from the record, or the record ends here.
        """
        asked = tuple(message for message in messages if message.role != "system")
        reply = self._find(asked)
        for start in range(0, len(reply.text), _PIECE):
            yield reply.text[start : start + _PIECE]
        origin = "scripted" if reply.model.startswith("scripted") else reply.model
        yield ReplyEnd(usage=Usage(), model=f"{origin} (recorded)" if origin else "recorded", cut=reply.cut)

    async def aclose(self) -> None:
        """Nothing is held."""

    def _learn(self, conversation: Conversation, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, ReplyFinished):
                self._replies.append((conversation.messages(), event))
            conversation.append(event)

    def _learn_rejected(self, events: Sequence[Event]) -> None:
        decided = {event.cell: event for event in events if isinstance(event, CellDecided)}
        proposed = [event for event in events if isinstance(event, CellProposed)]
        ran = {each.code for each in proposed if getattr(decided.get(each.cell), "decision", "run") != "rejected"}
        self.rejected = {
            each.code: decided[each.cell] for each in proposed if each.code not in ran and each.cell in decided
        }

    def _find(self, asked: tuple[Message, ...]) -> ReplyFinished:
        """Find the reply to these messages, or name the first difference to the nearest recorded request."""
        best = (-1, "")
        for known, reply in self._replies:
            if len(known) != len(asked):
                continue
            place, difference = _difference(known, asked)
            if not difference:
                return reply
            best = max(best, (place, difference), key=lambda found: found[0])
        if best[0] < 0:
            raise RecordError(
                f"The record in {self._path.name} ends here: it holds no reply to request {len(asked)}. "
                "A recording answers its own prompts, in their order."
            )
        raise RecordError(f"The run departs from the record in {self._path.name}: {best[1]}")


def _difference(known: Sequence[Message], asked: Sequence[Message]) -> tuple[int, str]:
    """Give the place of the first message that differs and how, or an empty text."""
    for place, (old, new) in enumerate(zip(known, asked, strict=True)):
        if old.role != new.role:
            return place, f"message {place + 1} is from the {new.role}, recorded is one from the {old.role}."
        for kind in ("prompt", "reply", "observation"):
            told = _first_difference(_lines(old, kind), _lines(new, kind), ordered=kind != "observation")
            if told:
                what = {"prompt": "the prompt", "reply": "the reply", "observation": "an output"}[kind]
                return place, f"{what} (message {place + 1}) has {told}{_cause(old, new, kind)}"
        pictures = [sum(isinstance(part, ImagePart) for part in message.parts) for message in (old, new)]
        if pictures[0] != pictures[1]:
            return place, f"an output (message {place + 1}) has {pictures[1]} pictures, recorded are {pictures[0]}."
    return len(known), ""


def _lines(message: Message, kind: str) -> list[str]:
    text = "\n".join(part.text for part in message.parts if isinstance(part, TextPart) and part.kind == kind)
    if kind == "observation":
        for pattern, common in _VARYING:
            text = pattern.sub(common, text)
    return text.splitlines()


def _first_difference(old: list[str], new: list[str], *, ordered: bool) -> str:
    if not ordered and sorted(old) == sorted(
        new
    ):  # child processes and Python write to the same output by different ways
        return ""
    for number, (was, now) in enumerate(zip_longest(old, new), start=1):
        if was != now:
            return f"{_quoted(now)} in line {number}, recorded is {_quoted(was)}."
    return ""


def _cause(old: Message, new: Message, kind: str) -> str:
    """Name the error that only this run met, or what a recording can do."""
    if kind == "prompt":
        return " A recording answers its own prompts, in their order."
    if any("was not run: the settings rejected it" in line for line in _lines(new, kind)):
        return " The record ran this cell. Allow its cells with --yes, or with approval = auto."
    errors = [line for line in _lines(new, kind) if _ERROR.match(line) and line not in _lines(old, kind)]
    return f" This run met {errors[-1][:200]!r}." if errors else ""


def _quoted(line: str | None) -> str:
    return "nothing" if line is None else repr(line if len(line) <= 160 else line[:160] + "...")
