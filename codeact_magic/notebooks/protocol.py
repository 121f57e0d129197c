"""The messages between a kernel and the client that owns the document, over one comm per turn.

Kernel to client: the comm's opening (``Opening``), then ``kept``, or ``begin`` and ``event`` messages with sequence
numbers, and ``ask`` where a cell waits for the user's word. Client to kernel: ``hello`` in answer to the opening,
``ack`` for every inserted cell, ``decide`` in answer to ``ask``, ``stop``. All is JSON.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..events import CellDecided, Event, decode, encode

TARGET = "codeact"
"""The comm's target name."""
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """The kernel asks: is there a client? ``cell`` is the prompt cell's id, where the frontend told it."""

    turn: str
    owner: str
    cell: str = ""
    version: int = VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """A client's answer: it owns ``document`` and runs its cell ``cell``.

    Args:
        client: the client's name.
        document: path of the document.
        cell: id of the prompt cell.
        cells: the prompt cell and every cell with our metadata, in the document's order, as nbformat writes them.
        options: options of this run, which win over the cell's own.
    """

    client: str
    document: str = ""
    cell: str = ""
    cells: tuple[Mapping[str, Any], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """The turn is asked; cells of the old turn are to be removed."""

    replace: tuple[str, ...] = ()


def opening_data(opening: Opening) -> dict[str, Any]:
    """Give the comm's opening data."""
    return asdict(opening)


def event_data(event: Event, *, seq: int, owner: str) -> dict[str, Any]:
    """Give the message for one event."""
    return {"type": "event", "seq": seq, "owner": owner, "event": encode(event)}


def begin_data(begin: Begin, *, owner: str) -> dict[str, Any]:
    """Give the message that begins a turn which is asked."""
    return {"type": "begin", "owner": owner, "replace": list(begin.replace)}


def kept_data(*, owner: str) -> dict[str, Any]:
    """Give the message that says that the prompt is answered already and not asked."""
    return {"type": "kept", "owner": owner}


def ask_data(cell: str, risk: str, *, owner: str) -> dict[str, Any]:
    """Give the message that asks whether a proposed cell may run."""
    return {"type": "ask", "owner": owner, "cell": cell, "risk": risk}


def decide_data(decided: CellDecided) -> dict[str, Any]:
    """Give the message that answers an ``ask``."""
    return {**encode(decided), "type": "decide"}


def decision_in(data: Mapping[str, Any], cell: str, risk: str) -> CellDecided:
    """Read a ``decide`` message about a cell; one that makes no sense is a rejection."""
    try:
        decided = decode({**data, "type": CellDecided.__name__, "cell": cell, "risk": risk})
    except ValueError as error:
        return CellDecided(cell=cell, decision="rejected", risk=risk, by="setting", reason=str(error))
    assert isinstance(decided, CellDecided)
    return decided


def event_in(data: Mapping[str, Any]) -> Event:
    """Read an ``event`` message.

    Raises:
        ValueError: it holds no event.
    """
    return decode(data.get("event"))


def hello_data(hello: Hello) -> dict[str, Any]:
    """Give the message that answers an opening."""
    return {"type": "hello", **asdict(hello)}


def hello_in(data: Mapping[str, Any]) -> Hello:
    """Read a ``hello`` message; what is missing or of the wrong type counts as not said."""
    cells = data.get("cells")
    options = data.get("options")
    return Hello(
        client=str(data.get("client") or "unknown"),
        document=str(data.get("document") or ""),
        cell=str(data.get("cell") or ""),
        cells=tuple(cell for cell in cells if isinstance(cell, dict)) if isinstance(cells, Sequence) else (),
        options=options if isinstance(options, dict) else {},
    )
