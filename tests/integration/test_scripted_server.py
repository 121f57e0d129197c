"""The scripted server speaks the chat-completions protocol over real sockets."""

import gc
import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from codeact_magic.testing import Fault, ScriptedReply, ScriptedServer
from codeact_magic.testing.server import script_from

ASKED: dict[str, Any] = {"model": "any", "messages": [{"role": "user", "content": "12345678"}]}
STREAMED = ASKED | {"stream": True, "stream_options": {"include_usage": True}}


@contextmanager
def connected(base_url: str) -> Iterator[http.client.HTTPConnection]:
    with closing(http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=10)) as connection:
        yield connection


def posted(
    connection: http.client.HTTPConnection, body: object, headers: dict[str, str] | None = None
) -> http.client.HTTPResponse:
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers or {})
    return connection.getresponse()


def asked(server: ScriptedServer, body: object = ASKED, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    with connected(server.base_url) as connection:
        response = posted(connection, body, headers)
        return response.status, json.loads(response.read())


def events(server: ScriptedServer, body: object = STREAMED) -> list[Any]:
    with connected(server.base_url) as connection:
        lines = posted(connection, body).read().decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def texts(rows: list[Any]) -> list[str]:
    deltas = [choice["delta"] for row in rows for choice in row["choices"]]
    return [delta["content"] for delta in deltas if "content" in delta]


def test_a_reply_is_one_json_object() -> None:
    with ScriptedServer(["hello"]) as server:
        status, reply = asked(server)
    assert (status, reply["choices"][0]["message"]["content"]) == (200, "hello")
    assert reply["usage"]["prompt_tokens"] == 2


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_a_streamed_reply_comes_in_pieces(chunk: int) -> None:
    text = "naïve 🙂 日本"
    with ScriptedServer([ScriptedReply(text, chunk=chunk)]) as server:
        pieces = texts(events(server))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) == min(chunk, len(text))


def test_the_stream_ends_with_the_reason_and_the_tokens() -> None:
    with ScriptedServer(["x" * 40]) as server:
        *_, finish, usage = events(server)
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 10)


def test_tokens_are_reported_only_when_asked_for() -> None:
    with ScriptedServer(["hello"]) as server:
        rows = events(server, ASKED | {"stream": True})
    assert not any("usage" in row for row in rows)


def test_a_long_reply_of_tiny_pieces_arrives_whole() -> None:
    with ScriptedServer([ScriptedReply("abc" * 5000, chunk=1)]) as server:
        assert "".join(texts(events(server))) == "abc" * 5000


def test_many_requests_share_a_connection() -> None:
    with ScriptedServer(["one", "two", Fault(status=500), "three"]) as server, connected(server.base_url) as connection:
        sockets = set()
        for body in (ASKED, STREAMED, ASKED, STREAMED):
            posted(connection, body).read()
            sockets.add(connection.sock)
    assert len(sockets) == 1
    assert len(server.requests) == 4


def test_a_script_that_has_run_out_is_a_bad_request() -> None:
    with ScriptedServer([]) as server:
        assert asked(server) == (400, {"error": {"message": "the script has no reply left"}})


def test_functions_get_the_messages() -> None:
    with ScriptedServer([lambda messages: messages[0]["content"]]) as server:
        assert asked(server)[1]["choices"][0]["message"]["content"] == "12345678"


def test_one_function_answers_forever() -> None:
    with ScriptedServer(lambda messages: messages[0]["role"]) as server:
        assert [asked(server)[0] for _ in range(3)] == [200] * 3


def test_a_function_that_fails_is_a_server_error() -> None:
    with ScriptedServer([lambda messages: messages[5]["content"]]) as server:
        status, reply = asked(server)
    assert (status, "IndexError" in reply["error"]["message"]) == (500, True)


def test_a_fault_uses_up_its_own_request() -> None:
    with ScriptedServer([Fault(status=429, retry_after=0.1), "hello"]) as server:
        with connected(server.base_url) as connection:
            response = posted(connection, ASKED)
            assert (response.status, response.headers["Retry-After"]) == (429, "0.1")
        assert asked(server)[0] == 200


def test_a_fault_may_have_a_body_and_headers() -> None:
    fault = Fault(status=502, body="<html>bad</html>", headers={"X-Proxy": "yes"})
    with ScriptedServer([fault]) as server, connected(server.base_url) as connection:
        response = posted(connection, ASKED)
        assert (response.headers["Content-Type"], response.headers["X-Proxy"]) == ("text/html", "yes")
        assert response.read() == b"<html>bad</html>"


