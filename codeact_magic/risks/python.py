"""Looks through Python: what is called, with which constant arguments, and what is read of the environment."""

import ast
import posixpath
import re

from . import tables
from .findings import Findings
from .languages import look_at_shell
from .names import Names
from .tables import Kind


def look_at_python(tree: ast.Module, findings: Findings) -> None:
    """Look through a block of Python. No recursion: the nodes are visited breadth first, parents before children."""
    look = _Look(Names(tree), findings)
    for node in ast.walk(tree):
        findings.place = (getattr(node, "lineno", 0), getattr(node, "col_offset", 0))
        look.visit(node)


def _argument(node: ast.Call, place: int | None, keywords: set[str]) -> ast.expr | None:
    """Give an argument by its place or by one of its names."""
    if place is not None and place < len(node.args):
        return node.args[place]
    return next((keyword.value for keyword in node.keywords if keyword.arg in keywords), None)


class _Look:
    """Looks at the nodes of one block."""

    def __init__(self, names: Names, findings: Findings) -> None:
        self._findings = findings
        self._name = names.name
        self._text = names.text
        self._done: set[int] = set()  # ids of nodes that need no look of their own

    def visit(self, node: ast.AST) -> None:
        """Look at a node; its parent was looked at before."""
        match node:
            case ast.Call():
                self._call(node)
            case ast.Expr(value=ast.Constant() as value):
                self._done.add(id(value))  # a docstring
            case ast.Expr(value=value) | ast.FormattedValue(value=value):
                self._environment(value)
            case ast.Constant(value=str()) | ast.BinOp() | ast.JoinedStr() if id(node) not in self._done:
                self._key_file(node)
            case ast.Subscript(value=value, slice=key, ctx=ast.Load()) if self._name(value) == "os.environ":
                self._variable(key)
            case ast.Subscript(value=value, slice=key) if self._name(value) == "os.environ":
                if (name := self._text(key)) and tables.OWN_SETTING.match(name):
                    self._findings.add("settings", f"os.environ[{name!r}]")
            case ast.Attribute(ctx=ast.Load()) | ast.Name(ctx=ast.Load()) if id(node) not in self._done:
                # A function that is handed on, as to map; with a capital it is rather an annotation.
                name = self._name(node)
                if (kind := tables.kind_of(name)) and name.rpartition(".")[2][:1].islower():
                    self._findings.add(kind, name)

    def _key_file(self, node: ast.AST) -> None:
        """Look whether a constant text names a key file, wherever it stands."""
        text = self._text(node)
        if text is None:
            return
        self._done.update(map(id, ast.walk(node)))
        if tables.KEY_FILE.search(text) and (" " not in text or re.match(r"[~/.]|\w:", text)):
            self._findings.add("secrets", f"the key file {text!r}")

    def _call(self, node: ast.Call) -> None:
        name = self._name(node.func)
        self._done.add(id(node.func))
        kind = self._kind(node, name)
        if kind == "shell":
            self._command(node, name)
        elif kind:
            known = self._text(node.args[0]) if node.args else None
            self._findings.add(kind, self._shown(node, name, known))
        elif tables.RUNS_TEXT.fullmatch(name) and node.args:
            self._run_text(name, node.args[0])
        self._writes(node, name)
        self._reads(node, name)

    def _kind(self, node: ast.Call, name: str) -> Kind | None:
        """Give the kind of a call, by its arguments where it may read or write."""
        first = _argument(node, 0, {"method"})
        if tables.RUNS_SQL.fullmatch(name) and tables.SQL.search(self._text(first, loose=True) or ""):
            return "delete"
        if tables.NAMES_METHOD.fullmatch(name) and (self._text(first) or "POST").upper() in tables.SENDS:
            return "network"
        if tables.MAY_SEND_DATA.fullmatch(name) and _argument(node, 1, {"data"}):
            return "network"
        return tables.kind_of(name)

    def _owner(self, node: ast.Call) -> str | None:
        """Give the path that a call is a method of."""
        return self._text(node.func.value) if isinstance(node.func, ast.Attribute) else None

    def _shown(self, node: ast.Call, name: str, known: str | None) -> str:
        """Give a call as the user sees it: ``os.remove('data.csv')``, ``Path('data.csv').unlink()``."""
        owner = self._owner(node)
        unknown = "..." if node.args or node.keywords else ""
        argument = unknown if known is None else "" if known == owner else repr(" ".join(known.split()))
        if owner is not None:
            name = f"Path({owner!r}).{name.rpartition('.')[2]}"
        return f"{name.lstrip('?').removeprefix('pathlib.')}({argument})"

    def _command(self, node: ast.Call, name: str) -> None:
        args = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg in ("args", "cmd"))]
        text = " ".join(self._text(arg, loose=True) or "" for arg in args)
        if text.strip(". "):
            look_at_shell(text, self._findings, f"{name}({{!r}})")
        else:
            self._findings.add("shell", f"{name}({'...' if args else ''})")

    def _run_text(self, name: str, code: ast.expr) -> None:
        text = self._text(code)
        if text is not None:
            self._findings.inside(text)
        elif self._name(code) != "compile()":
            self._findings.add("unknown", f"{name} of text that is built at run time")

    def _writes(self, node: ast.Call, name: str) -> None:
        """Look whether a call writes over a file, or to another machine."""
        for path in filter(None, self._written(node, name)):
            if tables.REMOTE.match(path):
                self._findings.add("network", self._shown(node, name, path))
            elif self._findings.exists(path):
                self._findings.add("overwrite", self._shown(node, name, path))

    def _written(self, node: ast.Call, name: str) -> list[str | None]:
        """Give the files that a call writes or moves away."""
        owner, last = self._owner(node), name.rpartition(".")[2]
        if last in ("write_text", "write_bytes"):
            return [owner]
        if tables.OPENS.fullmatch(name) or (last == "open" and owner):
            mode = self._text(_argument(node, 0 if owner else 1, {"mode"})) or "r"
            return [owner or self._text(_argument(node, 0, tables.PATHS))] if tables.WRITES.match(mode) else []
        place = next((place for pattern, place in tables.WRITERS if pattern.fullmatch(name)), None)
        if place is None or self._text(_argument(node, None, {"mode"})) == "a":
            return []
        source, target = _argument(node, 0, set()), self._text(_argument(node, place, tables.PATHS))
        old = (self._text(source) if place else owner) or ""
        inside = posixpath.join(target or "", posixpath.basename(old)) if place else None  # of a directory
        return [target, inside, old if last in tables.MOVES else None]

    def _reads(self, node: ast.Call, name: str) -> None:
        """Look whether a call reads a key file, the environment, or a secret in it."""
        values = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg != "env")]
        for value in values:
            self._environment(value)
            if tables.READS.fullmatch(name) and tables.MAYBE_KEY_FILE.search(text := self._text(value) or ""):
                self._findings.add("secrets", f"the key file {text!r}")
        if tables.READS_VARIABLE.fullmatch(name) and node.args:
            self._variable(node.args[0])

    def _environment(self, value: ast.expr) -> None:
        if tables.ENVIRONMENT.fullmatch(self._name(value)):
            self._findings.add("secrets", "the whole environment (os.environ)")

    def _variable(self, key: ast.expr) -> None:
        if (name := self._text(key)) and tables.SECRET.search(name):
            self._findings.add("secrets", f"os.environ[{name!r}]")
