"""The OpenAI model against real HTTP servers on this machine."""

import asyncio
import gc
import gzip
import json
import logging
import socket
import traceback
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from email.utils import formatdate
from time import time
from typing import Any

import pytest

from codeact_magic.errors import BadCredentials, ContextTooLong, ModelError, ModelUnavailable
from codeact_magic.events import Usage
from codeact_magic.models import endpoint, openai
from codeact_magic.models.openai import OpenAIModel, OpenAIOptions
from codeact_magic.ports import ImagePart, Message, ReplyEnd, TextPart
from codeact_magic.testing import Fault, ScriptedReply, ScriptedServer

KEY = "sk-secret-0123456789"
ASKED = (Message("user", (TextPart("hello"),)),)
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
LAST = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS", "OPENAI_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def options(base_url: str, **more: Any) -> OpenAIOptions:
    return replace(OpenAIOptions(model="some-model", base_url=base_url, timeout=10.0), **more)


async def replied(base_url: str, messages: Sequence[Message] = ASKED, **more: Any) -> tuple[list[str], ReplyEnd]:
    model = OpenAIModel(options(base_url, **more))
    try:
        items = [item async for item in model.stream(messages)]
    finally:
        await model.aclose()
    assert isinstance(items[-1], ReplyEnd)
    return [item for item in items if isinstance(item, str)], items[-1]


async def failure(base_url: str, **more: Any) -> ModelError:
    with pytest.raises(ModelError) as raised:
        await replied(base_url, **more)
    assert KEY not in "".join(traceback.format_exception(raised.value))
    assert raised.value.__context__ is None
    assert "\n" not in str(raised.value)
    return raised.value


