"""What a turn does to the document: its cells go in below the prompt, its record into the prompt cell's metadata.

Knows notebooks, but no kernel: it is fed with the turn's events.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import nbformat
from nbformat import NotebookNode

from ..events import (
    CellDecided,
    CellFinished,
    CellOutput,
    CellProposed,
    CellStarted,
    Event,
    Output,
    ReplyFinished,
    TurnFinished,
    TurnStarted,
)
from ..outputs import fold
from ..record import ANSWER, CELL, KEY, NARRATION, PROMPT, digest, mark, record_from
from ..replies import narration
from .render import rejected_markdown

Observe = Callable[[Event], None]


class Splice:
    """Splices turns into a notebook, event by event.

    Args:
        nb: the notebook; it is changed in place.
        save: called when something worth keeping has changed.
        observe: sees every event, once the document has it, and the outputs of a cell before its end.
        narrate: is told what the model says beside its code, once that is saved.
    """

    def __init__(
        self, nb: NotebookNode, *, save: Callable[[], None], observe: Observe, narrate: Callable[[str], None]
    ) -> None:
        self._nb = nb
        self._save = save
        self._observe = observe
        self._say = narrate
        self._prompt: NotebookNode | None = None
        self._last = ""  # the cell after which the next one goes
        self._turn: list[Event] = []
        self._started: set[str] = set()
        self._narration: list[str] = []  # of the reply that is worked off: before each block, and behind the last
        self._seen: dict[str, list[Output]] = {}  # outputs of generated cells when they had ended
        self._replaced: set[str] = set()  # the old turn's cells, until a reply has come
        self.made: set[str] = set()
        """Ids of all cells that were inserted."""
        self.proposed: CellProposed | None = None
        """The cell that was proposed last."""

    @property
    def prompt(self) -> str:
        """Id of the user's cell that runs, or has run last; empty before the first."""
        return self._prompt.id if self._prompt else ""

    @property
    def marked(self) -> tuple[Mapping[str, Any], ...]:
        """The prompt cell and every cell with our metadata, in the document's order."""
        return tuple(cell for cell in self._nb.cells if mark(cell) or cell is self._prompt)

    def index(self, cell: str, *, default: int = -1) -> int:
        """Give the place of a cell in the document."""
        return next((index for index, each in enumerate(self._nb.cells) if each.id == cell), default)

    @contextlib.contextmanager
    def below(self, cell: NotebookNode) -> Iterator[None]:
        """Let a turn's cells go below a cell of the user while it runs; at its end its outputs are folded and saved."""
        self._prompt, self._last = cell, cell.id
        try:
            yield
        finally:
            if cell.cell_type == "code":
                cell.outputs = _folded(cell)
                self._save()

    def begin(self, replace: Iterable[str] = ()) -> None:
        """Begin a turn, which will replace cells of an old one."""
        self._replaced = set(replace)
        self._turn, self._narration = [], []

    def apply(self, event: Event) -> None:
        """Bring an event into the document."""
        self._turn.append(event)
        match event:
            case ReplyFinished():
                self._replace()
                self._narration = narration(event.text, self._first.language)
            case CellProposed():
                self.proposed = event
                if event.cause == "reply":
                    self._narrate()
                self._insert(nbformat.v4.new_code_cell(event.code, id=event.cell), CELL, step=event.step)
            case CellDecided():
                self._decided(event)
            case CellStarted():
                self._started.add(event.cell)
            case CellFinished():
                self._finish(event)
                self._keep_record()
            case TurnFinished():
                self._withdraw()
                if event.answer:
                    self._insert(nbformat.v4.new_markdown_cell(event.answer), ANSWER)
                self._keep_record()
            case _:
                pass
        self._observe(event)
        if isinstance(event, CellFinished) and event.status == "ok":
            installed = self.proposed is not None and self.proposed.cause == "install"
            if len(self._narration) == 1 and not installed:
                self._narrate()  # what follows the last block

    def close(self, detail: str) -> None:
        """Close the record of a turn that will not end by itself any more."""
        if self._turn and not isinstance(self._turn[-1], TurnFinished):
            self._withdraw()
            self._turn.append(TurnFinished(reason="failed", detail=detail))
            self._keep_record()

    @property
    def _first(self) -> TurnStarted:
        return next(event for event in self._turn if isinstance(event, TurnStarted))

    def _insert(self, cell: NotebookNode, role: str, **metadata: Any) -> None:
        start = self._first
        cell.metadata[KEY] = {"role": role, "turn": start.turn, "thread": start.thread, **metadata}
        cell.metadata[KEY]["sha256"] = digest(cell.source)
        self._nb.cells.insert(self.index(self._last, default=len(self._nb.cells) - 1) + 1, cell)
        self.made.add(cell.id)
        self._last = cell.id

    def _remove(self, index: int) -> None:
        del self._nb.cells[index]
        self._last = self._nb.cells[index - 1].id if index else ""

    def _replace(self) -> None:
        """Remove the old turn's cells, now that a reply has come: a turn that fails before leaves them as they are."""
        here = self.index(self.prompt)
        keep = [cell for place, cell in enumerate(self._nb.cells) if place <= here or cell.id not in self._replaced]
        self._nb.cells = keep
        self._replaced = set()

    def _narrate(self) -> None:
        if self._narration and (text := self._narration.pop(0)):
            self._insert(nbformat.v4.new_markdown_cell(text), NARRATION)
            self._keep_record()
            self._say(text)

    def _decided(self, event: CellDecided) -> None:
        """Put a rejected cell's code in a Markdown cell, so that it does not run; change an edited one."""
        index = self.index(event.cell)
        if index < 0:
            return
        if event.decision == "rejected":
            self._remove(index)
            code = self.proposed.code if self.proposed else ""
            note = rejected_markdown(code, self._first.language, event)
            self._insert(nbformat.v4.new_markdown_cell(note), NARRATION)
            self._keep_record()
        elif event.decision == "edited":
            self._nb.cells[index].source = event.code
            self._nb.cells[index].metadata[KEY]["sha256"] = digest(event.code)

    def _withdraw(self) -> None:
        """Take out a cell that never ran, as the turn ended on its question: nobody has allowed it."""
        last = self.proposed.cell if self.proposed else ""
        if last not in self._started and (index := self.index(last)) >= 0:
            self._remove(index)

    def _finish(self, event: CellFinished) -> None:
        index = self.index(event.cell)
        if index < 0:
            return
        cell = self._nb.cells[index]
        cell.outputs = _folded(cell)
        self._seen[cell.id] = [dict(output) for output in cell.outputs]
        cell.metadata[KEY] |= {"status": event.status, "seconds": event.seconds}
        for output in cell.outputs:
            self._observe(CellOutput(cell=cell.id, output=output))
        if event.status != "ok":  # the next run goes past it, as this one did
            cell.metadata["tags"] = ["raises-exception"]

    def _keep_record(self) -> None:
        if self._prompt is not None and not self._replaced:
            record = record_from(self._with_changed_outputs(), outputs=True)
            self._prompt.metadata[KEY] = nbformat.from_dict({"role": PROMPT, "record": record})
            self._save()

    def _with_changed_outputs(self) -> Iterator[Event]:
        """Give the turn's events; outputs stand in the record only where the document no longer shows them."""
        now = {cell.id: cell.outputs for cell in self._nb.cells if cell.id in self._seen}
        for event in self._turn:
            if isinstance(event, CellFinished) and (seen := self._seen.get(event.cell)) != now.get(event.cell):
                yield from (CellOutput(cell=event.cell, output=output) for output in seen or ())
            yield event


def _folded(cell: NotebookNode) -> list[NotebookNode]:
    return [nbformat.from_dict(output) for output in fold(cell.outputs)]
