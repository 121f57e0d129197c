"""An OpenAI-compatible HTTP server on this machine that answers from a script."""

import argparse
import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from ..events import Usage
from .scripted import NO_REPLY_LEFT, Fault, Reply, Script, ScriptedReply, reply_from

Messages = list[dict[str, Any]]

_LOCAL = {"127.0.0.1", "localhost"}
_SECRET = {"authorization", "api-key", "x-api-key", "cookie"}
_MAX_BODY = 64_000_000  # bytes
_FLUSH = 65_536  # bytes; pieces with no pause between them are sent together, as that is faster


@dataclass(slots=True)
class RecordedRequest:
    """One request for a reply. The values of headers that hold credentials are replaced by ``present``.

    Args:
        body: the request's JSON.
        headers: names in lower case; ``authorization`` is always there, as ``present`` or ``absent``.
        arrival: when it came, by ``time.perf_counter``.
        seconds: what the server itself spent on it, pauses of the script included.
        dropped: the answer broke off, as the client hung up or the server was stopped.
    """

    body: dict[str, Any]
    headers: dict[str, str]
    arrival: float
    seconds: float = 0.0
    dropped: bool = False


class ScriptedServer:
    """A real HTTP server on 127.0.0.1, in a thread of its own, for whatever speaks the chat-completions protocol.

    It serves ``POST /v1/chat/completions``, streaming or not, and ``GET /v1/models``. Each request uses up one item of
    the script; when there is none left, the answer is HTTP 400. Requests of foreign web pages are refused.

    Args:
        script: strings, ``ScriptedReply``, ``Fault``, or functions of the request's messages (a list of JSON objects)
            that give one of these; or one such function for all requests. Functions run in the server's thread.
        port: 0 takes a free one.

    Example:
        >>> with ScriptedServer([Fault(status=429, retry_after=0.1), "hello"]) as server:
        ...     model = OpenAIModel(OpenAIOptions(model="any", base_url=server.base_url))
    """

    def __init__(
        self,
        script: Iterable[Reply | Callable[[Messages], Reply]] | Callable[[Messages], Reply],
        *,
        port: int = 0,
    ) -> None:
        self.requests: list[RecordedRequest] = []
        self._script: Script[Messages, Reply] = Script(script)
        self._port = port
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()  # open connections

    @property
    def base_url(self) -> str:
        """The address for clients, up to and with ``/v1``; the port is known once the server has started."""
        return f"http://127.0.0.1:{self._port}/v1"

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
        answer = head = asyncio.ensure_future(_head(reader))
        exchange = _Exchange(writer)
        try:
            while exchange.open and (lines := await head):
                exchange = _Exchange(writer, *lines)
                body = await exchange.read(reader)
                # The next head is awaited already: its end tells that the client has hung up.
                head = asyncio.ensure_future(_head(reader))
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

    async def _answer(self, exchange: "_Exchange", body: bytes | None) -> None:
        if exchange.foreign:
            await exchange.refuse(403, "requests of other web pages are refused")
        elif body is None:
            await exchange.refuse(413, "the request has no length, or is too long")
        elif (exchange.method, exchange.path) == ("GET", "/v1/models"):
            models = {"object": "list", "data": [{"id": "scripted", "object": "model", "owned_by": "script"}]}
            await exchange.send(200, json.dumps(models))
        elif (exchange.method, exchange.path) == ("POST", "/v1/chat/completions"):
            await self._complete(exchange, body)
        else:
            await exchange.refuse(404, f"there is no {exchange.method} {exchange.path}")

    async def _complete(self, exchange: "_Exchange", body: bytes) -> None:
        try:
            asked = json.loads(body)
            messages = asked["messages"]
            prompt = sum(len(text) for message in messages for text in _texts(message))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            await exchange.refuse(400, "the body is not a chat-completions request")
            return
        record = exchange.record(asked)
        self.requests.append(record)
        try:
            try:
                item = self._script.next(messages)
            except Exception as error:  # noqa: BLE001 - a user's function; the client is told
                item = Fault(status=500, body=json.dumps({"error": {"message": f"the script failed: {error!r}"}}))
            if item is None:
                item = Fault(status=400, body=json.dumps({"error": {"message": NO_REPLY_LEFT}}))
            await exchange.reply(reply_from(item), asked, prompt)
        except (asyncio.CancelledError, ConnectionError):
            record.dropped = True
            raise
        finally:
            exchange.clock()


