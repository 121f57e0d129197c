"""The kernel's side of the protocol, against clients that keep to it and clients that do not."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codeact_magic.testing import ScriptedReply, ScriptedServer
from tests.kernels import Kernel, Ran, kernel
from tests.notebooks import block


class Client:
    """A frontend that answers the kernel's comm; its behaviour is set by the test."""

    def __init__(self, live: Kernel, *, hello: dict[str, Any] | None = None, acknowledge: bool = True) -> None:
        self.live = live
        self.hello = {"type": "hello", "client": "test", "cell": "prompt"} | (hello or {})
        self.acknowledge = acknowledge
        self.comm = ""
        self.received: list[dict[str, Any]] = []
        self.outputs: dict[str, list[Any]] = {}
        self.on_event: Any = None

    def __call__(self, message: dict[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        if kind == "comm_open" and content["target_name"] == "codeact":
            self.comm = content["comm_id"]
            self.send(self.hello)
        elif kind == "comm_msg" and content["comm_id"] == self.comm:
            self.received.append(content["data"])
            event = content["data"].get("event", {})
            if event.get("type") == "CellProposed" and self.acknowledge:
                self.send({"type": "ack", "cell": event["cell"]})
            if self.on_event:
                self.on_event(event)
        elif kind in ("stream", "execute_result", "display_data", "error"):
            self.outputs.setdefault(message["parent_header"].get("msg_id", ""), []).append(content)

    def send(self, data: Any, *, session: str = "") -> None:
        client = self.live.client
        message = client.session.msg("comm_msg", {"comm_id": self.comm, "data": data})
        if session:
            message["header"]["session"] = session
        client.shell_channel.send(message)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [data["event"] for data in self.received if data["type"] == "event"]

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with kernel(tmp_path_factory.mktemp("kernel")) as live:
        yield live


@pytest.fixture
def live(shared: Kernel, tmp_path: Path) -> Kernel:
    """The shared kernel as a new frontend sees it: with a session of its own."""
    shared.run("%agent reset")
    shared.client.session.session = tmp_path.name
    return shared


def ask(live: Kernel, client: Client, replies: list[Any], prompt: str = "Go.", **options: Any) -> Ran:
    with ScriptedServer(replies) as server:
        return live.run(f"%%agent --base-url {server.base_url}\n{prompt}", cell="prompt", on=client, **options)


def document_of(client: Client) -> tuple[str, list[dict[str, Any]]]:
    """Give the cell that a turn of one cell made, and the notebook's cells as a client tells them afterwards."""
    made = next(event["cell"] for event in client.events if event["type"] == "CellProposed")
    turn = client.events[0]["turn"]
    record = {
        "version": 1,
        "turn": turn,
        "thread": "t",
        "events": [event for event in client.events if event["type"] != "ReplyDelta"],
    }
    cells = [
        {"id": "prompt", "cell_type": "code", "metadata": {"codeact": {"role": "prompt", "record": record}}},
        {"id": made, "cell_type": "code", "outputs": [], "metadata": {"codeact": {"role": "cell", "turn": turn}}},
    ]
    return made, cells


def test_events_arrive_in_order_with_their_owner(live: Kernel) -> None:
    client = Client(live)
    ran = ask(live, client, ["I add.\n" + block("40 + 2"), "42."])
    assert ran.status == "ok"
    assert client.received[0] == {"type": "begin", "owner": live.client.session.session, "replace": []}
    numbers = [data["seq"] for data in client.received if data["type"] == "event"]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {data["owner"] for data in client.received} == {live.client.session.session}
    kinds = [kind for kind in client.kinds() if kind != "ReplyDelta"]
    assert kinds == [
        "TurnStarted",
        "ReplyFinished",
        "CellProposed",
        "CellStarted",
        "CellFinished",
        "ReplyFinished",
        "TurnFinished",
    ]
    assert "".join(event["text"] for event in client.events if event["type"] == "ReplyDelta").endswith("42.")


def test_outputs_go_to_the_cell_under_its_message_id(live: Kernel) -> None:
    client = Client(live)
    ran = ask(live, client, [block("print('printed')\n40 + 2") + block("1 / 0"), "42."])
    first, second = [event["message"] for event in client.events if event["type"] == "CellStarted"]
    assert client.outputs[first][0]["text"] == "printed\n"
    assert client.outputs[first][1]["data"]["text/plain"] == "42"
    assert client.outputs[second][0]["ename"] == "ZeroDivisionError"
    assert [output["data"]["text/plain"].split(" · ")[0] for output in ran.outputs] == ["Answered"]


def test_cells_that_are_not_acknowledged_are_shown_in_the_prompt_cell(live: Kernel) -> None:
    client = Client(live, acknowledge=False)
    ran = ask(live, client, [block("'not lost'"), "Done."])
    assert "could not be inserted" in ran.display("text/html")
    assert "not lost" in ran.display("text/html")
    assert "application/vnd.codeact.turn+json" in ran.outputs[0]["data"]


def test_a_garbled_acknowledgement_counts_for_nothing(live: Kernel) -> None:
    client = Client(live, acknowledge=False)

    garbage: list[Any] = [
        None,
        3,
        [],
        {},
        {"type": []},
        {"type": "ack"},
        {"type": "ack", "cell": {"a": 1}},
        {"type": "event"},
    ]

    def garble(_event: dict[str, Any]) -> None:
        for data in garbage:
            client.send(data)

    client.on_event = garble
    ran = ask(live, client, [block("'not lost'"), "Done."])
    assert ran.status == "ok"
    assert "not lost" in ran.display("text/html")


@pytest.mark.parametrize(
    "hello",
    [
        {"cells": 3},
        {"cells": [3, {}, {"id": "prompt", "metadata": 5}, {"id": 7, "metadata": {"codeact": {"record": [1]}}}]},
        {"options": {"timeout": "soon", "max_steps": []}},
        {"options": [1]},
        {"cell": 5},
    ],
)
def test_a_garbled_hello_is_one_line_or_nothing(live: Kernel, hello: dict[str, Any]) -> None:
    ran = ask(live, Client(live, hello=hello), ["Fine."])
    assert ran.status == "ok" or len(ran.error.splitlines()) == 1
    assert live.value("1 + 1") == "2"


def test_another_client_is_not_obeyed(live: Kernel) -> None:
    client = Client(live)

    def disturb(event: dict[str, Any]) -> None:
        if event.get("type") == "ReplyDelta":
            client.send({"type": "stop"}, session="somebody-else")

    client.on_event = disturb
    ran = ask(live, client, [ScriptedReply("word " * 100, pause=0.01)])
    assert ran.status == "ok"
    assert client.events[-1]["reason"] == "answered"


@pytest.mark.parametrize("where", ["model", "await"])
def test_a_clients_stop_ends_the_turn_and_queued_cells_still_run(live: Kernel, where: str) -> None:
    client = Client(live)
    slow: Any = (
        ScriptedReply("word " * 1000, pause=0.05)
        if where == "model"
        else block("import asyncio\nawait asyncio.sleep(60)")
    )

    def stop(event: dict[str, Any]) -> None:
        if event.get("type") == ("ReplyDelta" if where == "model" else "CellStarted"):
            client.send({"type": "stop"})

    client.on_event = stop
    with ScriptedServer([slow, "Never."]) as server:
        request = live.send(f"%%agent --base-url {server.base_url}\nGo.", cell="prompt")
        queued = live.send("'ran'")
        ran = live.wait(request, on=client, timeout=30)
        after = live.wait(queued)
    assert ran.status == "ok"
    assert client.events[-1]["reason"] == "stopped"
    assert after.result == "'ran'"
    assert len(server.requests) == 1


def test_input_is_asked_in_the_generated_cell(live: Kernel) -> None:
    client = Client(live)
    asked: list[str] = []
    with ScriptedServer([block("name = input('name? ')\nprint('hello', name)"), "Hi."]) as server:
        request = live.send(f"%%agent --base-url {server.base_url}\nGo.", cell="prompt")
        deadline = time.monotonic() + 30
        while not asked and time.monotonic() < deadline:
            try:
                client(live.client.get_iopub_msg(timeout=0.02))
            except Exception:  # noqa: BLE001 - nothing has come yet
                pass
            try:
                asked.append(live.client.get_stdin_msg(timeout=0)["parent_header"]["msg_id"])
            except Exception:  # noqa: BLE001
                continue
            live.client.input("Ada")
        live.wait(request, on=client)
    started = next(event for event in client.events if event["type"] == "CellStarted")
    assert asked == [started["message"]]


def test_queued_requests_of_replaced_cells_run_as_nothing(live: Kernel) -> None:
    client = Client(live)
    ask(live, client, [block("old = 1"), "Old."], "Old?")
    made, cells = document_of(client)
    again = Client(live, hello={"cells": cells})
    with ScriptedServer([block("new = 2"), "New."]) as server:
        request = live.send(f"%%agent --base-url {server.base_url}\nNew?", cell="prompt")
        queued = live.send("ran_anyway = True", cell=made)
        other = live.send("ran_too = True", cell="another")
        live.wait(request, on=again)
        live.wait(queued)
        live.wait(other)
    assert again.received[0]["replace"] == [made]
    assert live.value("'new' in globals(), 'ran_anyway' in globals(), 'ran_too' in globals()") == "(True, False, True)"
    live.run("ran_anyway = True", cell=made)
    assert live.value("ran_anyway") == "True", "what is run later is run"


def test_an_answered_prompt_with_its_cells_is_not_asked(live: Kernel) -> None:
    client = Client(live)
    ask(live, client, [block("1"), "One."], "Same?")
    _, cells = document_of(client)
    kept = ask(live, Client(live, hello={"cells": cells}), [], "Same?")
    assert "Answered before" in kept.text
    without = ask(live, Client(live, hello={"cells": cells[:1]}), ["Asked."], "Same?")
    assert "Answered ·" in without.text, "its cells are gone"


def test_a_comm_that_is_closed_in_mid_turn_loses_nothing(live: Kernel) -> None:
    client = Client(live, acknowledge=False)

    def leave(event: dict[str, Any]) -> None:
        if event.get("type") == "CellProposed":
            live.client.shell_channel.send(live.client.session.msg("comm_close", {"comm_id": client.comm, "data": {}}))

    client.on_event = leave
    ran = ask(live, client, [block("'not lost'"), "Done."])
    assert ran.status == "ok"
    assert "not lost" in json.dumps(ran.outputs)


def test_a_silent_frontend_is_asked_once(live: Kernel) -> None:
    opened: list[Any] = []

    def watch(message: dict[str, Any]) -> None:
        if message["msg_type"] == "comm_open":
            opened.append(message)

    with ScriptedServer(["One.", "Two."]) as server:
        for _ in range(2):
            live.run(f"%%agent --base-url {server.base_url}\nGo.", on=watch)
    assert len(opened) == 1
