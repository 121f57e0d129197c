"""The error tree: what can go wrong on our side, each in one sentence with what to do next.

    CodeactError
    ├── ConfigError            an option, a setting or an environment variable is unusable
    ├── ModelError             the model's endpoint refused, and asking again will not help
    │   ├── BadCredentials     no key, a wrong key, or a key without the right
    │   ├── ContextTooLong     the conversation no longer fits the model's window
    │   └── ModelUnavailable   a passing fault: the loop waits and asks again
    ├── ExecutorError          code could not be run at all (code that fails is an output)
    ├── RecordError            a record is broken, or a replay departs from it
    └── TurnFailed             the end of a turn without an answer, as ``%%agent`` reports it

User code that fails is an output, and a stop or a limit is ``TurnFinished.reason``; the loop raises neither.
"""


class CodeactError(Exception):
    """Base of all errors raised by codeact_magic. ``str(error)`` is one plain sentence for the user."""

    def _render_traceback_(self) -> list[str]:
        """IPython prints this in place of a traceback: the sentence is the message."""
        return [f"{type(self).__name__}: {self}"]


class ConfigError(CodeactError):
    """An option, a setting or an environment variable is unusable."""


class ModelError(CodeactError):
    """The model's endpoint refused, and asking again will not help."""


class BadCredentials(ModelError):
    """The endpoint wants a key, does not know this one, or does not allow it this model."""


class ContextTooLong(ModelError):
    """The conversation no longer fits the model's context window."""


class ModelUnavailable(ModelError):
    """A passing fault of the model's endpoint: busy, overloaded, unreachable, or a broken stream.

    Args:
        reason: one sentence for the user.
        retry_after: seconds that the server asked to wait, if it said so.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class ExecutorError(CodeactError):
    """Code could not be run at all."""


class RecordError(CodeactError):
    """A record cannot be read, or a replay departs from it."""


class TurnFailed(CodeactError):
    """A turn ended without an answer; the message says why."""
