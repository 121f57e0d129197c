r"""Public doubles of a model for a user's own tests, which then need no key and no network, and checks of executors.

``ScriptedModel`` stands in for a model in the same process; ``ScriptedServer`` is a real HTTP endpoint for whatever
speaks to one; see ``help(codeact_magic.testing.ScriptedServer)``. Both answer from a script of ``str``,
``ScriptedReply`` and ``Fault``, one item for each request. Code stands in a reply as a model would write it, between
fences labelled ``python``::

    from codeact_magic.testing import ScriptedServer

    with ScriptedServer(["I add.\n```python\n6 * 7\n```", "It is 42."]) as server:
        ...  # %%agent --base-url {server.base_url}

``check_executor`` runs the checks that every executor must pass on one of your own.
"""

from typing import TYPE_CHECKING, Any

from .conformance import CHECKS, OWN_KERNEL, check_executor
from .scripted import Fault, ScriptedModel, ScriptedReply

if TYPE_CHECKING:
    from .server import ScriptedServer

__all__ = ["CHECKS", "OWN_KERNEL", "Fault", "ScriptedModel", "ScriptedReply", "ScriptedServer", "check_executor"]


def __getattr__(name: str) -> Any:
    # Late, so that ``python -m codeact_magic.testing.server`` does not find its module imported already.
    if name == "ScriptedServer":
        from .server import ScriptedServer  # noqa: PLC0415 - late

        return ScriptedServer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
