"""What an endpoint said in its own terms, so that it can be told the same again.

The messages of a conversation hold a reply's text only. An endpoint wants back more: the ids and the extras of tool
calls, and items of reasoning that only it can read. They are kept beside the conversation, each under a digest of all
that led to it. A reply that is not found there (it comes from a record, from another model or from long ago, or a
secret was taken out of it) is sent as the plain text that it is, and what its cells showed as the user's words. Calls
could be made up from its blocks, but not for all endpoints: some want ids of a form of their own, some a signature.
"""

import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

from ..ports import ImagePart, Message, Part, TextPart
from .dialect import encodable

MAX_REPLIES = 300
"""Replies that are remembered; those that have not been asked about for longest go first."""

NOT_RUN = "It was not run."


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call of a reply.

    Args:
        id: the endpoint's id of it.
        block: which of the blocks in the reply's text it is, from 1; 0 if it has no code to run.
        note: what the model is told of a call that has none.
    """

    id: str
    block: int = 0
    note: str = ""


@dataclass(slots=True, kw_only=True)
class Kept:
    """A reply in the endpoint's own terms.

    Args:
        items: what is sent in place of the reply's text; empty: the text is.
        calls: the calls in it, in their order.
        response: the id under which the endpoint has stored the conversation up to here.
    """

    items: list[dict[str, Any]] = field(default_factory=list)
    calls: Sequence[Call] = ()
    response: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a call: the parts of the observation that are about it, of which the first is text."""

    call: str
    parts: Sequence[Part]


class Memory:
    """The last replies, each under the digest of the conversation up to and with it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()

    def recall(self, start: bytes, messages: Sequence[Message]) -> tuple[list[Kept | None], bytes]:
        """Give what is known of each message, and the digest of the conversation.

        Args:
            start: what else the replies depend on.
            messages: the conversation without the system's message.
        """
        found, digest = [], start
        for message in messages:
            digest = _digest(digest, message)
            found.append(self._kept.get(digest) if message.role == "assistant" else None)
            if found[-1]:
                self._kept.move_to_end(digest)
        return found, digest

    def keep(self, digest: bytes, text: str, kept: Kept) -> None:
        """Remember the reply with this text to the conversation with this digest, as it can be sent again."""
        if sound := _sound(kept):
            self._kept[_digest(digest, Message("assistant", (TextPart(text, "reply"),)))] = sound
        while len(self._kept) > MAX_REPLIES:
            self._kept.popitem(last=False)

    def forget_responses(self) -> None:
        """Forget what the endpoint has stored."""
        for kept in self._kept.values():
            kept.response = ""


def _sound(kept: Kept) -> Kept | None:
    """Replace lone surrogates, which JSON can carry and a request in UTF-8 cannot; None if it is nested too deeply."""
    try:
        items = json.loads(encodable(json.dumps(kept.items, ensure_ascii=False)))
    except RecursionError:
        return None
    calls = tuple(replace(call, id=encodable(call.id)) for call in kept.calls)
    return Kept(items=items, calls=calls, response=encodable(kept.response))


def _digest(before: bytes, message: Message) -> bytes:
    digest = blake2b(before, digest_size=16)
    digest.update(message.role.encode())
    for part in message.parts:
        for text in (part.mime, part.data) if isinstance(part, ImagePart) else ("", part.text):
            data = text.encode("utf-8", "surrogatepass")
            digest.update(b"%d:" % len(data))
            digest.update(data)
    return digest.digest()


def replay(
    messages: Sequence[Message], known: Sequence[Kept | None], start: int = 0
) -> Iterator[Message | Kept | list[Answer]]:
    """Give a conversation from a message on: as it is, replies as they were sent, and after these what came of calls.

    Every call is answered, right after its reply: endpoints refuse a conversation where one is not.

    Args:
        messages: the conversation without the system's message.
        known: what ``Memory.recall`` gives for them.
        start: the first message that is wanted.
    """
    waiting = known[start - 1] if start else None
    for message, own in zip(messages[start:], known[start:], strict=True):
        if waiting and waiting.calls:
            observed = _is_observation(message)
            yield _answers(waiting.calls, message.parts if observed else ())
            waiting = None
            if observed:
                continue
        waiting = own if own and own.items else None
        yield waiting or message
    if waiting and waiting.calls:
        yield _answers(waiting.calls, ())


def _is_observation(message: Message) -> bool:
    first = message.parts[0] if message.parts else None
    return message.role == "user" and isinstance(first, TextPart) and first.kind == "observation"


def _answers(calls: Sequence[Call], parts: Sequence[Part]) -> list[Answer]:
    """Give each call its parts. What is about no call's block, or about the reply as a whole, goes with the last."""
    number = {call.block: index for index, call in enumerate(calls) if call.block}
    found: list[list[Part]] = [[] for _ in calls]
    told = set()
    target = len(calls) - 1
    for part in parts:
        if isinstance(part, TextPart):
            told.add(part.block)
            target = number.get(part.block, len(calls) - 1)
        found[target].append(part)
    for call, own in zip(calls, found, strict=True):
        if call.block not in told or not call.block:
            own.insert(0, TextPart(call.note or NOT_RUN, "observation"))
    return [Answer(call.id, own) for call, own in zip(calls, found, strict=True)]
