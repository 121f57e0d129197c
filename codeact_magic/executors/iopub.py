"""Outputs at their source in an ipykernel: every message that the kernel publishes passes by here.

A generated cell runs under a parent header of its own, so that its streams, displays, errors and widgets can be told
from all others, whichever thread they come from. With a client, that header's id is the request that the cell's future
waits for, and the messages go out as they are. Without one, what the prompt cell's own display shows is kept back, and
the rest goes to the prompt cell.
"""

import contextlib
import json
import os
import sys
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from jupyter_client.session import extract_header

from ..events import Output, is_output
from .fds import drain_kernel_streams
from .sink import Sink

_OUTPUTS = {"stream", "display_data", "execute_result", "error", "update_display_data", "clear_output"}
_EMBEDDED = ("image/", "text/")
_REMEMBERED = 1000  # cells whose late outputs still find their way

Route = Literal["client", "display", "prompt"]
"""Where a cell's outputs are shown: by the client that owns the document, in the prompt cell's display as far as it can
draw them, or natively in the prompt cell."""


class KernelOutputs:
    """Runs cells under parent headers of their own and hands their outputs to sinks.

    Args:
        shell: the kernel's shell.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._kernel = shell.kernel
        self._pid = os.getpid()
        self._session = shell.kernel.session
        self._send = self._session.send
        self._session.send = self._sent
        self._cells: OrderedDict[str, tuple[Sink, Route]] = OrderedDict()
        self._displays: dict[str, bool] = {}  # display id -> goes out natively
        self._main: dict[str, Any] = {}
        self._streams = (sys.stdout, sys.stderr)  # the kernel's, whatever a cell puts in their place
        self.route: Route = "display"
        self.begin()

    def begin(self) -> None:
        """Note the request that a turn answers."""
        self._prompt: dict[str, Any] = self._kernel.get_parent("shell")
        self._ident: Any = self._kernel._parent_ident["shell"]  # noqa: SLF001 - the kernel offers no other way
        self._main = self._prompt

    def claim(self, ident: Any, session: str) -> None:
        """Let input requests of later cells go to another client."""
        self._ident = ident
        self._prompt["header"]["session"] = session

    @property
    def cell_id(self) -> str:
        """The id of the prompt cell, where the frontend says it."""
        return str((self._prompt.get("metadata") or {}).get("cellId") or "")

    @property
    def client(self) -> str:
        """The session id of the frontend that asked."""
        return str((self._prompt.get("header") or {}).get("session") or "")

    def publish(self, kind: str, content: dict[str, Any]) -> None:
        """Publish a message as the prompt cell's, from any thread."""
        topic = self._kernel._topic("display_data")  # noqa: SLF001
        self._send(self._kernel.iopub_socket, kind, content, parent=self._prompt, ident=topic)

    @contextlib.contextmanager
    def capture(self, sink: Sink, code: str, message: str, count: int) -> Iterator[None]:
        """Run a cell's code within: its outputs go to ``sink`` and, under the id ``message``, to the client."""
        route = self.route
        self._cells[message] = (sink, route)
        while len(self._cells) > _REMEMBERED:
            self._cells.popitem(last=False)
        parent = self._parent(message, sink.cell)
        with self._redirected(parent):
            self._kernel._publish_execute_input(code, parent, count)  # noqa: SLF001
            try:
                yield
            finally:
                self._publish_payload(parent)
                drain_kernel_streams(self._streams)
                self._streams[0].flush()  # a barrier: the thread that publishes has done all before
                _flush_pending(self._streams[1])
                for note in sink.finish():
                    if route != "display":
                        shown = parent if route == "client" else self._prompt
                        self._send(self._kernel.iopub_socket, *_message(note), parent=shown)

    def restore(self) -> None:
        """Put the main thread's parent back where threads look for it: a comm message on another thread moved it."""
        for holder in (self._shell, self._shell.displayhook, self._shell.display_pub, *self._streams):
            if hasattr(holder, "_parent_header_global"):
                holder._parent_header_global = self._main if holder is self._shell else extract_header(self._main)  # noqa: SLF001

    def close(self) -> None:
        """Leave the kernel as it was."""
        self._session.__dict__.pop("send", None)

    def _parent(self, message: str, cell: str) -> dict[str, Any]:
        header = dict(self._prompt["header"])
        header.update(msg_id=message, msg_type="execute_request", date=datetime.now(UTC))
        header.pop("subshell_id", None)
        return {
            "header": header,
            "msg_id": message,
            "msg_type": "execute_request",
            "parent_header": {},
            "metadata": {"cellId": cell},
            "content": {},
            "buffers": [],
        }

    @contextlib.contextmanager
    def _redirected(self, parent: dict[str, Any]) -> Iterator[None]:
        before, self._main = self._main, parent
        _flush_pending(*self._streams)
        self._kernel.set_parent(self._ident, parent, channel="shell")
        try:
            yield
        finally:
            self._main = before
            self._kernel.set_parent(self._ident, before, channel="shell")

    def _publish_payload(self, parent: dict[str, Any]) -> None:
        """Show what a cell paged (``?obj``); drop requests for next inputs, which only replies can carry."""
        payloads = self._shell.payload_manager.read_payload()
        self._shell.payload_manager.clear_payload()
        for payload in payloads:
            if payload.get("source") == "page":
                content = {"data": payload.get("data", {}), "metadata": {}, "transient": {}}
                self._kernel.session.send(self._kernel.iopub_socket, "display_data", content, parent=parent)

    def _sent(
        self,
        stream: Any,
        msg_or_type: Any,
        content: Any = None,
        parent: Any = None,
        ident: Any = None,
        buffers: Any = None,
        track: bool = False,
        header: Any = None,
        metadata: Any = None,
    ) -> Any:
        """Stand in for ``Session.send``: route what belongs to a generated cell."""
        if isinstance(msg_or_type, dict):
            owner = msg_or_type.get("parent_header") or {}
        else:
            owner = extract_header(parent) if parent else {}
        if os.getpid() != self._pid:
            return self._sent_by_child(stream, msg_or_type, content, parent, ident, buffers)
        found = self._cells.get(owner.get("msg_id", ""))
        if found is None:
            return self._send(
                stream, msg_or_type, content, parent, ident, buffers, track, header=header, metadata=metadata
            )
        message = msg_or_type
        if not isinstance(message, dict):
            message = self._session.msg(msg_or_type, content=content, parent=parent, header=header, metadata=metadata)
        if self._routed(message, *found):
            return self._send(stream, message, ident=ident, buffers=buffers, track=track)
        return message

    def _sent_by_child(self, stream: Any, msg_or_type: Any, content: Any, parent: Any, ident: Any, buffers: Any) -> Any:
        """Let a forked child's text go the way of all child processes: the pipe that the parent reads."""
        message = msg_or_type
        if not isinstance(message, dict):
            message = self._session.msg(msg_or_type, content=content, parent=parent)
        if message["msg_type"] == "stream":
            target = 2 if message["content"].get("name") == "stderr" else 1
            os.write(target, str(message["content"].get("text", "")).encode(errors="replace"))
            return message
        return self._send(stream, message, ident=ident, buffers=buffers)

    def _routed(self, message: dict[str, Any], sink: Sink, route: Route) -> bool:
        """Hand a message of a generated cell to its sink; say whether it also goes out, and adapt it if so."""
        kind = message["msg_type"]
        late = sink.closed
        output = {**message["content"], "output_type": kind}
        if kind in _OUTPUTS and is_output(output) and _is_json(output):
            safe = sink.take(output)
            if safe is None:
                return False
            message["content"] = {key: value for key, value in safe.items() if key != "output_type"}
            if route == "display" and not late and self._embedded(safe):
                return False
        elif route != "client" and kind == "execute_input":
            return False
        if route != "client":
            message["parent_header"] = extract_header(self._prompt)
        return True

    def _embedded(self, output: Output) -> bool:
        """Say whether the prompt cell's display can show an output itself; widgets and scripts go out natively."""
        kind = output["output_type"]
        if kind in ("stream", "error", "clear_output"):
            return True
        name = str((output.get("transient") or {}).get("display_id") or "")
        if kind == "update_display_data":
            return name in self._displays and not self._displays[name]
        data = output.get("data") or {}
        embedded = all(mime.startswith(_EMBEDDED) or mime == "application/json" for mime in data)
        embedded = (
            embedded and "<script" not in str(data.get("text/html", "")).lower() and "text/javascript" not in data
        )
        if name:
            self._displays[name] = not embedded
        return embedded


def _flush_pending(*streams: Any) -> None:
    """Flush streams that hold something; a flush waits for another thread."""
    for stream in streams:
        if getattr(stream, "_flush_pending", True):
            stream.flush()


def _is_json(content: dict[str, Any]) -> bool:
    """Say whether a message can be sent at all; if not, sending it raises where the cell can see it."""
    try:
        json.dumps(content)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _message(output: Output) -> tuple[str, dict[str, Any]]:
    return output["output_type"], {key: value for key, value in output.items() if key != "output_type"}


def new_message() -> str:
    """Give an id for a cell's request."""
    return uuid4().hex
