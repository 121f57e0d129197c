"""Notebook files: read with ids on all cells, written whole or not at all."""

import contextlib
import glob
import os
import tempfile
import time
import warnings
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from ..errors import ConfigError

_STALE = 60.0  # seconds; no write takes as long
LOAD = "%load_ext codeact_magic"


def read_notebook(path: Path) -> NotebookNode:
    """Read a notebook, with ids on all cells.

    Raises:
        ConfigError: there is none at ``path``, or it cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # missing and repeated ids are mended below
            nb = nbformat.reads(path.read_text(encoding="utf-8-sig"), as_version=4)
    except FileNotFoundError:
        raise ConfigError(f"There is no notebook {path}.") from None
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from None
    except Exception as error:  # noqa: BLE001 - nbformat raises many kinds for files that are no notebooks
        raise ConfigError(f"{path} is not a Jupyter notebook: {str(error).splitlines()[0][:200]}") from None
    nb.nbformat_minor = max(nb.nbformat_minor, 5)
    _, normalized = nbformat.validator.normalize(nb)
    return normalized


def write_notebook(nb: NotebookNode, path: Path) -> None:
    """Write a notebook whole or not at all: a killed process leaves the file as it was before or after.

    Raises:
        ConfigError: it cannot be written there.
    """
    path = path.resolve()  # a link keeps pointing at the notebook
    try:
        _replace(nb, path)
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror or error}.") from None


def _replace(nb: NotebookNode, path: Path) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.{os.getpid()}-", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            nbformat.write(nb, file)
            file.flush()
            os.fsync(file.fileno())
        mode = path.stat().st_mode if path.exists() else 0o666 & ~_umask()
        Path(name).chmod(mode & 0o7777)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def sweep(path: Path) -> None:
    """Remove what runs that were killed in the middle of writing left beside the notebook."""
    path = path.resolve()
    for left in path.parent.glob(f".{glob.escape(path.name[:100])}.*.tmp"):
        with contextlib.suppress(FileNotFoundError):  # it was not left, but is written by another run
            if _has_lost_its_writer(left.name) or time.time() - left.stat().st_mtime > _STALE:
                left.unlink()


def _has_lost_its_writer(name: str) -> bool:
    writer = name.rsplit(".", 2)[1].partition("-")[0]
    if os.name != "posix" or not writer.isdecimal():
        return False
    try:
        os.kill(int(writer), 0)
    except PermissionError:
        return False  # another user's
    except (ProcessLookupError, OverflowError):
        return True
    return False


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def with_prompt(nb: NotebookNode, prompt: str) -> None:
    """Append a ``%%agent`` cell, and a cell that loads the extension where none does."""
    lines = [line.strip() for cell in nb.cells if cell.cell_type == "code" for line in cell.source.splitlines()]
    if LOAD not in lines:
        nb.cells.append(nbformat.v4.new_code_cell(LOAD))
    source = f"%%agent\n{prompt}"
    if not nb.cells or nb.cells[-1].source != source:  # asked before, without an answer
        nb.cells.append(nbformat.v4.new_code_cell(source))
    nb.metadata.setdefault("kernelspec", {"name": "python3", "display_name": "Python 3", "language": "python"})
