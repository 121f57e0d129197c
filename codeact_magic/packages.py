"""Packages that a cell lacked: which one to install, and whether the cell can be run again afterwards."""

import ast
import re

from .events import Output

_MISSING = re.compile(r"No module named '([A-Za-z_]\w{0,99})'")
_DISTRIBUTIONS = {
    "Bio": "biopython",
    "Crypto": "pycryptodome",
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "git": "gitpython",
    "jwt": "pyjwt",
    "osgeo": "gdal",
    "pptx": "python-pptx",
    "psycopg2": "psycopg2-binary",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "umap": "umap-learn",
    "yaml": "pyyaml",
}


def missing(error: Output) -> str:
    """Give the module that an ``error`` output says is not installed; empty if it says something else.

    A missing part of an installed package (``No module named 'a.b'``) is no reason to install anything.
    """
    found = _MISSING.fullmatch(str(error.get("evalue"))) if error.get("ename") == "ModuleNotFoundError" else None
    return found[1] if found else ""


def install(module: str) -> str:
    """Give the cell that installs a module's package and tries its import again."""
    return f"%pip install {_DISTRIBUTIONS.get(module, module)}\nimport {module}"


def begins_with_imports(code: str, module: str) -> bool:
    """Say whether nothing but imports and docstrings ran before ``module`` was missed, so that code may run again."""
    try:
        statements = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for statement in statements:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            names = [each.name for each in statement.names] if isinstance(statement, ast.Import) else []
            names.append(getattr(statement, "module", None) or "")
            if any(name.split(".")[0] == module for name in names):
                return True
        elif not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
            return False
    return True
