"""What a cell changed: names of the namespace and files of the working directory.

The live executor imports this module; other kernels are sent its text (``source``). There it must run without this
package and on Python 3.8: standard library only, no relative import.
"""

from __future__ import annotations

import inspect
import itertools
import json
import mimetypes
import os
import stat
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    _Dict = dict[str, tuple[int, int, int, int]]
else:
    _Dict = dict  # cannot be subscripted in Python 3.8

MOST = 60
"""Names that the model is told of at once."""
MOST_FILES = 50
"""Changed files that the model is told of at once."""
MODULE = "_codeact_probe"
"""The module's name in a kernel that it was sent to."""
CONTEXT = f"__import__({MODULE!r}).report('context')"
CHANGES = f"__import__({MODULE!r}).report('changes')"
"""Expressions for a kernel in which ``source()`` was run: the dicts of ``Probe.context`` and ``Probe.changes`` as JSON.
In a reply's ``user_expressions``, ``text/plain`` is the repr of that string."""

_SHAPED = ("pandas", "numpy", "polars", "torch", "xarray", "scipy")
_SIZED = (list, tuple, dict, set, frozenset)
_LONGEST = 200  # characters of a name that are told
_SKIPPED = ("__pycache__", "node_modules", "site-packages")
_SLACK = 50_000_000  # nanoseconds by which a file system's clock may be behind
_TYPES = {
    ".arrow": "application/vnd.apache.arrow.file",
    ".feather": "application/vnd.apache.arrow.file",
    ".geojson": "application/geo+json",
    ".h5": "application/x-hdf5",
    ".hdf5": "application/x-hdf5",
    ".jsonl": "application/x-ndjson",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".ndjson": "application/x-ndjson",
    ".parquet": "application/vnd.apache.parquet",
    ".pickle": "application/x-pickle",
    ".pkl": "application/x-pickle",
    ".py": "text/x-python",
    ".sqlite": "application/vnd.sqlite3",
    ".toml": "application/toml",
    ".tsv": "text/tab-separated-values",
    ".webp": "image/webp",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
_PACKED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}


def names(namespace: Mapping[str, Any], hidden: Mapping[str, Any]) -> dict[str, Any]:
    """Give the user's own names: not IPython's, not those that begin with an underscore."""
    own = {}
    for name, value in list(namespace.items()):
        if type(name) is not str or name.startswith("_") or (name in hidden and hidden[name] is value):
            continue  # a subclass of str may raise at whatever it is asked
        if name not in ("In", "Out", "get_ipython", "exit", "quit", "open"):
            own[name] = value
    return own


def snapshot(own: Mapping[str, Any]) -> dict[str, int]:
    """Note which object each name is bound to. Only the identity is kept: a reference would keep memory alive."""
    return {name: id(value) for name, value in own.items()}


def compared(before: Mapping[str, int], own: Mapping[str, Any]) -> dict[str, Any]:
    """Compare names with a snapshot: ``{"created": {name: what}, "rebound": {name: what}, "deleted": [name]}``."""
    return {
        "created": described({name: value for name, value in own.items() if name not in before}),
        "rebound": described({name: value for name, value in own.items() if before.get(name, id(value)) != id(value)}),
        "deleted": [_clean(name) for name in sorted(before.keys() - own.keys())[:MOST]],
    }


def described(own: Mapping[str, Any]) -> dict[str, str]:
    """Describe the first names in order; how many there are beyond ``MOST`` is the last key, with an empty text."""
    kept = {_clean(name): describe(own[name]) for name in sorted(own)[:MOST]}
    if len(own) > MOST:
        kept[f"and {len(own) - MOST} more"] = ""
    return kept


