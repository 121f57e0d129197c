"""The model behind an OpenAI-compatible chat-completions endpoint."""

import asyncio
import codecs
import os
import re
import time
from base64 import b64encode
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from math import isnan
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

from ..errors import BadCredentials, ContextTooLong, ModelError, ModelUnavailable
from ..events import Usage
from ..ports import ImagePart, Message, Part, ReplyEnd

if TYPE_CHECKING:
    from openai import APIConnectionError, APIError, AsyncOpenAI, AsyncStream
    from openai.types.chat import ChatCompletionChunk

DEFAULT_URL = "https://api.openai.com/v1"
MAX_REPLY = 4_000_000
"""Characters of one reply; an endpoint that sends more is broken."""

_MAX_WAIT = 300.0  # seconds; a longer Retry-After would look like a hang
_PLACEHOLDER = "no-key"  # the client wants some key; local servers want none
_CONTEXT = re.compile(r"context[ _](length|window|size)|maximum context|prompt is too long", re.IGNORECASE)
_TAGS = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^<>]*>", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIOptions:
    """What is asked of the endpoint; ``None`` and empty values are not sent.

    Args:
        model: the endpoint's name of the model.
        base_url: address up to and with ``/v1``; empty means ``OPENAI_BASE_URL``, else OpenAI itself.
        max_output_tokens: bound on one reply, sent as ``max_completion_tokens``.
        headers: further HTTP headers.
        body: further fields of the request's JSON.
        timeout: the longest silence in seconds: to connect, to the first byte, and between two pieces.
    """

    model: str
    base_url: str = field(default="", repr=False)  # it may hold a password
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_output_tokens: int | None = None
    reasoning_effort: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 120.0


