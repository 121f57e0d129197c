"""What a successful install prints becomes one line; a failed one is shown unchanged, and so is all else."""

import random
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from codeact_magic.executors.pip import MOST_HELD, PipFold, folding

NOTE = "Note: you may need to restart the kernel to use updated packages.\n"
NOTICE = (
    "\r\n\x1b[1m[\x1b[0m\x1b[34;49mnotice\x1b[0m\x1b[1;39;49m]\x1b[0m\x1b[39;49m A new release of pip is available: "
    "\x1b[0m\x1b[31;49m24.0\x1b[0m\x1b[39;49m -> \x1b[0m\x1b[32;49m25.1\x1b[0m\r\n\x1b[1m[\x1b[0m\x1b[34;49mnotice"
    "\x1b[0m\x1b[1;39;49m]\x1b[0m\x1b[39;49m To update, run: \x1b[0m\x1b[32;49mpip install --upgrade pip\x1b[0m\r\n"
)
ROOT = (
    "\x1b[33mWARNING: Running pip as the 'root' user can result in broken permissions and conflicting behaviour with "
    "the system package manager. It is recommended to use a virtual environment instead.\x1b[0m\x1b[33m\r\n\x1b[0m"
)
BAR = (
    "\x1b[?25l     \x1b[90m━━━━━━━━━━━━━━━━━━━━\x1b[0m \x1b[32m0.0/133.7 kB\x1b[0m \x1b[31m?\x1b[0m eta \x1b[36m-:--:--"
    "\x1b[0m\r\x1b[2K     \x1b[90m━━━━━━━━━━━━━━━━━━\x1b[0m \x1b[32m133.7/133.7 kB\x1b[0m \x1b[31m114.4 MB/s\x1b[0m eta "
    "\x1b[36m0:00:00\x1b[0m\r\n\x1b[?25h"
)
PIP = (
    f"Looking in links: /wheels\r\nCollecting humanize\r\n  Downloading humanize-4.17.0-py3-none-any.whl (133 kB)\r\n{BAR}"
    "Requirement already satisfied: six in /venv/lib/python3.11/site-packages (1.17.0)\r\n"
    "Installing collected packages: humanize\r\nSuccessfully installed humanize-4.17.0\r\n"
)
UPGRADED = (
    "Requirement already satisfied: humanize in /venv/lib/python3.11/site-packages (4.9.0)\r\nCollecting humanize\r\n"
    "  Downloading humanize-4.17.0-py3-none-any.whl (133 kB)\r\nInstalling collected packages: humanize\r\n"
    "  Attempting uninstall: humanize\r\n    Found existing installation: humanize 4.9.0\r\n    Uninstalling "
    "humanize-4.9.0:\r\n      Successfully uninstalled humanize-4.9.0\r\nSuccessfully installed humanize-4.17.0\r\n"
)
SEVERAL = (
    "Collecting jsonschema==3.2.0\r\n  Downloading jsonschema-3.2.0-py2.py3-none-any.whl (56 kB)\r\n"
    "Collecting pyrsistent>=0.14.0 (from jsonschema==3.2.0)\r\n  Using cached pyrsistent-0.20.0-cp311.whl (120 kB)\r\n"
    "Requirement already satisfied: six>=1.11.0 in /venv/site-packages (from jsonschema==3.2.0) (1.17.0)\r\n"
    "Installing collected packages: pyrsistent, jsonschema\r\n\x1b[?25l\r\x1b[2K   \x1b[90m━━━━━━━━━━\x1b[0m \x1b[32m2/2"
    "\x1b[0m [jsonschema]\r\n\x1b[?25h\r\x1b[1A\x1b[2KSuccessfully installed jsonschema-3.2.0 pyrsistent-0.20.0\r\n"
)
BUILT = (
    "Collecting docopt\r\n  Downloading docopt-0.6.2.tar.gz (25 kB)\r\n  Installing build dependencies ... \x1b[?25l-"
    "\x08 \x08\\\x08 \x08done\r\n\x1b[?25h  Preparing metadata (pyproject.toml) ... \x1b[?25l-\x08 \x08done\r\n\x1b[?25h"
    "Building wheels for collected packages: docopt\r\n  Building wheel for docopt (pyproject.toml) ... \x1b[?25l-\x08 "
    "\x08done\r\n\x1b[?25h  Created wheel for docopt: filename=docopt-0.6.2-py2.py3-none-any.whl size=13781\r\n  Stored "
    "in directory: /root/.cache/pip/wheels/1a\r\nSuccessfully built docopt\r\nInstalling collected packages: docopt\r\n"
    "Successfully installed docopt-0.6.2\r\n"
)
THERE = (
    "Requirement already satisfied: pandas[excel]>=2 in /venv/site-packages (2.2.0)\r\n"
    "Requirement already satisfied: numpy>=1.22 in /venv/site-packages (from pandas[excel]>=2) (1.26)\r\n"
    "Requirement already satisfied: six in /venv/site-packages (from -r requirements.txt (line 2)) (1.17.0)\r\n"
)
UV = (
    "\x1b[2mUsing Python 3.11.7 environment at: /venv\x1b[0m\r\n\x1b[37m⠋\x1b[0m \x1b[2mResolving dependencies...    "
    "\x1b[0m\r\x1b[2K\x1b[37m⠙\x1b[0m \x1b[2mhumanize==4.8.0   \x1b[0m\r\x1b[2K\x1b[2mResolved \x1b[1m2 packages\x1b[0m "
    "\x1b[2min 206ms\x1b[0m\x1b[0m\r\n\x1b[37m⠙\x1b[0m \x1b[2mPreparing packages...\x1b[0m (0/1)     \x1b[2mhumanize   "
    "\x1b[0m \x1b[32m------\x1b[30m\x1b[2m----\x1b[0m\x1b[0m 64.00 KiB/114.40 KiB  \x1b[1A\r\x1b[2K\x1b[1B\r\x1b[2K\x1b[1A"
    "\x1b[37m⠙\x1b[0m \x1b[2m\x1b[0m (1/1)   \r\x1b[2K\x1b[2mPrepared \x1b[1m1 package\x1b[0m \x1b[2min 162ms\x1b[0m"
    "\x1b[0m\r\n\x1b[2mUninstalled \x1b[1m1 package\x1b[0m \x1b[2min 5ms\x1b[0m\x1b[0m\r\n░░░░░░░░ [0/1] \x1b[2mInstalling "
    "wheels...   \x1b[0m\r\x1b[2K████████ [1/1] \x1b[2mhumanize==4.8.0   \x1b[0m\r\x1b[2K\x1b[2mInstalled \x1b[1m1 package"
    "\x1b[0m \x1b[2min 3ms\x1b[0m\x1b[0m\r\n \x1b[31m-\x1b[39m \x1b[1mhumanize\x1b[0m\x1b[2m==4.17.0\x1b[0m\r\n "
    "\x1b[32m+\x1b[39m \x1b[1mhumanize\x1b[0m\x1b[2m==4.8.0\x1b[0m\r\n"
)
UV_THERE = "\x1b[2mUsing Python 3.11.7 environment at: /venv\x1b[0m\r\n\x1b[2mChecked \x1b[1m1 package\x1b[0m \x1b[2min 0.88ms\x1b[0m\x1b[0m\r\n"
CONDA = (
    "Channels:\n - conda-forge\n - defaults\nPlatform: linux-64\nCollecting package metadata (current_repodata.json): - \b\b\\ \b\bdone\nSolving environment: - \b\bdone\n\n\n"
    "## Package Plan ##\n\n  environment location: /opt/conda\n\n  added / updated specs:\n    - humanize\n\n\n"
    "The following NEW packages will be INSTALLED:\n\n  humanize           conda-forge/noarch::humanize-4.9.0-pyhd8ed1ab_0\n\n"
    "Preparing transaction: - \b\bdone\nVerifying transaction: | \b\bdone\nExecuting transaction: / \b\bdone\n"
)
SUCCEEDED = {
    "installed": (PIP, "Installed humanize-4.17.0. Already installed: six.\n"),
    "with notices": (PIP + ROOT + NOTICE + NOTE, "Installed humanize-4.17.0. Already installed: six.\n"),
    "upgraded": (UPGRADED, "Installed humanize-4.17.0.\n"),
    "several": (SEVERAL, "Installed jsonschema-3.2.0, pyrsistent-0.20.0.\n"),
    "built": (BUILT, "Installed docopt-0.6.2.\n"),
    "there": (THERE, "Already installed: pandas, six.\n"),
    "there, with notices": (THERE + NOTICE + NOTE, "Already installed: pandas, six.\n"),
    "quiet": (NOTE, ""),
    "two": (PIP + BUILT, "Installed humanize-4.17.0. Already installed: six.\nInstalled docopt-0.6.2.\n"),
    "uv": (UV, "Installed humanize-4.8.0.\n"),
    "uv, with IPython's note": (UV + NOTE, "Installed humanize-4.8.0.\n"),
    "uv, there": (UV_THERE, "Already installed: 1 package.\n"),
    "conda": (CONDA, "Installed humanize-4.9.0.\n"),
    "conda, there": (
        "Solving environment: ...working... done\n\n# All requested packages already installed.\n",
        "Already installed.\n",
    ),
}
MISSING = (
    "Looking in links: /wheels\r\n\x1b[31mERROR: Could not find a version that satisfies the requirement nowhere (from "
    "versions: none)\x1b[0m\x1b[31m\r\n\x1b[0m\x1b[31mERROR: No matching distribution found for nowhere\x1b[0m\x1b[31m\r\n\x1b[0m"
)
IMPOSSIBLE = (
    f"Collecting humanize==4.9.0\r\n  Downloading humanize-4.9.0-py3-none-any.whl (126 kB)\r\n{BAR}\x1b[31mERROR: Cannot "
    "install humanize==4.8.0 and humanize==4.9.0 because these package versions have conflicting dependencies.\x1b[0m"
    "\x1b[31m\r\n\x1b[0m\r\nThe conflict is caused by:\r\n    The user requested humanize==4.9.0\r\n    The user requested "
    "humanize==4.8.0\r\n\r\n\x1b[31mERROR: ResolutionImpossible: for help visit the documentation\x1b[0m\x1b[31m\r\n\x1b[0m"
)
CONFLICT = (
    "Collecting attrs==16.0.0\r\n  Downloading attrs-16.0.0-py2.py3-none-any.whl (15 kB)\r\nInstalling collected packages: "
    "attrs\r\n\x1b[31mERROR: pip's dependency resolver does not currently take into account all the packages that are "
    "installed.\x1b[0m\r\n\x1b[31mjsonschema 3.2.0 requires attrs>=17.4.0, but you have attrs 16.0.0 which is "
    "incompatible.\x1b[0m\r\nSuccessfully installed attrs-16.0.0\r\n"
)
UNCHANGED = {
    "missing": MISSING,
    "missing, with IPython's note": MISSING + NOTE,
    "impossible": IMPOSSIBLE + NOTE,
    "conflict": CONFLICT,
    "killed": PIP[: PIP.index("Installing")],
    "killed in a line": PIP[: PIP.index("collected")],
    "killed, with IPython's note": PIP[: PIP.index("Installing")] + NOTE,
    "build failed": BUILT[: BUILT.index("  Created")] + "error: subprocess-exited-with-error\r\n  × it did not run\r\n",
    "uv, missing": UV[: UV.index("\x1b[2mResolved")]
    + "\x1b[1m\x1b[31merror\x1b[39m\x1b[0m\x1b[1m:\x1b[0m No solution found\r\n",
    "uv, killed": UV[: UV.index("\x1b[2mUninstalled")],
    "conda, missing": CONDA[: CONDA.index("##")] + "PackagesNotFoundError: not available\n\n  - nowhere\n",
    "conda, killed": CONDA[: CONDA.index("Executing")],
    "prints": "a\nb\n\n  c\n\n\nrow 1\r\n 50%|█████     |\r100%|██████████|\n\x1b[31mred\x1b[0m",
    "prints that resemble": "Collection\nInstalled it\nWARNING: low data\nNote: x\n + a==1\nUsing a lot\n[note] x\n",
    "prints before an install that resemble": "Processing data/a.csv\nrows: 5\n",
    "a build of the user's": "Building model\nBuilt model\nepoch 1\nDownloaded a.csv\nDone\n",
    "a collection of the user's": "Collecting data\nrows: 5\n  more\n\nCollecting rows\nDone\n",
    "an archive of the user's": "Processing data/a.tar.gz\nrows: 5\nDone\n",
    "packages of the user's": "Installed 5 packages in 3 s\nInstalled 5 packages in 3s\nChecked 1 package in 3s\nDone\n",
    "a success of the user's": "Successfully installed model-2\nSuccessfully built index\nDone\n",
    "channels of the user's": "Channels:\n - red\n - green\nDone\nPlatform: x\nChannels:\n",
    "indented prints": "  Downloading a\n  Preparing b\n  Installing\nDone\n  Preparing metadata (c)\nDone\n",
    "a list that never comes": "Using Python 3.11.7 environment at: /venv\nInstalled 5 packages in 3ms\n",
    "too many packages": f"Installed {'9' * 5001} packages in 3s\nAudited {'9' * 5001} packages in 3s\n",
    "empty": "",
    "a blank end": "\n\n",
}


