"""Every provider of the table against real HTTP servers on this machine."""

import asyncio
import json
import sys
import threading
import time
import traceback
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from codeact_magic.errors import BadCredentials, ModelError, ModelUnavailable
from codeact_magic.models import entra
from codeact_magic.models.endpoint import endpoint_from
from codeact_magic.models.openai import OpenAIModel, OpenAIOptions
from codeact_magic.models.providers import AZURE, OPENAI, PROVIDERS, Provider
from codeact_magic.ports import ImagePart, Message, TextPart
from codeact_magic.testing import Fault, ScriptedServer

ASKED = (Message("user", (TextPart("hello"),)),)
KEYS = {key: f"secret-of-{key.lower()}" for each in PROVIDERS.values() for key in each.keys}
ALL = [pytest.param(each, id=each.name) for each in PROVIDERS.values()]
KEYED = [pytest.param(each, id=each.name) for each in PROVIDERS.values() if each.keys]
STRICT = {
    "gemini": ("seed", "metadata", "store"),
    "mistral": ("seed", "stream_options", "max_completion_tokens", "user"),
    "groq": ("metadata",),
}
"""Fields that a provider answers with an error."""
LAST = b'data: {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every provider has a key, and none an address but its own."""
    for name in ("OPENAI_API_VERSION", *(each.address for each in PROVIDERS.values() if each.address)):
        monkeypatch.delenv(name, raising=False)
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)
    monkeypatch.setattr(entra, "_login", entra.Login())


async def replied(model: str, base_url: str = "", messages: tuple[Message, ...] = ASKED, **more: Any) -> str:
    adapter = OpenAIModel(replace(OpenAIOptions(model=model, base_url=base_url, timeout=10.0), **more))
    try:
        return "".join([item async for item in adapter.stream(messages) if isinstance(item, str)])
    finally:
        await adapter.aclose()


async def failure(model: str, base_url: str = "", **more: Any) -> ModelError:
    with pytest.raises(ModelError) as raised:
        await replied(model, base_url, **more)
    assert "secret-of" not in "".join(traceback.format_exception(raised.value))
    assert raised.value.__context__ is None
    assert str(raised.value).isprintable()
    return raised.value


def root(server: ScriptedServer) -> str:
    return server.base_url.removesuffix("/v1")


def address(server: ScriptedServer, provider: Provider) -> str:
    return root(server) if provider is AZURE else server.base_url


# What is sent, and where


@pytest.mark.parametrize("provider", ALL)
async def test_each_provider_is_sent_what_it_takes(provider: Provider) -> None:
    options: dict[str, Any] = {
        "max_output_tokens": 99,
        "seed": 7,
        "metadata": {"a": "b"},
        "user": "me",
        "temperature": 0.5,
    }
    foreign = [name for name, own in provider.fields.items() if own != name]
    key = KEYS[provider.key] if provider.key else ""
    with ScriptedServer(["hello"], key=key, refused=[*foreign, *STRICT.get(provider.name, ())]) as server:
        assert await replied(f"{provider.name}:some:model", address(server, provider), **options) == "hello"
    (request,) = server.requests
    assert request.path == ("/openai/v1" if provider is AZURE else "/v1") + "/chat/completions"
    sent = {"authorization": request.headers["authorization"], "api-key": request.headers.get("api-key", "absent")}
    assert sent.pop(provider.header.lower()) == ("present" if provider.keys else "absent")
    assert set(sent.values()) == {"absent"}
    wanted = {"max_completion_tokens": 99, "seed": 7, "metadata": {"a": "b"}, "user": "me", "temperature": 0.5}
    assert request.body["model"] == "some:model"
    assert request.body.items() >= provider.request(wanted).items()
    assert "max_tokens" in request.body or "max_completion_tokens" in request.body


async def test_a_field_that_the_user_names_is_sent_as_it_is() -> None:
    with ScriptedServer(["x"]) as server:
        await replied("gemini:x", server.base_url, body={"seed": 5})
    assert server.requests[0].body["seed"] == 5


@pytest.mark.parametrize("provider", ALL)
async def test_no_key_goes_to_a_foreign_host(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = []
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-openai")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-openai")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gate: gate-of-openai\n api-key : key-of-openai\nnonsense")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(STREAM + LAST)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        await replied(f"{provider.name}:x", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
    assert [name for name, key in KEYS.items() if key in heads[0]] == list(provider.keys[:1])
    assert ("of-openai" in heads[0].replace("secret-of-openai_api_key", "")) is (provider is OPENAI)
    assert len([line for line in heads[0].lower().split("\r\n") if line.startswith("authorization:")]) <= 1


@pytest.mark.parametrize("host", ["https://api.openai.com/v1", "https://api.groq.com/openai/v1"])
@pytest.mark.parametrize("model", ["mistral:x", "ollama:x", "azure:x"])
async def test_no_key_goes_to_another_provider(model: str, host: str) -> None:
    raised = await failure(model, host)
    assert "is not sent to" in str(raised)


