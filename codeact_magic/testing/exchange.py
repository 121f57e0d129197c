"""One HTTP request to the scripted server, and its answer on the wire."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from .scripted import Fault, ScriptedReply

_LOCAL = {"127.0.0.1", "localhost"}
_SECRET = {"authorization", "api-key", "x-api-key", "cookie"}
_MAX_BODY = 64_000_000  # bytes
_UNKNOWN = {"obfuscation": "x7Kq", "x_trace": {"id": 7, "spans": [None, [], {}]}}
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
        path: what was asked for, with its query: ``/v1/chat/completions``.
    """

    body: dict[str, Any]
    headers: dict[str, str]
    arrival: float
    seconds: float = 0.0
    dropped: bool = False
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A reply in the terms of one API.

    Args:
        whole: the JSON of an answer that is not streamed.
        pieces: the events of a stream, those together that are sent at once; a script's pauses are between them.
        end: the events after the last piece.
        done: whether the stream ends with ``[DONE]``.
    """

    whole: dict[str, Any]
    pieces: Sequence[Sequence[Mapping[str, Any]]]
    end: Sequence[Mapping[str, Any]]
    done: bool = False


class Exchange:
    """One request and its answer on the wire."""

    def __init__(
        self, writer: asyncio.StreamWriter, method: str = "", path: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        self.method, self.headers = method, headers or {}
        self.path, _, self.query = path.partition("?")
        self.open = self.headers.get("connection", "").lower() != "close"
        self._address = path
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

    def has(self, key: str) -> bool:
        """Say whether the request carries this key, in one of the headers for it; no key is carried by all."""
        given = (self.headers.get("authorization", ""), f"Bearer {self.headers.get('api-key', '')}")
        return not key or f"Bearer {key}" in given

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
        """Make the record of this request."""
        headers = {name: "present" if name in _SECRET else value for name, value in self.headers.items()}
        self._record = RecordedRequest(body, {"authorization": "absent"} | headers, self._arrival, path=self._address)
        return self._record

    def clock(self) -> None:
        """Note the time spent, before the last byte is sent: a client that has it may look at once."""
        if self._record is not None:
            self._record.seconds = self._record.seconds or time.perf_counter() - self._arrival

    async def refuse(self, status: int, message: str, **more: str) -> None:
        """Answer with an error, and further fields of it."""
        await self.send(status, json.dumps({"error": {"message": message, "type": "invalid_request_error", **more}}))

    async def send(self, status: int, text: str, headers: Mapping[str, str] | None = None, lost: int = 0) -> None:
        """Send a whole answer, or one that lacks so many bytes of its end."""
        data = text.encode()
        kind = "text/html" if text.startswith("<") else "application/json"
        head = {"Content-Type": kind, "Content-Length": str(len(data))} | dict(headers or {})
        self._start(status, head)
        self.clock()
        self._writer.write(data[: len(data) - lost])
        await self._writer.drain()

    async def fail(self, fault: Fault) -> None:
        """Answer with a fault's status."""
        wait = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
        error = {"error": {"message": "a scripted fault", "type": fault.code, "code": fault.code or None}}
        cut = fault.cut_after is not None
        self.open = self.open and not cut
        await self.send(fault.status, fault.body or json.dumps(error), wait | dict(fault.headers), lost=1 if cut else 0)

    async def answer(self, reply: ScriptedReply, answer: Answer, *, stream: bool) -> None:
        """Send a reply, with what goes wrong with it."""
        self.open = self.open and reply.breaks_after is None
        if stream:
            await self._stream(reply, answer)
            return
        fault = reply.fault or Fault()
        whole = json.dumps(answer.whole)
        if fault.malformed_after is not None:
            whole = whole[:-1]
        await self.send(200, whole, lost=0 if fault.cut_after is None else 1)

    async def _stream(self, reply: ScriptedReply, answer: Answer) -> None:
        self._start(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
        fault = reply.fault or Fault()
        more = _UNKNOWN if fault.unknown else {}
        waiting = bytearray()
        for number, events in enumerate(answer.pieces):
            if (reply.pause and number) or len(waiting) > _FLUSH:
                await self._flush(waiting)
                waiting.clear()
                await asyncio.sleep(reply.pause)
            waiting += b"".join(_event({**event, **more}) for event in events)
        if fault.cut_after is None:
            if fault.malformed_after is not None:
                waiting += _framed(b'data: {"choices": [{"delta"\n\n')
            waiting += b"".join(map(_event, answer.end))
            waiting += (_framed(b"data: [DONE]\n\n") if answer.done else b"") + b"0\r\n\r\n"
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


async def head_of(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str]] | None:
    """Read the method, the path and the headers of a request, or nothing if the client has hung up."""
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
        return None
    pairs = (line.partition(":") for line in lines[1:] if line)
    return method, path, {name.strip().lower(): value.strip() for name, _, value in pairs}


def _event(payload: Mapping[str, Any]) -> bytes:
    name = f"event: {payload['type']}\n" if "type" in payload else ""
    return _framed(f"{name}data: {json.dumps(payload, ensure_ascii=False)}\n\n".encode())


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
