"""Notebooks that tests write, run with ``codeact run``, and read back."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat

from tests.kernels import KEY, NOWHERE

LOAD = "%load_ext codeact_magic"


def block(code: str, language: str = "python") -> str:
    """Give a reply's block of code."""
    return f"```{language}\n{code}\n```\n"


def write(path: Path, *sources: str) -> Path:
    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{place}") for place, source in enumerate(sources)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def cells(path: Path) -> list[Any]:
    nb = nbformat.read(path, as_version=4)
    nbformat.validate(nb)
    return list(nb.cells)


def environment(base_url: str = NOWHERE, **more: str) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("CODEACT_", "OPENAI_", "PYTEST_"))
    }
    return kept | {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": KEY, "CODEACT_APPROVAL": "auto"} | more


def start(*arguments: Any, base_url: str = NOWHERE, **more: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "codeact_magic.cli", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment(base_url, **more), stdout=pipe, stderr=pipe, text=True)


def codeact(*arguments: Any, base_url: str = NOWHERE, **more: str) -> tuple[int, str, str]:
    with start(*arguments, base_url=base_url, **more) as process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out, err
