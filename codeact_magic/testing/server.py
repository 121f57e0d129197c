"""An OpenAI-compatible HTTP server on this machine that answers from a script."""

import argparse
import asyncio
import json
import re
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

from ..events import Usage
from .apis import Api, Issued, Messages, Refused, parts_of
from .chat import Chat
from .exchange import Exchange, RecordedRequest, head_of
from .responses import Responses
from .scripted import NO_REPLY_LEFT, Fault, Reply, Script, ScriptedReply, reply_from

_APIS: dict[str, Api] = {"/v1/chat/completions": Chat(), "/v1/responses": Responses()}
_AZURE = re.compile(r"/openai/(v1|deployments/[^/]+)(?=/)")


class ScriptedServer:
    """A real HTTP server on 127.0.0.1, in a thread of its own, for whatever speaks the chat-completions protocol.

    It serves ``POST /v1/chat/completions``, streaming or not, and ``GET /v1/models``, also where Azure has them. Each
    request uses up one item of the script; when there is none left, the answer is HTTP 400. Requests of foreign web
    pages are refused.

    Args:
        script: strings, ``ScriptedReply``, ``Fault``, or functions of the request's messages (a list of JSON objects)
            that give one of these; or one such function for all requests. Functions run in the server's thread.
        port: 0 takes a free one.
        models: names that ``GET /v1/models`` lists; None means that there is no such address.
        images: pictures are taken; else they are refused with HTTP 400.
        refused: fields of a request that are refused with HTTP 400, as strict servers do.
        key: requests without this key are refused with HTTP 401; empty: none is needed.

    Example:
        >>> with ScriptedServer([Fault(status=429, retry_after=0.1), "hello"]) as server:
        ...     model = OpenAIModel(OpenAIOptions(model="any", base_url=server.base_url))
    """

    def __init__(
        self,
        script: Iterable[Reply | Callable[[Messages], Reply]] | Callable[[Messages], Reply],
        *,
        port: int = 0,
        models: Iterable[str] | None = ("scripted",),
        images: bool = True,
        refused: Iterable[str] = (),
        key: str = "",
    ) -> None:
        self.requests: list[RecordedRequest] = []
        self._script: Script[Messages, Reply] = Script(script)
        self._issued = Issued()
        self._port = port
        self._models = None if models is None else tuple(models)
        self._images, self._refused, self._key = images, frozenset(refused), key
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()  # open connections

    @property
    def base_url(self) -> str:
        """The address for clients, up to and with ``/v1``; the port is known once the server has started."""
        return f"http://127.0.0.1:{self._port}/v1"

    def forget(self) -> None:
        """Forget the responses that were stored, as endpoints do in time."""
        self._issued.responses.clear()

    def __enter__(self) -> Self:
        """Start serving.

        Raises:
            OSError: the port is taken.
        """
        listener = socket.create_server(("127.0.0.1", self._port))
        self._port = listener.getsockname()[1]
        self._stopped = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(listener,), name="scripted-server", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop at once; open streams break off."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    def _run(self, listener: socket.socket) -> None:
        try:
            self._loop.run_until_complete(self._serve(listener))
        finally:
            self._loop.close()

    async def _serve(self, listener: socket.socket) -> None:
        server = await asyncio.start_server(self._connect, sock=listener)
        await self._stopped.wait()
        # A connection that asyncio is accepting when the server closes, or whose task is cut short, would stay open.
        self._loop.remove_reader(listener.fileno())
        await asyncio.sleep(0.01)
        server.close()
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in self._connections:
                task.cancel()
            await asyncio.wait(tasks, timeout=0.1)
        for writer in self._writers:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own: Python 3.11 prints a traceback when one that it made for a connection is cancelled.
        task = self._loop.create_task(self._converse(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        self._writers.add(writer)
        # Asyncio leaves Nagle's algorithm on, 40 ms a request, for sockets that do not name their protocol.
        with suppress(OSError):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection until either side closes it."""
        answer = head = asyncio.ensure_future(head_of(reader))
        exchange = Exchange(writer)
        try:
            while exchange.open and (lines := await head):
                exchange = Exchange(writer, *lines)
                body = await exchange.read(reader)
                # The next head is awaited already: its end tells that the client has hung up.
                head = asyncio.ensure_future(head_of(reader))
                answer = asyncio.ensure_future(self._answer(exchange, body))
                await asyncio.wait({answer, head}, return_when=asyncio.FIRST_COMPLETED)
                if not answer.done() and head.done() and not head.result():
                    break
                await answer
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            answer.cancel()
            head.cancel()
            await asyncio.gather(answer, head, return_exceptions=True)
            if not self._stopped.is_set():
                self._writers.discard(writer)
                writer.close()

    async def _answer(self, exchange: Exchange, body: bytes | None) -> None:
        # Azure's paths with a deployment lead nowhere without a version.
        complete = "/deployments/" not in exchange.path or "api-version=" in exchange.query
        route = (exchange.method, _AZURE.sub("/v1", exchange.path) if complete else exchange.path)
        if exchange.foreign:
            await exchange.refuse(403, "requests of other web pages are refused")
        elif body is None:
            await exchange.refuse(413, "the request has no length, or is too long")
        elif not exchange.has(self._key):
            await exchange.refuse(401, "the key is wrong, or there is none")
        elif route == ("GET", "/v1/models") and self._models is not None:
            rows = [{"id": name, "object": "model", "owned_by": "script"} for name in self._models]
            await exchange.send(200, json.dumps({"object": "list", "data": rows}))
        elif exchange.method == "POST" and (api := _APIS.get(route[1])):
            await self._complete(exchange, body, api)
        else:
            await exchange.refuse(404, f"there is no {exchange.method} {exchange.path}")

    def _check(self, asked: dict[str, Any], messages: Messages) -> None:
        """Refuse what this endpoint does not take.

        Raises:
            Refused: the request has some of it.
        """
        if fields := sorted(self._refused & asked.keys()):
            raise Refused(f"unknown fields: {', '.join(fields)}")
        if not self._images and any(part.get("type") in {"image_url", "input_image"} for part in parts_of(messages)):
            raise Refused("this model takes no images")

    async def _complete(self, exchange: Exchange, body: bytes, api: Api) -> None:
        refused, messages = None, Messages()
        try:
            asked = json.loads(body)
            messages = api.messages(asked, self._issued)
            self._check(asked, messages)
        except Refused as error:
            refused = error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            await exchange.refuse(400, f"the body is no request for {exchange.path}")
            return
        record = exchange.record(asked)
        self.requests.append(record)
        if refused:
            await exchange.refuse(400, str(refused), **refused.more)
            return
        try:
            await self._reply(exchange, asked, messages, api)
        except (asyncio.CancelledError, ConnectionError):
            record.dropped = True
            raise
        finally:
            exchange.clock()

    async def _reply(self, exchange: Exchange, asked: dict[str, Any], messages: Messages, api: Api) -> None:
        try:
            item = self._script.next(messages)
        except Exception as error:  # noqa: BLE001 - a user's function; the client is told
            item = Fault(status=500, body=json.dumps({"error": {"message": f"the script failed: {error!r}"}}))
        if item is None:
            item = Fault(status=400, body=json.dumps({"error": {"message": NO_REPLY_LEFT}}))
        reply = reply_from(item)
        fault = reply.fault or Fault()
        await asyncio.sleep(fault.silence + reply.think)
        if fault.status:
            await exchange.fail(fault)
            return
        answer = api.answer(reply, asked, messages, self._issued)
        await exchange.answer(reply, answer, stream=asked.get("stream") is True)


def script_from(text: str) -> list[Reply]:
    """Read a script: a JSON list of strings, of objects with the fields of ``ScriptedReply``, or of ``Fault``.

    Raises:
        ValueError: it is something else, or names an unknown field.
    """
    rows = json.loads(text)
    if not isinstance(rows, list):
        raise ValueError("a script is a JSON list")
    try:
        return [row if isinstance(row, str) else _item(**row) for row in rows]
    except TypeError as error:
        raise ValueError(f"a script holds strings and objects with the fields of a reply or fault: {error}") from None


def _item(**row: Any) -> Reply:
    if "text" not in row:
        return Fault(**row)
    fault, usage = row.pop("fault", None), row.pop("usage", None)
    return ScriptedReply(**row, fault=fault and Fault(**fault), usage=usage and Usage(**usage))


def main() -> None:
    """Serve a script until interrupted: ``python -m codeact_magic.testing.server SCRIPT.json [--port N]``."""
    reply, fault = (", ".join(each.name for each in fields(kind)) for kind in (ScriptedReply, Fault))
    parser = argparse.ArgumentParser(
        prog="python -m codeact_magic.testing.server",
        description="Serve scripted replies at an OpenAI-compatible address, which is printed.",
        epilog='SCRIPT.json: ["I add.\\n```python\\n6 * 7\\n```", {"text": "It is 42.", "think": 0.5}]. '
        f"Fields of a reply: {reply}. Fields of a fault, an object without text: {fault}.",
    )
    parser.add_argument("script", type=Path, help="a JSON list of strings and of objects with the fields of a reply")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    asked = parser.parse_args()
    try:
        with ScriptedServer(script_from(asked.script.read_text(encoding="utf-8")), port=asked.port) as server:
            print(server.base_url, flush=True)  # noqa: T201 - for whoever started it
            threading.Event().wait()
    except (OSError, ValueError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
