"""A missing package is known by its import's error; what ran before it is not run twice."""

import pytest

from codeact_magic.events import Output
from codeact_magic.packages import begins_with_imports, install, missing
from codeact_magic.risks import risks

from .fakes import failure, stream


def lacks(module: str) -> Output:
    return failure("ModuleNotFoundError", f"No module named {module!r}")


@pytest.mark.parametrize("module", ["six", "sklearn", "_private", "PIL", "a1"])
def test_a_missing_module_is_named(module: str) -> None:
    assert missing(lacks(module)) == module


OTHERS: list[Output] = [
    lacks("pandas.nothing"),
    lacks("a b"),
    lacks("x; rm -rf"),
    lacks("--index-url=evil"),
    lacks("ümlaut"),
    lacks("x" * 200),
    lacks(""),
    failure("ImportError", "No module named 'six'"),
    failure("ModuleNotFoundError", "No module named 'a'; 'a' is not a package"),
    failure("ModuleNotFoundError", "No module named 'six'\nNo module named 'b'"),
    failure("ModuleNotFoundError", "Install six."),
    failure("NameError", "name 'six' is not defined"),
    {"output_type": "error"},
    stream("No module named 'six'"),
]


@pytest.mark.parametrize("output", OTHERS, ids=str)
def test_another_error_names_no_package(output: Output) -> None:
    assert missing(output) == ""


def test_the_install_tries_the_import_as_well() -> None:
    assert install("six") == "%pip install six\nimport six"


@pytest.mark.parametrize(
    ("module", "package"), [("PIL", "pillow"), ("sklearn", "scikit-learn"), ("yaml", "pyyaml"), ("cv2", "opencv")]
)
def test_packages_that_are_named_otherwise_are_known(module: str, package: str) -> None:
    assert install(module).startswith(f"%pip install {package}")
    assert install(module).endswith(f"\nimport {module}")


def test_an_install_is_found_to_be_one() -> None:
    assert [risk.kind for risk in risks(install("six"))] == ["install"]


AGAIN = [
    "import six",
    "import six as s\ns.x",
    "import six.moves",
    "import os, six",
    "from six import moves\nopen('x', 'w')",
    "from six.moves import range",
    '"""What it does."""\nimport os\n# first\nimport six\nrun()',
    "from __future__ import annotations\nimport six",
    "import json",
    "",
]
NOT_AGAIN = [
    "x = 1\nimport six",
    "print('once')\nimport six",
    "def f():\n    import six\nf()",
    "try:\n    import six\nexcept ValueError:\n    pass",
    "if True:\n    import six",
    "%matplotlib inline\nimport six",
    "import six; import",
    "__import__('six')",
    "x = '\0'",
    "(" * 10_000,
]


@pytest.mark.parametrize("code", AGAIN)
def test_code_may_run_again_where_only_imports_ran(code: str) -> None:
    assert begins_with_imports(code, "six")


@pytest.mark.parametrize("code", NOT_AGAIN, ids=lambda code: code[:30])
def test_code_must_not_run_again_where_anything_ran(code: str) -> None:
    assert not begins_with_imports(code, "six")
