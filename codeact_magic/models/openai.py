"""The model behind an OpenAI-compatible endpoint: its connections, streams and failures.

What is sent and how it is read is the business of its API: ``chat.py`` or ``responses.py``.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import ModelError, ModelUnavailable
from ..ports import ImagePart, Message, ReplyEnd
from .chat import Chat
from .dialect import Dialect, Request
from .endpoint import Endpoint, OpenAIOptions, base_url_of, endpoint_from, shown
from .responses import Responses

if TYPE_CHECKING:
    from openai import AsyncOpenAI, AsyncStream

__all__ = ["MAX_REPLY", "OpenAIModel", "OpenAIOptions"]

MAX_REPLY = 4_000_000
"""Characters of one reply; an endpoint that sends more is broken."""


class OpenAIModel:
    """Streams replies of an endpoint; never retries, as the loop does.

    The key is read from the provider's environment variable at each call and is held by nothing here. A password in the
    base URL takes its place. One HTTP client is kept for each running event loop.
    """

    def __init__(self, options: OpenAIOptions) -> None:
        self._options = options
        self._dialect: Dialect = Responses(options) if options.api == "responses" else Chat(options)
        self._clients: dict[tuple[asyncio.AbstractEventLoop, str], AsyncOpenAI] = {}

    def __repr__(self) -> str:
        return f"OpenAIModel(model={self.name!r}, base_url={shown(base_url_of(self._options))!r})"

    @property
    def name(self) -> str:
        """The endpoint's name of the model."""
        return self._options.model

    async def stream(self, messages: Sequence[Message]) -> AsyncGenerator[str | ReplyEnd, None]:
        """Yield the reply's text in pieces, then one ``ReplyEnd``. Closing the generator closes the HTTP stream.

        Raises:
            ModelUnavailable: busy, unreachable, silent for too long, or a stream that broke off.
            BadCredentials: no key, or one that the endpoint does not take.
            ContextTooLong: the conversation is longer than the model can read.
            ModelError: every other refusal, a filtered reply, or a reply beyond ``MAX_REPLY``.
        """
        endpoint = await endpoint_from(self._options)
        if not self._options.images:
            messages = [_without_images(each) for each in messages]
        request = self._dialect.request(messages, endpoint, MAX_REPLY)
        while (response := await self._open(endpoint, request)) is None:
            request = self._dialect.request(messages, endpoint, MAX_REPLY)
        reply = request.reader
        try:
            endpoint.check(response.response.headers.get("content-type", ""))
            while (chunk := await self._next(response, endpoint)) is not None:
                if text := reply.take(chunk):
                    yield text
        finally:
            await response.close()
        if text := reply.rest():
            yield text
        yield reply.end()

    async def aclose(self) -> None:
        """Close the connections of the running event loop; the next call opens new ones."""
        loop = asyncio.get_running_loop()
        for key in [each for each in self._clients if each[0] is loop]:
            await self._clients.pop(key).close()
        self._forget_closed_loops()

    async def _open(self, endpoint: Endpoint, request: Request) -> "AsyncStream[object] | None":
        """Send a request; None if it is to be made anew, without what was refused of it."""
        from openai import APIError, AsyncStream, BadRequestError, NotFoundError  # noqa: PLC0415 - lazy, it takes long

        # Errors are raised outside their ``except``, here and in ``_next``: the client's own hold the request, and the
        # request holds the key.
        # The generic ``post`` sends and gives plain JSON: walking through typed messages at every request costs the
        # client more than all the rest together in a long conversation.
        try:
            return await self._client(endpoint).post(
                self._dialect.path,
                cast_to=object,
                body=request.body,
                options=endpoint.options(),
                stream=True,
                stream_cls=AsyncStream[object],
            )
        except APIError as error:
            refused = isinstance(error, BadRequestError | NotFoundError)
            if refused and self._dialect.gives_way(request, f"{error.body} {error.message}"):
                return None
            failure = endpoint.failure(error, streaming=False)
        except ModelError as error:  # while a refusal was read
            failure = ModelError(str(error))
        except Exception as error:  # noqa: BLE001 - unusable URLs and headers have no common base
            if any(each.__name__ == "TransportError" for each in type(error).__mro__):  # httpx, or its successor
                failure = ModelUnavailable(f"{endpoint.shown} closed the connection before its answer was whole.")
            else:
                failure = ModelError(
                    f"The request to {endpoint.shown} cannot be written ({endpoint.plain(str(error), 150)}): "
                    "check --base-url, the extra headers and the extra body."
                )
        raise failure

    async def _next(self, response: "AsyncStream[object]", endpoint: Endpoint) -> object:
        """Give the next chunk, or None at the end of the stream."""
        from openai import APIError  # noqa: PLC0415 - lazy, it takes long

        try:
            chunk = await anext(response)
            error = self._dialect.failed(chunk)
            if error is None:
                return chunk
            failure = endpoint.failure(APIError("", response.response.request, body=error), streaming=True)
        except StopAsyncIteration:
            return None
        except APIError as broken:
            failure = endpoint.failure(broken, streaming=True)
        except (ValueError, TypeError, AttributeError, RecursionError):
            failure = endpoint.malformed()
        raise failure

    def _client(self, endpoint: Endpoint) -> "AsyncOpenAI":
        self._forget_closed_loops()
        place = (asyncio.get_running_loop(), endpoint.url)
        if place not in self._clients:
            self._clients[place] = endpoint.client()
        return self._clients[place]

    def _forget_closed_loops(self) -> None:
        # Their connections cannot be closed any more: that takes the loop that they belong to.
        self._clients = {key: client for key, client in self._clients.items() if not key[0].is_closed()}


def _without_images(message: Message) -> Message:
    """Leave out the pictures; the text about them stays."""
    return replace(message, parts=tuple(part for part in message.parts if not isinstance(part, ImagePart)))
