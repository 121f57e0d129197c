"""What the two APIs of an endpoint have in common: a request for a reply, and a reader of what is streamed."""

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import ModelError, ModelUnavailable
from ..events import Usage
from ..ports import ImagePart, Message, Part, ReplyEnd
from .endpoint import Endpoint


class Reader(Protocol):
    """Adds up the chunks of one stream. Servers differ, so that every field may be missing or odd."""

    def take(self, chunk: object) -> str:
        """Give the text of a chunk, which may be none.

        Raises:
            ModelUnavailable: the chunk makes no sense.
            ModelError: the reply is filtered, or too long.
        """
        ...

    def rest(self) -> str:
        """Give the text that is left when the stream has ended."""
        ...

    def end(self) -> ReplyEnd:
        """Give the end of the reply.

        Raises:
            ModelUnavailable: it has not come to one, or holds what must not be run.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request for a reply, and what will read it.

    Args:
        body: the request's JSON.
        reader: takes the chunks of the answer.
    """

    body: dict[str, Any]
    reader: Reader


class Dialect(Protocol):
    """How an API writes a conversation and a reply."""

    path: str
    """What follows the base URL."""

    def request(self, messages: Sequence[Message], endpoint: Endpoint, limit: int) -> Request:
        """Ask for the reply to a conversation, of at most so many characters."""
        ...

    def failed(self, chunk: object) -> Mapping[str, Any] | None:
        """Give the error object (``code``, ``message``) of a chunk that says that the reply failed."""
        ...

    def gives_way(self, request: Request, refusal: str) -> bool:
        """Say whether the next request for the same will leave out what was refused with these words (HTTP 4xx)."""
        ...


class Text:
    """The text of a reply as it comes: bounded, and with the halves of split characters joined.

    Args:
        endpoint: whose reply it is.
        limit: characters that are taken, those that become no text included.
    """

    def __init__(self, endpoint: Endpoint, limit: int) -> None:
        self._endpoint = endpoint
        self._limit = limit
        self._counted = 0
        self._pieces: list[str] = []
        # Some servers split a surrogate pair between two chunks; this joins it again.
        self._decoder = codecs.getincrementaldecoder("utf-16-le")("replace")

    @property
    def whole(self) -> str:
        """All text so far."""
        return "".join(self._pieces)

    @property
    def begins_line(self) -> bool:
        """What comes next is the beginning of a line."""
        return not self._pieces or self._pieces[-1].endswith("\n")

    def count(self, raw: str) -> None:
        """Count what the endpoint sent.

        Raises:
            ModelError: the reply is too long.
        """
        self._counted += len(raw)
        if self._counted > self._limit:
            raise ModelError(f"The reply of {self._endpoint.shown} is longer than {self._limit:,} characters.")

    def write(self, text: str) -> str:
        """Append text and give what of it is whole."""
        return self._kept(self._decoder.decode(text.encode("utf-16-le", "surrogatepass")))

    def rest(self) -> str:
        """Give what is left of a character whose other half never came."""
        return self._kept(self._decoder.decode(b"", final=True))

    def _kept(self, text: str) -> str:
        if text:
            self._pieces.append(text)
        return text


def filtered(endpoint: Endpoint) -> ModelError:
    """Give the error for a reply that a filter stopped."""
    return ModelError(f"The content filter of {endpoint.shown} stopped the reply: word the prompt anew.")


def unfinished(endpoint: Endpoint) -> ModelUnavailable:
    """Give the error for a stream that ended too early."""
    return ModelUnavailable(f"The stream of {endpoint.shown} ended before the reply was finished.")


def usage_of(source: Mapping[str, Any], asked: str, replied: str) -> Usage:
    """Read the tokens under an API's names for those of the request and of the reply."""
    return Usage(
        input=_count(source, asked),
        output=_count(source, replied),
        cached=_count(source.get(f"{asked}_details"), "cached_tokens"),
    )


def _count(source: object, name: str) -> int:
    value = source.get(name) if isinstance(source, dict) else None
    return value if type(value) is int and value > 0 else 0


def system_of(messages: Sequence[Message]) -> tuple[str, list[Message]]:
    """Split a conversation into the system's text and what is said."""
    system = [text_of(message.parts) for message in messages if message.role == "system"]
    return "\n\n".join(system), [message for message in messages if message.role != "system"]


def text_of(parts: Sequence[Part]) -> str:
    """Give the texts of a message as one."""
    return "\n\n".join(encodable(part.text) for part in parts if not isinstance(part, ImagePart))


def url_of(image: ImagePart) -> str:
    """Give a picture as a data URL."""
    return f"data:{image.mime};base64,{image.data}"


def encodable(text: str) -> str:
    """Replace lone surrogates, which outputs of user code can hold and JSON in UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def joined(pieces: Sequence[str]) -> str:
    """Join pieces of a text of the endpoint's, and the halves of split characters in it."""
    return "".join(pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
