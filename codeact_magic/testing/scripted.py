"""Scripts of replies and faults, and a model that answers from one."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Generic, TypeVar

from ..errors import BadCredentials, ModelError, ModelUnavailable
from ..events import Usage
from ..ports import Message, ReplyEnd, TextPart

NO_REPLY_LEFT = "the script has no reply left"

MessagesT = TypeVar("MessagesT")
ReplyT = TypeVar("ReplyT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong with a reply.

    Args:
        status: answer with this HTTP status instead of the reply.
        body: text of that answer; empty means an error object in JSON. Text that begins with ``<`` is sent as HTML.
        code: ``code`` and ``type`` of the error object, such as ``insufficient_quota``.
        headers: HTTP headers of that answer.
        retry_after: seconds, sent as ``Retry-After``.
        cut_after: the connection is closed after so many characters of the reply; with ``status``, before the end of
            that answer.
        malformed_after: a chunk that is no JSON follows so many characters of the reply.
        silence: seconds with no byte before the answer; ``float("inf")`` means none ever comes.
        no_usage: the tokens are not reported.
        unknown: every chunk has fields that no protocol knows.
    """

    status: int = 0
    body: str = ""
    code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after: float | None = None
    cut_after: int | None = None
    malformed_after: int | None = None
    silence: float = 0.0
    no_usage: bool = False
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class ScriptedReply:
    """A reply and how it is sent.

    Args:
        text: the whole reply.
        think: seconds before the first piece.
        pause: seconds between two pieces.
        chunk: characters of a piece.
        usage: tokens to report; by default a quarter of the characters.
        model: the name that the endpoint gives itself.
        reasoning: what the model thought; only endpoints send it, never as part of the text.
        finish: ``finish_reason``, such as ``stop``, ``length`` or ``content_filter``; empty means that none is sent.
        fault: what goes wrong with it.
    """

    text: str
    _: KW_ONLY
    think: float = 0.0
    pause: float = 0.0
    chunk: int = 20
    usage: Usage | None = None
    model: str = "scripted"
    reasoning: str = ""
    finish: str = "stop"
    fault: Fault | None = None

    @property
    def breaks_after(self) -> int | None:
        """Characters after which a fault breaks the stream, if one does."""
        if self.fault is None:
            return None
        return self.fault.cut_after if self.fault.cut_after is not None else self.fault.malformed_after

    def pieces(self) -> Iterator[str]:
        """Give the text piece by piece, up to where a fault breaks the stream."""
        text, size = self.text[: self.breaks_after], max(1, self.chunk)
        return (text[start : start + size] for start in range(0, len(text), size))

    def counted(self, prompt: int) -> Usage:
        """Give the tokens to report after a prompt of so many characters."""
        if self.fault is not None and self.fault.no_usage:
            return Usage()
        return self.usage or Usage(input=prompt // 4, output=len(self.text) // 4)


Reply = str | ScriptedReply | Fault
"""A string is a reply; a fault alone happens to a reply of no matter what text."""


def reply_from(item: Reply) -> ScriptedReply:
    """Give what stands in a script as a reply."""
    if isinstance(item, Fault):
        return ScriptedReply("A scripted reply that something happens to.", fault=item)
    return ScriptedReply(item) if isinstance(item, str) else item


class Script(Generic[MessagesT, ReplyT]):
    """Items that are used up one by one, or a function that answers forever.

    Args:
        source: the items, of which each may be a function of the messages; or one such function for all requests.
    """

    def __init__(
        self, source: Iterable[ReplyT | Callable[[MessagesT], ReplyT]] | Callable[[MessagesT], ReplyT]
    ) -> None:
        self._function = source if callable(source) else None
        self._items = iter(() if callable(source) else tuple(source))

    def next(self, messages: MessagesT) -> ReplyT | None:
        """Give the next reply, or nothing when the script has run out."""
        item = self._function or next(self._items, None)
        return item(messages) if callable(item) else item


class ScriptedModel:
    """A model with no network: it answers from a script, and keeps what it was asked in ``prompts``.

    Args:
        script: strings, ``ScriptedReply``, ``Fault``, exceptions to raise, or functions of the messages that give one
            of these; or one function for all requests. When it has run out, ``ModelError`` is raised.

    Example:
        >>> model = ScriptedModel(["Let me look.", "It is 2."])
    """

    def __init__(
        self,
        script: Iterable[Reply | Exception | Callable[[tuple[Message, ...]], Reply | Exception]]
        | Callable[[tuple[Message, ...]], Reply | Exception],
    ) -> None:
        self.prompts: list[tuple[Message, ...]] = []
        self._script: Script[tuple[Message, ...], Reply | Exception] = Script(script)

    def __repr__(self) -> str:
        return f"ScriptedModel({len(self.prompts)} requests so far)"

    @property
    def name(self) -> str:
        """Always ``scripted``."""
        return "scripted"

    async def stream(self, messages: Sequence[Message]) -> AsyncGenerator[str | ReplyEnd, None]:
        """Yield the next reply's pieces and one ``ReplyEnd``, or raise what the script says."""
        self.prompts.append(tuple(messages))
        item = self._script.next(self.prompts[-1])
        if item is None:
            raise ModelError(f"{NO_REPLY_LEFT[0].upper()}{NO_REPLY_LEFT[1:]}.")
        if isinstance(item, Exception):
            raise item
        reply = reply_from(item)
        fault = reply.fault or Fault()
        await asyncio.sleep(fault.silence + reply.think)
        if fault.status:
            raise _refusal(fault)
        for number, piece in enumerate(reply.pieces()):
            await asyncio.sleep(reply.pause if number else 0)
            yield piece
        if reply.breaks_after is not None or not reply.finish:
            raise ModelUnavailable("The scripted stream broke off.")
        if reply.finish == "content_filter":
            raise ModelError("The scripted reply was filtered.")
        texts = (part.text for message in messages for part in message.parts if isinstance(part, TextPart))
        yield ReplyEnd(usage=reply.counted(sum(map(len, texts))), model=reply.model, cut=reply.finish == "length")

    async def aclose(self) -> None:
        """Do nothing: there is nothing to release."""


def _refusal(fault: Fault) -> ModelError:
    """Give the error that a model behind HTTP raises at this status."""
    sentence = f"The script answered HTTP {fault.status}."
    if fault.status in {401, 403}:
        return BadCredentials(sentence)
    if fault.code != "insufficient_quota" and (fault.status in {408, 409, 429} or fault.status >= 500):
        return ModelUnavailable(sentence, fault.retry_after)
    return ModelError(sentence)
