"""Installed kernels: found by name or language, and what installs one that is missing."""

import contextlib
from difflib import get_close_matches

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel

from ..errors import ExecutorError

_INSTALL = {
    "bash": "pip install bash_kernel && python -m bash_kernel.install",
    "calysto_scheme": "pip install calysto_scheme && python -m calysto_scheme install",
    "deno": "deno jupyter --install",
    "ir": "install.packages('IRkernel'); IRkernel::installspec() in R",
    "julia": 'using Pkg; Pkg.add("IJulia") in Julia',
    "octave": "pip install octave_kernel",
    "python3": "pip install ipykernel && python -m ipykernel install --user",
    "r": "install.packages('IRkernel'); IRkernel::installspec() in R",
    "xpython": "pip install xeus-python",
}


def find_kernel(name: str) -> tuple[str, KernelSpec]:
    """Find a kernelspec by its name, or by its language where just one kernel speaks it.

    Raises:
        ExecutorError: it is not installed; the message says how to install it.
    """
    manager = KernelSpecManager()
    with contextlib.suppress(NoSuchKernel, ValueError):
        return name, manager.get_kernel_spec(name)
    known = {each: row["spec"] for each, row in manager.get_all_specs().items()}
    speakers = [each for each, spec in known.items() if str(spec.get("language", "")).lower() == name.lower()]
    if len(speakers) == 1:
        return speakers[0], manager.get_kernel_spec(speakers[0])
    key = next((each for each in _INSTALL if name.lower().startswith(each)), "")
    how = f"install it with `{_INSTALL[key]}`" if key else "`jupyter kernelspec install` adds one"
    near = get_close_matches(name, known, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ExecutorError(
        f"There is no kernel {name[:80]!r} here: {how}.{hint} Installed: {', '.join(sorted(known)) or 'none'}."
    )
