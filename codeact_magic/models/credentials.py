"""What tells a provider who asks: a key of the environment, a header of the user's, a password, or Azure's login."""

import difflib
import os
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import BadCredentials
from .providers import AZURE, OPENAI, PROVIDERS, Provider

PLACEHOLDER = "no-key"
"""The client wants some key; local servers want none."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Credentials:
    """Headers that carry the credentials, and what must not be shown of them.

    Args:
        headers: all that are sent besides the client's own.
        source: where the credential comes from, as the subject of a sentence; empty where none is sent.
        secrets: texts to redact.
    """

    headers: Mapping[str, str]
    source: str
    secrets: frozenset[str]


def variable_of(provider: Provider) -> str:
    """Give the environment variable that holds the key; where none does, the one to set; empty: no key is needed."""
    return next((name for name in provider.keys if os.environ.get(name, "").strip()), provider.key)


async def credentials_for(
    provider: Provider, model: str, own: Mapping[str, str], *, user: str, password: str, required: bool
) -> Credentials:
    """Find the credentials of a request. A header of the user's wins over a password, and that over a key.

    Args:
        provider: whose key is looked for; no other provider's is.
        model: for the error's sentence.
        own: the user's own headers.
        user: user name in the address.
        password: password in the address.
        required: the endpoint is known to take nobody without a key.

    Raises:
        BadCredentials: they are missing, or cannot be what they should be.
    """
    variable = variable_of(provider)
    key = os.environ.get(variable, "").strip() if variable else ""
    if not (key.isascii() and key.isprintable()):
        raise BadCredentials(f"{variable} holds characters that no key has: copy the key again.")
    names = {"authorization": "Authorization", provider.header.lower(): provider.header}
    headers = {names.get(name.lower(), name): value for name, value in own.items()}
    hidden = {key, password} | {part for value in own.values() for part in (value, value.rpartition(" ")[2])}
    if given := next((name for name in names.values() if name in headers), ""):
        source = f"The header {given}"
    elif user:
        basic = b64encode(f"{user}:{password}".encode()).decode()
        headers["Authorization"], source = f"Basic {basic}", "The password in the address"
        hidden.add(basic)
    elif key or (provider is OPENAI and not required):
        bare = key or PLACEHOLDER
        headers[provider.header] = f"Bearer {bare}" if provider.header == "Authorization" else bare
        source = f"The key in {variable}" if key else ""
    elif provider is AZURE:
        from .entra import token  # noqa: PLC0415 - few need it

        bare = await token()
        headers["Authorization"], source = f"Bearer {bare}", "Azure's login (Entra ID)"
        hidden.add(bare)
    elif required:
        raise BadCredentials(_missing(provider, model))
    else:
        source = ""
    return Credentials(headers=headers, source=source, secrets=frozenset(hidden))


def _missing(provider: Provider, model: str) -> str:
    set_one = f"There is no API key for {provider.name}: set {' or '.join(provider.keys)} ({provider.setup})"
    if provider is OPENAI:
        prefix, colon, rest = model.partition(":")
        near = difflib.get_close_matches(prefix, PROVIDERS, 1) if colon else []
        hint = f" Did you mean {near[0]}:{rest}?" if near else ""
        return (
            f"{set_one}, or name a local server with --base-url, "
            f"or try `--model recorded:NOTEBOOK.ipynb`, which needs no key.{hint}"
        )
    named = f"{provider.name}:{model}"
    return f"{set_one}; for a model that is itself named {named} write `--model openai:{named}` and --base-url."
