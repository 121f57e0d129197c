"""The Responses API of an endpoint, and the faults that both APIs share, against real HTTP servers on this machine."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from codeact_magic.errors import BadCredentials, ContextTooLong, ModelError, ModelUnavailable
from codeact_magic.events import Usage
from codeact_magic.models import openai
from codeact_magic.models.openai import OpenAIModel
from codeact_magic.ports import ImagePart, Message, ReplyEnd, TextPart
from codeact_magic.testing import Fault, ScriptedReply, ScriptedServer
from tests.integration.test_openai_model import (
    ASKED,
    NO_FIT,
    PAGE,
    STREAM,
    _environment,
    failure,
    options,
    replied,
    wire,
)

__all__ = ["_environment"]

BOTH = pytest.mark.parametrize("api", ["chat", "responses"])
USER, ASSISTANT = "user", "assistant"


def event(kind: str, **more: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | more)}\n\n".encode()


def delta(text: str) -> bytes:
    return event("response.output_text.delta", delta=text)


LAST = event("response.completed", response={"id": "resp_1", "model": "m", "output": []})


async def said(base_url: str, **more: Any) -> tuple[list[str], ReplyEnd]:
    return await replied(base_url, api="responses", **more)


async def bodies(server: ScriptedServer, *rounds: str, **more: Any) -> list[dict[str, Any]]:
    """Ask these one after another, and give the bodies of the requests."""
    model = OpenAIModel(options(server.base_url, api="responses", **more))
    messages: list[Message] = [Message("system", (TextPart("Be brief.", "system"),))]
    for prompt in rounds:
        messages.append(Message("user", (TextPart(prompt),)))
        items = [item async for item in model.stream(messages)]
        messages.append(Message("assistant", (TextPart("".join(map(str, items[:-1])), "reply"),)))
    await model.aclose()
    return [request.body for request in server.requests]


# What comes back


async def test_a_reply_is_streamed_and_ends_with_its_tokens() -> None:
    usage = Usage(input=100, output=20, cached=80)
    with ScriptedServer([ScriptedReply("x" * 45, usage=usage, model="some-model-2", reasoning="hm")]) as server:
        pieces, end = await said(server.base_url)
    assert [len(piece) for piece in pieces] == [20, 20, 5]
    assert end == ReplyEnd(usage=usage, model="some-model-2")
    assert server.requests[0].path == "/v1/responses"


async def test_usage_may_be_missing() -> None:
    with ScriptedServer([Fault(no_usage=True)]) as server:
        assert (await said(server.base_url))[1].usage == Usage()


async def test_a_reply_at_its_limit_is_cut() -> None:
    with ScriptedServer([ScriptedReply("x", finish="length")]) as server:
        assert (await said(server.base_url))[1].cut


async def test_tiny_pieces_arrive_in_order() -> None:
    text = "naïve 🙂 e\u0301 日本\n" * 20
    with ScriptedServer([ScriptedReply(text, chunk=1)]) as server:
        assert (await said(server.base_url))[0] == list(text)


async def test_halves_of_a_surrogate_pair_are_joined() -> None:
    async with wire(STREAM, delta("a\ud83d"), delta("\ude42b"), LAST) as base_url:
        assert (await said(base_url))[0] == ["a", "🙂b"]


async def test_what_the_model_refuses_with_is_its_reply() -> None:
    async with wire(STREAM, event("response.refusal.delta", delta="I cannot."), LAST) as base_url:
        assert (await said(base_url))[0] == ["I cannot."]


@pytest.mark.parametrize(
    "odd",
    [
        event("response.reasoning_summary_text.delta", delta="hm"),
        event("response.reasoning_text.delta", delta="hm"),
        event("response.created", response=None),
        event("response.output_text.delta", delta=None),
        event("response.output_item.added", item=5),
        event("keepalive", sequence_number=3),
        event("response.function_call_arguments.delta", delta="{"),
        b": keep-alive\n\n",
    ],
)
async def test_odd_events_are_passed_over(odd: bytes) -> None:
    async with wire(STREAM, delta("a"), odd, delta("b"), LAST) as base_url:
        assert await said(base_url) == (["a", "b"], ReplyEnd(model="m"))


# What is sent


async def sent(messages: Sequence[Message] = ASKED, **more: Any) -> dict[str, Any]:
    with ScriptedServer(["x"]) as server:
        await replied(server.base_url, messages, api="responses", **more)
    return server.requests[0].body


async def test_only_what_was_asked_for_is_sent() -> None:
    assert await sent() == {
        "model": "some-model",
        "input": [{"type": "message", "role": "user", "content": "hello"}],
        "stream": True,
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }


async def test_options_are_sent() -> None:
    body = await sent(
        temperature=0.0,
        top_p=0.5,
        seed=0,
        max_output_tokens=99,
        reasoning_effort="low",
        metadata={"a": "b"},
        user="u",
        body={"service_tier": "flex"},
    )
    wanted = {"temperature": 0.0, "top_p": 0.5, "max_output_tokens": 99, "reasoning": {"effort": "low"}}
    assert body.items() >= (wanted | {"metadata": {"a": "b"}, "user": "u", "service_tier": "flex"}).items()
    assert "seed" not in body


async def test_the_systems_message_is_sent_as_instructions() -> None:
    body = await sent([Message("system", (TextPart("a"), TextPart("b"))), *ASKED])
    assert body["instructions"] == "a\n\nb"
    assert [item["role"] for item in body["input"]] == ["user"]


async def test_images_are_sent_as_data_urls() -> None:
    body = await sent([Message("user", (TextPart("a\udc80"), ImagePart("image/png", "aGk=")))])
    assert body["input"][0]["content"] == [
        {"type": "input_text", "text": "a?"},
        {"type": "input_image", "image_url": "data:image/png;base64,aGk="},
    ]


# What fails, in both APIs


@BOTH
@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (Fault(status=400), ModelError, "answered HTTP 400: a scripted fault"),
        (Fault(status=400, body=NO_FIT), ContextTooLong, "too long for 'some-model'"),
        (Fault(status=401), BadCredentials, "OPENAI_API_KEY"),
        (Fault(status=404), ModelError, "change --model or --base-url"),
        (Fault(status=429), ModelUnavailable, "HTTP 429"),
        (Fault(status=429, code="insufficient_quota"), ModelError, "no quota left"),
        (Fault(status=500), ModelUnavailable, "HTTP 500"),
        (Fault(status=200, body=PAGE), ModelError, "answered with text/html"),
        (Fault(status=200, body="{}"), ModelError, "answered with application/json"),
        (ScriptedReply("x", finish="content_filter"), ModelError, "content filter"),
        (ScriptedReply("x", finish=""), ModelUnavailable, "ended before the reply was finished"),
        (Fault(cut_after=3), ModelUnavailable, "broke off"),
        (Fault(malformed_after=3), ModelUnavailable, "malformed chunk"),
    ],
)
async def test_a_fault_becomes_one_sentence(
    api: str, fault: Fault | ScriptedReply, error: type[ModelError], words: str
) -> None:
    with ScriptedServer([fault, "unused"]) as server:
        raised = await failure(server.base_url, api=api)
    assert type(raised) is error
    assert words in str(raised)
    assert len(server.requests) == 1


@BOTH
async def test_silence_ends_in_a_timeout(api: str) -> None:
    with ScriptedServer([Fault(silence=float("inf")), ScriptedReply("abc", chunk=1, pause=600)]) as server:
        raised = await failure(server.base_url, api=api, timeout=0.2)
        assert "gave no answer for 0.2 s" in str(raised)
        raised = await failure(server.base_url, api=api, timeout=0.2)
        assert "stalled for 0.2 s" in str(raised)


@BOTH
async def test_a_reply_without_end_is_broken_off(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "MAX_REPLY", 1000)
    with ScriptedServer(["x" * 2000]) as server:
        raised = await failure(server.base_url, api=api)
    assert "longer than 1,000 characters" in str(raised)


def failed(code: str, message: str = "oh") -> bytes:
    return event("response.failed", response={"error": {"code": code, "message": message}})


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (failed("server_error"), ModelUnavailable, "broke off with an error: oh"),
        (failed("rate_limit_exceeded"), ModelUnavailable, "oh"),
        (failed("invalid_prompt"), ModelError, "oh"),
        (failed("context_length_exceeded"), ContextTooLong, "too long"),
        (failed("insufficient_quota"), ModelError, "no quota"),
        (event("response.failed", response=None), ModelUnavailable, "broke off with an error."),
        (event("error", code="server_error", message="sk-secret-0123456789"), ModelUnavailable, "[redacted]"),
        (event("error", error={"code": "server_error", "message": "oh"}), ModelUnavailable, "oh"),
        (b"data: [1]\n\n", ModelUnavailable, "malformed"),
        (b'data: {"choices": []}\n\n', ModelUnavailable, "malformed"),
        (b"data: \xff\n\n", ModelUnavailable, "malformed"),
        (event("response.output_item.done", item=5), ModelUnavailable, "malformed"),
    ],
)
async def test_a_fault_in_mid_stream_becomes_one_sentence(data: bytes, error: type[ModelError], words: str) -> None:
    async with wire(STREAM, delta("a"), data, LAST) as base_url:
        raised = await failure(base_url, api="responses")
    assert type(raised) is error
    assert words in str(raised)


# What the endpoint is told again


async def test_reasoning_comes_back_before_what_it_led_to() -> None:
    with ScriptedServer([ScriptedReply("one", reasoning="hm"), "two", "three"]) as server:
        *_, last = await bodies(server, "a", "b", "c")
    kinds = [(item["type"], item.get("role")) for item in last["input"]]
    assert kinds == [
        ("message", USER),
        ("reasoning", None),
        ("message", ASSISTANT),
        ("message", USER),
        ("message", ASSISTANT),
        ("message", USER),
    ]
    assert last["input"][1]["encrypted_content"].startswith("encrypted")


async def test_each_request_begins_with_the_one_before() -> None:
    with ScriptedServer(lambda _: ScriptedReply("x", reasoning="hm")) as server:
        asked = await bodies(server, "a", "b", "c", "d")
    for before, after in pairwise(asked):
        assert after["input"][: len(before["input"])] == before["input"]


async def test_reasoning_that_cannot_be_read_is_left_out() -> None:
    with ScriptedServer([ScriptedReply("one", reasoning="hm"), "two"]) as server:
        *_, last = await bodies(server, "a", "b", body={"include": []})
    assert [item["type"] for item in last["input"]] == ["message"] * 3
    assert "id" not in last["input"][1]


async def test_an_endpoint_that_encrypts_nothing_is_asked_without() -> None:
    refusal = json.dumps({"error": {"message": "Encrypted content is not supported with this model."}})
    with ScriptedServer([Fault(status=400, body=refusal), "one", "two"]) as server:
        asked = await bodies(server, "a", "b")
    assert ["include" in body for body in asked] == [True, False, False]


async def test_a_reply_that_was_changed_since_is_sent_as_its_text() -> None:
    with ScriptedServer([ScriptedReply("one", reasoning="hm"), "two"]) as server:
        model = OpenAIModel(options(server.base_url, api="responses"))
        async for _ in model.stream(ASKED):
            pass
        changed = [*ASKED, Message("assistant", (TextPart("[redacted]", "reply"),)), *ASKED]
        async for _ in model.stream(changed):
            pass
        await model.aclose()
    said = server.requests[1].body["input"][1]
    assert said == {"type": "message", "role": "assistant", "content": "[redacted]"}


async def test_a_reply_that_was_cut_is_sent_as_its_text() -> None:
    with ScriptedServer([ScriptedReply("one", reasoning="hm", finish="length"), "two"]) as server:
        *_, last = await bodies(server, "a", "b")
    assert last["input"][1] == {"type": "message", "role": "assistant", "content": "one"}


async def test_a_stored_conversation_is_sent_what_is_new() -> None:
    with ScriptedServer(["one", "two", "three"]) as server:
        asked = await bodies(server, "a", "b", "c", store=True)
    assert [[item["content"] for item in body["input"]] for body in asked] == [["a"], ["b"], ["c"]]
    assert [body["instructions"] for body in asked] == ["Be brief."] * 3
    assert "previous_response_id" not in asked[0]
    assert asked[1]["previous_response_id"] != asked[2]["previous_response_id"]


async def test_a_stored_conversation_that_is_lost_is_sent_as_a_whole() -> None:
    def third(messages: list[dict[str, Any]]) -> str:
        return f"{len(messages)} items"

    with ScriptedServer([ScriptedReply("one", reasoning="hm"), "two", third, "four"]) as server:
        model = OpenAIModel(options(server.base_url, api="responses", store=True))
        messages = list(ASKED)
        texts = []
        for number in range(4):
            if number == 2:
                server.forget()
            items = [item async for item in model.stream(messages)]
            texts.append("".join(map(str, items[:-1])))
            messages += [Message("assistant", (TextPart(texts[-1], "reply"),)), *ASKED]
        await model.aclose()
    assert texts == ["one", "two", "6 items", "four"]
    sizes = [(len(each.body["input"]), "previous_response_id" in each.body) for each in server.requests]
    assert sizes == [(1, False), (1, True), (1, True), (6, False), (1, True)]


@BOTH
@pytest.mark.parametrize("status", [400, 404])
async def test_other_refusals_are_not_asked_around(api: str, status: int) -> None:
    with ScriptedServer(["one", Fault(status=status), "unused"]) as server:
        model = OpenAIModel(options(server.base_url, api=api, store=True))
        items = [item async for item in model.stream(ASKED)]
        with pytest.raises(ModelError):
            async for _ in model.stream([*ASKED, Message("assistant", (TextPart(str(items[0])),)), *ASKED]):
                pass
        await model.aclose()
    assert len(server.requests) == 2