class OpenAIModel:
    """Streams replies of a chat-completions endpoint; never retries, as the loop does.

    The key is read from ``OPENAI_API_KEY`` at each call and is held by nothing here. A password in the base URL takes
    its place. One HTTP client is kept for each running event loop.
    """

    def __init__(self, options: OpenAIOptions) -> None:
        self._options = options
        self._clients: dict[tuple[asyncio.AbstractEventLoop, str], AsyncOpenAI] = {}

    def __repr__(self) -> str:
        return f"OpenAIModel(model={self.name!r}, base_url={_shown(_base_url(self._options))!r})"

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
        endpoint = _endpoint(self._options)
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

    async def _open(self, endpoint: "_Endpoint", messages: Sequence[Message]) -> "AsyncStream[ChatCompletionChunk]":
        from openai import APIError  # noqa: PLC0415 - lazy, it takes long

        # Errors are raised outside their ``except``, here and in ``_next``: the client's own hold the request, and the
        # request holds the key.
        try:
            response = await self._client(endpoint.url).chat.completions.create(**self._request(endpoint, messages))
            return cast("AsyncStream[ChatCompletionChunk]", response)
        except APIError as error:
            failure = endpoint.failure(error, streaming=False)
        except Exception as error:  # noqa: BLE001 - unusable URLs and headers have no common base
            failure = ModelError(
                f"The request to {endpoint.shown} cannot be written ({type(error).__name__}): "
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
                api_key=_PLACEHOLDER, base_url=url, timeout=self._options.timeout, max_retries=0, http_client=http
            )
        return self._clients[loop, url]

    def _forget_closed_loops(self) -> None:
        # Their connections cannot be closed any more: that takes the loop that they belong to.
        self._clients = {key: client for key, client in self._clients.items() if not key[0].is_closed()}

    def _request(self, endpoint: "_Endpoint", messages: Sequence[Message]) -> dict[str, Any]:
        options = self._options
        own = {name: value for name, value in options.headers.items() if name.lower() != "authorization"}
        wanted = {
            "temperature": options.temperature,
            "top_p": options.top_p,
            "seed": options.seed,
            "max_completion_tokens": options.max_output_tokens,
            "reasoning_effort": options.reasoning_effort or None,
            "extra_body": dict(options.body) or None,
        }
        return {
            "model": options.model,
            "messages": [{"role": each.role, "content": _content(each.parts)} for each in messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            "extra_headers": {**own, "Authorization": endpoint.authorization},
        } | {name: value for name, value in wanted.items() if value is not None}


async def _next(response: "AsyncStream[ChatCompletionChunk]", endpoint: "_Endpoint") -> "ChatCompletionChunk | None":
    """Give the next chunk, or nothing at the end of the stream."""
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

    def __init__(self, endpoint: "_Endpoint") -> None:
        self._endpoint = endpoint
        self._usage = Usage()
        self._model = ""
        self._finish = ""
        self._characters = 0
        # Some servers split a surrogate pair between two chunks; this joins it again.
        self._decoder = codecs.getincrementaldecoder("utf-16-le")("replace")

    def take(self, chunk: object) -> str:
        """Give the text of a chunk."""
        if not hasattr(chunk, "choices"):
            raise self._endpoint.malformed()
        if isinstance(model := getattr(chunk, "model", None), str) and not self._model:
            self._model = self._endpoint.plain(model)
        if usage := getattr(chunk, "usage", None):
            details = getattr(usage, "prompt_tokens_details", None)
            self._usage = Usage(
                input=_count(usage, "prompt_tokens"),
                output=_count(usage, "completion_tokens"),
                cached=_count(details, "cached_tokens"),
            )
        choice = chunk.choices[0] if isinstance(chunk.choices, list) and chunk.choices else None
        self._finish = str(getattr(choice, "finish_reason", None) or self._finish)
        if self._finish == "content_filter":
            raise ModelError(f"The content filter of {self._endpoint.shown} stopped the reply: word the prompt anew.")
        content = getattr(getattr(choice, "delta", None), "content", None)
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


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Endpoint:
    """Where a request goes and what must not be shown of it, and what is said of its failures."""

    url: str  # without credentials
    shown: str
    model: str
    timeout: float
    authorization: str
    secrets: tuple[str, ...]

    def check(self, content_type: str) -> None:
        """Refuse an answer that is no stream: a web page, or a server that does not stream."""
        if "html" in content_type or "json" in content_type:
            raise ModelError(
                f"{self.shown} answered with {self.plain(content_type, 60)}, not with a stream: check --base-url."
            )

    def plain(self, text: str, limit: int = 300) -> str:
        """Give a server's text as one short line with no control characters, tags or secrets."""
        text = self._redacted(text)[:20_000].strip()
        if text.startswith("<"):
            text = _TAGS.sub(" ", text)
        text = "".join(each if each.isprintable() else " " if each.isspace() else "" for each in text)
        text = self._redacted(" ".join(text.split()))
        return text if len(text) <= limit else text[: limit - 1] + "…"

    def malformed(self) -> ModelUnavailable:
        return ModelUnavailable(f"The stream of {self.shown} carried a malformed chunk.")

    def failure(self, error: "APIError", *, streaming: bool) -> ModelError:
        """Give our error for one of the client's; ``streaming`` says that the reply had begun."""
        from openai import APIConnectionError, APIStatusError  # noqa: PLC0415 - lazy, it takes long

        if isinstance(error, APIConnectionError):
            return self._no_answer(error, streaming=streaming)
        body = error.body if isinstance(error.body, Mapping) else {"message": error.body}
        code = f"{body.get('code')} {body.get('type')}"
        message = self.plain(str(body.get("message") or body.get("detail") or body.get("error") or ""))
        said = f": {message}" if message else "."
        if isinstance(error, APIStatusError):
            answered = f"{self.shown} answered HTTP {error.status_code}{said}"
            wait = _retry_after(error.response.headers)
            return self._refusal(error.status_code, code, answered, said, wait)
        # An error in mid-stream has no status; some servers put it into the code.
        found = re.match(r"[45]\d\d\b", code)
        answered = f"The stream of {self.shown} broke off with an error{said}"
        return self._refusal(int(found.group()) if found else 500, code, answered, said, None)

    def _refusal(self, status: int, code: str, answered: str, said: str, wait: float | None) -> ModelError:
        if "insufficient_quota" in code:
            return ModelError(f"The account at {self.shown} has no quota left; asking again will not help{said}")
        if status not in {401, 403, 404, 429} and _CONTEXT.search(f"{code} {said}"):
            return ContextTooLong(f"The conversation is too long for {self.model!r}{said}")
        if status in {408, 409, 429} or status >= 500:
            return ModelUnavailable(answered, wait)
        if 300 <= status < 400:
            return ModelError(f"{self.shown} redirects (HTTP {status}): name the address it leads to with --base-url.")
        known: dict[int, tuple[type[ModelError], str]] = {
            401: (BadCredentials, f"{self.shown} did not accept the key: check OPENAI_API_KEY."),
            403: (BadCredentials, f"The key in OPENAI_API_KEY may not use {self.model!r} at {self.shown}{said}"),
            404: (
                ModelError,
                (
                    f"{self.shown} knows no model {self.model!r}, or is not the right address: "
                    f"change --model or --base-url{said}"
                ),
            ),
        }
        kind, sentence = known.get(status, (ModelError, answered))
        return kind(sentence)

    def _no_answer(self, error: "APIConnectionError", *, streaming: bool) -> ModelUnavailable:
        from openai import APITimeoutError  # noqa: PLC0415 - lazy, it takes long

        cause = type(error.__cause__).__name__
        if streaming and isinstance(error, APITimeoutError):
            return ModelUnavailable(f"The stream of {self.shown} stalled for {self.timeout:g} s.")
        if streaming:
            return ModelUnavailable(f"The stream of {self.shown} broke off.")
        if cause in {"ConnectError", "ConnectTimeout"}:
            reason = self.plain(str(error.__cause__), 120)
            return ModelUnavailable(
                f"No connection to {self.shown}{f' ({reason})' if reason else ''}: "
                "start the server there, or check --base-url."
            )
        if isinstance(error, APITimeoutError):
            return ModelUnavailable(f"{self.shown} gave no answer for {self.timeout:g} s.")
        return ModelUnavailable(f"{self.shown} closed the connection before it answered.")

    def _redacted(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "[redacted]")
        return text


def _endpoint(options: OpenAIOptions) -> _Endpoint:
    """Find the address and the credentials in the options and the environment.

    Raises:
        BadCredentials: OpenAI itself is meant, and there is no key; or the key cannot be one.
        ModelError: the address is unusable.
    """
    base, key = _base_url(options), os.environ.get("OPENAI_API_KEY", "").strip()
    try:
        parts = urlsplit(base)
        # The client appends its paths to the end of the URL, so that a query would swallow them.
        plain = not (parts.query or parts.fragment)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and plain
    except ValueError:
        usable = False
    if not usable:
        raise ModelError(f"{_shown(base)!r} is not an http or https address without a query: check --base-url.")
    own = {name.lower(): value for name, value in options.headers.items()}
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if not key and not user and "authorization" not in own and parts.hostname == urlsplit(DEFAULT_URL).hostname:
        raise BadCredentials(
            "There is no API key: set OPENAI_API_KEY, or name a local server with --base-url, "
            "or try `--model recorded:NOTEBOOK.ipynb`, which needs no key."
        )
    if not (key.isascii() and key.isprintable()):
        raise BadCredentials("OPENAI_API_KEY holds characters that no key has: copy the key again.")
    basic = b64encode(f"{user}:{password}".encode()).decode()
    authorization = own.get("authorization") or (f"Basic {basic}" if user else f"Bearer {key or _PLACEHOLDER}")
    hidden = {key, password, parts.password or "", basic if user else ""}
    hidden |= {part for value in own.values() for part in (value, value.rpartition(" ")[2]) if len(part) >= 8}
    return _Endpoint(
        url=parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(),
        shown=_shown(base),
        model=options.model,
        timeout=options.timeout,
        authorization=authorization,
        secrets=tuple(sorted((each for each in hidden if len(each) >= 4), key=len, reverse=True)),
    )


def _base_url(options: OpenAIOptions) -> str:
    return options.base_url.strip() or os.environ.get("OPENAI_BASE_URL", "").strip() or DEFAULT_URL


def _shown(url: str) -> str:
    """Give a URL without what may be secret in it: user, password and query."""
    scheme, mark, rest = url.partition("://") if "://" in url else ("", "", url)
    return scheme + mark + re.split(r"[?#]", rest.rpartition("@")[2])[0]


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
    value = getattr(source, name, None)
    return value if type(value) is int and value > 0 else 0


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read how many seconds the server wants us to wait: a number, milliseconds, or an HTTP date."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        try:
            seconds = float(value) * unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - time.time()
            except (ValueError, OverflowError, OSError):
                continue
        if not isnan(seconds):
            return min(max(seconds, 0.0), _MAX_WAIT)
    return None
