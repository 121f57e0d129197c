"""Where a model's requests go: address and key, what must not be shown of them, and what is said of their failures."""

import os
import re
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from math import isnan
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ..errors import BadCredentials, ContextTooLong, ModelError, ModelUnavailable

if TYPE_CHECKING:
    from openai import APIConnectionError, APIError

DEFAULT_URL = "https://api.openai.com/v1"
PLACEHOLDER = "no-key"
"""The client wants some key; local servers want none."""

_MAX_WAIT = 300.0  # seconds; a longer Retry-After would look like a hang
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


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Endpoint:
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
        """Give the error for a chunk that makes no sense."""
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


def endpoint_from(options: OpenAIOptions) -> Endpoint:
    """Find the address and the credentials in the options and the environment.

    Raises:
        BadCredentials: OpenAI itself is meant, and there is no key; or the key cannot be one.
        ModelError: the address is unusable.
    """
    base, key = base_url_of(options), os.environ.get("OPENAI_API_KEY", "").strip()
    try:
        parts = urlsplit(base)
        # The client appends its paths to the end of the URL, so that a query would swallow them.
        plain = not (parts.query or parts.fragment)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and plain
    except ValueError:
        usable = False
    if not usable:
        raise ModelError(f"{shown(base)!r} is not an http or https address without a query: check --base-url.")
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
    authorization = own.get("authorization") or (f"Basic {basic}" if user else f"Bearer {key or PLACEHOLDER}")
    hidden = {key, password, parts.password or "", basic if user else ""}
    hidden |= {part for value in own.values() for part in (value, value.rpartition(" ")[2]) if len(part) >= 8}
    return Endpoint(
        url=parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(),
        shown=shown(base),
        model=options.model,
        timeout=options.timeout,
        authorization=authorization,
        secrets=tuple(sorted((each for each in hidden if len(each) >= 4), key=len, reverse=True)),
    )


def base_url_of(options: OpenAIOptions) -> str:
    """Give the address that the options, or else the environment, name."""
    return options.base_url.strip() or os.environ.get("OPENAI_BASE_URL", "").strip() or DEFAULT_URL


def shown(url: str) -> str:
    """Give a URL without what may be secret in it: user, password and query."""
    scheme, mark, rest = url.partition("://") if "://" in url else ("", "", url)
    return scheme + mark + re.split(r"[?#]", rest.rpartition("@")[2])[0]


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
