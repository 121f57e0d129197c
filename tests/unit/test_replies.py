"""A reply is read as narration and blocks, the same however it is cut into pieces."""

import os
import shlex
import time
import warnings
from pathlib import Path

import pytest

from codeact_magic.replies import Block, Narration, Reply, ReplyParser, parse


def codes(text: str) -> list[str]:
    return [block.code for block in parse(text).blocks]


def narrated(reply: Reply) -> str:
    return "".join(part.text for part in reply.parts if isinstance(part, Narration))


RUNS: dict[str, tuple[str, list[str]]] = {
    "python": ("```python\nx = 1\n```\n", ["x = 1"]),
    "py": ("```py\nx = 1\n```\n", ["x = 1"]),
    "capitals": ("```Python\nx = 1\n```\n", ["x = 1"]),
    "a space before the label": ("``` python\nx = 1\n```\n", ["x = 1"]),
    "braces around the label": ("```{python}\nx = 1\n```\n", ["x = 1"]),
    "no newline at the end": ("```python\nx = 1\n```", ["x = 1"]),
    "narration around": ("Look.\n```python\nx = 1\n```\nDone.", ["x = 1"]),
    "two blocks": ("```python\na\n```\nthen\n```python\nb\n```\n", ["a", "b"]),
    "blocks that touch": ("```python\na\n```\n```python\nb\n```\n", ["a", "b"]),
    "blank lines inside": ("```python\na\n\n\nb\n```\n", ["a\n\n\nb"]),
    "spaces after the closing fence": ("```python\na\n```  \n", ["a"]),
    "execute": ("<execute>\nx = 1\n</execute>\n", ["x = 1"]),
    "execute on one line": ("<execute>x = 1</execute>", ["x = 1"]),
    "execute closed behind code": ("<execute>\nx = 1</execute>\n", ["x = 1"]),
    "a fence inside execute": ('<execute>\nx = """\n```\n"""\n</execute>\n', ['x = """\n```\n"""']),
    "execute inside a string": ('<execute>\nx = """\n</execute>\n"""\n</execute>', ['x = """\n</execute>\n"""']),
    "bash": ("```bash\nls -l\n```\n", ["%%bash\nls -l"]),
    "sh": ("```sh\nls\n```\n", ["%%sh\nls"]),
    "shell": ("```shell\nls\n```\n", ["%%bash\nls"]),
    "pwsh": ("```pwsh\nls\n```\n", ["%%script pwsh -NoProfile -Command -\nls"]),
    "filename": ("```python\n# filename: a.py\nx = 1\n```\n", ["%%writefile a.py\nx = 1"]),
    "filename in a folder": ("```python\n# filename: src/a.py\nx\n```\n", ["%%writefile src/a.py\nx"]),
    "filename with a space": ("```python\n# filename: my file.py\nx\n```\n", ['%%writefile "my file.py"\nx']),
    "filename not on the first line": ("```python\nx = 1\n# filename: a.py\n```\n", ["x = 1\n# filename: a.py"]),
    "unlabelled Python": ("```\nx = 1\nprint(x)\n```\n", ["x = 1\nprint(x)"]),
    "unlabelled prose": ("```\nthis is no Python\n```\n", []),
    "unlabelled and empty": ("```\n\n```\n", []),
    "unlabelled comment": ("```\n# nothing\n```\n", []),
    "text": ("```text\nprint(1)\n```\n", []),
    "json": ('```json\n{"a": 1}\n```\n', []),
    "javascript": ("```javascript\nalert(1)\n```\n", []),
    "pycon": ("```pycon\n>>> 1\n```\n", []),
    "python block within a quoted block": ("````markdown\n```python\nx = 1\n```\n````\n", []),
    "python block behind a quoted block": ("```text\nquoted\n```\n```python\nx\n```\n", ["x"]),
    "longer fence": ("````python\nx = 1\n```\ny = 2\n````\n", ["x = 1\n```\ny = 2"]),
    "longer closing fence": ("```python\nx = 1\n`````\n", ["x = 1"]),
    "tildes": ("~~~python\nx = 1\n~~~\n", ["x = 1"]),
    "backticks do not close tildes": ("~~~python\nx = 1\n```\ny\n~~~\n", ["x = 1\n```\ny"]),
    "two backticks are no fence": ("``python\nx = 1\n``\n", []),
    "backticks on one line": ("```python x = 1```\n", []),
    "list item": ("1. First\n\n   ```python\n   if x:\n       y\n   ```\n2. Second\n", ["if x:\n    y"]),
    "list item, less indented line": ("- a\n\n    ```python\n    x\n  y\n    ```\n", ["x\ny"]),
    "tab": ("-\ta\n\n\t```python\n\tx\n\t```\n", ["x"]),
    "fence in a triple-quoted string": (
        '```python\ntext = """\n```bash\nls\n```\n"""\nprint(text)\n```\n',
        ['text = """\n```bash\nls\n```\n"""\nprint(text)'],
    ),
    "fence in single quotes": ("```python\nt = '''\n```\n'''\n```\n", ["t = '''\n```\n'''"]),
    "a quote in a comment opens nothing": ('```python\n# don\'t """ this\nx\n```\nDone.', ['# don\'t """ this\nx']),
    "a triple quote in a string opens nothing": ('```python\nx = \'"""\'\n```\nDone.', ['x = \'"""\'']),
    "an escaped quote": ("```python\nx = 'it\\'s \"\"\"'\n```\nDone.", ["x = 'it\\'s \"\"\"'"]),
    "a string closed on its line": ('```python\nx = """a"""\n```\nDone.', ['x = """a"""']),
    "an unterminated string": ('```python\nx = """oops\n```\nDone.\n', ['x = """oops']),
    "blocks behind an unterminated string": (
        '```python\nx = """oops\n```\nand\n```python\ny\n```\n',
        ['x = """oops', "y"],
    ),
    "a magic, and a fence in a string": (
        '```python\n%matplotlib inline\nx = """\n```\nls\n```\n"""\n```\n',
        ['%matplotlib inline\nx = """\n```\nls\n```\n"""'],
    ),
    "a shell line, and a fence in a string": (
        '```python\n!pip list\nx = """\n```\n"""\n```\n',
        ['!pip list\nx = """\n```\n"""'],
    ),
    "an unterminated string of one line": ("```python\nx = 'oops\n```\nDone.\n", ["x = 'oops"]),
    "unclosed": ("```python\nx = 1\n", []),
    "unclosed behind a closed one": ("```python\na\n```\n```python\nb\n", ["a"]),
    "unclosed execute": ("<execute>\nx = 1\n", []),
    "unclosed bash": ("```bash\nrm -r x\n", []),
    "unclosed and unlabelled": ("```\nx = 1\n", []),
    "only a fence": ("```python", []),
    "empty block": ("```python\n```\n", []),
    "blank block": ("```python\n  \n\n```\n", []),
    "CRLF": ("Hi\r\n```python\r\nx = 1\r\ny = 2\r\n```\r\n", ["x = 1\ny = 2"]),
    "CRLF in execute": ("<execute>\r\nx = 1\r\n</execute>\r\n", ["x = 1"]),
    "thoughts": ("<think>\n```python\nbad()\n```\n</think>\n```python\ngood()\n```\n", ["good()"]),
    "thoughts behind a blank line": ("\n<think>\n```python\nbad()\n```\n</think>\nThe answer.", []),
    "thoughts on one line": ("<think>short</think>\n```python\nx\n```\n", ["x"]),
    "thoughts without an end": ("<think>\n```python\nbad()\n```\n", []),
    "think later on": ("Well.\n<think>\n```python\nx\n```\n", ["x"]),
    "cell": ("```python cell=abc-1_2\nx\n```\n", ["x"]),
    "null bytes": ("a\x00b\n```python\nx = '\x00'\n```\n", ["x = '\x00'"]),
    "unlabelled null bytes": ("```\nx = \x00\n```\n", []),
    "form feeds and other line ends": ("```python\nx = 'a\x0cb\u2028c'\n```\n", ["x = 'a\x0cb\u2028c'"]),
    "empty": ("", []),
    "answer": ("It is 42.", []),
    "inline code": ("Use `x = 1` or ``` here.", []),
}


