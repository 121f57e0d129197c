"""The providers that are known by name, and where each departs from OpenAI's own endpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

_LENGTH = {"max_completion_tokens": "max_tokens"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Provider:
    """An endpoint that speaks OpenAI's protocol.

    Args:
        name: what stands before the colon in ``--model NAME:MODEL``.
        base_url: address up to what ``/chat/completions`` follows; empty where each account has one of its own.
        keys: environment variables that may hold the key, the first that is set; none: it needs no key.
        address: environment variable that may hold the address.
        header: the HTTP header that carries the key: ``Authorization`` (as ``Bearer KEY``) or ``api-key``.
        fields: OpenAI's name of a request's field, and the provider's; empty where it refuses or does not know it.
        setup: what to do to get it going, as the end of a sentence.
        pull: the command that fetches a model, to be completed with its name.
    """

    name: str
    base_url: str
    keys: tuple[str, ...] = ()
    address: str = ""
    header: str = "Authorization"
    fields: Mapping[str, str] = field(default_factory=dict)
    setup: str
    pull: str = ""

    @property
    def key(self) -> str:
        """The environment variable that is named where the key is missing; empty: it needs none."""
        return self.keys[0] if self.keys else ""

    @property
    def port(self) -> int:
        """The port of a server on this machine, else 0."""
        parts = urlsplit(self.base_url)
        return parts.port or 0 if parts.hostname == "localhost" else 0

    def request(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Give the fields of a request under the provider's names, without those that it refuses."""
        return {name: value for each, value in wanted.items() if (name := self.fields.get(each, each))}


OPENAI = Provider(
    name="openai",
    base_url="https://api.openai.com/v1",
    keys=("OPENAI_API_KEY",),
    address="OPENAI_BASE_URL",
    setup="make a key at https://platform.openai.com/api-keys",
)
AZURE = Provider(
    name="azure",
    base_url="",
    keys=("AZURE_OPENAI_API_KEY",),
    address="AZURE_OPENAI_ENDPOINT",
    header="api-key",
    setup="the resource's page in https://portal.azure.com shows its keys and its endpoint",
)

PROVIDERS: Mapping[str, Provider] = {
    each.name: each
    for each in (
        OPENAI,
        AZURE,
        Provider(
            name="ollama",
            base_url="http://localhost:11434/v1",
            address="OLLAMA_HOST",
            fields=_LENGTH,
            setup="start it with `ollama serve`",
            pull="ollama pull",
        ),
        Provider(
            name="vllm",
            base_url="http://localhost:8000/v1",
            fields=_LENGTH,
            setup="start it with `vllm serve MODEL`",
        ),
        Provider(
            name="lmstudio",
            base_url="http://localhost:1234/v1",
            fields=_LENGTH,
            setup="start it with `lms server start`",
            pull="lms get",
        ),
        Provider(
            name="llamacpp",
            base_url="http://localhost:8080/v1",
            fields=_LENGTH,
            setup="start it with `llama-server -m MODEL.gguf`",
        ),
        Provider(
            name="openrouter",
            base_url="https://openrouter.ai/api/v1",
            keys=("OPENROUTER_API_KEY",),
            fields=_LENGTH,
            setup="make a key at https://openrouter.ai/keys",
        ),
        Provider(
            name="gemini",
            base_url="https://generativelanguage.googleapis.com/v1beta/openai",
            keys=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
            fields=_LENGTH | {"seed": "", "metadata": "", "user": ""},
            setup="make a key at https://aistudio.google.com/apikey",
        ),
        Provider(
            name="anthropic",
            base_url="https://api.anthropic.com/v1",
            keys=("ANTHROPIC_API_KEY",),
            fields=_LENGTH,
            setup="make a key at https://console.anthropic.com/settings/keys",
        ),
        Provider(
            name="mistral",
            base_url="https://api.mistral.ai/v1",
            keys=("MISTRAL_API_KEY",),
            fields=_LENGTH | {"seed": "random_seed", "stream_options": "", "user": ""},
            setup="make a key at https://console.mistral.ai/api-keys",
        ),
        Provider(
            name="groq",
            base_url="https://api.groq.com/openai/v1",
            keys=("GROQ_API_KEY",),
            fields={"metadata": ""},
            setup="make a key at https://console.groq.com/keys",
        ),
        Provider(
            name="deepseek",
            base_url="https://api.deepseek.com",
            keys=("DEEPSEEK_API_KEY",),
            fields=_LENGTH,
            setup="make a key at https://platform.deepseek.com/api_keys",
        ),
    )
}
"""By name. Where a field's absence or another name is harmless everywhere, the name that all versions take is used."""


def provider_of(model: str) -> tuple[Provider, str]:
    """Split ``PROVIDER:MODEL``; what stands before a colon and is no provider belongs to the model's name.

    A name without a provider gives ``OPENAI``, whose address every user may set.
    """
    name, colon, rest = model.strip().partition(":")
    return (PROVIDERS[name], rest.strip()) if colon and name in PROVIDERS else (OPENAI, model.strip())
