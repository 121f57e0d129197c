"""The doctor against real HTTP servers on this machine, in a process of its own and in a real kernel."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codeact_magic.models import doctor, entra
from codeact_magic.models.doctor import Check, examine
from codeact_magic.models.options import OpenAIOptions
from codeact_magic.models.probes import listening
from codeact_magic.models.providers import PROVIDERS
from codeact_magic.testing import Fault, ScriptedReply, ScriptedServer
from codeact_magic.testing.scripted import Reply
from tests.kernels import KEY, Kernel, kernel
from tests.notebooks import LOAD, codeact, write

NUMBERS = " ".join(map(str, range(1, 21)))
GOOD: list[Reply] = [ScriptedReply(NUMBERS, model="served"), "Green."]
WHOLE = json.dumps({"object": "chat.completion", "choices": [{"message": {"content": NUMBERS}}]})


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in PROVIDERS.values():
        for name in (*each.keys, each.address):
            monkeypatch.delenv(name or "NONE", raising=False)
    monkeypatch.delenv("OPENAI_API_VERSION", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


async def examined(base_url: str, model: str = "scripted", **more: Any) -> dict[str, Check]:
    """Give the checks by name, in their order; no secret stands in any."""
    options = replace(OpenAIOptions(model=model, base_url=base_url, timeout=10.0), **more)
    checks = [check async for check in examine(options)]
    assert all(f"{check.said}{check.advice}".isprintable() for check in checks)
    assert KEY not in str(checks)
    assert checks[-1].name == "result"
    return {check.name: check for check in checks}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


# What is found


async def test_a_good_endpoint() -> None:
    with ScriptedServer(GOOD, key=KEY) as server:
        checks = await examined(server.base_url)
    assert list(checks) == ["endpoint", "key", "answer", "model", "streaming", "images", "result"]
    assert all(check.ok and not check.advice for check in checks.values())
    assert server.base_url in checks["endpoint"].said
    assert "OPENAI_API_KEY" in checks["key"].said
    assert "lists 1 model" in checks["answer"].said
    assert all(words in checks["streaming"].said for words in ("3 pieces", "tokens in", "calls itself served"))
    assert "%%agent" in checks["result"].said
    assert len(server.requests) == 2


async def test_an_endpoint_without_images() -> None:
    with ScriptedServer(GOOD, images=False) as server:
        checks = await examined(server.base_url)
    assert checks["images"].ok is False
    assert all(words in checks["images"].advice for words in ("CodeAct.images = False", "described by text only"))
    assert checks["result"].ok


async def test_images_that_are_not_seen() -> None:
    with ScriptedServer([NUMBERS, "Blue."]) as server:
        checks = await examined(server.base_url)
    assert checks["images"].ok is None
    assert "'Blue.'" in checks["images"].said


async def test_images_that_are_not_to_be_sent_are_not_tried() -> None:
    with ScriptedServer([NUMBERS]) as server:
        assert (await examined(server.base_url, images=False))["images"].ok is None
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", [Fault(status=200, body=WHOLE), Fault(status=200, body="<html>Hello</html>")])
async def test_an_endpoint_that_does_not_stream(fault: Fault) -> None:
    with ScriptedServer([fault]) as server:
        checks = await examined(server.base_url)
    assert checks["answer"].ok
    assert checks["streaming"].ok is False
    assert "not with a stream" in checks["streaming"].said
    assert "images" not in checks
    assert not checks["result"].ok


async def test_a_stream_of_one_piece() -> None:
    with ScriptedServer([ScriptedReply(NUMBERS, chunk=1000, fault=Fault(no_usage=True)), "Green."]) as server:
        checks = await examined(server.base_url)
    assert checks["streaming"].ok is None
    assert all(words in checks["streaming"].said for words in ("as one piece", "tokens are not reported"))
    assert checks["result"].ok


async def test_a_reply_without_text() -> None:
    with ScriptedServer([""]) as server:
        checks = await examined(server.base_url)
    assert checks["streaming"].said == "the reply has no text"
    assert not checks["result"].ok


async def test_an_endless_reply_is_not_read_to_its_end() -> None:
    with ScriptedServer([ScriptedReply("x" * 1_000_000, chunk=100), "Green."]) as server:
        checks = await examined(server.base_url)
    assert checks["streaming"].ok
    assert "not waited for" in checks["streaming"].said


@pytest.mark.parametrize("fault", [Fault(silence=float("inf")), ScriptedReply("x", think=600)])
async def test_a_silent_endpoint_is_not_waited_for(fault: Fault | ScriptedReply) -> None:
    with ScriptedServer([fault]) as server:
        checks = await examined(server.base_url, timeout=0.3)
    assert checks["answer"].ok
    assert checks["streaming"].ok is False
    assert "0.3 s" in checks["streaming"].said


async def test_a_wrong_key() -> None:
    with ScriptedServer(GOOD, key="another") as server:
        checks = await examined(server.base_url)
    assert checks["answer"].ok is None
    assert "did not accept the key in OPENAI_API_KEY" in checks["streaming"].said
    assert "platform.openai.com" in checks["streaming"].advice
    assert "images" not in checks
    assert not checks["result"].ok


async def test_a_missing_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PROVIDERS", {})  # whatever may listen on this machine
    checks = await examined("", "mistral:x")
    assert list(checks) == ["endpoint", "key", "result"]
    assert checks["endpoint"].said == "mistral at https://api.mistral.ai/v1"
    assert all(words in checks["key"].said for words in ("MISTRAL_API_KEY", "https://console.mistral.ai"))


async def test_no_key_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with ScriptedServer([*GOOD, *GOOD]) as server:
        assert (await examined(server.base_url, "ollama:scripted"))["key"].said == "none is needed"
        checks = await examined(server.base_url)
    assert "OPENAI_API_KEY is not set" in checks["key"].said
    assert checks["result"].ok


async def test_nothing_listens() -> None:
    address = f"http://127.0.0.1:{free_port()}/v1"
    checks = await examined(address, "ollama:x")
    assert list(checks) == ["endpoint", "key", "answer", "result"]
    assert address in checks["answer"].said
    assert "`ollama serve`" in checks["answer"].said
    assert not checks["result"].ok


async def test_servers_on_this_machine_are_suggested(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer([]) as server:
        here = replace(PROVIDERS["vllm"], base_url=server.base_url.replace("127.0.0.1", "localhost"))
        gone = replace(PROVIDERS["ollama"], base_url=f"http://localhost:{free_port()}/v1")
        assert await listening([here, gone]) == [here]
        monkeypatch.setattr(doctor, "PROVIDERS", {"vllm": here, "ollama": gone})
        checks = await examined(f"http://127.0.0.1:{free_port()}/v1")
    assert checks["answer"].advice == "a server is listening on this machine, try `--model vllm:NAME`"


@pytest.mark.parametrize(
    ("model", "ok", "words"),
    [
        ("qwen3-codr", False, ("did you mean qwen3-coder:30b", "`ollama pull qwen3-codr`")),
        ("zzz", False, ("did you mean gemma3:latest or qwen3-coder:30b",)),
        ("gemma3", True, ()),
        ("qwen3-coder:30b", True, ()),
    ],
)
async def test_a_model_is_looked_for_in_the_list(model: str, ok: bool, words: tuple[str, ...]) -> None:
    with ScriptedServer(GOOD, models=["qwen3-coder:30b", "gemma3:latest"]) as server:
        checks = await examined(server.base_url, f"ollama:{model}")
    assert checks["model"].ok is ok
    assert all(each in checks["model"].advice for each in words)
    assert checks["result"].ok


async def test_names_are_shown_as_short_plain_text() -> None:
    with ScriptedServer(GOOD, models=["mm\u202e\x1b[1m", "m" * 7_000_000, f"mm {KEY}"]) as server:
        checks = await examined(server.base_url, "zzz")
    assert checks["model"].ok is False
    assert len(checks["model"].advice) < 300
    assert all(name in checks["model"].advice for name in ("mm[1m", "mmmm", "mm [redacted]"))


async def test_a_long_name_is_found() -> None:
    with ScriptedServer(GOOD, models=["m" * 200]) as server:
        checks = await examined(server.base_url, "m" * 200)
    assert checks["model"].ok


@pytest.mark.parametrize("models", [None, []])
async def test_not_every_endpoint_lists_models(models: list[str] | None) -> None:
    with ScriptedServer(GOOD, models=models) as server:
        checks = await examined(server.base_url)
    assert checks["answer"].ok is (None if models is None else True)
    assert ("model" in checks) is (models is not None)
    assert checks["result"].ok


@asynccontextmanager
async def lists(body: bytes) -> AsyncIterator[str]:
    """Serve this as every answer; yields the base URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + body)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"data": null}', b'{"data": [1]}', b"[" * 100_000])
