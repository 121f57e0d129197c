"""What is asked of an endpoint, and the address that follows from it."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from .providers import AZURE, OPENAI, provider_of


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIOptions:
    """What is asked of the endpoint; ``None`` and empty values are not sent.

    Args:
        model: the endpoint's name of the model, or ``PROVIDER:MODEL``.
        base_url: address up to and with ``/v1``; empty means the provider's own.
        api_version: of Azure's dated API; empty means ``OPENAI_API_VERSION``, else its undated one.
        api: which of the endpoint's APIs is spoken.
        protocol: how the model sends code: fenced in its text, or as tool calls.
        store: the endpoint keeps the conversation and is sent what is new; of the Responses API only.
        language: the label of the blocks that tool calls are written as: the kernel's language.
        max_output_tokens: bound on one reply, sent as ``max_completion_tokens`` or what the provider calls it.
        metadata: labels of the request.
        user: a name for who asks.
        headers: further HTTP headers.
        body: further fields of the request's JSON.
        images: figures are sent as pictures; else only the text about them is.
        timeout: the longest silence in seconds: to connect, to the first byte, and between two pieces.
    """

    model: str
    base_url: str = field(default="", repr=False)  # it may hold a password
    api_version: str = ""
    api: Literal["chat", "responses"] = "chat"
    protocol: Literal["text", "tools"] = "text"
    store: bool = False
    language: str = "python"
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_output_tokens: int | None = None
    reasoning_effort: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Mapping[str, Any] = field(default_factory=dict)
    images: bool = True
    timeout: float = 120.0


def base_url_of(options: OpenAIOptions) -> str:
    """Give the address that the options, the provider's variable or the table name, as it is; empty: there is none."""
    provider, model = provider_of(options.model)
    given = options.base_url.strip()
    if not given and provider.address:
        given = os.environ.get(provider.address, "").strip()
        if given and provider not in {OPENAI, AZURE}:
            return _completed(given, provider.base_url)
    if provider is not AZURE or not given:
        return given or provider.base_url
    base = re.sub(r"/openai(/v1)?$", "", given.rstrip("/"))
    classic = version_of(options)[:1].isdigit()
    return f"{base}/openai/deployments/{quote(model, safe='')}" if classic else f"{base}/openai/v1"


def version_of(options: OpenAIOptions) -> str:
    """Give the version of Azure's API that is asked for; empty: none."""
    return options.api_version.strip() or os.environ.get("OPENAI_API_VERSION", "").strip()


def _completed(address: str, default: str) -> str:
    """Complete an address as servers' own variables hold it (``0.0.0.0:11434``) by what it lacks of the default one."""
    scheme, mark, rest = address.rstrip("/").rpartition("://")
    host, slash, path = rest.partition("/")
    name, colon, port = host.rpartition(":") if re.search(r":\d*$", host) else (host, "", "")
    usual = "" if mark else str(urlsplit(default).port)
    name = {"": "localhost", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(name, name)  # noqa: S104 - it means every own
    port = port if colon else usual
    path = f"{slash}{path}"
    return f"{scheme or 'http'}://{name}{f':{port}' if port else ''}{path if path.endswith('/v1') else f'{path}/v1'}"


def shown(url: str) -> str:
    """Give a URL without what may be secret in it: user, password and query."""
    scheme, mark, rest = url.partition("://") if "://" in url else ("", "", url)
    return scheme + mark + re.split(r"[?#]", rest.rpartition("@")[2])[0]