def describe(value: object) -> str:
    """Give an object's type, with the size where asking for it runs no code of the user's: ``DataFrame 120x5``."""
    kind = type(value)
    name = _clean(type.__dict__["__name__"].__get__(kind))[:80]
    if any(kind is each for each in _SIZED):
        return f"{name} of {len(value)}"  # type: ignore[arg-type]
    module = type.__dict__["__module__"].__get__(kind)
    if type(module) is not str or module.split(".")[0] not in _SHAPED:
        return name
    try:
        shape = value.shape  # type: ignore[attr-defined]
        if not issubclass(type(shape), tuple):
            return name
        return f"{name} {'x'.join(str(int(size)) for size in shape)}".strip()
    except Exception:  # noqa: BLE001 - a stranger's property may raise anything
        return name


def _clean(text: str) -> str:
    """Bound a text and replace what no UTF-8 file can hold."""
    return str(text)[:_LONGEST].encode("utf-8", "replace").decode("utf-8")


class Files(_Dict):
    """Files of a folder by their paths relative to it, with slashes: (mtime in ns, size in bytes, inode, mode).

    Attributes:
        began: when they were looked at, in nanoseconds since the epoch.
        unseen: prefixes of paths under which not everything was looked at; an empty one stands for the whole folder.
    """

    def __init__(self) -> None:
        super().__init__()
        self.began = time.time_ns()
        self.unseen: list[str] = []


def files(folder: str, most: int = 4000, seconds: float = 0.2) -> Files:
    """Look at the files below a folder, breadth first; links are not followed. Never raises.

    Hidden files and folders, notebooks, packages, caches and virtual environments are left out.

    Args:
        folder: an absolute or relative path.
        most: entries that are looked at.
        seconds: the time after which a slow file system is left alone.
    """
    found, end, left = Files(), time.monotonic() + seconds, most
    folders = [""]
    for prefix in folders:  # it grows meanwhile
        try:
            with os.scandir(os.path.join(folder, prefix)) as listing:  # noqa: PTH118 - far faster than pathlib
                entries = list(itertools.islice(listing, left + 1))
        except (OSError, ValueError):
            found.unseen.append(prefix)
            continue
        left -= len(entries)
        if prefix and any(entry.name == "pyvenv.cfg" for entry in entries):
            found.unseen.append(prefix)
            continue
        if not _look(entries[: len(entries) + min(left, 0)], prefix, found, folders, end) or left < 0:
            found.unseen.append("")
            break
    return found


def _look(entries: list[os.DirEntry[str]], prefix: str, found: Files, folders: list[str], end: float) -> bool:
    """Put a folder's files in ``found`` and its folders in ``folders``; False if the time ``end`` came before."""
    for entry in entries:
        name = entry.name
        if name[0] == "." or name in _SKIPPED or name.endswith(".ipynb"):  # frontends save notebooks meanwhile
            continue
        if time.monotonic() > end:
            return False
        try:
            if entry.is_dir(follow_symlinks=False):
                folders.append(f"{prefix}{name}/")
                continue
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        except OSError:
            found.unseen.append(prefix + name)
            continue
        if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            found[prefix + name] = (status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode)
    return True


def changed(before: Files, after: Files) -> list[dict[str, Any]]:
    """Compare two looks at a folder: rows ``{"path", "change", "size", "type"}``, sorted by path.

    ``change`` is ``new``, ``changed`` or ``deleted``, ``size`` is in bytes (0 if deleted), ``type`` is a MIME type.
    If there are more than ``MOST_FILES``, a last row says how many: ``{"path": "and 7 more", "change": "more",
    "size": 7, "type": ""}``. Nothing is said to be deleted where it was only not looked at.
    """
    if before == after:
        return []
    unseen_before, unseen_after = tuple(before.unseen), tuple(after.unseen)
    kinds = {}
    for path, entry in after.items():
        if path not in before:
            # What the first look did not reach is new only if it was written since.
            if not path.startswith(unseen_before) or entry[0] >= before.began - _SLACK:
                kinds[path] = "new"
        elif before[path] != entry:
            kinds[path] = "changed"
    if "" not in unseen_before:
        gone = before.keys() - after.keys()
        kinds.update((path, "deleted") for path in gone if not path.startswith(unseen_after))
    rows = [
        {"path": _clean(path), "change": kinds[path], "size": after.get(path, (0, 0))[1], "type": _type(path)}
        for path in sorted(kinds)[:MOST_FILES]
    ]
    if more := len(kinds) - len(rows):
        rows.append({"path": f"and {more} more", "change": "more", "size": more, "type": ""})
    return rows