@pytest.mark.parametrize("sample", RUNS)
def test_only_whole_labelled_or_parseable_blocks_run(sample: str) -> None:
    text, expected = RUNS[sample]
    assert codes(text) == expected


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("sample", RUNS)
def test_pieces_of_any_size_give_the_same_as_the_whole(sample: str, size: int) -> None:
    text = RUNS[sample][0]
    parser = ReplyParser()
    for start in range(0, len(text), size):
        parser.feed(text[start : start + size])
    pieced, whole = parser.close(), parse(text)
    assert [(type(part), getattr(part, "closed", None)) for part in pieced.parts] == [
        (type(part), getattr(part, "closed", None)) for part in whole.parts
    ]
    assert [part.text if isinstance(part, Narration) else part.source for part in pieced.parts] == [
        part.text if isinstance(part, Narration) else part.source for part in whole.parts
    ]


@pytest.mark.parametrize(
    "text",
    ["", "It is 42.", "Two\n\nparagraphs.\n", "```text\nquoted\n```\n", "````markdown\n```python\nx\n```\n````\n"],
)
def test_what_holds_no_block_is_narration_to_the_letter(text: str) -> None:
    assert narrated(parse(text)) == text


def test_an_unlabelled_fence_that_is_no_python_is_quoted_with_its_fences() -> None:
    assert narrated(parse("See:\n```\nnot Python at all\n```\nDone.")) == "See:\n```\nnot Python at all\n```\nDone."


