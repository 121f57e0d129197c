"""What the two APIs of the scripted server have in common: what was issued, and a scripted reply cut into parts."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

from ..replies import Narration, parse
from .exchange import Answer
from .scripted import ScriptedReply

TOOL = "run_cell"
"""The tool that a script's code is sent by where a request declares it."""

Messages = list[dict[str, Any]]


@dataclass(slots=True)
class Issued:
    """What a server has given to its clients and expects back as it was.

    Args:
        calls: tool calls by their ids.
        reasoning: reasoning items by their ids.
        responses: stored conversations, each up to and with a response, by its id.
    """

    calls: dict[str, dict[str, Any]] = field(default_factory=dict)
    reasoning: dict[str, dict[str, Any]] = field(default_factory=dict)
    responses: dict[str, Messages] = field(default_factory=dict)
    _count: "count[int]" = field(default_factory=lambda: count(1))

    def id(self, prefix: str) -> str:
        """Give a new id."""
        return f"{prefix}_{next(self._count):04}"


class Refused(Exception):
    """The request is none that the API takes; ``code`` and ``param`` stand in the error object."""

    def __init__(self, message: str, *, code: str = "", param: str = "") -> None:
        super().__init__(message)
        self.more = {name: value for name, value in (("code", code), ("param", param)) if value}


class Api(Protocol):
    """How an API writes requests and replies."""

    def messages(self, asked: Mapping[str, Any], issued: Issued) -> Messages:
        """Give the conversation of a request, once it is checked.

        Raises:
            Refused: it is none.
        """
        ...

    def answer(self, reply: ScriptedReply, asked: Mapping[str, Any], messages: Messages, issued: Issued) -> Answer:
        """Give a reply as the API sends it."""
        ...


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of a reply, or a call of the tool. What breaks off in the middle is not ``whole``."""

    text: str = ""
    arguments: str = ""
    whole: bool = True

    def cut(self, size: int) -> list[str]:
        """Give the text or the arguments in pieces of so many characters."""
        text, size = self.arguments or self.text, max(1, size)
        return [text[start : start + size] for start in range(0, len(text), size)]


def pieces_of(reply: ScriptedReply, asked: Mapping[str, Any]) -> list[Piece]:
    """Cut a reply, up to where a fault breaks it, into text and, where the tool is declared, calls of it."""
    text = reply.text[: reply.breaks_after]
    if not _declares_tool(asked):
        return [Piece(text, whole=reply.breaks_after is None)]
    pieces = []
    for part in parse(text).parts:
        if isinstance(part, Narration):
            pieces.append(Piece(part.text))
        elif part.closed and part.source.strip():
            pieces.append(Piece(arguments=json.dumps({"code": part.code})))
        elif not part.closed:
            pieces.append(Piece(arguments=json.dumps({"code": part.source.rstrip("\n")})[:-2], whole=False))
    return pieces


def _declares_tool(asked: Mapping[str, Any]) -> bool:
    tools = asked.get("tools")
    return isinstance(tools, list) and any(TOOL in {each.get("name"), _function(each).get("name")} for each in tools)


def _function(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    function = tool.get("function")
    return function if isinstance(function, dict) else {}


def check_content(content: object, kinds: Iterable[str], where: str) -> None:
    """Refuse content that is neither text nor a list of parts of these types.

    Raises:
        Refused: it is something else.
    """
    if isinstance(content, str):
        return
    known = set(kinds)
    if not isinstance(content, list) or not content:
        raise Refused(f"{where}: the content is neither text nor a list of parts")
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in known:
            raise Refused(f"{where}: a part of the type {kind!r}; allowed are {', '.join(sorted(known))}")


def check_call(arguments: object, where: str) -> None:
    """Refuse a call whose arguments are no JSON object.

    Raises:
        Refused: they are something else.
    """
    try:
        sound = isinstance(arguments, str) and isinstance(json.loads(arguments), dict)
    except ValueError:
        sound = False
    if not sound:
        raise Refused(f"{where}: the arguments of a call are no JSON object in a string")


def parts_of(messages: Messages) -> Iterator[Mapping[str, Any]]:
    """Give the parts of a conversation; content that is text is one part."""
    for message in messages:
        content = message.get("content") or message.get("output") or ""
        yield from [{"text": content}] if isinstance(content, str) else content


def characters(messages: Messages) -> int:
    """Count the characters of a conversation's texts."""
    return sum(len(text) for part in parts_of(messages) if isinstance(text := part.get("text"), str))
