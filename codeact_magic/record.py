"""The record of a turn in a notebook, format version 1, and what a notebook's own cells add to it.

A record is a JSON object ``{"version": 1, "turn", "thread", "model", "origin", "events"}``. It stands in the prompt
cell's metadata (``metadata.codeact.record``) where a client inserts real cells: their outputs are in the document and
are not copied, unless the document has changed since. Otherwise it stands in the prompt cell's output
(``application/vnd.codeact.turn+json``), outputs included.

``origin`` is ``"scripted"`` where replies were written by hand, ``"model"`` where a model wrote them.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import RecordError
from .events import (
    CellFinished,
    CellOutput,
    Event,
    Output,
    ReplyDelta,
    ReplyFinished,
    TurnFinished,
    TurnStarted,
    decode,
    encode,
    is_output,
)
from .outputs import fold

VERSION = 1
MIME = "application/vnd.codeact.turn+json"
KEY = "codeact"
"""Key of our metadata in cells."""
PROMPT, NARRATION, CELL, ANSWER = "prompt", "narration", "cell", "answer"
"""Roles of cells, in ``metadata.codeact.role``."""

_LARGEST = 64_000_000  # characters of a notebook file that is read for its records


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A turn as it was recorded, its outputs filled in. ``cell`` is the prompt cell's id."""

    turn: str
    thread: str
    events: tuple[Event, ...]
    cell: str = ""

    @property
    def start(self) -> TurnStarted:
        """The prompt."""
        return next(event for event in self.events if isinstance(event, TurnStarted))

    @property
    def answered(self) -> bool:
        """Whether the turn came to an answer."""
        last = self.events[-1]
        return isinstance(last, TurnFinished) and last.reason == "answered"

    @property
    def cells(self) -> tuple[str, ...]:
        """Ids of the cells that ran."""
        return tuple(event.cell for event in self.events if isinstance(event, CellFinished))


def record_from(events: Iterable[Event], *, outputs: bool) -> dict[str, Any]:
    """Write a turn's record; ``outputs`` says whether the cells' outputs are part of it."""
    rows: list[dict[str, Any]] = []
    pending: dict[str, list[Output]] = {}
    start, models = None, []
    for event in events:
        if isinstance(event, TurnStarted):
            start = event
        elif isinstance(event, ReplyFinished):
            models.append(event.model)
        if isinstance(event, CellOutput):
            pending.setdefault(event.cell, []).append(event.output)
            continue
        if isinstance(event, CellFinished | TurnFinished) and outputs:
            ended = [event.cell] if isinstance(event, CellFinished) else list(pending)
            for cell in ended:
                folded = fold(pending.pop(cell, []))
                rows.extend(encode(CellOutput(cell=cell, output=output)) for output in folded)
        if not isinstance(event, ReplyDelta):
            rows.append(encode(event))
    named = list(dict.fromkeys(filter(None, models)))
    return {
        "version": VERSION,
        "turn": start.turn if start else "",
        "thread": start.thread if start else "",
        "model": ", ".join(named),
        "origin": "scripted" if any(name.startswith("scripted") for name in named) else "model",
        "events": rows,
    }


def read(value: object, outputs: Mapping[str, Sequence[Output]] | None = None, *, cell: str = "") -> Record:
    """Read a record. One that was never finished is closed as failed: its kernel or its client has died.

    Args:
        value: the JSON object.
        outputs: outputs of the document's cells by their ids, for records that do not hold them.
        cell: the prompt cell's id.

    Raises:
        RecordError: it is broken, or of a version that is not known.
    """
    if not isinstance(value, dict) or not isinstance(value.get("events"), list):
        raise RecordError(f"The record of cell {cell or '?'} is broken: it is not an object with events.")
    if value.get("version") != VERSION:
        raise RecordError(
            f"The record of cell {cell or '?'} has version {value.get('version')!r}; this release reads {VERSION}."
        )
    events: list[Event] = []
    held: set[str] = set()  # cells whose outputs the record holds: the document has changed them since
    for place, row in enumerate(value["events"]):
        try:
            event = decode(row)
        except ValueError as error:
            raise RecordError(f"The record of cell {cell or '?'} is broken at event {place + 1}: {error}.") from None
        if isinstance(event, CellOutput):
            held.add(event.cell)
        if isinstance(event, CellFinished) and outputs is not None and event.cell not in held:
            shown = outputs.get(event.cell, ())
            events.extend(CellOutput(cell=event.cell, output=dict(each)) for each in shown if is_output(each))
        events.append(event)
    if not events or not isinstance(events[0], TurnStarted):
        raise RecordError(f"The record of cell {cell or '?'} is broken: it does not begin with a prompt.")
    if not isinstance(events[-1], TurnFinished):
        events.append(TurnFinished(reason="failed", detail="the kernel or the client ended in mid-turn"))
    return Record(turn=events[0].turn, thread=events[0].thread, events=tuple(events), cell=cell)


def mark(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Give our metadata of a notebook's cell, empty if it has none."""
    metadata = cell.get("metadata")
    found = metadata.get(KEY) if isinstance(metadata, dict) else None
    return found if isinstance(found, dict) else {}


def outputs_of(cells: Sequence[Mapping[str, Any]]) -> dict[str, list[Output]]:
    """Give the outputs of a notebook's cells by their ids."""
    found = {}
    for cell in cells:
        outputs = cell.get("outputs")
        found[str(cell.get("id") or "?")] = outputs if isinstance(outputs, list) else []
    return found


def records_in(cells: Sequence[Mapping[str, Any]]) -> list[Record]:
    """Read all records of a notebook's cells, in their order.

    Raises:
        RecordError: one of them is broken.
    """
    outputs = outputs_of(cells)
    found = []
    for cell in cells:
        name = str(cell.get("id") or "?")
        if (value := mark(cell).get("record")) is not None:
            found.append(read(value, outputs, cell=name))
            continue
        for output in outputs.get(name, ()):
            data = output.get("data") if isinstance(output, dict) else None
            if isinstance(data, dict) and MIME in data:
                found.append(read(data[MIME], cell=name))
    return found


def cells_of(path: str | Path) -> list[dict[str, Any]]:
    """Read the cells of a notebook file.

    Raises:
        RecordError: it cannot be read, is too large, or is no notebook.
    """
    path = Path(path).expanduser()
    try:
        if path.stat().st_size > _LARGEST:
            raise RecordError(f"{path} is too large to be read for its records ({path.stat().st_size:,} bytes).")
        document = json.loads(path.read_text(encoding="utf-8"))
        cells = document["cells"]
        if not all(isinstance(cell, dict) for cell in cells):
            raise TypeError
    except OSError as error:
        raise RecordError(f"Cannot read the recorded notebook {path}: {error.strerror or error}.") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RecordError(f"{path} is not a Jupyter notebook (format 4): no cells can be read from it.") from None
    return list(cells)


def digest(source: str) -> str:
    """Give the SHA-256 of a cell's source, as in ``metadata.codeact.sha256``."""
    return hashlib.sha256(source.encode(errors="replace")).hexdigest()


def stands(record: Record, prompt: str, below: Sequence[str]) -> bool:
    """Say whether a prompt cell's turn still stands: same text, answered, and its cells still below it."""
    return record.answered and record.start.prompt.strip() == prompt.strip() and set(record.cells) <= set(below)