async def test_a_broken_list_is_none(body: bytes) -> None:
    async with lists(body) as base_url:
        checks = await examined(base_url)
    assert checks["answer"].said == "it answers, and lists no models"
    assert checks["streaming"].ok is False


async def test_azure_lists_no_deployments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    with ScriptedServer(GOOD, key=KEY) as server:
        checks = await examined(server.base_url.removesuffix("/v1"), "azure:mine")
    assert checks["model"].ok is None
    assert checks["result"].ok


async def test_a_login_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never() -> str:
        await asyncio.sleep(600)
        return ""

    monkeypatch.setattr(entra, "token", never)
    checks = await examined("http://127.0.0.1:9", "azure:mine", timeout=0.1)
    assert checks["key"].said == "the login took longer than 0.1 s"
    assert "AZURE_OPENAI_API_KEY" in checks["key"].advice


async def test_what_cannot_be_sent_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    with ScriptedServer(["x"], refused=["seed"]) as server:
        checks = await examined(server.base_url, "gemini:x", seed=0, user="me")
    assert checks["endpoint"].ok is None
    assert "seed and user" in checks["endpoint"].said


async def test_a_recording_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ipynb", "1 + 1")
    for name, words in (("none.ipynb", "No such file"), (path.name, "no recorded turn")):
        checks = await examined("", f"recorded:{tmp_path / name}")
        assert "no network" in checks["endpoint"].said
        assert words in checks["recording"].said
        assert not checks["result"].ok
    assert "NOTEBOOK.ipynb" in (await examined("", "recorded"))["recording"].advice