async def test_the_address_of_openai_does_not_lead_others_astray(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(["theirs"]) as theirs, ScriptedServer(["ours"]) as ours:
        monkeypatch.setenv("OPENAI_BASE_URL", theirs.base_url)
        monkeypatch.setenv("OLLAMA_HOST", root(ours).removeprefix("http://"))
        assert await replied("ollama:x") == "ours"
        assert await replied("llama3:8b") == "theirs"
    assert theirs.requests[0].body["model"] == "llama3:8b"
    assert (ours.requests[0].headers["authorization"], theirs.requests[0].headers["authorization"]) == (
        "absent",
        "present",
    )


async def test_figures_can_be_left_out() -> None:
    with ScriptedServer(["x"], images=False) as server:
        message = Message("user", (TextPart("a"), ImagePart("image/png", "aGk="), TextPart("b")))
        assert await replied("ollama:x", server.base_url, (message,), images=False) == "x"
    assert server.requests[0].body["messages"] == [{"role": "user", "content": "a\n\nb"}]


# Keys


@pytest.mark.parametrize("provider", [each for each in KEYED if each.values[0] is not AZURE])
async def test_a_missing_key_is_named(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in provider.keys:
        monkeypatch.delenv(name)
    raised = await failure(f"{provider.name}:x")
    assert isinstance(raised, BadCredentials)
    assert all(name in str(raised) for name in provider.keys)
    assert provider.setup in str(raised)


async def test_a_key_is_wanted_at_another_address_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MISTRAL_API_KEY")
    with ScriptedServer(["x"]) as server:
        raised = await failure("mistral:7b", server.base_url)
        assert await replied("openai:mistral:7b", server.base_url) == "x"
    assert isinstance(raised, BadCredentials)
    assert "`--model openai:mistral:7b`" in str(raised)
    assert server.requests[0].body["model"] == "mistral:7b"


async def test_a_header_or_a_password_takes_the_place_of_a_missing_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MISTRAL_API_KEY")
    monkeypatch.delenv("AZURE_OPENAI_API_KEY")
    with ScriptedServer(["a", "b"], key="mine") as server:
        assert await replied("mistral:x", server.base_url, headers={"authorization": "Bearer mine"}) == "a"
        assert await replied("azure:x", root(server), headers={"API-Key": "mine"}) == "b"
    with ScriptedServer(["c"]) as server:
        assert await replied("mistral:x", server.base_url.replace("://", "://user:pass@")) == "c"
    assert server.requests[0].headers["authorization"] == "present"


@pytest.mark.parametrize(("first", "key"), [("set", "secret-of-gemini_api_key"), ("", "secret-of-google_api_key")])
async def test_the_first_key_that_is_set_is_used(first: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not first:
        monkeypatch.setenv("GEMINI_API_KEY", " ")
    with ScriptedServer(["x"], key=key) as server:
        assert await replied("gemini:x", server.base_url) == "x"


@pytest.mark.parametrize("provider", KEYED)
async def test_a_key_that_is_not_accepted_is_named(provider: Provider) -> None:
    with ScriptedServer(["x"], key="another") as server:
        raised = await failure(f"{provider.name}:x", address(server, provider))
    assert isinstance(raised, BadCredentials)
    assert f"did not accept the key in {provider.key}" in str(raised)


async def test_a_local_server_that_wants_a_key_is_told_how() -> None:
    with ScriptedServer(["x"], key=KEYS["OPENAI_API_KEY"]) as server:
        raised = await failure("vllm:x", server.base_url)
        assert f"`--model openai:x --base-url {server.base_url}`" in str(raised)
        assert await replied("openai:x", server.base_url) == "x"


@pytest.mark.parametrize("key", ["sk-\u2026x", "sk-a\nb"])
async def test_a_key_that_cannot_be_one_is_refused(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISTRAL_API_KEY", key)
    raised = await failure("mistral:x")
    assert isinstance(raised, BadCredentials)
    assert str(raised).startswith("MISTRAL_API_KEY holds characters")


@pytest.mark.parametrize("provider", KEYED)
async def test_a_key_that_the_server_echoes_is_not_shown(provider: Provider) -> None:
    body = json.dumps({"error": {"message": f"bad key {KEYS[provider.key]}"}})
    with ScriptedServer([Fault(status=400, body=body)]) as server:
        raised = await failure(f"{provider.name}:x", address(server, provider))
    assert "bad key [redacted]" in str(raised)


async def test_an_error_in_a_list_is_read() -> None:
    body = json.dumps([{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}])
    with ScriptedServer([Fault(status=400, body=body)]) as server:
        assert str(await failure("gemini:x", server.base_url)).endswith("answered HTTP 400: API key not valid.")


# What to do next


async def test_a_model_that_is_not_there_is_to_be_fetched() -> None:
    with ScriptedServer([Fault(status=404)]) as server:
        assert "`ollama pull qwen3:8b`" in str(await failure("ollama:qwen3:8b", server.base_url))


async def test_a_server_that_does_not_run_is_to_be_started() -> None:
    raised = await failure("llamacpp:x", "http://127.0.0.1:9/v1")
    assert isinstance(raised, ModelUnavailable)
    assert "`llama-server -m MODEL.gguf`" in str(raised)


@pytest.mark.parametrize("model", ["ollama:", "openai: "])
async def test_a_provider_without_a_model_is_refused(model: str) -> None:
    assert "names no model" in str(await failure(model))


# Azure


async def test_azure_without_an_endpoint_is_refused() -> None:
    assert "AZURE_OPENAI_ENDPOINT" in str(await failure("azure:x"))


async def test_an_unusable_endpoint_of_azure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "me.openai.azure.com")
    assert "--base-url or AZURE_OPENAI_ENDPOINT" in str(await failure("azure:x"))


@pytest.mark.parametrize(
    ("version", "path"),
    [
        ("", "/openai/v1/chat/completions"),
        ("preview", "/openai/v1/chat/completions?api-version=preview"),
        ("2024-10-21", "/openai/deployments/my-model/chat/completions?api-version=2024-10-21"),
    ],
)
@pytest.mark.parametrize("by", ["setting", "environment"])
async def test_azure_is_asked_at_its_own_paths(
    version: str, path: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(["hello"], key=KEYS["AZURE_OPENAI_API_KEY"]) as server:
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", root(server) + "/")
        if by == "environment":
            monkeypatch.setenv("OPENAI_API_VERSION", version)
        more: dict[str, Any] = {"api_version": version} if by == "setting" else {}
        assert await replied("azure:my-model", **more) == "hello"
    (request,) = server.requests
    assert request.path == path
    assert request.headers["api-key"] == "present"
    assert request.headers["authorization"] == "absent"


async def test_the_version_is_that_of_azure_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_VERSION", "2024-10-21")
    with ScriptedServer(["x"]) as server:
        await replied("ollama:x", server.base_url)
    assert server.requests[0].path == "/v1/chat/completions"


# The login to Azure


class Credential:
    """Stands in for Azure's: its tokens are good for ``lifetime`` seconds."""

    made: list["Credential"]
    lifetime = 3600.0

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool]] = []
        self.made.append(self)

    def get_token(self, scope: str) -> SimpleNamespace:
        self.asked.append((scope, threading.current_thread() is threading.main_thread()))
        return SimpleNamespace(token=f"secret-of-entra-{len(self.asked)}", expires_on=int(time.time() + self.lifetime))


@pytest.fixture
def credential(monkeypatch: pytest.MonkeyPatch) -> type[Credential]:
    """Installs azure-identity with a stub of its credential, and takes the key away."""

    class Stub(Credential):
        made: list[Credential] = []  # noqa: RUF012

    module: Any = ModuleType("azure.identity")
    module.DefaultAzureCredential = Stub
    monkeypatch.setitem(sys.modules, "azure", ModuleType("azure"))
    monkeypatch.setitem(sys.modules, "azure.identity", module)
    monkeypatch.delenv("AZURE_OPENAI_API_KEY")
    return Stub


async def test_a_token_of_the_login_is_sent_and_kept(credential: type[Credential]) -> None:
    with ScriptedServer(["a", "b"], key="secret-of-entra-1") as server:
        assert await replied("azure:x", root(server)) == "a"
        assert await replied("azure:x", root(server)) == "b"
    assert [each.headers.get("api-key", "absent") for each in server.requests] == ["absent", "absent"]
    (made,) = credential.made
    assert made.asked == [("https://cognitiveservices.azure.com/.default", False)]


async def test_a_token_is_replaced_before_it_expires(credential: type[Credential]) -> None:
    credential.lifetime = 60.0
    tokens = [(await endpoint_from(OpenAIOptions(model="azure:x", base_url="http://h"))).headers for _ in range(2)]
    assert [each["Authorization"] for each in tokens] == ["Bearer secret-of-entra-1", "Bearer secret-of-entra-2"]
    assert len(credential.made) == 1


async def test_a_token_is_not_shown(credential: type[Credential]) -> None:
    endpoint = await endpoint_from(OpenAIOptions(model="azure:x", base_url="http://h"))
    assert "secret-of" not in f"{endpoint!r} {OpenAIModel(OpenAIOptions(model='azure:x', base_url='http://h'))!r}"
    with ScriptedServer([Fault(status=400, body='{"error": "no secret-of-entra-1"}')]) as server:
        assert "no [redacted]" in str(await failure("azure:x", root(server)))


async def test_a_login_that_fails_says_what_to_do(
    credential: type[Credential], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Credential, scope: str) -> None:
        raise RuntimeError("secret-of-entra")

    monkeypatch.setattr(credential, "get_token", fail)
    raised = await failure("azure:x", "http://h")
    assert isinstance(raised, BadCredentials)
    assert all(words in str(raised) for words in ("RuntimeError", "`az login`", "AZURE_OPENAI_API_KEY"))


async def test_a_login_that_is_refused_is_named(credential: type[Credential]) -> None:
    with ScriptedServer(["x"], key="another") as server:
        assert "did not accept azure's login" in str(await failure("azure:x", root(server)))


async def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_OPENAI_API_KEY")
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    raised = await failure("azure:x", "http://h")
    assert isinstance(raised, BadCredentials)
    assert all(words in str(raised) for words in ("AZURE_OPENAI_API_KEY", 'pip install "codeact_magic[azure]"'))
