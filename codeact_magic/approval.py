"""Which proposed cells need the user's word before they run. A guardrail against accidents, not a sandbox."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from .events import CellDecided, CellFinished, CellProposed, Event, TurnStarted
from .risks import Kind, Risk, risks

Mode = Literal["auto", "risky", "ask"]
"""``auto`` asks about nothing, ``risky`` about cells in which ``risks`` finds something, ``ask`` about every cell."""
Ask = Callable[[CellProposed, str], Awaitable[CellDecided]]
"""Asks the user; see ``ports.Notebook.decide``."""

_MAY: dict[Kind, str] = {
    "shell": "run programs",
    "install": "install",
    "delete": "delete",
    "overwrite": "overwrite",
    "network": "send data",
    "process": "act on processes",
    "secrets": "read secrets",
    "settings": "change the agent's settings",
    "unknown": "do what cannot be foreseen",
}


class Approval:
    """Decides on the cells of one thread.

    Args:
        mode: what is asked about.
    """

    def __init__(self, mode: Mode = "risky") -> None:
        self.mode: Mode = mode
        self._allowed: set[Kind] = set()
        self._made: set[Path] = set()  # files that the thread's own cells wrote: to write them again is no risk
        self.rejected: Mapping[str, CellDecided] = {}
        """What a recording rejects, by code: in a replay it is not run either, whatever the mode."""

    def see(self, event: Event, folder: str) -> None:
        """Learn from an event which files are the agent's own; a new thread begins with none."""
        if isinstance(event, CellFinished) and event.changes.files:
            here = Path(folder).resolve()
            for file in event.changes.files:
                if file.change == "new":
                    self._made.add(here / file.path)
                elif file.change == "deleted":
                    self._made.discard(here / file.path)

    def reset(self) -> None:
        """Forget what was allowed and made in the thread so far."""
        self._allowed.clear()
        self._made.clear()

    async def decide(self, cell: CellProposed, start: TurnStarted, folder: str, ask: Ask | None) -> CellDecided | None:
        """Decide whether a cell runs; None if that is no question.

        Args:
            cell: the proposal.
            start: of its turn.
            folder: the code's working directory.
            ask: asks the user; None if there is nobody to ask.
        """
        if before := self.rejected.get(cell.code):
            return replace(before, cell=cell.cell)

        def exists(path: str) -> bool:
            try:
                place = Path(folder, Path(path).expanduser()).resolve()  # a link may lead to a file of the user's
                return place not in self._made and place.is_file()
            except (OSError, ValueError, RuntimeError):
                return False

        code = cell.code.partition("\n")[2] if start.kernel else cell.code
        found = risks(code, start.language, exists=exists)
        kinds = {each.kind for each in found}
        risk = described(found)
        if self.mode == "auto":
            return CellDecided(cell=cell.cell, decision="run", risk=risk, by="setting") if risk else None
        if kinds <= self._allowed and (kinds or self.mode == "risky"):
            return CellDecided(cell=cell.cell, decision="run", risk=risk) if risk else None
        if ask is None:
            return refused(cell, risk)
        decided = await ask(cell, risk)
        if decided.always:
            self._allowed |= kinds
        return decided


def described(found: Sequence[Risk]) -> str:
    """Say what code may do: ``delete: os.remove('a.csv'), os.rmdir('b'); overwrite: open('c.csv')``."""
    kinds: dict[Kind, list[str]] = {}
    for each in found:
        kinds.setdefault(each.kind, []).append(each.what)
    return "; ".join(f"{_MAY[kind]}: {', '.join(whats)}" for kind, whats in kinds.items())


def refused(cell: CellProposed, risk: str) -> CellDecided:
    """Reject a cell because nobody can be asked."""
    reason = "nobody can be asked here; the user allows such cells with approval = auto, or --yes on the command line"
    return CellDecided(cell=cell.cell, decision="rejected", risk=risk, by="setting", reason=reason)
