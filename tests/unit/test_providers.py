"""The table of providers, and the address that a model's name leads to."""

from urllib.parse import urlsplit

import pytest

from codeact_magic.models.options import OpenAIOptions, base_url_of
from codeact_magic.models.providers import AZURE, OPENAI, PROVIDERS, Provider, provider_of

ALL = [pytest.param(each, id=each.name) for each in PROVIDERS.values()]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_VERSION", *(each.address for each in PROVIDERS.values() if each.address)):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("model", "provider", "name"),
    [
        ("gpt-5.5", "openai", "gpt-5.5"),
        ("openai:gpt-5.5", "openai", "gpt-5.5"),
        ("ollama:qwen3-coder:30b", "ollama", "qwen3-coder:30b"),
        ("llama3:8b", "openai", "llama3:8b"),
        ("ft:gpt-4.1:mine::x", "openai", "ft:gpt-4.1:mine::x"),
        ("openai:mistral:7b", "openai", "mistral:7b"),
        ("openrouter:anthropic/claude-sonnet-4", "openrouter", "anthropic/claude-sonnet-4"),
        ("mistral", "openai", "mistral"),
        ("Ollama:x", "openai", "Ollama:x"),
        (" ollama: x ", "ollama", "x"),
        ("ollama:", "ollama", ""),
    ],
)
def test_a_provider_stands_before_the_first_colon(model: str, provider: str, name: str) -> None:
    assert provider_of(model) == (PROVIDERS[provider], name)


@pytest.mark.parametrize("provider", ALL)
def test_every_row_is_usable(provider: Provider) -> None:
    parts = urlsplit(provider.base_url)
    local = parts.hostname == "localhost"
    assert provider is AZURE or parts.scheme == ("http" if local else "https")
    assert not provider.base_url.endswith("/")
    assert bool(provider.port) == local == (not provider.keys)
    assert provider.header in {"Authorization", "api-key"}
    assert provider.setup


def test_no_key_belongs_to_two_providers() -> None:
    keys = [key for each in PROVIDERS.values() for key in each.keys]
    assert len(keys) == len(set(keys))


def test_fields_are_renamed_or_left_out() -> None:
    wanted = {"seed": 1, "user": "u", "max_completion_tokens": 9, "top_p": 0.5}
    assert OPENAI.request(wanted) == wanted
    assert PROVIDERS["mistral"].request(wanted) == {"random_seed": 1, "max_tokens": 9, "top_p": 0.5}


@pytest.mark.parametrize("provider", ALL)
def test_the_address_of_openai_is_that_of_no_other(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://theirs/v1")
    address = base_url_of(OpenAIOptions(model=f"{provider.name}:x"))
    assert address == ("http://theirs/v1" if provider is OPENAI else provider.base_url)


@pytest.mark.parametrize("model", ["gpt-5.5", "llama3:8b", "openai:x"])
def test_the_address_of_openai_is_that_of_names_without_a_provider(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert base_url_of(OpenAIOptions(model=model)) == OPENAI.base_url
    monkeypatch.setenv("OPENAI_BASE_URL", "http://theirs/v1")
    assert base_url_of(OpenAIOptions(model=model)) == "http://theirs/v1"
    assert base_url_of(OpenAIOptions(model=model, base_url="http://mine/v1")) == "http://mine/v1"


@pytest.mark.parametrize("provider", [each for each in ALL if each.values[0] is not AZURE])
def test_an_address_that_is_given_wins(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    if provider.address:
        monkeypatch.setenv(provider.address, "http://theirs/v1")
    assert base_url_of(OpenAIOptions(model=f"{provider.name}:x", base_url=" http://mine/v1 ")) == "http://mine/v1"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1:1234", "http://127.0.0.1:1234/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        ("0.0.0.0:80", "http://127.0.0.1:80/v1"),
        (":8080", "http://localhost:8080/v1"),
        ("[::1]", "http://[::1]:11434/v1"),
        ("[::]:99", "http://[::1]:99/v1"),
        ("box", "http://box:11434/v1"),
        ("http://box:1/", "http://box:1/v1"),
        ("https://box.example", "https://box.example/v1"),
        ("https://box.example/ollama", "https://box.example/ollama/v1"),
        ("http://box/v1", "http://box/v1"),
    ],
)
def test_the_address_of_ollama_is_completed(host: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", host)
    assert base_url_of(OpenAIOptions(model="ollama:x")) == address


@pytest.mark.parametrize("end", ["", "/", "/openai", "/openai/v1", "/openai/v1/"])
@pytest.mark.parametrize(
    ("version", "path"),
    [("", "/openai/v1"), ("preview", "/openai/v1"), ("2024-10-21", "/openai/deployments/my%20model")],
)
def test_an_endpoint_of_azure_is_completed(end: str, version: str, path: str) -> None:
    options = OpenAIOptions(model="azure:my model", base_url=f"https://me.openai.azure.com{end}", api_version=version)
    assert base_url_of(options) == f"https://me.openai.azure.com{path}"


def test_azure_has_no_address_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert base_url_of(OpenAIOptions(model="azure:x")) == ""
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://me.openai.azure.com")
    assert base_url_of(OpenAIOptions(model="azure:x")) == "https://me.openai.azure.com/openai/v1"
