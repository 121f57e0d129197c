"""The model behind an OpenAI-compatible chat-completions endpoint."""

import asyncio
import codecs
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, ModelUnavailable
from ..events import Usage
from ..ports import ImagePart, Message, Part, ReplyEnd
from .endpoint import PLACEHOLDER, Endpoint, OpenAIOptions, base_url_of, endpoint_from, shown

if TYPE_CHECKING:
    from openai import AsyncOpenAI, AsyncStream

__all__ = ["MAX_REPLY", "OpenAIModel", "OpenAIOptions"]

MAX_REPLY = 4_000_000
"""Characters of one reply; an endpoint that sends more is broken."""


class OpenAIModel:
    """Streams replies of a chat-completions endpoint; never retries, as the loop does.

    The key is read from ``OPENAI_API_KEY`` at each call and is held by nothing here. A password in the base URL takes
    its place. One HTTP client is kept for each running event loop.
    """

    def __init__(self, options: OpenAIOptions) -> None:
        self._options = options
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
        endpoint = endpoint_from(self._options)
        reply = _Reply(endpoint)
        response = await self._open(endpoint, messages)
        try:
            endpoint.check(response.response.headers.get("content-type", ""))
            while (chunk := await _next(response, endpoint)) is not None:
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

    async def _open(self, endpoint: Endpoint, messages: Sequence[Message]) -> "AsyncStream[object]":
        from openai import APIError, AsyncStream  # noqa: PLC0415 - lazy, it takes long

        # Errors are raised outside their ``except``, here and in ``_next``: the client's own hold the request, and the
        # request holds the key.
        # The generic ``post`` sends and gives plain JSON: walking through typed messages at every request costs the
        # client more than all the rest together in a long conversation.
        own = {name: value for name, value in self._options.headers.items() if name.lower() != "authorization"}
        try:
            return await self._client(endpoint.url).post(
                "/chat/completions",
                cast_to=object,
                body=self._body(messages),
                options={"headers": {**own, "Authorization": endpoint.authorization}},
                stream=True,
                stream_cls=AsyncStream[object],
            )
        except APIError as error:
            failure = endpoint.failure(error, streaming=False)
        except Exception as error:  # noqa: BLE001 - unusable URLs and headers have no common base
            failure = ModelError(
                f"The request to {endpoint.shown} cannot be written ({endpoint.plain(str(error), 150)}): "
                "check --base-url, the extra headers and the extra body."
            )
        raise failure

    def _client(self, url: str) -> "AsyncOpenAI":
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient  # noqa: PLC0415 - lazy, it takes long

        loop = asyncio.get_running_loop()
        self._forget_closed_loops()
        if (loop, url) not in self._clients:
            # Our own HTTP client: the default one closes itself in whatever loop runs when it is collected. Redirects
            # would carry the extra headers to a host that the user did not name.
            http = DefaultAsyncHttpxClient(timeout=self._options.timeout, follow_redirects=False)
            self._clients[loop, url] = AsyncOpenAI(
                api_key=PLACEHOLDER, base_url=url, timeout=self._options.timeout, max_retries=0, http_client=http
            )
        return self._clients[loop, url]

    def _forget_closed_loops(self) -> None:
        # Their connections cannot be closed any more: that takes the loop that they belong to.
        self._clients = {key: client for key, client in self._clients.items() if not key[0].is_closed()}

    def _body(self, messages: Sequence[Message]) -> dict[str, Any]:
        options = self._options
        wanted = {
            "temperature": options.temperature,
            "top_p": options.top_p,
            "seed": options.seed,
            "max_completion_tokens": options.max_output_tokens,
            "reasoning_effort": options.reasoning_effort or None,
        }
        return {
            "model": options.model,
            "messages": [{"role": each.role, "content": _content(each.parts)} for each in messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            **{name: value for name, value in wanted.items() if value is not None},
            **options.body,
        }


async def _next(response: "AsyncStream[object]", endpoint: Endpoint) -> object:
    """Give the next chunk, or None at the end of the stream."""
    from openai import APIError  # noqa: PLC0415 - lazy, it takes long

    try:
        return await anext(response)
    except StopAsyncIteration:
        return None
    except APIError as error:
        failure = endpoint.failure(error, streaming=True)
    except (ValueError, TypeError, AttributeError, RecursionError):
        failure = endpoint.malformed()
    raise failure


class _Reply:
    """What the chunks of one stream add up to. Servers differ, so that every field may be missing or odd."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._usage = Usage()
        self._model = ""
        self._finish = ""
        self._characters = 0
        # Some servers split a surrogate pair between two chunks; this joins it again.
        self._decoder = codecs.getincrementaldecoder("utf-16-le")("replace")

    def take(self, chunk: object) -> str:
        """Give the text of a chunk."""
        if not isinstance(chunk, dict) or "choices" not in chunk:
            raise self._endpoint.malformed()
        if isinstance(model := chunk.get("model"), str) and not self._model:
            self._model = self._endpoint.plain(model)
        if isinstance(usage := chunk.get("usage"), dict):
            self._usage = Usage(
                input=_count(usage, "prompt_tokens"),
                output=_count(usage, "completion_tokens"),
                cached=_count(usage.get("prompt_tokens_details"), "cached_tokens"),
            )
        choices = chunk["choices"]
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        self._finish = str(choice.get("finish_reason") or self._finish)
        if self._finish == "content_filter":
            raise ModelError(f"The content filter of {self._endpoint.shown} stopped the reply: word the prompt anew.")
        delta = choice.get("delta")
        content = delta.get("content") if isinstance(delta, dict) else None
        if not isinstance(content, str):
            return ""
        self._characters += len(content)
        if self._characters > MAX_REPLY:
            raise ModelError(f"The reply of {self._endpoint.shown} is longer than {MAX_REPLY:,} characters.")
        return self._decoder.decode(content.encode("utf-16-le", "surrogatepass"))

    def rest(self) -> str:
        """Give what is left of a character whose other half never came."""
        return self._decoder.decode(b"", final=True)

    def end(self) -> ReplyEnd:
        """Give the end of the reply, if it has come to one."""
        if not self._finish:
            raise ModelUnavailable(f"The stream of {self._endpoint.shown} ended before the reply was finished.")
        return ReplyEnd(usage=self._usage, model=self._model, cut=self._finish == "length")


def _content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    """Give the content of a message: a string, or a list where there are pictures."""
    if not any(isinstance(part, ImagePart) for part in parts):
        return "\n\n".join(_encodable(part.text) for part in parts if not isinstance(part, ImagePart))
    return [
        {"type": "image_url", "image_url": {"url": f"data:{part.mime};base64,{part.data}"}}
        if isinstance(part, ImagePart)
        else {"type": "text", "text": _encodable(part.text)}
        for part in parts
    ]


def _encodable(text: str) -> str:
    """Replace lone surrogates, which outputs of user code can hold and JSON in UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _count(source: object, name: str) -> int:
    value = source.get(name) if isinstance(source, dict) else None
    return value if type(value) is int and value > 0 else 0
