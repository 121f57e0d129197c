"""Where a model's requests go: address and key, what must not be shown of them, and what is said of their failures."""

import os
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from math import isnan
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ..errors import BadCredentials, ContextTooLong, ModelError, ModelUnavailable
from .credentials import PLACEHOLDER, credentials_for
from .options import OpenAIOptions, base_url_of, shown, version_of
from .providers import AZURE, OPENAI, PROVIDERS, Provider, provider_of

if TYPE_CHECKING:
    from openai import APIConnectionError, APIError, AsyncOpenAI
    from openai._types import RequestOptions

__all__ = ["Endpoint", "OpenAIOptions", "base_url_of", "endpoint_from", "shown"]

MAX_EVENT = 32_000_000
"""Bytes between two blank lines of an answer; the client holds as much at a time."""

_EVENT_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")
_MAX_WAIT = 300.0  # seconds; a longer Retry-After would look like a hang
_CONTEXT = re.compile(r"context[ _](length|window|size)|maximum context|prompt is too long", re.IGNORECASE)
_TAGS = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^<>]*>", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Endpoint:
    """Where a request goes and what must not be shown of it, and what is said of its failures.

    Args:
        provider: whose names of the fields and whose key are used.
        url: the address that the protocol's paths follow, without credentials.
        shown: the address for sentences.
        model: the endpoint's name of the model.
        timeout: seconds of silence, for sentences.
        headers: the credentials and the user's own headers.
        query: what follows the path.
        source: where the credential comes from, as the subject of a sentence; empty where none is sent.
        secrets: texts to redact, the longest first.
    """

    provider: Provider
    url: str
    shown: str
    model: str
    timeout: float
    headers: Mapping[str, str]
    query: Mapping[str, str]
    source: str
    secrets: tuple[str, ...]

    def client(self) -> "AsyncOpenAI":
        """Make a client of this address, to be closed in the loop that it is made in."""
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient  # noqa: PLC0415 - lazy, it takes long

        # Our own HTTP client: the default one closes itself in whatever loop runs when it is collected. Redirects would
        # carry the extra headers to a host that the user did not name.
        http = DefaultAsyncHttpxClient(
            timeout=self.timeout, follow_redirects=False, event_hooks={"response": [self._bound]}
        )
        return AsyncOpenAI(
            api_key=PLACEHOLDER, base_url=self.url, timeout=self.timeout, max_retries=0, http_client=http
        )

    def options(self) -> "RequestOptions":
        """Give what every request of such a client must carry."""
        from openai import Omit  # noqa: PLC0415 - lazy, it takes long

        # A few compressed bytes could unpack to more than the memory holds.
        sent = {"Accept-Encoding": "identity", **self.headers}
        unsent = {"Authorization"}
        if self.provider is not OPENAI:
            # The client adds what these variables hold for OpenAI, wherever it sends to.
            custom = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
            unsent |= {"OpenAI-Organization", "OpenAI-Project", *(line.partition(":")[0].strip() for line in custom)}
        return {"headers": {**dict.fromkeys(unsent, Omit()), **sent}, "params": self.query}

    async def _bound(self, response: Any) -> None:
        """Let the reading of an answer fail where an event of it has no end."""
        read = response.aiter_bytes

        async def bounded(chunk_size: int | None = None) -> AsyncIterator[bytes]:
            size, last = 0, b""
            async with aclosing(read(chunk_size)) as pieces:
                async for piece in pieces:
                    seen = last + piece
                    end = max(map(seen.rfind, _EVENT_ENDS))
                    size = size + len(piece) if end < 0 else len(seen) - end
                    if size > MAX_EVENT:
                        raise ModelError(f"{self.shown} sent {MAX_EVENT // 1_000_000} MB without a blank line.")
                    last = seen[-2:]
                    yield piece

        response.aiter_bytes = bounded

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
        """Give the error for a chunk that makes no sense."""
        return ModelUnavailable(f"The stream of {self.shown} carried a malformed chunk.")

    def failure(self, error: "APIError", *, streaming: bool) -> ModelError:
        """Give our error for one of the client's; ``streaming`` says that the reply had begun."""
        from openai import APIConnectionError, APIStatusError  # noqa: PLC0415 - lazy, it takes long

        if isinstance(error, APIConnectionError):
            return self._no_answer(error, streaming=streaming)
        body = error.body
        if isinstance(body, list) and body and isinstance(body[0], Mapping):  # as Google's gateways wrap it
            body = body[0].get("error", body[0])
        body = body if isinstance(body, Mapping) else {"message": body}
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
            401: (BadCredentials, self._not_accepted()),
            403: (BadCredentials, f"{self.source or 'The request'} may not use {self.model!r} at {self.shown}{said}"),
            404: (ModelError, self._not_found(said)),
        }
        kind, sentence = known.get(status, (ModelError, answered))
        return kind(sentence)

    def _not_accepted(self) -> str:
        if self.source:
            return f"{self.shown} did not accept {self.source[0].lower()}{self.source[1:]}: check it."
        if self.provider.key:
            return f"{self.shown} wants a key: set {self.provider.key}."
        return (
            f"{self.shown} wants a key, and `{self.provider.name}:` sends none: set OPENAI_API_KEY and give "
            f"`--model openai:{self.model} --base-url {self.shown}`."
        )

    def _not_found(self, said: str) -> str:
        pull = f"fetch it with `{self.provider.pull} {self.model}`, or " if self.provider.pull else ""
        return (
            f"{self.shown} knows no model {self.model!r}, or is not the right address: "
            f"{pull}change --model or --base-url{said}"
        )

    def _no_answer(self, error: "APIConnectionError", *, streaming: bool) -> ModelUnavailable:
        from openai import APITimeoutError  # noqa: PLC0415 - lazy, it takes long

        cause = type(error.__cause__).__name__
        if streaming and isinstance(error, APITimeoutError):
            return ModelUnavailable(f"The stream of {self.shown} stalled for {self.timeout:g} s.")
        if streaming:
            return ModelUnavailable(f"The stream of {self.shown} broke off.")
        if cause in {"ConnectError", "ConnectTimeout"}:
            reason = self.plain(str(error.__cause__), 120)
            start = self.provider.setup if self.provider.port else "start the server there"
            return ModelUnavailable(
                f"No connection to {self.shown}{f' ({reason})' if reason else ''}: {start}, or check --base-url."
            )
        if isinstance(error, APITimeoutError):
            return ModelUnavailable(f"{self.shown} gave no answer for {self.timeout:g} s.")
        return ModelUnavailable(f"{self.shown} closed the connection before it answered.")

    def _redacted(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "[redacted]")
        return text


