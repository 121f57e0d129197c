"""An agent that lives in your notebook's kernel; ``%load_ext codeact_magic``, then ``%%agent``."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from .loop import Limits
    from .session import Session

__version__ = "0.1.0"
__all__ = ["Limits", "Session", "__version__"]

_HOMES = {"Session": ".session", "Limits": ".loop"}


def __getattr__(name: str) -> Any:
    """Import public names when they are first asked for: ``%load_ext`` must stay light."""
    if home := _HOMES.get(name):
        return getattr(importlib.import_module(home, __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_ipython_extension(shell: "InteractiveShell") -> None:
    """Register ``%%agent`` and ``%agent``; called by ``%load_ext codeact_magic``."""
    from .magic import load  # noqa: PLC0415 - only when it is used as an extension

    load(shell)


def unload_ipython_extension(shell: "InteractiveShell") -> None:
    """Take back all that loading did; called by ``%unload_ext codeact_magic``."""
    from .magic import unload  # noqa: PLC0415

    unload(shell)