def folded(*chunks: str) -> str:
    fold = PipFold()
    given = [piece for chunk in chunks for piece in fold.take("stdout", chunk)] + fold.finish()
    return "".join(text for _, text in given)


@pytest.mark.parametrize("case", SUCCEEDED)
def test_a_successful_install_is_one_line(case: str) -> None:
    printed, result = SUCCEEDED[case]
    assert folded(printed) == result


@pytest.mark.parametrize("case", UNCHANGED)
def test_all_else_is_unchanged(case: str) -> None:
    assert folded(UNCHANGED[case]) == UNCHANGED[case]


@pytest.mark.parametrize("size", [1, 2, 7, 100])
@pytest.mark.parametrize("case", [*SUCCEEDED, *UNCHANGED])
def test_it_does_not_matter_how_the_output_is_cut(case: str, size: int) -> None:
    printed = SUCCEEDED[case][0] if case in SUCCEEDED else UNCHANGED[case]
    assert folded(*(printed[at : at + size] for at in range(0, len(printed), size))) == folded(printed)


@pytest.mark.parametrize("case", SUCCEEDED)
def test_what_is_printed_before_and_after_is_kept_in_order(case: str) -> None:
    printed, result = SUCCEEDED[case]
    assert folded("before\n\n", printed, "\nafter\n") == f"before\n\n{result}\nafter\n"


