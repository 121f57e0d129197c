"""The question whether a cell may run, in one line of text, and what an answer to it means."""

from collections.abc import Callable

from ..approval import refused
from ..events import CellDecided, CellProposed
from ..outputs import bounded, plain

Read = Callable[[str], str]
"""Asks the user for a line. Raises ``EOFError`` or ``NotImplementedError`` where there is nobody to ask."""

_RISK = 1_000  # characters of what was found


def question(cell: CellProposed, risk: str) -> str:
    """Give the question to put to the user."""
    always = " a = always in this thread," if risk else ""
    answers = f"y = yes,{always} n = no, or say why not: "
    if cell.cause == "install":
        install = next((line for line in cell.code.splitlines() if "install" in line), "")
        return f"A package is missing. Run {bounded(plain(install), 200)}? {answers}"
    found = f" It may {bounded(plain(risk), _RISK)}.\n" if risk else " "
    return f"Run this cell?{found}{answers}"


def decision(cell: CellProposed, risk: str, answer: str) -> CellDecided:
    """Read an answer: y, a, n, or a reason, which is a no."""
    word = answer.strip().lower().rstrip(".!")
    if word in ("y", "yes", "a", "always", "all"):
        return CellDecided(cell=cell.cell, decision="run", risk=risk, always=bool(risk) and word[0] == "a")
    reason = "" if word in ("", "n", "no") else answer.strip()
    return CellDecided(cell=cell.cell, decision="rejected", risk=risk, reason=bounded(reason, 2000))


def ask(cell: CellProposed, risk: str, read: Read | None) -> CellDecided:
    """Ask for a line and read it as a decision; refuse where nobody can be asked."""
    if read is None:
        return refused(cell, risk)
    try:
        return decision(cell, risk, read(question(cell, risk)))
    except (EOFError, NotImplementedError):
        return refused(cell, risk)
