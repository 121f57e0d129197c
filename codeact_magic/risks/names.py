"""What the names and expressions of a block stand for, as far as it can be read: dotted names and constant texts."""

import ast
import posixpath
import re
from collections.abc import Iterator

_DEEPEST = 50  # levels of an expression that are followed, so that the time is bounded
_LONGEST = 1_000  # characters of a name, and of a text that is joined
# Names that are taken to be imported by an earlier cell.
_LOADED = {"Path": "pathlib.Path", "rmtree": "shutil.rmtree", "Popen": "subprocess.Popen"}
_IMPORTS = {"__import__()", "importlib.import_module()"}
_KEEPS_TEXT = re.compile(r"pathlib\.(Pure)?Path|os\.path\.(join|expanduser|abspath)|os\.fspath|str|(.*\.)?text")


class Names:
    """Names of a block: its imports, its own functions and classes, and what is assigned.

    Args:
        tree: the block.
    """

    def __init__(self, tree: ast.Module) -> None:
        defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        self._given = {node.name: "?" for node in tree.body if isinstance(node, defined)}  # by definitions and imports
        self._names: dict[str, str | None] = {}  # None for more than one
        self._texts: dict[str, str | None] = {}  # the same
        nodes = list(ast.walk(tree))
        for node in nodes:
            self._import(node)
        for name, value in _bindings(nodes):
            self._bind(name, value)

    def _import(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.name if alias.asname else alias.name.partition(".")[0]
                self._given[alias.asname or name] = name
        elif isinstance(node, ast.ImportFrom) and not node.level:
            self._given |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}

    def _bind(self, name: str, value: ast.expr | None) -> None:
        text, dotted = self.text(value), self.name(value) if value else None
        self._texts[name] = text if self._texts.get(name, text) == text else None
        self._names[name] = dotted if self._names.get(name, dotted) == dotted else None

    def name(self, node: ast.AST, depth: int = 0) -> str:
        """Give a dotted name, through imports and assignments: ``os.remove``, ``httpx.Client().post``, ``?.unlink``."""
        name, depth = "?", depth + 1
        match node:
            case _ if depth > _DEEPEST:
                pass
            case ast.Name(id=key):
                name = self._known(key)
            case ast.Attribute(value=value, attr=attr):
                name = f"{self.name(value, depth)}.{attr}".removeprefix("builtins.")
            case ast.Await(value=value) | ast.NamedExpr(value=value) | ast.BinOp(left=value, op=ast.Div()):
                name = self.name(value, depth)
            case ast.Call(func=func, args=args):
                name = f"{self.name(func, depth)}()"
                if name in _IMPORTS and args:
                    name = self.text(args[0], depth=depth) or "?"
        return name if len(name) < _LONGEST else "?"

    def _known(self, key: str) -> str:
        if key in self._given:
            return self._given[key]
        assigned = self._names.get(key) or "?"
        return _LOADED.get(key, key) if assigned.startswith("?") else assigned

    def text(self, node: ast.AST | None, *, loose: bool = False, depth: int = 0) -> str | None:
        """Give the constant text of an expression; where ``loose``, "..." stands for the parts that are not."""
        parts: list[ast.expr] = []
        text, glue, depth = None, "", depth + 1
        match node:
            case _ if depth > _DEEPEST:
                pass
            case ast.Constant(value=str(constant)):
                return constant
            case ast.Name(id=name):
                text = self._texts.get(name)
            case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
                text = self.text(value, depth=depth)
            case ast.JoinedStr(values=parts):
                pass
            case ast.BinOp(left=left, op=ast.Add() | ast.Div() as op, right=right):
                parts, glue = [left, right], "/" if isinstance(op, ast.Div) else ""
            case ast.List(elts=parts) | ast.Tuple(elts=parts) if loose:
                glue = " "
            case ast.Call(func=func, args=args) if _KEEPS_TEXT.fullmatch(self.name(func, depth)):
                parts, glue = args, "/"
        texts = [self.text(part, loose=loose, depth=depth) for part in parts]
        known = [part for part in texts if part is not None]
        if known and len(known) == len(texts) and sum(map(len, known)) < _LONGEST:
            text = posixpath.join(*known) if glue == "/" else glue.join(known)
        return "..." if text is None and loose else text


def _bindings(nodes: list[ast.AST]) -> Iterator[tuple[str, ast.expr | None]]:
    """Give every name that is bound other than by an import, with what it stands for, if that is one expression."""
    values: dict[int, ast.expr] = {}  # by the id of the target, which is visited later
    for node in nodes:
        match node:
            case (
                ast.Assign(targets=[target], value=value)
                | ast.AnnAssign(target=target, value=ast.expr() as value)
                | ast.withitem(optional_vars=ast.expr() as target, context_expr=value)
                | ast.For(target=target, iter=ast.Call() as value)
                | ast.comprehension(target=target, iter=ast.Call() as value)
            ):
                values[id(target)] = value
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                yield name, values.get(id(node))
            case ast.arg(arg=name):
                yield name, None
