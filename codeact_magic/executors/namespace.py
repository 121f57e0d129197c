"""The user's namespace: which names are there, what they are, and what a cell did to them."""

import re
from collections.abc import Mapping
from typing import Any

from ..events import Changes
from ..outputs import bounded

_SHAPED = ("pandas", "numpy", "polars", "torch", "xarray", "scipy")
_SIZED = (list, tuple, dict, set, frozenset)
MOST = 60
"""Names that the model is told of at once."""

Snapshot = dict[str, int]


def names(namespace: Mapping[str, Any], hidden: Mapping[str, Any]) -> dict[str, Any]:
    """Give the user's own names: not IPython's, not those that begin with an underscore."""
    own = {}
    for name, value in list(namespace.items()):
        if not isinstance(name, str) or name.startswith("_") or (name in hidden and hidden[name] is value):
            continue
        if name not in ("In", "Out", "get_ipython", "exit", "quit", "open"):
            own[name] = value
    return own


def snapshot(own: Mapping[str, Any]) -> Snapshot:
    """Note which object each name is bound to. Only the identity is kept: a reference would keep memory alive."""
    return {name: id(value) for name, value in own.items()}


def changes(before: Snapshot, own: Mapping[str, Any]) -> Changes:
    """Compare the namespace with a snapshot of it."""
    created = {name: describe(value) for name, value in own.items() if name not in before}
    rebound = {name: describe(value) for name, value in own.items() if before.get(name, id(value)) != id(value)}
    deleted = tuple(sorted(before.keys() - own.keys()))
    return Changes(created=_first(created), rebound=_first(rebound), deleted=deleted[:MOST])


def _first(described: dict[str, str]) -> dict[str, str]:
    kept = dict(sorted(described.items())[:MOST])
    if len(described) > MOST:
        kept[f"and {len(described) - MOST} more"] = ""
    return kept


def describe(value: object) -> str:
    """Give an object's type, with the size where asking for it runs no code of the user's: ``DataFrame 120x5``."""
    kind = type(value)
    name = str(type.__dict__["__name__"].__get__(kind))[:80]
    if any(kind is each for each in _SIZED):
        return f"{name} of {len(value)}"  # type: ignore[arg-type]
    module = type.__dict__["__module__"].__get__(kind)
    if not isinstance(module, str) or module.split(".")[0] not in _SHAPED:
        return name
    try:
        shape = value.shape  # type: ignore[attr-defined]
        return f"{name} {'x'.join(str(int(size)) for size in shape)}".strip()
    except Exception:  # noqa: BLE001 - a stranger's property may raise anything
        return name


def context(own: Mapping[str, Any]) -> str:
    """Tell the model which names there are."""
    if not own:
        return ""
    rows = _first({name: describe(value) for name, value in own.items()})
    return "Names in the kernel: " + ", ".join(f"{name} ({kind})" if kind else name for name, kind in rows.items())


_NAME = re.compile(r"(?<!\{)\{([^\W\d]\w*(?:\.[^\W\d]\w*)*)\}(?!\})")
_FILLED = 4_000  # characters of one value in a prompt


def filled(prompt: str, namespace: Mapping[str, Any]) -> str:
    """Fill ``{name}`` and ``{a.b}`` with their values where they exist; all else is left as written."""

    def value(found: re.Match[str]) -> str:
        first, *rest = found[1].split(".")
        try:
            item = namespace[first]
            for name in rest:
                item = getattr(item, name)
            return bounded(str(item), _FILLED)
        except Exception:  # noqa: BLE001 - attributes and texts of the user's objects may raise anything
            return found[0]

    return _NAME.sub(value, prompt)