SIX = "Collecting six\nSuccessfully installed six-1\n"


@pytest.mark.parametrize(
    ("printed", "result"),
    [
        (f"{SIX}Building model\nepoch 1\nDone\n", "Installed six-1.\nBuilding model\nepoch 1\nDone\n"),
        (f"Processing data/a.csv\nrows: 5\n{SIX}", "Processing data/a.csv\nrows: 5\nInstalled six-1.\n"),
        (f"Processing data/a.csv\n{SIX}", "Processing data/a.csv\nInstalled six-1.\n"),
        (f"Collecting data\nrows: 5\n{SIX}", "Collecting data\nrows: 5\nInstalled six-1.\n"),
        (f"Channels:\n - red\n{SIX}", "Channels:\n - red\nInstalled six-1.\n"),
        (f"{SIX}Channels:\n - red\n{SIX}", "Installed six-1.\nChannels:\n - red\nInstalled six-1.\n"),
        (
            f"Collecting data\nChannels:\nBuilding model\n{SIX}",
            "Collecting data\nChannels:\nBuilding model\nInstalled six-1.\n",
        ),
        (f"{SIX}Collecting data\nChecked 1 file\nDone\n", "Installed six-1.\nCollecting data\nChecked 1 file\nDone\n"),
        (f"{SIX}[notice] all is well\nDEPRECATION: x\n", "Installed six-1.\n[notice] all is well\nDEPRECATION: x\n"),
        (f"{THERE}Building model\nDone\n", "Already installed: pandas, six.\nBuilding model\nDone\n"),
    ],
)
def test_what_the_user_prints_is_neither_lost_nor_moved(printed: str, result: str) -> None:
    assert folded(printed) == result
    assert folded(*printed) == result