@asynccontextmanager
async def wire(*pieces: bytes) -> AsyncIterator[str]:
    """Serve these bytes, piece by piece, to every request; yields the base URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


def chunk(content: object, **more: object) -> bytes:
    return f"data: {json.dumps({'choices': [{'delta': {'content': content}}]} | more)}\n\n".encode()


# What comes back


async def test_a_reply_is_streamed_and_ends_with_its_tokens() -> None:
    usage = Usage(input=100, output=20, cached=80)
    with ScriptedServer([ScriptedReply("x" * 45, usage=usage, model="some-model-2")]) as server:
        pieces, end = await replied(server.base_url)
    assert [len(piece) for piece in pieces] == [20, 20, 5]
    assert end == ReplyEnd(usage=usage, model="some-model-2")


async def test_usage_may_be_missing() -> None:
    with ScriptedServer([Fault(no_usage=True)]) as server:
        _, end = await replied(server.base_url)
    assert end.usage == Usage()


async def test_a_reply_at_its_limit_is_cut() -> None:
    with ScriptedServer([ScriptedReply("x", finish="length")]) as server:
        _, end = await replied(server.base_url)
    assert end.cut


async def test_tiny_pieces_arrive_in_order() -> None:
    text = "naïve 🙂 e\u0301 日本\n" * 20
    with ScriptedServer([ScriptedReply(text, chunk=1)]) as server:
        pieces, _ = await replied(server.base_url)
    assert pieces == list(text)


async def test_bytes_of_a_character_may_arrive_apart() -> None:
    data = 'data: {"choices": [{"delta": {"content": "🙂"}}]}\n\n'.encode()
    async with wire(STREAM, *(data[index : index + 1] for index in range(len(data))), LAST) as base_url:
        assert (await replied(base_url))[0] == ["🙂"]


async def test_halves_of_a_surrogate_pair_are_joined() -> None:
    async with wire(STREAM, chunk("a\ud83d"), chunk("\ude42b"), LAST) as base_url:
        assert (await replied(base_url))[0] == ["a", "🙂b"]


async def test_half_a_surrogate_pair_is_replaced() -> None:
    async with wire(STREAM, chunk("a\ud83d"), LAST) as base_url:
        assert "".join((await replied(base_url))[0]) == "a\ufffd"


@pytest.mark.parametrize(
    "odd",
    [
        b'data: {"choices": []}\n\n',
        b'data: {"choices": null, "colour": "red"}\n\n',
        b'data: {"choices": [{"delta": null}], "usage": {"prompt_tokens": "many"}}\n\n',
        b'data: {"choices": [{"delta": {"reasoning_content": "hm"}}], "model": 5}\n\n',
        b": keep-alive\n\n",
        chunk(None),
        chunk(["parts"]),
    ],
)
async def test_odd_chunks_are_passed_over(odd: bytes) -> None:
    async with wire(STREAM, chunk("a"), odd, chunk("b"), LAST) as base_url:
        assert await replied(base_url) == (["a", "b"], ReplyEnd())


async def test_the_last_mark_may_be_missing() -> None:
    async with wire(STREAM, chunk("a"), LAST.partition(b"data: [DONE]")[0]) as base_url:
        assert (await replied(base_url))[0] == ["a"]


# What is sent


async def sent(messages: Sequence[Message] = ASKED, **more: Any) -> tuple[dict[str, Any], dict[str, str]]:
    with ScriptedServer(["x"]) as server:
        await replied(server.base_url, messages, **more)
    return server.requests[0].body, server.requests[0].headers


async def test_only_what_was_asked_for_is_sent() -> None:
    body, _ = await sent()
    assert body == {
        "model": "some-model",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_options_are_sent() -> None:
    body, headers = await sent(
        temperature=0.0,
        top_p=0.5,
        seed=0,
        max_output_tokens=99,
        reasoning_effort="low",
        headers={"X-Mine": "yes"},
        body={"top_k": 3},
    )
    wanted = {"temperature": 0.0, "top_p": 0.5, "seed": 0, "max_completion_tokens": 99}
    assert body.items() >= (wanted | {"reasoning_effort": "low", "top_k": 3}).items()
    assert headers["x-mine"] == "yes"


async def test_text_parts_are_joined_by_blank_lines() -> None:
    body, _ = await sent([Message("system", (TextPart("a"), TextPart("b"))), *ASKED])
    assert body["messages"][0] == {"role": "system", "content": "a\n\nb"}


async def test_images_are_sent_as_data_urls() -> None:
    body, _ = await sent([Message("user", (TextPart("a"), ImagePart("image/png", "aGk="), TextPart("b")))])
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"type": "text", "text": "b"},
    ]


async def test_lone_surrogates_are_replaced() -> None:
    body, _ = await sent([Message("user", (TextPart("a\udc80b"),))])
    assert body["messages"][0]["content"] == "a?b"


# What fails

NO_FIT = json.dumps({"error": {"message": "too long", "code": "context_length_exceeded"}})
WORDY = json.dumps({"error": {"message": "line\none \x1b[31mred\u202e " + "x" * 1000}})
PAGE = "<html><head><style>body {}</style></head><body><h1>Bad &gt; Gateway</h1>" + "<p>x</p>" * 1000 + "</body></html>"


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (Fault(status=400), ModelError, "answered HTTP 400: a scripted fault"),
        (Fault(status=400, body=NO_FIT), ContextTooLong, "too long for 'some-model'"),
        (Fault(status=400, body='{"error": "maximum context length is 5"}'), ContextTooLong, "maximum context length"),
        (Fault(status=400, body=WORDY), ModelError, "line one [31mred xxx"),
        (Fault(status=400, body="[1]"), ModelError, "[1]"),
        (Fault(status=401), BadCredentials, "OPENAI_API_KEY"),
        (Fault(status=403), BadCredentials, "may not use 'some-model'"),
        (Fault(status=404), ModelError, "change --model or --base-url"),
        (Fault(status=307, headers={"Location": "http://elsewhere.example"}), ModelError, "redirects (HTTP 307)"),
        (Fault(status=408), ModelUnavailable, "HTTP 408"),
        (Fault(status=409), ModelUnavailable, "HTTP 409"),
        (Fault(status=422, body='{"detail": "no such field"}'), ModelError, "no such field"),
        (Fault(status=429), ModelUnavailable, "HTTP 429"),
        (Fault(status=429, code="insufficient_quota"), ModelError, "no quota left"),
        (Fault(status=500), ModelUnavailable, "HTTP 500"),
        (Fault(status=502, body=PAGE), ModelUnavailable, "HTTP 502: Bad &gt; Gateway x x"),
        (Fault(status=503, body="busy"), ModelUnavailable, "HTTP 503: busy"),
        (Fault(status=200, body=PAGE), ModelError, "answered with text/html"),
        (ScriptedReply("x", finish="content_filter"), ModelError, "content filter"),
        (ScriptedReply("x", finish=""), ModelUnavailable, "ended before the reply was finished"),
        (Fault(cut_after=3), ModelUnavailable, "broke off"),
        (Fault(malformed_after=3), ModelUnavailable, "malformed chunk"),
    ],
)
async def test_a_fault_becomes_one_sentence(fault: Fault | ScriptedReply, error: type[ModelError], words: str) -> None:
    with ScriptedServer([fault]) as server:
        raised = await failure(server.base_url)
    assert type(raised) is error
    assert words in str(raised)
    assert str(raised).isprintable()
    assert len(str(raised)) < 500


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b'data: {"error": {"message": "overloaded", "code": 502}}\n\n', ModelUnavailable, "overloaded"),
        (
            b'data: {"error": {"message": "no", "code": "server_error"}}\n\n',
            ModelUnavailable,
            "broke off with an error",
        ),
        (b'data: {"error": {"message": "bad field", "code": 400}}\n\n', ModelError, "bad field"),
        (b'data: {"error": {"code": "context_length_exceeded"}}\n\n', ContextTooLong, "too long"),
        (b'data: {"error": {"code": "insufficient_quota"}}\n\n', ModelError, "no quota"),
        (b"data: [1]\n\n", ModelUnavailable, "malformed"),
        (b'data: "text"\n\n', ModelUnavailable, "malformed"),
        (b"data: \xff\n\n", ModelUnavailable, "malformed"),
        (b"data: " + b"[" * 100_000 + b"\n\n", ModelUnavailable, "malformed"),
    ],
    ids=lambda value: value[:30].decode("latin-1") if isinstance(value, bytes) else None,
)
async def test_a_fault_in_mid_stream_becomes_one_sentence(data: bytes, error: type[ModelError], words: str) -> None:
    async with wire(STREAM, chunk("a"), data, LAST) as base_url:
        raised = await failure(base_url)
    assert type(raised) is error
    assert words in str(raised)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"Retry-After": "2"}, 2.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "2", "Retry-After-Ms": "1500"}, 1.5),
        ({"Retry-After": "-5"}, 0.0),
        ({"Retry-After": "1e9"}, 300.0),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": formatdate(time() + 10_000, usegmt=True)}, 300.0),
        ({"Retry-After": formatdate(time() - 10_000, usegmt=True)}, 0.0),
    ],
)
async def test_the_wait_that_the_server_asks_for_is_kept(headers: dict[str, str], wait: float | None) -> None:
    with ScriptedServer([Fault(status=429, headers=headers)]) as server:
        raised = await failure(server.base_url)
    assert isinstance(raised, ModelUnavailable)
    assert raised.retry_after == wait


async def test_a_date_to_wait_for_is_counted_in_seconds() -> None:
    with ScriptedServer([Fault(status=503, headers={"Retry-After": formatdate(time() + 100, usegmt=True)})]) as server:
        raised = await failure(server.base_url)
    assert isinstance(raised, ModelUnavailable)
    assert raised.retry_after is not None
    assert 0 < raised.retry_after <= 100


@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad Request"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("line", [b"x", b"data: x\n"])
async def test_an_event_without_end_is_not_read(
    status: bytes, compressed: bool, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "MAX_EVENT", 1_000_000)
    head = STREAM.replace(b"200 OK", status)
    pieces = [b"data: ", *[line * (100_000 // len(line))] * 20]
    if compressed:
        head = head.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
        pieces = [gzip.compress(b"".join(pieces))]
    async with wire(head, *pieces) as base_url:
        raised = await failure(base_url)
    assert type(raised) is ModelError
    assert str(raised).endswith("sent 1 MB without a blank line.")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 1000])
async def test_many_events_may_be_long_together(end: bytes, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "MAX_EVENT", 80)
    data = (chunk("a") * 2 + LAST).replace(b"\n", end)
    async with wire(STREAM, *(data[at : at + size] for at in range(0, len(data), size))) as base_url:
        assert "".join((await replied(base_url))[0]) == "aa"


async def test_nothing_is_asked_for_in_a_compressed_form() -> None:
    _, headers = await sent()
    assert {name.lower(): value for name, value in headers.items()}["accept-encoding"] == "identity"


async def test_it_does_not_retry_by_itself() -> None:
    with ScriptedServer([Fault(status=500), "unused"]) as server:
        await failure(server.base_url)
    assert len(server.requests) == 1


async def test_silence_before_the_first_byte_ends_in_a_timeout() -> None:
    with ScriptedServer([Fault(silence=float("inf"))]) as server:
        raised = await failure(server.base_url, timeout=0.2)
    assert isinstance(raised, ModelUnavailable)
    assert "gave no answer for 0.2 s" in str(raised)


async def test_silence_between_pieces_ends_in_a_timeout() -> None:
    with ScriptedServer([ScriptedReply("abc", chunk=1, pause=600)]) as server:
        raised = await failure(server.base_url, timeout=0.2)
    assert isinstance(raised, ModelUnavailable)
    assert "stalled for 0.2 s" in str(raised)


async def test_a_refused_connection_names_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    raised = await failure(f"http://127.0.0.1:{port}/v1")
    assert isinstance(raised, ModelUnavailable)
    assert f"http://127.0.0.1:{port}/v1" in str(raised)
    assert "start the server there, or check --base-url" in str(raised)


async def test_a_connection_closed_without_an_answer_is_a_passing_fault() -> None:
    async with wire() as base_url:
        raised = await failure(base_url)
    assert isinstance(raised, ModelUnavailable)
    assert "closed the connection" in str(raised)


async def test_a_reply_without_end_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "MAX_REPLY", 1000)
    with ScriptedServer(["x" * 2000]) as server:
        raised = await failure(server.base_url)
    assert type(raised) is ModelError
    assert "longer than 1,000 characters" in str(raised)


@pytest.mark.parametrize(
    "base_url",
    ["localhost:8000/v1", "ftp://host/v1", "http://", "http://host:port/v1", "http://host/v1?token=t", "nonsense"],
)
async def test_an_unusable_address_is_refused(base_url: str) -> None:
    raised = await failure(base_url)
    assert type(raised) is ModelError
    assert "--base-url" in str(raised)
    assert "token" not in str(raised)


@pytest.mark.parametrize("more", [{"headers": {"X-Mine": "ü\n"}}, {"body": {"x": object()}}])
async def test_unusable_extras_are_refused(more: dict[str, Any]) -> None:
    with ScriptedServer(["x"]) as server:
        raised = await failure(server.base_url, **more)
    assert "check --base-url" in str(raised)


# The key


@pytest.mark.parametrize("base_url", ["", "https://api.openai.com/v1/"])
async def test_without_a_key_it_says_what_to_do(base_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    raised = await failure(base_url)
    assert isinstance(raised, BadCredentials)
    assert all(words in str(raised) for words in ("OPENAI_API_KEY", "--base-url", "--model recorded:NOTEBOOK.ipynb"))


async def test_local_servers_need_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert (await sent())[1]["authorization"] == "present"


async def test_the_address_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(["hello"]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        assert (await replied(""))[0] == ["hello"]


@pytest.mark.parametrize("key", ["sk-\u2026x", "sk-a\nb", "sk-\x7f"])
async def test_a_key_that_cannot_be_one_is_refused(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    raised = await failure("")
    assert isinstance(raised, BadCredentials)
    assert key not in str(raised)


@pytest.mark.parametrize("echo", [KEY, f"{KEY[:9]}\x00{KEY[9:]}", f"<p>{KEY}</p>", "x" * 290 + KEY, "x" * 19_990 + KEY])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
async def test_a_key_that_the_server_echoes_is_not_shown(echo: str, status: int) -> None:
    body = json.dumps({"error": {"message": echo}})
    with ScriptedServer([Fault(status=status, body=body)]) as server:
        raised = await failure(server.base_url)
    assert "sk-secret" not in str(raised)


async def test_a_key_is_not_shown_as_the_name_of_a_model() -> None:
    with ScriptedServer([ScriptedReply("x", model=f"a {KEY}")]) as server:
        assert (await replied(server.base_url))[1].model == "a [redacted]"


async def test_secrets_in_the_address_and_headers_are_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    body = json.dumps({"error": {"message": f"p@ssword, {b64encode(b'user:p@ssword').decode()}, top-secret"}})
    with ScriptedServer([Fault(status=400, body=body)]) as server:
        address = server.base_url.replace("://", "://user:p%40ssword@")
        given = options(address, headers={"X-Token": "Token top-secret"})
        raised = await failure(address, headers=given.headers)
    shown = f"{raised} {given} {OpenAIModel(given)!r} {caplog.text}"
    assert str(raised).endswith("HTTP 400: [redacted], [redacted], [redacted]")
    assert not any(secret in shown for secret in ("ssword", "top-secret", KEY))
    assert server.requests[0].headers["authorization"] == "present"


def test_the_repr_shows_model_and_address_only() -> None:
    model = OpenAIModel(options("http://user:password@localhost:1/v1", body={"x": 1}))
    assert repr(model) == "OpenAIModel(model='some-model', base_url='http://localhost:1/v1')"


async def authorization(base_url: str = "", **more: Any) -> str:
    """Give the Authorization header as it is on the wire."""
    heads = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(STREAM + LAST)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        await replied(f"http://{base_url}127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", **more)
    lines = [line for line in heads[0].split("\r\n") if line.lower().startswith("authorization:")]
    assert len(lines) == 1
    return lines[0].partition(": ")[2]


async def test_the_key_is_read_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await authorization() == f"Bearer {KEY}"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-another")
    assert await authorization() == "Bearer sk-another"


async def test_a_password_in_the_address_takes_the_place_of_the_key() -> None:
    assert await authorization("user:p%40ss@") == f"Basic {b64encode(b'user:p@ss').decode()}"


async def test_a_header_of_the_user_takes_the_place_of_the_key() -> None:
    assert await authorization(headers={"authorization": "Token mine"}) == "Token mine"


# Connections


async def test_a_connection_is_used_again() -> None:
    ports = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ports.append(writer.get_extra_info("peername")[1])
        head = STREAM.replace(b"Connection: close", b"Content-Length: %d" % len(LAST))
        try:
            while await reader.readuntil(b'"some-model"'):
                writer.write(head + LAST)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        model = OpenAIModel(options(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"))
        for _ in range(3):
            assert [item async for item in model.stream(ASKED)] == [ReplyEnd()]
        await model.aclose()
    assert len(ports) == 1


async def test_it_can_be_used_after_it_was_closed() -> None:
    with ScriptedServer(["one", "two"]) as server:
        model = OpenAIModel(options(server.base_url))
        for text in ("one", "two"):
            items = [item async for item in model.stream(ASKED)]
            assert items[0] == text
            await model.aclose()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # the sockets of a loop that ended without closing them
@pytest.mark.parametrize("closing", [True, False])
def test_one_event_loop_after_another(closing: bool) -> None:
    with ScriptedServer(["one", "two"]) as server:
        model = OpenAIModel(options(server.base_url))

        async def first() -> str | ReplyEnd:
            items = [item async for item in model.stream(ASKED)]
            if closing:
                await model.aclose()
            return items[0]

        assert [asyncio.run(first()), asyncio.run(first())] == ["one", "two"]
        asyncio.run(model.aclose())
        gc.collect()


async def hung_up(server: ScriptedServer) -> None:
    async with asyncio.timeout(10):
        while not server.requests[0].dropped:
            await asyncio.sleep(0.01)


async def test_cancelling_hangs_up() -> None:
    with ScriptedServer([Fault(silence=float("inf"))]) as server:
        task = asyncio.ensure_future(replied(server.base_url))
        while not server.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        await hung_up(server)


async def test_cancelling_in_mid_stream_hangs_up() -> None:
    with ScriptedServer([ScriptedReply("abc", chunk=1, pause=600)]) as server:
        model, came = OpenAIModel(options(server.base_url)), asyncio.Event()

        async def consume() -> None:
            async for _ in model.stream(ASKED):
                came.set()

        task = asyncio.ensure_future(consume())
        await came.wait()
        task.cancel()
        await asyncio.wait({task})
        await hung_up(server)
        await model.aclose()


async def test_closing_the_generator_hangs_up() -> None:
    with ScriptedServer([ScriptedReply("abc", chunk=1, pause=600)]) as server:
        model = OpenAIModel(options(server.base_url))
        stream = model.stream(ASKED)
        assert await anext(stream) == "a"
        await stream.aclose()
        await hung_up(server)
        await model.aclose()