def test_a_cut_stream_has_no_end() -> None:
    reply = ScriptedReply("abcdef", fault=Fault(cut_after=3))
    with ScriptedServer([reply]) as server, connected(server.base_url) as connection:
        response = posted(connection, STREAMED)
        with pytest.raises(http.client.IncompleteRead) as raised:
            response.read()
    assert b'"abc"' in raised.value.partial


def test_a_cut_answer_lacks_its_end() -> None:
    reply = ScriptedReply("abcdef", fault=Fault(cut_after=3))
    with ScriptedServer([reply]) as server, connected(server.base_url) as connection:
        response = posted(connection, ASKED)
        with pytest.raises(http.client.IncompleteRead):
            response.read()


def test_requests_are_recorded_without_the_key() -> None:
    with ScriptedServer(["one", "two"]) as server:
        asked(server, headers={"Authorization": "Bearer sk-secret", "X-Mine": "yes"})
        asked(server)
    first, second = server.requests
    assert first.body == ASKED
    assert (first.headers["authorization"], first.headers["x-mine"]) == ("present", "yes")
    assert second.headers["authorization"] == "absent"
    assert second.arrival > first.arrival


def test_the_time_spent_covers_thinking_and_pauses() -> None:
    with ScriptedServer([ScriptedReply("abc", chunk=1, think=0.05, pause=0.05)]) as server:
        events(server)
        assert server.requests[0].seconds >= 0.15 - 0.01  # clocks are coarse on some systems


def test_the_time_spent_is_known_as_soon_as_the_answer_is_there() -> None:
    with ScriptedServer(lambda _: "hello") as server:
        for _ in range(20):
            asked(server)
            assert server.requests[-1].seconds > 0


def test_models_are_listed() -> None:
    with ScriptedServer([]) as server, connected(server.base_url) as connection:
        connection.request("GET", "/v1/models")
        assert json.loads(connection.getresponse().read())["data"][0]["id"] == "scripted"


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Host": "[broken"}, {"Origin": "https://evil.example"}, {"Origin": "null"}]
)
def test_other_web_pages_are_refused(headers: dict[str, str]) -> None:
    with ScriptedServer(["hello"]) as server:
        assert asked(server, headers=headers)[0] == 403
        assert asked(server, headers={"Host": "localhost"})[0] == 200


@pytest.mark.parametrize("body", ["text", [], {"messages": 5}, {}])
def test_what_is_no_request_is_refused(body: object) -> None:
    with ScriptedServer(["hello"]) as server:
        assert asked(server, body)[0] == 400


def test_unknown_addresses_are_not_found() -> None:
    with ScriptedServer([]) as server, connected(server.base_url) as connection:
        connection.request("POST", "/v1/embeddings", "{}")
        assert connection.getresponse().status == 404


@pytest.mark.parametrize(
    "item", [Fault(silence=float("inf")), ScriptedReply("abc", chunk=1, pause=600)], ids=["silent", "streaming"]
)
def test_it_stops_with_open_streams_and_leaves_no_thread(
    item: Fault | ScriptedReply, caplog: pytest.LogCaptureFixture
) -> None:
    before = threading.enumerate()
    with ScriptedServer([item]) as server, connected(server.base_url) as connection:
        connection.request("POST", "/v1/chat/completions", json.dumps(STREAMED))
        while not server.requests:
            pass
        with connected(server.base_url) as idle:
            idle.connect()
    gc.collect()
    assert threading.enumerate() == before
    assert not caplog.records
    assert server.requests[0].dropped


def test_a_script_is_read_from_json() -> None:
    rows = ["hello", {"text": "x", "usage": {"input": 3}, "fault": {"cut_after": 1}}, {"status": 429}]
    hello, reply, fault = script_from(json.dumps(rows))
    assert (hello, fault) == ("hello", Fault(status=429))
    assert isinstance(reply, ScriptedReply)
    assert reply.usage is not None
    assert (reply.usage.input, reply.fault) == (3, Fault(cut_after=1))


@pytest.mark.parametrize("text", ["{}", "[5]", '[{"text": "x", "colour": "red"}]', "nonsense"])
def test_what_is_no_script_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"script|Expecting"):
        script_from(text)


def test_it_runs_as_a_program(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('["hello"]')
    command = [sys.executable, "-W", "error", "-m", "codeact_magic.testing.server", str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            base_url = process.stdout.readline().strip()
            with connected(base_url) as connection:
                assert posted(connection, ASKED).status == 200
        finally:
            process.send_signal(2)
        assert process.stderr.read() == ""
    assert process.returncode == 0