SIZE = 100_000
ADVERSARIAL = [
    "Successfully installed " + "a-a" * 667 + " !",
    *(f"Successfully installed {part * (SIZE // len(part))} !" for part in ("a-a", "a-", "-", "a-a ", "a")),
    *(f"Requirement already satisfied: {part * (SIZE // len(part))}" for part in ("a", "a ", " (from ", " (from -")),
    *(f"Collecting {part * (SIZE // len(part))} !" for part in ("a", "a ", " @", "\r", "a\r")),
    *(f"  x {part * (SIZE // len(part))}" for part in ("::", "::-", "::a-", "a", " ", "-")),
    *(f"{word} {'9' * SIZE} packages in {'9' * SIZE}" for word in ("Installed", "Resolved", "Audited")),
    *(f"{word} {'a.whl/' * (SIZE // 6)}!" for word in ("Downloading", "Processing", "Using cached", "Obtaining")),
    *(f" + {part * (SIZE // len(part))}" for part in ("a", "=", "==", "a==", " ")),
    *(part * (SIZE // len(part)) for part in (" ", "\r", "\b", "\x1b[", "\x1b[0", "\x1b]", "WARNING: The script ")),
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "before",
    [
        "",
        "Collecting six\n",
        "Using Python 3.11 environment at x\nInstalled 9 packages in 1ms\n",
        "Solving environment: \n",
    ],
)
def test_long_lines_take_no_longer_than_short_ones(before: str) -> None:
    parts = ["a", "-", " ", "::", "==", "\r", "\x1b[", "(from ", "Collecting ", "9", "Successfully installed ", "\n"]
    chosen = random.Random(1)
    for line in [*ADVERSARIAL, *("".join(chosen.choices(parts, k=SIZE // 3)) for _ in range(5))]:
        pieces = [line[at : at + 1000] for at in range(0, len(line), 1000)]
        assert folded(before, f"{line}\n").endswith("\n")
        assert folded(before, *pieces, "\n").endswith("\n")


@pytest.mark.timeout(120)
def test_a_line_may_come_one_character_at_a_time() -> None:
    line = f"Collecting {'a' * SIZE} !\n"
    assert folded(*line) == line


@pytest.mark.timeout(120)
def test_more_packages_than_are_held_are_shown() -> None:
    lines = "".join(f"Requirement already satisfied: a{number} in x\n" for number in range(50_000))
    assert folded(lines) == lines


@pytest.mark.parametrize("text", ["a\n", "a", "100%", "  50%|", "Name? ", "."])
def test_what_no_installer_prints_passes_at_once(text: str) -> None:
    assert PipFold().take("stdout", text) == [("stdout", text)]


def test_the_rest_of_a_line_that_was_begun_passes_too() -> None:
    fold = PipFold()
    assert fold.take("stdout", "x = ") == [("stdout", "x = ")]
    assert fold.take("stdout", "Collecting six\nCollecting six\n") == [("stdout", "Collecting six\n")]


def test_a_line_of_another_origin_passes_while_an_install_goes_on() -> None:
    fold = PipFold()
    assert fold.take("stdout", "Collecting six\nInstalling collected packages: six\n") == []
    assert fold.take("stdout", "from a thread\n") == [("stdout", "from a thread\n")]
    assert fold.take("stdout", "Successfully installed six-1.17.0\n") == [("stdout", "Installed six-1.17.0.\n")]


def test_success_is_told_before_the_cell_ends() -> None:
    assert PipFold().take("stderr", UV) == [("stdout", "Installed humanize-4.8.0.\n")]


def test_both_streams_are_given_back_in_order() -> None:
    fold = PipFold()
    assert fold.take("stdout", "Collecting nowhere\n  Downl") == []
    assert fold.take("stderr", "WARNING: Retrying (Retry(total=4)) after connection broken\n") == []
    assert fold.take("stderr", "ERROR: none\n") == [
        ("stdout", "Collecting nowhere\n"),
        ("stderr", "WARNING: Retrying (Retry(total=4)) after connection broken\nERROR: none\n"),
        ("stdout", "  Downl"),
    ]
    assert fold.take("stdout", "oading\n") == [("stdout", "oading\n")]
    assert fold.finish() == []


def test_many_packages_are_counted() -> None:
    packages = " ".join(f"package{number}-1.0" for number in range(30))
    assert folded(f"Collecting package0\nSuccessfully installed {packages}\n").endswith(
        ", package19-1.0 and 10 more.\n"
    )


def test_an_endless_progress_bar_keeps_its_last_frame() -> None:
    frames = [f"\r     ━━━━ {number:09} kB" for number in range(MOST_HELD // 10)]
    assert folded("Collecting six\n", *frames, "\nSuccessfully installed six-1.17.0\n") == "Installed six-1.17.0.\n"
    assert len(folded("Collecting six\n", *frames)) <= MOST_HELD


def test_beyond_the_bound_everything_is_shown() -> None:
    lines = [f"  line {number}\n" for number in range(MOST_HELD // 5)]
    assert folded("Collecting six\n", *lines) == "".join(["Collecting six\n", *lines])


def test_a_huge_line_is_shown() -> None:
    assert folded("x" * 10 * MOST_HELD) == "x" * 10 * MOST_HELD


@pytest.mark.parametrize(
    "code",
    [
        "%pip install humanize",
        "x = 1\n!pip install -q humanize six",
        "!pip3 install humanize",
        "!pip3.11 --quiet install humanize",
        "!python -m pip install humanize",
        "!{sys.executable} -m pip install humanize",
        "!/venv/bin/pip install humanize",
        "%uv pip install humanize",
        "!uv pip install humanize",
        "!uv add humanize",
        "%conda install -y humanize",
        "%mamba install humanize",
        "subprocess.run([sys.executable, '-m', 'pip', 'install', 'humanize'], check=True)",
        'subprocess.check_call([sys.executable, "-m", "pip", "--quiet", "install", "humanize"])',
        "os.system('pip install humanize')",
        "%%bash\ncd /tmp\npip install humanize",
    ],
)
def test_a_cell_that_installs_is_folded(code: str) -> None:
    assert folding(code) is not None


@pytest.mark.parametrize(
    "code",
    ["", "x = 1", "%pip list", "!pip uninstall -y six", "pipe.install()", "import pip", "installed = pip_install"],
)
def test_a_cell_that_does_not_install_is_not(code: str) -> None:
    assert folding(code) is None


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "tiny_thing-1.5-py3-none-any.whl"
    info = "tiny_thing-1.5.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_thing.py", "")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.5\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", f"tiny_thing.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


@pytest.mark.parametrize(("package", "result"), [("tiny-thing", "Installed tiny-thing-1.5.\n"), ("tiny-nothing", None)])
def test_the_pip_of_this_python_is_understood(wheel: Path, package: str, result: str | None) -> None:
    pytest.importorskip("pip")
    options = ["--no-index", "--find-links", str(wheel.parent), "--target", str(wheel.parent / "there"), "--no-deps"]
    ran = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, package],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert folded(ran.stdout) == (ran.stdout if result is None else result)
