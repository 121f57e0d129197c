"""``codeact run``: run a notebook's prompts without a browser, and keep the cells that they make.

``codeact doctor``: try a model. Exit status: 0 answered, 1 failed, 2 wrong usage, 130 stopped.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import CodeactError, ConfigError, ExecutorError

if TYPE_CHECKING:
    from rich.console import Console

ANSWERED, FAILED, USAGE, STOPPED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; give its exit status."""
    options, unknown = _parser().parse_known_args(arguments)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if options.timeout is not None and not options.timeout > 0:
        options.parser.error("--timeout must be a number of seconds above 0")
    if options.prompt is not None and not options.prompt.strip():
        options.parser.error("--prompt is empty")
    from rich.console import Console  # noqa: PLC0415 - --help must be quick

    for stream in (sys.stdout, sys.stderr):  # a terminal that knows no umlauts shows question marks
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    console = Console(highlight=False, soft_wrap=True, emoji=False)

    def go_on_unread() -> None:
        console.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    console.on_broken_pipe = go_on_unread  # type: ignore[method-assign] # rich would end the run
    try:
        return int(asyncio.run(options.start(options, console)))
    except ConfigError as error:
        print(f"codeact: {error}", file=sys.stderr)  # noqa: T201
        return USAGE
    except CodeactError as error:
        print(f"codeact: {error}", file=sys.stderr)  # noqa: T201
        return FAILED
    except KeyboardInterrupt:
        return STOPPED