def _type(path: str) -> str:
    """Give the MIME type that a file's name tells."""
    known = _TYPES.get(os.path.splitext(path)[1].lower())  # noqa: PTH122 - far faster than pathlib
    if known:
        return known
    kind, packed = mimetypes.guess_type(path.rpartition("/")[2])
    if packed:
        return _PACKED.get(packed, "application/octet-stream")
    return kind or "application/octet-stream"


class Probe:
    """Tells what changed in a kernel since it was asked last.

    Both reports are ``{"created": {name: what}, "rebound": {name: what}, "deleted": [name], "files": [row]}``, rows as
    ``changed`` gives them, and can be written as JSON. Files are those of the current working directory; of a new
    working directory nothing is told the first time.

    Args:
        namespace: the kernel's namespace.
        hidden: names and values of it that are not the user's.
    """

    def __init__(self, namespace: Mapping[str, Any], hidden: Mapping[str, Any]) -> None:
        self._namespace = namespace
        self._hidden = hidden
        self._told: dict[str, int] = {}
        self._before = snapshot(names(namespace, hidden))
        self._folder = _working_directory()
        self._files = files(self._folder)

    def began(self) -> None:
        """Note the files as a cell begins: what others have written meanwhile is not its doing."""
        self._folder = _working_directory()
        self._files = files(self._folder)

    def context(self) -> dict[str, Any]:
        """Tell what is new since the last report of either kind; at first, and once forgotten, all names are."""
        return self._report(self._told)

    def changes(self) -> dict[str, Any]:
        """Tell what changed since the last report of either kind; at first, since the probe was made."""
        return self._report(self._before)

    def forget(self) -> None:
        """Let the next ``context`` tell all names."""
        self._told = {}

    def _report(self, before: Mapping[str, int]) -> dict[str, Any]:
        own, folder = names(self._namespace, self._hidden), _working_directory()
        report, after = compared(before, own), files(folder)
        report["files"] = changed(self._files, after) if folder == self._folder else []
        self._told = self._before = snapshot(own)
        self._folder, self._files = folder, after
        return report


def _working_directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - far faster than pathlib
    except OSError:  # it was deleted
        return os.devnull


_installed: list[Probe] = []


def install(shell: Any) -> None:
    """Make the probe that ``report`` asks, for an IPython shell."""
    probe = Probe(shell.user_ns, dict(getattr(shell, "user_ns_hidden", {})))
    _installed[:] = [probe]
    shell.events.register("pre_run_cell", lambda _info: probe.began())


def report(kind: str) -> str:
    """Give the installed probe's ``context`` or ``changes`` as JSON in ASCII."""
    return json.dumps(getattr(_installed[0], kind)())


def source() -> str:
    """Give one line of code that installs a probe in an IPython kernel, to be run silently and without history.

    It leaves no name in the user's namespace: the module is in ``sys.modules`` alone.

    Raises:
        OSError: the text of this module cannot be read.
    """
    text = inspect.getsource(sys.modules[__name__])
    lines = (
        "import sys, types",
        "from IPython import get_ipython",
        f"module = types.ModuleType({MODULE!r})",
        f"exec(compile(text, '<{MODULE}>', 'exec'), module.__dict__)",
        "module.install(get_ipython())",
        f"sys.modules[{MODULE!r}] = module",
    )
    return f"__import__('builtins').exec({'; '.join(lines)!a}, {{'text': {text!a}}})\n"
