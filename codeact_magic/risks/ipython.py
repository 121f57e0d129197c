"""Reads what only IPython reads, magics and shell lines, and gives the Python of a cell."""

import ast
import re
import textwrap
import warnings

from .findings import Findings
from .languages import look_at_shell
from .tables import (
    INSTALLERS,
    KERNELS,
    LINES,
    OWN_SETTING,
    PYTHON_CELLS,
    PYTHON_MAGICS,
    SHELL_MAGICS,
    SHELLS,
    SQL,
)

_CELL = re.compile(r"%%([\w!.]+)[ \t]*([^\n]*)(?:\n+|$)")
_HELP = re.compile(r"\s*+(?:[?,;/].*|[^#]*\?\s*)")  # and calls that IPython puts the brackets to, which are not seen
_ESCAPE = re.compile(r"(\s*+)((?:[\w.,:*\s]|\[[^\]=]*\])*+=\s*+)?(!!?|%%?)(.*)", re.DOTALL)
_AUTOMAGIC = re.compile(
    rf"(?:{'|'.join(sorted(INSTALLERS))}|rm|rmdir|cp|mv|ln|cat)"
    r"[ \t]+(?![-+*/%<>&|^]+\s|[=!<>]*=|(?:in|is|if|or|and)\s)\S.*"
)
_ROW = re.compile(r"(.*)(?:(?<=\\)\n.*)*")  # with the rows that continue it
_TOKEN = re.compile(
    r"""#[^\n]*|('''|\"\"\")(?:\\.|[^\\])*?(?:\1|\Z)|(['"])(?:\\.|(?!\2)[^\\\n])*\2?|[][(){}]|\\?\n""", re.DOTALL
)
_OPTIONS = re.compile(r"(?:-(?:[nrp]\s*\d+|[slTD]\s+\S+|\w+)\s+)*")


def parsed_cell(code: str, findings: Findings) -> ast.Module | None:
    """Look at the magics and shell lines of a cell, and give its Python; None if it is not valid."""
    code = textwrap.dedent(re.sub(r"\r\n?", "\n", code)).lstrip("\n")
    heads, position = "", 0
    while cell := _CELL.match(code, position):
        position = cell.end()
        if cell[1] not in PYTHON_CELLS:
            _look_at_magic(f"%%{cell[1]}", cell[2], code[position:], findings)
            return _parsed(_plain(heads, findings))
        heads += f"%{cell[1]} {cell[2]}\n"
    code = heads + textwrap.dedent(code[position:])
    if _AUTOMAGIC.fullmatch(code.strip()):
        code = f"%{code.strip()}"
    return _parsed(code) or _parsed(_plain(code, findings))


def _parsed(code: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes are for whoever runs the code
            return ast.parse(code)
    except (SyntaxError, ValueError):
        return None


def _plain(code: str, findings: Findings) -> str:
    """Look at what only IPython reads, and give the code without it: ``%time f()`` becomes ``f()``."""
    plain: list[str] = []
    position, number = 0, 1
    while position <= len(code) and (row := _ROW.match(code, position)):
        if _HELP.fullmatch(row[1]) or _ESCAPE.match(row[1]):
            findings.place = (number, 0)
            end = row.end()
            plain.append(_escape(row[0].replace("\\\n", ""), findings) + "\n" * row[0].count("\n"))
        else:
            end = _end(code, position)
            plain.append(code[position:end])
        number += plain[-1].count("\n") + 1
        position = end + 1
    return "\n".join(plain)


def _end(code: str, start: int) -> int:
    """Give where the row ends on which a line of Python ends, which goes on in strings and brackets."""
    depth = 0
    for token in _TOKEN.finditer(code, start):
        if token[0] in "([{":
            depth += 1
        elif token[0] in ")]}":
            depth = max(depth - 1, 0)
        elif token[0] == "\n" and not depth:
            return token.start()
    return len(code)


def _escape(row: str, findings: Findings) -> str:
    """Look at a line that only IPython reads, and give Python in its place."""
    escape = _ESCAPE.match(row)
    if not escape or (escape[3][0] == "%" and _HELP.fullmatch(row)):
        return f"{row[: len(row) - len(row.lstrip())]}pass"
    indent, target, mark, text = escape.groups(default="")
    name, rest = [*text.split(maxsplit=1), "", ""][:2]
    if mark[0] == "!":
        look_at_shell(text, findings, f"{mark}{{}}")
    elif name in PYTHON_MAGICS:
        rest = _OPTIONS.sub("", rest, count=1)
        if rest and _parsed(target.strip() + rest):
            return f"{indent}{target}{rest}"
        findings.inside(rest)  # a magic again
    else:
        _look_at_magic(f"%{name}", rest, "", findings)
    return f"{indent}{target or '_ = '}None"


def _look_at_magic(magic: str, rest: str, body: str, findings: Findings) -> None:
    """Look at a magic; ``body`` is empty for a line's."""
    name, text = magic.lstrip("%"), f"{rest}\n{body}"
    if name in SHELLS:
        look_at_shell(body, findings, f"{magic} {{}}")
    elif name in SHELL_MAGICS:
        look_at_shell(text, findings, f"{magic} {{}}")
    elif name in INSTALLERS:
        look_at_shell(f"{name} {rest}", findings, "%{}", calm=True)
    elif name.lower() in LINES:
        findings.inside(body or rest, name)
    elif name in ("reset", "reset_selective"):
        findings.add("delete", f"{magic} {rest}")
    elif name == "in_kernel":
        findings.inside(body, _language(rest))
    elif (name == "config" and "CodeAct" in rest) or (name in ("env", "set_env") and OWN_SETTING.match(rest)):
        findings.add("settings", f"{magic} {rest}")
    elif name == "sql" and (sql := SQL.search(text)):
        findings.add("delete", f"{magic} {text[sql.start() :]}")
    elif name in ("javascript", "js") or (name in ("html", "HTML") and "<script" in body.lower()):
        findings.add("unknown", f"{magic} with a script, which is not looked through")
    elif name in ("writefile", "file") and findings.exists(rest.strip("\"' \t")):  # with -a that is no file's name
        findings.add("overwrite", f"{magic} {rest}")


def _language(line: str) -> str:
    """Give the language of the kernel that a line of ``%%in_kernel`` names: kernels are named after it."""
    name = next((word for word in line.split() if not word.startswith("-")), "").lower()
    return "python" if "python" in name else KERNELS.get(name, re.split(r"[\W_\d]", name)[0] or name)
