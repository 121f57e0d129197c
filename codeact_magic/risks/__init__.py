"""Says what a block of code might do that its user should be asked about, before the block runs as a cell.

A guardrail against accidents, not a sandbox: it reads code that a model wrote in good faith, and whoever wants to get
past it can. It knows names, not values. Knowingly not found are overwrites of a path that is not constant, what a file
does that is run or imported, what objects from earlier cells are, and functions that are looked up at run time.
"""

from collections.abc import Callable

from .findings import Findings, Risk
from .ipython import parsed_cell
from .languages import look_at_lines, look_at_shell
from .python import look_at_python
from .tables import LINES, PYTHON, SHELLS, Kind

__all__ = ["Kind", "Risk", "risks"]

_LONGEST = 200_000  # characters that are looked through


def risks(
    code: str, language: str = "python", *, exists: Callable[[str], bool] = lambda _path: False
) -> tuple[Risk, ...]:
    """Give what the user should be asked about, in the order of the code; ``exists`` tells files that must be kept."""
    if len(code) > _LONGEST:
        return (Risk("unknown", f"code of {len(code):,} characters, which is not looked through"),)
    findings = Findings(exists, _look, set())
    findings.inside(code, language)
    return findings.risks()


def _look(code: str, language: str, findings: Findings) -> None:
    if language in PYTHON:
        if tree := parsed_cell(code, findings):
            look_at_python(tree, findings)
        else:
            findings.clear()  # nothing of a block with a syntax error runs, its magics included
    elif language in SHELLS:
        look_at_shell(code, findings)
    elif language in LINES:
        look_at_lines(code, LINES[language], findings)
    else:
        findings.add("unknown", f"code in {language}, which is not looked through")