async def endpoint_from(options: OpenAIOptions) -> Endpoint:
    """Find the address and the credentials in the options and the environment.

    Raises:
        BadCredentials: the provider takes nobody without a key, and there is none; or the key cannot be one.
        ModelError: the address is missing or unusable, or the model is.
    """
    provider, model = provider_of(options.model)
    base = base_url_of(options)
    if not base:
        raise ModelError(
            f"{provider.name} has no address that fits all: set {provider.address}, or give it with --base-url."
        )
    if not model:
        raise ModelError(f"`{provider.name}:` names no model: write `--model {provider.name}:NAME`.")
    try:
        parts = urlsplit(base)
        # The client appends its paths to the end of the URL, so that a query would swallow them.
        plain = not (parts.query or parts.fragment)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and plain
    except ValueError:
        usable = False
    if not usable:
        variable = "" if options.base_url.strip() or not provider.address else f" or {provider.address}"
        raise ModelError(
            f"{shown(base)!r} is not an http or https address without a query: check --base-url{variable}."
        )
    owner = _owner(parts.hostname)
    if provider is not OPENAI and owner not in {None, provider}:
        raise ModelError(f"The key of {provider.name} is not sent to {shown(base)}: check --model or --base-url.")
    credentials = await credentials_for(
        provider,
        model,
        options.headers,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        required=owner is OPENAI if provider is OPENAI else bool(provider.keys),
    )
    hidden = {each for each in {*credentials.secrets, parts.password or ""} if len(each) >= 4}
    version = version_of(options) if provider is AZURE else ""
    return Endpoint(
        provider=provider,
        url=parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(),
        shown=shown(base),
        model=model,
        timeout=options.timeout,
        headers=credentials.headers,
        query={"api-version": version} if version else {},
        source=credentials.source,
        secrets=tuple(sorted(hidden, key=len, reverse=True)),
    )


def _owner(host: str | None) -> Provider | None:
    """Give the provider with a key whose own host this is."""
    return next((each for each in PROVIDERS.values() if each.keys and urlsplit(each.base_url).hostname == host), None)


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
