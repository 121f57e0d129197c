"""Does this model work from here? Each thing that a turn needs is tried, with what to do where it fails."""

import asyncio
import contextlib
import difflib
from base64 import b64encode
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

from ..errors import BadCredentials, CodeactError, ModelError, ModelUnavailable
from ..ports import ImagePart, Model, TextPart
from .credentials import variable_of
from .endpoint import Endpoint, endpoint_from
from .openai import OpenAIModel
from .options import OpenAIOptions, base_url_of, shown
from .probes import listening, names_of, png, reply_of
from .providers import AZURE, OPENAI, PROVIDERS, provider_of
from .recorded import RecordedModel

_LONGEST = 30.0  # seconds of one probe
_LONGEST_NAME = 80  # characters of a model's name that are compared and shown
_COUNT = "Count from 1 to 20. Reply with the numbers only."
_COLOUR = "What colour is this picture? Reply with one word."
_GREEN = (0, 160, 0)
_TEXT_ONLY = (
    "a turn that shows a figure would fail: set `c.CodeAct.images = False`, and figures are described by text only, "
    "as <Figure size 640x480 with 1 Axes>"
)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Args:
        name: what was looked at.
        ok: it is as it should be; None: unknown, or it does not matter here.
        said: what was found, in one line.
        advice: what to do next, if anything.
    """

    name: str
    ok: bool | None
    said: str
    advice: str = ""

    @property
    def mark(self) -> str:
        """A check mark, a cross or a dash."""
        return "–" if self.ok is None else "✓" if self.ok else "✗"  # noqa: RUF001 - a dash is meant


async def examine(options: OpenAIOptions, *, notebook: str = "") -> AsyncGenerator[Check, None]:
    """Yield the checks as they are made; the ``ok`` of the last one says whether the model can be used.

    Requests are small, and none takes longer than ``options.timeout`` or 30 s.

    Args:
        options: what would be asked of the endpoint.
        notebook: the path of the notebook itself, for a bare ``recorded``.
    """
    kind, _, path = options.model.partition(":")
    probes = _recording(path or notebook) if kind == "recorded" else _probes(options)
    usable = flawed = False
    async with contextlib.aclosing(probes):
        async for check in probes:
            usable = usable or (check.name in {"streaming", "recording"} and check.ok is not False)
            flawed = flawed or check.ok is False
            yield check
    said = "it works, but see ✗ above" if flawed else "it works: ask with %%agent"
    yield Check("result", usable, said if usable else "it cannot be used like this: see ✗ above")


async def _recording(path: str) -> AsyncGenerator[Check, None]:
    yield Check("endpoint", None, "a recording needs no network and no key")
    if not path:
        yield Check("recording", False, "none is named", "name the notebook: recorded:NOTEBOOK.ipynb")
        return
    try:
        RecordedModel(path)
    except CodeactError as error:
        yield Check("recording", False, str(error))
    else:
        yield Check("recording", True, f"{path} can be read")


async def _probes(options: OpenAIOptions) -> AsyncGenerator[Check, None]:
    limit = min(options.timeout, _LONGEST)
    options = replace(options, timeout=limit)
    try:
        async with asyncio.timeout(limit):
            endpoint = await endpoint_from(options)
    except BadCredentials as error:
        yield _place(options)
        yield Check("key", False, str(error), await _local())
        return
    except ModelError as error:
        yield Check("endpoint", False, str(error), await _local())
        return
    except TimeoutError:
        yield _place(options)
        yield Check("key", False, f"the login took longer than {limit:g} s", f"set {variable_of(AZURE)}")
        return
    yield _place(options)
    yield _key(endpoint)
    try:
        names = [endpoint.plain(name, _LONGEST_NAME) for name in await names_of(endpoint, limit)]
    except ModelUnavailable as error:
        yield Check("answer", False, str(error), await _local())
        return
    except ModelError:
        yield Check("answer", None, "it answers, and lists no models")
    else:
        yield Check("answer", True, f"it answers, and lists {len(names)} model{'' if len(names) == 1 else 's'}")
        yield _among(endpoint, names)
    model = OpenAIModel(options)
    try:
        streaming = await _streaming(model, endpoint, limit)
        yield streaming
        if streaming.ok is not False:
            yield await _images(model, endpoint, limit) if options.images else Check("images", None, "not sent, as set")
    finally:
        await model.aclose()


def _place(options: OpenAIOptions) -> Check:
    provider, _ = provider_of(options.model)
    base = base_url_of(options)
    name = "an OpenAI-compatible server" if provider is OPENAI and base != OPENAI.base_url else provider.name
    dropped = [each for each in ("seed", "metadata", "user") if provider.fields.get(each) == ""]
    unsent = [each for each in dropped if getattr(options, each) not in (None, "", {})]
    if unsent:
        return Check(
            "endpoint", None, f"{name} at {shown(base)}, which is not sent {' and '.join(unsent)}: it takes none"
        )
    return Check("endpoint", True, f"{name} at {shown(base)}")


def _key(endpoint: Endpoint) -> Check:
    if endpoint.source:
        return Check("key", True, f"{endpoint.source[0].lower()}{endpoint.source[1:]} is used")
    variable = variable_of(endpoint.provider)
    return Check("key", None, f"{variable} is not set, and may not be needed here" if variable else "none is needed")


def _among(endpoint: Endpoint, names: list[str]) -> Check:
    model = endpoint.plain(endpoint.model, _LONGEST_NAME)
    if endpoint.provider is AZURE:
        return Check("model", None, "Azure lists models, and not the deployments that requests name")
    if {model, f"{model}:latest"} & set(names):
        return Check("model", True, f"{model} is among them")
    similar = difflib.get_close_matches(model, names, n=3, cutoff=0.4)
    pull = f"fetch it with `{endpoint.provider.pull} {model}`" if endpoint.provider.pull else ""
    tries = f"did you mean {' or '.join(similar or sorted(names)[:3])}?" if names else ""
    return Check("model", False, f"{model} is not among them", "; or ".join(filter(None, (tries, pull))))


async def _streaming(model: Model, endpoint: Endpoint, limit: float) -> Check:
    try:
        told = await reply_of(model, limit, TextPart(_COUNT))
    except BadCredentials as error:
        return Check("streaming", False, str(error), _setup(endpoint))
    except ModelError as error:
        return Check("streaming", False, str(error))
    if not told.pieces:
        return Check("streaming", False, "the reply has no text", "try a model that is made for chat")
    said = f"the first of {told.pieces} pieces came after {told.first:.1f} s"
    if told.end is None:
        return Check("streaming", True, f"{said}; its end was not waited for")
    usage = told.end.usage
    counted = f"{usage.input:,} tokens in, {usage.output:,} out" if usage.total else "tokens are not reported"
    name = f"; the model calls itself {told.end.model}" if told.end.model else ""
    if told.pieces == 1:
        said = f"the whole reply came as one piece after {told.first:.1f} s"
    return Check("streaming", None if told.pieces == 1 else True, f"{said}; {counted}{name}")


async def _images(model: Model, endpoint: Endpoint, limit: float) -> Check:
    picture = ImagePart("image/png", b64encode(png(_GREEN)).decode())
    try:
        told = await reply_of(model, limit, TextPart(_COLOUR), picture)
    except (ModelUnavailable, BadCredentials) as error:
        return Check("images", None, str(error))
    except ModelError as error:
        return Check("images", False, str(error), _TEXT_ONLY)
    answer = endpoint.plain(told.text, 60)
    if "green" in answer.lower():
        return Check("images", True, "it sees them")
    return Check("images", None, f"it takes them, and says {answer!r} of a green one: it may not see figures")


async def _local() -> str:
    """Point to servers that listen on this machine."""
    found = await listening(each for each in PROVIDERS.values() if each.port)
    names = " or ".join(f"`--model {each.name}:NAME`" for each in found)
    return f"a server is listening on this machine, try {names}" if found else ""


def _setup(endpoint: Endpoint) -> str:
    again = "copy the key again, or " if endpoint.source else ""
    return f"{again}{endpoint.provider.setup}" if endpoint.provider.keys else ""
