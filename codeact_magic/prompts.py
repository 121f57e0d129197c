"""The words that the loop says to the model, beside outputs: the system prompt, and notes on what was not run."""

from functools import cache
from importlib.resources import files

EMPTY = "Your reply was empty. Go on with a code block, or give your answer as text."
UNCLOSED = "The last code block of your reply was not closed, so it was not run. Send it again as a whole."
CUT = "Your reply reached its limit of tokens and broke off. Go on in smaller steps."
CONTINUE = "Go on from where you stopped."


@cache
def system_prompt() -> str:
    """Give the default system prompt."""
    return files(__package__).joinpath("system.md").read_text(encoding="utf-8")


def not_run(count: int) -> str:
    """Say that the blocks after a failed one were not run."""
    return "The block after it was not run." if count == 1 else f"The {count} blocks after it were not run."


def ended(reason: str, detail: str) -> str:
    """Say how the turn before this prompt ended without an answer."""
    said = {"stopped": "The user stopped your previous turn", "limit": "Your previous turn reached a limit"}
    return said.get(reason, "Your previous turn failed") + (f": {detail}" if detail else ".")