@pytest.mark.parametrize(
    ("info", "target"),
    [
        ("python cell=abc", "abc"),
        ('python cell="abc"', "abc"),
        ("python title=x cell=1f-2_C", "1f-2_C"),
        ("python", ""),
        ("python supercell=abc", ""),
    ],
)
def test_a_block_may_name_the_cell_that_it_edits(info: str, target: str) -> None:
    assert parse(f"```{info}\nx\n```\n").blocks[0].target == target


@pytest.mark.parametrize(
    "text", ["```python\nx", "a\n```python\nx\n", "```bash\nls\n", "<execute>\nx\n", '```python\nx = """\ny\n']
)
def test_a_block_that_broke_off_is_unclosed(text: str) -> None:
    assert parse(text).unclosed


@pytest.mark.parametrize("text", ["", "answer", "```python\nx\n```\n", "```\nx = 1\n", "```text\nquoted"])
def test_nothing_else_is_unclosed(text: str) -> None:
    assert parse(text).unclosed is None


def written(name: str) -> str:
    (code,) = codes(f"```python\n# filename: {name}\nx\n```\n")
    magic, path = shlex.split(code.partition("\n")[0])
    assert magic == "%%writefile"
    return path


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "//etc/passwd",
        "a/../../../etc/passwd",
        "./../x",
        "~/.bashrc",
        "~root/x",
        "$HOME/x",
        "{HOME}/x",
        "..\\..\\x",
        "C:\\Windows\\x",
        "-a x.py",
        "--append x.py",
        "-/etc/passwd",
        "--/etc/passwd",
        "-/../etc/passwd",
        "..",
        "-",
        "a b/../../c",
        "x\x00y",
        'a" -a "b',
        "a; rm -rf x",
    ],
)
def test_a_file_stays_within_the_working_directory(name: str) -> None:
    given = written(name)
    path = Path(os.path.expandvars(given)).expanduser()
    assert not path.is_absolute()
    assert os.path.normpath(Path("/work/dir", path)).startswith("/work/dir/")
    assert not given.startswith("-")
    assert not set(given) & set("{}$\x00\"'")


def test_a_block_is_readable_while_it_streams() -> None:
    parser = ReplyParser()
    parser.feed("Look.\n```python\nx = 1\ny =")
    block = parser.reply.parts[-1]
    assert isinstance(block, Block)
    assert (block.source, block.closed, parser.unfinished) == ("x = 1\n", False, "y =")