# In a kernel


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with kernel(tmp_path_factory.mktemp("kernel"), MISTRAL_API_KEY="set") as started:
        yield started


@pytest.mark.parametrize("before", ["", "%autoawait off", "%%time"])
def test_the_magic_prints_what_is_found(live: Kernel, before: str) -> None:
    with ScriptedServer(GOOD, models=["scripted"]) as server:
        line = f"%agent doctor ollama:scripted --base-url {server.base_url}"
        if before == "%autoawait off":
            live.run(before)
        ran = live.run(f"%%time\n{line}" if before == "%%time" else line)
        live.run("%autoawait on")
    assert ran.status == "ok"
    rows = ran.text.splitlines()
    assert [row[0] for row in rows[:7]] == ["✓", "–", "✓", "✓", "✓", "✓", "✓"]
    assert rows[0].startswith(f"✓ endpoint   ollama at {server.base_url}")
    assert server.requests[0].headers["authorization"] == "absent"
    assert live.value("40 + 2") == "42"


@pytest.mark.parametrize("before", ["", "%%time\n"])
def test_the_magic_can_be_interrupted(live: Kernel, before: str) -> None:
    sent: list[bool] = []

    with ScriptedServer([Fault(silence=float("inf"))]) as server:

        def interrupt(_: dict[str, Any]) -> None:
            if server.requests and not sent:
                sent.append(True)
                live.interrupt()

        request = live.send(f"{before}%agent doctor --base-url {server.base_url}")
        while not server.requests:
            time.sleep(0.01)
        ran = live.wait(request, timeout=20, on=interrupt)
    assert ran.error == "KeyboardInterrupt: the doctor was stopped."
    assert live.value("40 + 2") == "42"


@pytest.mark.parametrize("line", ["%agent doctor a b", "%agent doctor --max-steps 3"])
def test_the_magic_takes_a_model_and_an_address(live: Kernel, line: str) -> None:
    assert "%agent doctor takes" in live.run(line).text


def test_the_status_names_address_and_key(live: Kernel) -> None:
    def status(model: str) -> dict[str, str]:
        live.run(f"%agent model {model}")
        rows = live.run("%agent").text.splitlines()
        return {name: value.strip() for name, _, value in (row.partition("  ") for row in rows)}

    assert status("mistral:x").items() >= {"endpoint": "https://api.mistral.ai/v1", "MISTRAL_API_KEY": "set"}.items()
    assert status("groq:x")["GROQ_API_KEY"] == "not set"
    assert status("ollama:x").items() >= {"endpoint": "http://localhost:11434/v1", "key": "not needed"}.items()
    azure = {"endpoint": "none: set AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY": "not set: Azure's login is used"}
    assert status("azure:x").items() >= azure.items()
    assert status("llama3:8b").items() >= {"endpoint": "http://127.0.0.1:9/v1", "OPENAI_API_KEY": "set"}.items()
    assert status("recorded:a.ipynb").items() >= {"endpoint": "a recording, no network", "key": "not needed"}.items()


# From the command line


def test_the_command_tells_by_its_status(tmp_path: Path) -> None:
    with ScriptedServer(GOOD, models=["m"]) as server:
        status, printed, errors = codeact("doctor", "--model", "m", base_url=server.base_url)
        assert (status, errors) == (0, "")
        assert [row[0] for row in printed.splitlines()] == ["✓"] * 7
        status, printed, errors = codeact("doctor", "--model", "m", "--base-url", server.base_url)
    assert (status, errors) == (1, "")
    assert "✗ streaming" in printed
    assert "✗ result" in printed
    status, printed, _ = codeact("doctor", "--model", f"recorded:{write(tmp_path / 'a.ipynb', LOAD)}")
    assert status == 1
    assert "✗ recording" in printed


def test_the_command_refuses_what_it_does_not_know() -> None:
    status, _, errors = codeact("doctor", "--frobnicate")
    assert status == 2
    assert "usage: codeact doctor" in errors
