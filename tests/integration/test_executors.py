"""The shipped conformance suite on every executor."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from codeact_magic.executors.kernel import KernelExecutor
from codeact_magic.testing import CHECKS, OWN_KERNEL, check_executor
from tests.kernels import Kernel, kernel

IN_A_KERNEL = """
import contextlib, json
from codeact_magic.executors.live import LiveExecutor, source_from
from codeact_magic.testing import check_executor
source = source_from(get_ipython())
@contextlib.asynccontextmanager
async def make(limit):
    source.begin()
    yield LiveExecutor(get_ipython(), source, limit=limit)
"""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with kernel(tmp_path_factory.mktemp("live"), load=False) as live:
        assert live.run(IN_A_KERNEL).status == "ok"
        yield live


@pytest.mark.parametrize("name", list(CHECKS))
def test_the_live_executor(live: Kernel, name: str) -> None:
    ran = live.run(f"passed = [each async for each in check_executor(make, [{name!r}])]\nsource.close()\npassed")
    live.run("source = source_from(get_ipython())")
    assert ran.status == "ok", ran.error
    assert name in ran.text


@pytest.mark.parametrize("name", [*CHECKS, *OWN_KERNEL])
async def test_the_kernel_executor(tmp_path: Path, name: str) -> None:
    @contextlib.asynccontextmanager
    async def make(limit: float | None) -> AsyncIterator[KernelExecutor]:
        executor = KernelExecutor(cwd=tmp_path, limit=limit)
        try:
            yield executor
        finally:
            await executor.aclose()

    passed = [each async for each in check_executor(make, [name])]
    assert passed[0].startswith(name)
