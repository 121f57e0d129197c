"""What a notebook's document says of earlier turns: the prompt cell's own, those above it, and the cells they made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from .errors import RecordError
from .outputs import text_of
from .record import PROMPT, Record, digest, mark, outputs_of, read


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The part of a notebook that turns have marked.

    Args:
        path: of the notebook's file, if it is known.
        cell: id of the prompt cell that runs.
        cells: the marked cells in their order, as nbformat writes them, and the prompt cell.
    """

    path: str = ""
    cell: str = ""
    cells: tuple[Mapping[str, Any], ...] = ()

    def records(self, complain: Callable[[str], object]) -> tuple[Record | None, list[Record]]:
        """Read the prompt cell's own record, if it has one, and those above it; a broken one is passed over."""
        own: Record | None = None
        above: list[Record] = []
        outputs = outputs_of(self.cells)
        for cell in self.cells:
            here = cell.get("id") == self.cell
            if (value := mark(cell).get("record")) is not None:
                try:
                    record = read(value, outputs, cell=str(cell.get("id")))
                except RecordError as error:
                    complain(f"{error} It is passed over.")
                else:
                    own, above = (record, above) if here else (own, [*above, record])
            if here:
                break
        return (None if own and self._is_copied(own) else own), above

    @property
    def below(self) -> list[str]:
        """Ids of the marked cells below the prompt cell and above the next one."""
        return [str(cell.get("id")) for cell in self._below()]

    def unedited(self, turn: str) -> tuple[str, ...]:
        """Give the cells that a turn made, its answer included; those that the user has edited since are the user's."""
        found = []
        for cell in self._below():
            ours, source = mark(cell), text_of(cell.get("source", ""))
            if ours.get("turn") == turn and ours.get("sha256", digest(source)) == digest(source):
                found.append(str(cell.get("id")))
        return tuple(found)

    def _below(self) -> list[Mapping[str, Any]]:
        here = next((place for place, cell in enumerate(self.cells) if cell.get("id") == self.cell), len(self.cells))
        return list(takewhile(lambda cell: mark(cell).get("role") != PROMPT, self.cells[here + 1 :]))

    def _is_copied(self, own: Record) -> bool:
        """Say whether the record came with a copied cell: the original has it too, and the cells are there."""
        others = (mark(cell).get("record") for cell in self.cells if cell.get("id") != self.cell)
        shared = any(isinstance(record, dict) and record.get("turn") == own.turn for record in others)
        return shared and not set(own.cells) <= set(self.below)