def _parser() -> argparse.ArgumentParser:
    """Give the parser. A command sets ``start``, its coroutine, and ``parser``, whose usage says more in an error."""
    parser = argparse.ArgumentParser(prog="codeact", description="An agent that lives in your notebook's kernel.")
    parser.add_argument("--version", action="version", version=version("codeact_magic"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run a notebook, its %%agent cells included",
        description="Run a notebook from top to bottom. Cells that the agent writes are inserted below their prompt, "
        "and the file is saved after every cell. Prompts that are answered already are not asked again.",
        epilog="Exit status: 0 answered, 1 failed, 2 wrong usage, 130 stopped.",
    )
    run.add_argument("notebook", type=Path, metavar="IN.ipynb", help="made anew if it is missing and --prompt is given")
    run.add_argument("-o", "--output", type=Path, metavar="OUT.ipynb", help="where to write (default: IN.ipynb itself)")
    run.add_argument("--prompt", help="append a %%%%agent cell with this prompt")
    run.add_argument("--model", help="the model's name, or recorded[:NOTEBOOK]")
    run.add_argument("--base-url", metavar="U", help="an OpenAI-compatible endpoint")
    run.add_argument("--max-steps", type=int, metavar="N", help="replies that a turn may take")
    run.add_argument("--timeout", type=float, metavar="S", help="seconds that a generated cell may take")
    run.add_argument("--kernel", metavar="NAME", help="the kernel that runs generated cells")
    asks = run.add_mutually_exclusive_group()
    asks.add_argument("--approval", choices=("auto", "risky", "ask"), help="which generated cells wait for your word")
    asks.add_argument("--yes", "-y", action="store_true", help="let every generated cell run: --approval auto")
    run.add_argument("--again", action="store_true", help="ask answered prompts again")
    run.set_defaults(start=_run, parser=run)
    doctor = commands.add_parser(
        "doctor",
        help="try a model: address, key, streaming, pictures",
        description="Try a model with a few small requests, and say what to do where something fails. Settings come "
        "from the environment and from these options.",
        epilog="Exit status: 0 it can be used, 1 it cannot, 2 wrong usage, 130 stopped.",
    )
    doctor.add_argument("--model", help="[PROVIDER:]NAME, or recorded:NOTEBOOK")
    doctor.add_argument("--base-url", metavar="U", help="an OpenAI-compatible endpoint")
    doctor.set_defaults(start=_doctor, parser=doctor, timeout=None, prompt=None)
    return parser


async def _doctor(options: argparse.Namespace, console: "Console") -> int:
    from rich.markup import escape  # noqa: PLC0415

    from .config import CodeAct, options_from, settings_from  # noqa: PLC0415
    from .models.doctor import examine  # noqa: PLC0415

    given = {"model": options.model, "base_url": options.base_url}
    usable: bool | None = False
    async for check in examine(options_from(settings_from(CodeAct()).with_options(given))):
        colour = {True: "green", False: "red", None: "dim"}[check.ok]
        console.print(f"[{colour}]{check.mark}[/] {check.name:9}  {escape(check.said)}")
        if check.advice:
            console.print(f"[yellow]             {escape(check.advice)}[/]")
        usable = check.ok
    return ANSWERED if usable else FAILED


async def _run(options: argparse.Namespace, console: "Console") -> int:
    # jsonschema compiles a grammar of addresses when it is imported: half a second, and no notebook has any.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    import nbformat  # noqa: PLC0415
    from nbclient.exceptions import CellExecutionError  # noqa: PLC0415

    from .notebooks.client import AgentClient  # noqa: PLC0415
    from .notebooks.files import read_notebook, sweep, with_prompt, write_notebook  # noqa: PLC0415
    from .notebooks.keyboard import can_ask  # noqa: PLC0415
    from .notebooks.progress import Progress  # noqa: PLC0415

    source: Path = options.notebook
    target: Path = options.output or source
    nb = nbformat.v4.new_notebook() if options.prompt and not source.exists() else read_notebook(source)
    if target.suffix != ".ipynb":
        raise ConfigError(f"{target} is no name for a notebook: it must end in .ipynb.")
    if target.is_dir():
        raise ConfigError(f"{target} is a folder, not a notebook.")
    if not target.parent.is_dir():
        raise ConfigError(f"There is no folder {target.parent} to write {target.name} to.")
    sweep(target)
    if not os.access(target.parent, os.W_OK):
        raise ConfigError(f"The folder {target.resolve().parent} cannot be written to.")
    if options.prompt:
        with_prompt(nb, options.prompt)
    given: dict[str, Any] = {
        "model": _model(options.model),
        "base_url": options.base_url,
        "max_steps": options.max_steps,
        "timeout": options.timeout,
        "kernel": options.kernel,
        "approval": "auto" if options.yes else options.approval,
        "again": options.again or None,
    }
    _check(given)
    progress = Progress(console)
    client = AgentClient(
        nb,
        document=source.resolve(),
        save=lambda: write_notebook(nb, target),
        observe=progress.show,
        narrate=progress.narrate,
        options={name: value for name, value in given.items() if value is not None},
        decide=progress.decide if can_ask() else None,
    )
    loop = asyncio.get_running_loop()
    stops: list[asyncio.Task[None]] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: stops.append(asyncio.ensure_future(client.stop())))
    try:
        with progress:
            await client.run()
    except CellExecutionError as error:
        if not client.stopping:
            progress.failed(error)
            return FAILED
    except CodeactError:
        if not client.stopping:
            raise
    if client.stopping:
        console.print(f"[yellow]Stopped.[/] {target} is saved as far as it came.")
        return STOPPED
    if client.kept:
        prompts = "prompt was" if client.kept == 1 else "prompts were"
        console.print(f"{client.kept} answered {prompts} not asked again; --again asks.", style="dim")
    console.print(f"Saved {target}.", style="dim")
    return ANSWERED if all(outcome.reason == "answered" for outcome in client.outcomes) else FAILED


def _check(given: dict[str, Any]) -> None:
    """Refuse wrong options here: in the kernel they would be a failed turn.

    Raises:
        ConfigError: a value is out of range, or there is no such kernel.
    """
    from .config import CodeAct, settings_from  # noqa: PLC0415

    settings_from(CodeAct()).with_options(given)
    if given["kernel"]:
        from .executors.kernelspecs import find_kernel  # noqa: PLC0415 - few need it

        try:
            find_kernel(given["kernel"])
        except ExecutorError as error:
            raise ConfigError(str(error)) from None


def _model(name: str | None) -> str | None:
    """Name a recording by its absolute path: the kernel has a working directory of its own."""
    kind, found, path = (name or "").partition(":")
    return f"recorded:{Path(path).resolve()}" if kind == "recorded" and found else name


if __name__ == "__main__":
    sys.exit(main())
