"""Whole turns through each API with fenced code and with tool calls, against a strict server on this machine."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from codeact_magic.errors import ModelUnavailable
from codeact_magic.events import (
    Event,
    ReplyDelta,
    ReplyDiscarded,
    ReplyFinished,
    TurnFinished,
    decode,
    encode,
)
from codeact_magic.loop import Limits
from codeact_magic.models.dialect import Request
from codeact_magic.models.openai import OpenAIModel
from codeact_magic.ports import Message, ReplyEnd, TextPart
from codeact_magic.replies import Block, parse
from codeact_magic.session import Session
from codeact_magic.testing import Fault, ScriptedReply, ScriptedServer
from codeact_magic.testing.scripted import Reply
from tests.integration.test_openai_model import STREAM, _environment, failure, options, replied, wire
from tests.unit.fakes import PIXEL, FakeExecutor, asked, display, python, stream
from tests.unit.fakes import failure as failing

__all__ = ["_environment"]

COMBINATIONS = [(api, protocol) for api in ("chat", "responses") for protocol in ("text", "tools")]
EACH = pytest.mark.parametrize(("api", "protocol"), COMBINATIONS)
BOTH = pytest.mark.parametrize("api", ["chat", "responses"])

RESULTS = {
    "print(1)": [stream("1\n")],
    "plot()": [display({"image/png": PIXEL, "text/plain": "a figure"})],
    "bad()": [failing()],
}
SCRIPT: list[Reply] = [
    ScriptedReply("I look.\n" + python("print(1)") + python("plot()"), reasoning="First I look.", chunk=3),
    ScriptedReply(python("bad()") + python("never()"), reasoning="Then I try.", chunk=1),
    "The answer is 1.",
]


def session(server: ScriptedServer, **more: Any) -> Session:
    model = OpenAIModel(options(server.base_url, **more))
    return Session(model, FakeExecutor(RESULTS), system="You write code.", limits=Limits(retries=1, backoff=0.0))


def plain(event: Event) -> tuple[str, dict[str, Any]]:
    """Give what an event says, without ids and times; of a reply, its blocks."""
    said = {name: value for name, value in encode(event).items() if name not in {"cell", "turn", "thread", "seconds"}}
    if isinstance(event, ReplyFinished):
        parts = parse(event.text).parts
        said["text"] = [part.code if isinstance(part, Block) else part.text.strip() for part in parts]
        del said["usage"]
    return type(event).__name__, said


def told(server: ScriptedServer, api: str) -> list[list[dict[str, Any]]]:
    return [request.body["messages" if api == "chat" else "input"] for request in server.requests]


# Whole turns


async def turns(api: str, protocol: str, **more: Any) -> tuple[list[Event], ScriptedServer]:
    with ScriptedServer([*SCRIPT, "You are welcome."]) as server:
        own = session(server, api=api, protocol=protocol, **more)
        events = await asked(own, "Go.") + await asked(own, "Thanks.")
        await own.aclose()
    return events, server


@pytest.mark.parametrize(
    ("api", "protocol", "store"),
    [(*each, False) for each in COMBINATIONS] + [("responses", "text", True), ("responses", "tools", True)],
)
async def test_the_same_script_leads_to_the_same_events(api: str, protocol: str, store: bool) -> None:
    usual, _ = await turns("chat", "text")
    events, server = await turns(api, protocol, store=store)
    assert [plain(each) for each in events if not isinstance(each, ReplyDelta)] == [
        plain(each) for each in usual if not isinstance(each, ReplyDelta)
    ]
    deltas = "".join(each.text for each in events if isinstance(each, ReplyDelta))
    assert deltas == "".join(each.text for each in events if isinstance(each, ReplyFinished))
    assert {request.path for request in server.requests} == {
        "/v1/responses" if api == "responses" else "/v1/chat/completions"
    }


@EACH
async def test_each_request_begins_with_the_one_before(api: str, protocol: str) -> None:
    _, server = await turns(api, protocol)
    for before, after in pairwise(told(server, api)):
        assert after[: len(before)] == before


async def test_the_text_protocol_declares_no_tool() -> None:
    _, server = await turns("chat", "text")
    assert all("tools" not in request.body for request in server.requests)
    assert told(server, "chat")[0][0] == {"role": "system", "content": "You write code."}


@BOTH
async def test_the_model_is_told_of_the_tool(api: str) -> None:
    _, server = await turns(api, "tools")
    body = server.requests[0].body
    (tool,) = body["tools"]
    tool = tool.get("function", tool)
    assert (tool["name"], tool["parameters"]["required"]) == ("run_cell", ["code"])
    system = body["messages"][0]["content"] if api == "chat" else body["instructions"]
    assert system.startswith("You write code.\n\n")
    assert "`run_cell`" in system


async def test_each_call_is_answered_in_chat() -> None:
    _, server = await turns("chat", "tools")
    _, _, reply, first, second, pictures, *_ = told(server, "chat")[1]
    assert [call["function"]["name"] for call in reply["tool_calls"]] == ["run_cell", "run_cell"]
    assert (reply["content"], reply["reasoning_content"]) == ("I look.\n", "First I look.")
    assert first == {
        "role": "tool",
        "tool_call_id": reply["tool_calls"][0]["id"],
        "content": "Block 1, cell [1]: ran.\n1",
    }
    assert second["content"] == "Block 2, cell [2]: ran.\na figure"
    assert pictures["role"] == "user"
    assert pictures["content"][-1]["image_url"]["url"].endswith(PIXEL)


async def test_each_call_is_answered_in_responses() -> None:
    _, server = await turns("responses", "tools")
    kinds = [item["type"] for item in told(server, "responses")[1]]
    assert kinds == ["message", "reasoning", "message", *["function_call"] * 2, *["function_call_output"] * 2]
    *_, picture = told(server, "responses")[1]
    assert [part["type"] for part in picture["output"]] == ["input_text", "input_image"]


async def test_a_stored_conversation_is_sent_the_outputs_only() -> None:
    _, server = await turns("responses", "tools", store=True)
    kinds = [[item["type"] for item in items] for items in told(server, "responses")]
    assert kinds == [["message"], *[["function_call_output"] * 2] * 2, ["message"]]


async def test_a_stored_conversation_that_is_lost_is_sent_with_its_calls() -> None:
    with ScriptedServer([*SCRIPT, "You are welcome."]) as server:
        own = session(server, api="responses", protocol="tools", store=True)
        await asked(own, "Go.")
        server.forget()
        (*_, last) = await asked(own, "Thanks.")
        await own.aclose()
    assert isinstance(last, TurnFinished)
    assert last.answer == "You are welcome."
    (_, stateless) = await turns("responses", "tools")
    kinds = [[item["type"] for item in told(each, "responses")[-1]] for each in (server, stateless)]
    assert kinds[0] == kinds[1]


async def test_a_reply_of_unknown_tools_is_answered_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"".join(chat(call("{}", name="browse", index=0, id="1")))
    bodies: list[dict[str, Any]] = []
    async with wire(STREAM, data) as base_url:
        model = OpenAIModel(options(base_url, protocol="tools"))
        own = Session(model, FakeExecutor(), system="", limits=Limits(max_empty=2))
        usual = model._dialect.request

        def request(*given: Any) -> Request:
            made = usual(*given)
            bodies.append(made.body)
            return made

        monkeypatch.setattr(model._dialect, "request", request)
        (*_, last) = await asked(own, "Go.")
        await own.aclose()
    assert isinstance(last, TurnFinished)
    assert last.reason == "limit"
    reply, answer = bodies[1]["messages"][-2:]
    assert reply["tool_calls"][0]["function"]["name"] == "browse"
    assert answer["content"].startswith("There is no tool 'browse'; the only one is `run_cell`.")


@BOTH
async def test_a_call_streams_while_it_comes(api: str) -> None:
    with ScriptedServer([ScriptedReply(python("x = 1\ny = 2"), chunk=4)]) as server:
        pieces, _ = await replied(server.base_url, api=api, protocol="tools")
    assert len(pieces) > 3
    assert "".join(pieces) == "````python\nx = 1\ny = 2\n````\n"


# Conversations that began elsewhere


@EACH
async def test_a_conversation_read_from_a_record_goes_on(api: str, protocol: str) -> None:
    events, _ = await turns(*COMBINATIONS[3])
    record = [decode(json.loads(json.dumps(encode(each)))) for each in events if not isinstance(each, ReplyDelta)]
    with ScriptedServer([python("print(1)"), "It is 1 again."]) as server:
        own = session(server, api=api, protocol=protocol)
        own.reset("thread", record)
        (*_, last) = await asked(own, "Again.")
        await own.aclose()
    assert isinstance(last, TurnFinished)
    assert last.answer == "It is 1 again."
    for before, after in pairwise(told(server, api)):
        assert after[: len(before)] == before


@pytest.mark.parametrize("store", [False, True])
async def test_the_protocol_and_the_api_may_change_between_turns(store: bool) -> None:
    with ScriptedServer([python("print(1)"), "one."] * 8) as server:
        own = session(server)
        for api, protocol in [*COMBINATIONS, *reversed(COMBINATIONS)]:
            await own.model.aclose()
            own.model = OpenAIModel(options(server.base_url, api=api, protocol=protocol, store=store))
            (*_, last) = await asked(own, "Go.")
            assert isinstance(last, TurnFinished)
            assert last.reason == "answered"
        await own.aclose()


@BOTH
async def test_fenced_code_still_runs_where_tools_are_declared(api: str) -> None:
    fenced = "I fence it.\n```python\nprint(1)\n```\n"
    data: list[dict[str, Any]] = (
        [{"choices": [{"delta": {"content": fenced}, "finish_reason": "stop"}]}]
        if api == "chat"
        else [
            {"type": "response.output_text.delta", "delta": fenced},
            {"type": "response.completed", "response": {"output": []}},
        ]
    )
    async with wire(STREAM, *(f"data: {json.dumps(each)}\n\n".encode() for each in data)) as base_url:
        pieces, _ = await replied(base_url, api=api, protocol="tools")
    assert [block.code for block in parse("".join(pieces)).blocks] == ["print(1)"]


# Turns that end in the middle


@BOTH
async def test_a_turn_that_ends_between_calls_and_outputs_goes_on(api: str) -> None:
    with ScriptedServer([python("print(1)") + python("plot()"), "Fine."]) as server:
        own = session(server, api=api, protocol="tools")
        stream = own.ask("Go.")
        async for event in stream:
            if isinstance(event, ReplyFinished):
                break
        await stream.aclose()
        (*_, last) = await asked(own, "Go on.")
        await own.aclose()
    assert isinstance(last, TurnFinished)
    assert last.answer == "Fine."
    assert json.dumps(told(server, api)[1]).count("It was not run.") == 2


@BOTH
async def test_a_call_that_the_limit_breaks_off_is_not_run(api: str) -> None:
    text = "I try.\n" + python("print(1)") + "```python\nhalf(\n"
    with ScriptedServer([ScriptedReply(text, finish="length"), "Fine."]) as server:
        own = session(server, api=api, protocol="tools")
        events = await asked(own, "Go.")
        await own.aclose()
    assert isinstance(own.executor, FakeExecutor)
    assert own.executor.ran == ["print(1)"]
    assert isinstance(events[-1], TurnFinished)
    assert events[-1].answer == "Fine."
    assert "limit of tokens" in json.dumps(told(server, api)[1])


@BOTH
@pytest.mark.parametrize("fault", [Fault(cut_after=25), Fault(malformed_after=25)])
async def test_a_call_that_a_fault_breaks_off_is_not_run(api: str, fault: Fault) -> None:
    with ScriptedServer([ScriptedReply(python("print(1)\nnever()"), fault=fault), *SCRIPT]) as server:
        own = session(server, api=api, protocol="tools")
        events = await asked(own, "Go.")
        await own.aclose()
    assert isinstance(own.executor, FakeExecutor)
    assert own.executor.ran == ["print(1)", "plot()", "bad()"]
    assert any(isinstance(each, ReplyDiscarded) for each in events)


# Calls as odd endpoints send them


def chat(*deltas: dict[str, Any], finish: str = "tool_calls") -> list[bytes]:
    rows: list[dict[str, Any]] = [{"choices": [{"delta": delta}]} for delta in deltas]
    rows.append({"choices": [{"delta": {}, "finish_reason": finish}]})
    return [f"data: {json.dumps(row)}\n\n".encode() for row in rows]


def call(arguments: str | None = None, *, name: str = "", **more: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"function": {key: value for key, value in function.items() if value}, **more}]}


def code(text: str) -> str:
    return json.dumps({"code": text})


@pytest.mark.parametrize(
    "deltas",
    [
        [call(code("a"), name="run_cell", index=0, id="1"), call(code("b"), name="run_cell", index=1, id="2")],
        [call(code("a"), name="run_cell"), call(code("b"), name="run_cell")],
        [call(code("a"), name="run_cell", index=0, id="1"), call(code("b"), name="run_cell", index=0, id="2")],
        [{"tool_calls": [call(code(each), name="run_cell")["tool_calls"][0] for each in "ab"]}],
        [
            call("", name="run_cell", index=0, id="1"),
            call('{"code', index=0, name="run_cell", id="1"),
            {"content": "\n"} | call('": "a"}', index=0),
            call(name="run_cell", index=1, id="2"),
            call(code("b"), index=1),
            call(index=1),
            {"content": ""},
        ],
    ],
)
async def test_pieces_of_calls_are_put_together(deltas: Sequence[dict[str, Any]]) -> None:
    async with wire(STREAM, *chat(*deltas)) as base_url:
        pieces, _ = await replied(base_url, protocol="tools")
    assert [block.code for block in parse("".join(pieces)).blocks] == ["a", "b"]


@pytest.mark.parametrize(
    "deltas",
    [
        [call(code("a"), index=0, id="1")],
        [call("x = 1", name="run_cell", index=0, id="1")],
        [call('{"code": "x', name="run_cell", index=0, id="1")],
        [call('{"code": "x"} and more', name="run_cell", index=0, id="1")],
        [call(code("a"), name="run_cell", index=0, id="1"), {"content": "So."}, call(" ", index=0)],
        [{"tool_calls": ["odd"]}],
        [{"content": "```text\n"}, call(code("a"), name="run_cell", index=0, id="1")],
    ],
)
async def test_hostile_calls_break_the_reply_off(deltas: Sequence[dict[str, Any]]) -> None:
    async with wire(STREAM, *chat(*deltas)) as base_url:
        raised = await failure(base_url, protocol="tools")
    assert isinstance(raised, ModelUnavailable)


async def test_calls_are_ignored_where_none_was_offered() -> None:
    async with wire(STREAM, *chat({"content": "a"}, call(code("a"), name="run_cell", index=0, id="1"))) as base_url:
        assert await replied(base_url) == (["a"], ReplyEnd())


def events_of(*rows: dict[str, Any]) -> list[bytes]:
    last = {"type": "response.completed", "response": {"id": "resp_1", "output": []}}
    return [f"data: {json.dumps(row)}\n\n".encode() for row in (*rows, last)]


HALF = "\ud83d"
ITEMS: list[dict[str, Any]] = [
    {"type": "message", "id": HALF, "content": [HALF]},
    {"type": "function_call", "call_id": HALF, "name": "run_cell", "arguments": code("b")},
]


@pytest.mark.parametrize(
    ("api", "pieces"),
    [
        (
            "chat",
            chat({"content": "a", "extra_content": {"x": HALF}}, call(code("b"), name="run_cell", id=HALF, more=HALF)),
        ),
        (
            "responses",
            events_of(
                *({"type": "response.output_item.done", "item": each} for each in ITEMS),
                {"type": "response.completed", "response": {"id": HALF}},
            ),
        ),
    ],
)
async def test_half_a_character_in_what_is_sent_again_does_no_harm(api: str, pieces: list[bytes]) -> None:
    messages = [Message("user", (TextPart("Go."),))]
    async with wire(STREAM, *pieces) as base_url:
        model = OpenAIModel(options(base_url, api=api, protocol="tools"))
        for _ in range(3):
            text = "".join([each async for each in model.stream(messages) if isinstance(each, str)])
            assert [block.code for block in parse(text).blocks] == ["b"]
            observed = Message("user", (TextPart("done", "observation", 1),))
            messages += [Message("assistant", (TextPart(text, "reply"),)), observed]
        await model.aclose()


def item(arguments: str, **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": "1", "name": "run_cell", "arguments": arguments, **more}


@pytest.mark.parametrize(
    "rows",
    [
        [{"type": "response.output_item.done", "item": item(code("a"))}],
        [{"type": "response.output_item.added", "item": item(code("a"))}],
        [
            {"type": "response.output_item.added", "item": item('{"code"')},
            {"type": "response.output_item.done", "item": item(code("a"))},
        ],
        [{"type": "response.completed", "response": {"output": [item(code("a"))]}}],
    ],
)
async def test_calls_may_come_without_pieces(rows: Sequence[dict[str, Any]]) -> None:
    async with wire(STREAM, *events_of(*rows)) as base_url:
        pieces, _ = await replied(base_url, api="responses", protocol="tools")
    assert "".join(pieces) == "````python\na\n````\n"


@pytest.mark.parametrize(
    "rows",
    [
        [{"type": "response.output_item.done", "item": item("x = 1")}],
        [{"type": "response.output_item.done", "item": item(code("a"), call_id=None)}],
        [{"type": "response.function_call_arguments.delta", "delta": code("a")}],
        [
            {"type": "response.output_item.added", "item": item('{"code": "b')},
            {"type": "response.output_item.done", "item": item(code("a"))},
        ],
    ],
)
async def test_hostile_items_break_the_reply_off(rows: Sequence[dict[str, Any]]) -> None:
    async with wire(STREAM, *events_of(*rows)) as base_url:
        raised = await failure(base_url, api="responses", protocol="tools")
    assert isinstance(raised, ModelUnavailable)


# What the strict server itself refuses

TOOL_CALL = {"id": "1", "type": "function", "function": {"name": "run_cell", "arguments": "{}"}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}
ANSWER = {"role": "tool", "tool_call_id": "1", "content": "x"}
SAID = {"role": "user", "content": "x"}
OUTPUT = {"type": "function_call_output", "call_id": "1", "output": "x"}


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("chat/completions", {"messages": [{"role": "robot", "content": "x"}]}, "no role 'robot'"),
        ("chat/completions", {"messages": [{"role": "user", "content": [{"type": "input_text"}]}]}, "'input_text'"),
        ("chat/completions", {"messages": [{"role": "user", "content": None}]}, "neither text nor"),
        ("chat/completions", {"messages": [CALLING]}, "have no tool message"),
        ("chat/completions", {"messages": [CALLING, SAID, ANSWER]}, "have no tool message"),
        ("chat/completions", {"messages": [ANSWER]}, "no call before it has the id '1'"),
        ("chat/completions", {"messages": [CALLING, ANSWER, ANSWER]}, "no call before it has the id '1'"),
        ("chat/completions", {"messages": [CALLING | {"tool_calls": [{"id": "1"}]}]}, "no function with a name"),
        ("responses", {"input": [{"role": "robot", "content": "x"}]}, "no role 'robot'"),
        ("responses", {"input": [{"role": "user", "content": [{"type": "text"}]}]}, "'text'"),
        ("responses", {"input": [item("{}")]}, "No tool output found"),
        ("responses", {"input": [item("{}"), SAID, OUTPUT]}, "No tool output found"),
        ("responses", {"input": [OUTPUT]}, "still open has the id '1'"),
        ("responses", {"input": [item("{}"), OUTPUT, OUTPUT]}, "still open has the id '1'"),
        ("responses", {"input": [item("x = 1"), OUTPUT]}, "no JSON object"),
        ("responses", {"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}, "not as it was issued"),
        ("responses", {"input": [{"type": "odd"}]}, "'odd'"),
        ("responses", {"input": "x", "seed": 1}, "Unknown parameter: 'seed'"),
        ("responses", {"input": "x", "previous_response_id": "resp_9"}, "'resp_9' not found"),
    ],
)
async def test_the_server_refuses_what_strict_endpoints_refuse(path: str, body: dict[str, Any], words: str) -> None:
    import openai

    with ScriptedServer(["unused"]) as server:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client:
            with pytest.raises(openai.BadRequestError, match=words):
                await client.post(f"/{path}", cast_to=object, body=body)


@pytest.mark.parametrize("streaming", [False, True])
async def test_the_typed_client_reads_what_the_server_sends(streaming: bool) -> None:
    import openai
    from openai.types.responses import Response

    reply = ScriptedReply("I look.\n" + python("x"), reasoning="hm")
    declared: Any = [{"type": "function", "name": "run_cell", "parameters": {}, "strict": False}]
    with ScriptedServer([reply]) as server:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client:
            if streaming:
                async with client.responses.stream(model="m", input="x", tools=declared) as events:
                    response: Response = await events.get_final_response()
            else:
                response = await client.responses.create(model="m", input="x", tools=declared)
    assert response.output_text == "I look.\n"
    assert [each.type for each in response.output] == ["reasoning", "message", "function_call"]