class _Exchange:
    """One request and its answer on the wire."""

    def __init__(
        self, writer: asyncio.StreamWriter, method: str = "", path: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        self.method, self.path, self.headers = method, path.partition("?")[0], headers or {}
        self.open = self.headers.get("connection", "").lower() != "close"
        self._arrival = time.perf_counter()
        self._writer = writer
        self._record: RecordedRequest | None = None

    @property
    def foreign(self) -> bool:
        """Another web page sent it: by a name of its own for this machine, or by a script of its own."""
        origin = self.headers.get("origin")
        hosts = [f"//{self.headers.get('host', '')}"] + ([origin] if origin else [])
        try:
            return not all(urlsplit(each).hostname in _LOCAL for each in hosts)
        except ValueError:
            return True

    async def read(self, reader: asyncio.StreamReader) -> bytes | None:
        """Give the body, or nothing if it cannot be read; the connection then closes."""
        if self.method == "GET":
            return b""
        length = self.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit() and int(length) <= _MAX_BODY):
            self.open = False
            return None
        return await reader.readexactly(int(length))

    def record(self, body: dict[str, Any]) -> RecordedRequest:
        headers = {name: "present" if name in _SECRET else value for name, value in self.headers.items()}
        self._record = RecordedRequest(body, {"authorization": "absent"} | headers, self._arrival)
        return self._record

    def clock(self) -> None:
        """Note the time spent, before the last byte is sent: a client that has it may look at once."""
        if self._record is not None:
            self._record.seconds = self._record.seconds or time.perf_counter() - self._arrival

    async def refuse(self, status: int, message: str) -> None:
        await self.send(status, json.dumps({"error": {"message": message, "type": "invalid_request_error"}}))

    async def send(self, status: int, text: str, headers: Mapping[str, str] | None = None, lost: int = 0) -> None:
        """Send a whole answer, or one that lacks so many bytes of its end."""
        data = text.encode()
        kind = "text/html" if text.startswith("<") else "application/json"
        head = {"Content-Type": kind, "Content-Length": str(len(data))} | dict(headers or {})
        self._start(status, head)
        self.clock()
        self._writer.write(data[: len(data) - lost])
        await self._writer.drain()

    async def reply(self, reply: ScriptedReply, asked: Mapping[str, Any], prompt: int) -> None:
        fault = reply.fault or Fault()
        await asyncio.sleep(fault.silence + reply.think)
        if fault.status:
            wait = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
            error = {"error": {"message": "a scripted fault", "type": fault.code, "code": fault.code or None}}
            await self.send(fault.status, fault.body or json.dumps(error), wait | dict(fault.headers))
            return
        usage = None if fault.no_usage else _usage(reply.counted(prompt))
        common = {"id": "chatcmpl-scripted", "created": int(time.time()), "model": reply.model}
        self.open = self.open and reply.breaks_after is None
        if asked.get("stream") is True:
            options = asked.get("stream_options")
            counted = isinstance(options, dict) and options.get("include_usage") is True
            await self._stream(reply, common, usage if counted else None)
            return
        message = {"role": "assistant", "content": reply.text}
        choice = {"index": 0, "message": message, "finish_reason": reply.finish or None}
        whole = json.dumps({"object": "chat.completion", **common, "choices": [choice], "usage": usage})
        if fault.malformed_after is not None:
            whole = whole[:-1]
        await self.send(200, whole, lost=0 if fault.cut_after is None else 1)

    async def _stream(self, reply: ScriptedReply, common: dict[str, Any], usage: dict[str, Any] | None) -> None:
        self._start(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
        common = {"object": "chat.completion.chunk", **common}
        waiting = bytearray()
        for number, piece in enumerate(reply.pieces()):
            if (reply.pause and number) or len(waiting) > _FLUSH:
                await self._flush(waiting)
                waiting.clear()
                await asyncio.sleep(reply.pause)
            waiting += _event({**common, "choices": [_delta({"content": piece}, None)]})
        fault = reply.fault or Fault()
        if fault.cut_after is None:
            if fault.malformed_after is not None:
                waiting += _framed(b'data: {"choices": [{"delta"\n\n')
            if reply.finish:
                waiting += _event({**common, "choices": [_delta({}, reply.finish)]})
            if usage:
                waiting += _event({**common, "choices": [], "usage": usage})
            waiting += _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"
        self.clock()
        await self._flush(waiting)

    async def _flush(self, data: bytearray) -> None:
        self._writer.write(bytes(data))
        await self._writer.drain()

    def _start(self, status: int, headers: Mapping[str, str]) -> None:
        phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Scripted"
        lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
        if not self.open:
            lines.append("Connection: close")
        self._writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))


async def _head(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str]] | None:
    """Read the method, the path and the headers of a request, or nothing if the client has hung up."""
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
        return None
    pairs = (line.partition(":") for line in lines[1:] if line)
    return method, path, {name.strip().lower(): value.strip() for name, _, value in pairs}


def _texts(message: dict[str, Any]) -> Iterator[str]:
    content = message.get("content") or ""
    parts = [{"text": content}] if isinstance(content, str) else content
    return (part["text"] for part in parts if isinstance(part.get("text"), str))


def _delta(delta: dict[str, str], finish: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish}


def _event(payload: dict[str, Any]) -> bytes:
    return _framed(f"data: {json.dumps(payload, ensure_ascii=False)}\n\n".encode())


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }


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