MEGABYTE = 1_000_000
LARGE = {
    "one line": "x" * MEGABYTE,
    "many lines": "line\n" * (MEGABYTE // 5),
    "code": "```python\n" + "x = 'a'  # b\n" * (MEGABYTE // 13) + "```\n",
    "one line of code": "```python\nx = '" + "a" * MEGABYTE + "'\n```\n",
    "quotes": "```python\n" + "'" * MEGABYTE + "\n```\n",
    "backslashes": '```python\nx = """' + "\\" * MEGABYTE + "\n```\n",
    "backticks": "`" * MEGABYTE,
    "fences": "```\n" * (MEGABYTE // 4),
    "blanks": " " * MEGABYTE,
    "brackets": "```\n" + "(" * MEGABYTE + "\n```\n",
    "minus signs": "```\n" + "-" * MEGABYTE + "1\n```\n",
    "info": "```" + "a " * (MEGABYTE // 2) + "\n",
    "tag": "<execute>" * (MEGABYTE // 9),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("sample", LARGE)
def test_a_reply_of_a_megabyte_is_read_within_seconds(sample: str) -> None:
    began = time.perf_counter()
    parse(LARGE[sample])
    assert time.perf_counter() - began < 5


@pytest.mark.timeout(20)
def test_a_megabyte_in_single_characters_is_read_within_seconds() -> None:
    parser, began = ReplyParser(), time.perf_counter()
    for character in "```python\n" + "x" * MEGABYTE + "\n```\n":
        parser.feed(character)
    assert len(parser.close().blocks[0].source) == MEGABYTE + 1
    assert time.perf_counter() - began < 5


def test_looking_whether_a_block_is_python_warns_of_nothing() -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert codes("```\nx = '\\d'\n```\n") == ["x = '\\d'"]
    assert not warned


def test_an_unlabelled_block_runs_also_where_warnings_are_errors() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert codes("```\nx = '\\d'\n```\n") == ["x = '\\d'"]


@pytest.mark.parametrize(
    ("language", "label", "code"),
    [
        ("r", "r", "x <- 1"),
        ("r", "R", "x <- 1"),
        ("r", "{r}", "x <- 1"),
        ("julia", "jl", "x = 1"),
        ("bash", "bash", "ls -l"),
        ("bash", "sh", "ls -l"),
        ("bash", "shell", "ls -l"),
        ("javascript", "js", "let x"),
        ("r", "r", "# filename: a.R\nx"),
        ("r", "r", "x <- \"'''\""),
    ],
)
def test_code_for_another_kernel_runs_as_it_is(language: str, label: str, code: str) -> None:
    assert [block.code for block in parse(f"```{label}\n{code}\n```\n", language).blocks] == [code]


@pytest.mark.parametrize(
    ("language", "label"),
    [
        ("r", ""),
        ("r", "python"),
        ("r", "bash"),
        ("r", "text"),
        ("bash", ""),
        ("bash", "python"),
        ("julia", "r"),
        ("python", "r"),
        ("python", "julia"),
    ],
)
def test_code_in_another_language_than_the_kernels_is_quoted(language: str, label: str) -> None:
    text = f"See:\n```{label}\nx <- 1\n```\nDone."
    reply = parse(text, language)
    assert (reply.blocks, narrated(reply)) == ([], text)


@pytest.mark.parametrize("language", ["r", "bash"])
def test_an_unlabelled_fence_that_breaks_off_is_quoted_in_another_kernel(language: str) -> None:
    reply = parse("See:\n```\nx = 1\n", language)
    assert (reply.unclosed, narrated(reply)) == (None, "See:\n```\nx = 1\n")


def test_a_triple_quote_means_nothing_in_another_language() -> None:
    text = "```r\n# ''' once\n```\nand\n```r\ny\n```\n"
    assert [block.code for block in parse(text, "r").blocks] == ["# ''' once", "y"]
