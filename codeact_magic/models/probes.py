"""Small requests that show what an endpoint can do, each bounded in time and in size."""

import asyncio
import contextlib
import json
import struct
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import ModelError, ModelUnavailable
from ..ports import ImagePart, Message, Model, ReplyEnd, TextPart
from .endpoint import Endpoint
from .providers import Provider

_MAX_LIST = 8_000_000  # bytes of the list of models
_MAX_TEXT = 2_000  # characters of a reply
_KNOCK = 0.2  # seconds that a server on this machine has to take a connection


@dataclass(slots=True)
class Told:
    """A reply, as far as it was read.

    Args:
        pieces: how many came.
        first: seconds until the first of them.
        text: all of them.
        end: what the endpoint says of the reply; None if the end was not waited for.
    """

    pieces: int = 0
    first: float = 0.0
    text: str = ""
    end: ReplyEnd | None = None


async def reply_of(model: Model, limit: float, *parts: TextPart | ImagePart) -> Told:
    """Ask one thing, and read the reply for at most ``limit`` seconds.

    Raises:
        ModelError: as the model raises it, or nothing came in time.
    """
    told, start = Told(), time.monotonic()
    try:
        async with asyncio.timeout(limit), contextlib.aclosing(model.stream([Message("user", parts)])) as items:
            async for item in items:
                if isinstance(item, ReplyEnd):
                    told.end = item
                elif isinstance(item, str):
                    told.first = told.first or time.monotonic() - start
                    told.pieces, told.text = told.pieces + 1, told.text + item
                if len(told.text) > _MAX_TEXT:
                    break
    except TimeoutError:
        pass
    if not told.pieces and told.end is None:
        raise ModelUnavailable(
            f"No text within {limit:g} s: a model that is being loaded takes long at its first request."
        )
    return told


async def names_of(endpoint: Endpoint, limit: float) -> list[str]:
    """Ask which models there are.

    Raises:
        ModelUnavailable: nobody answers.
        ModelError: there is an answer, and it is no list of models.
    """
    from openai import APIConnectionError  # noqa: PLC0415 - lazy, it takes long

    try:
        async with asyncio.timeout(limit):
            rows = json.loads(await _page(endpoint))["data"]
        return [name.removeprefix("models/") for row in rows if isinstance(name := row.get("id"), str)]
    except APIConnectionError as error:
        failure = endpoint.failure(error, streaming=False)
    except TimeoutError:
        failure = ModelUnavailable(f"{endpoint.shown} gave no answer for {limit:g} s.")
    except Exception:  # noqa: BLE001 - refusals, and whatever else may stand at such an address
        failure = ModelError(f"{endpoint.shown} lists no models.")
    raise failure


async def _page(endpoint: Endpoint) -> bytes:
    from openai import AsyncStream  # noqa: PLC0415 - lazy, it takes long

    data = bytearray()
    async with endpoint.client() as client:
        # As a stream, of whose body we read no more than we want.
        answer = await client.get(
            "/models", cast_to=object, options=endpoint.options(), stream=True, stream_cls=AsyncStream[object]
        )
        async with contextlib.aclosing(answer.response.aiter_bytes()) as pieces:
            async for piece in pieces:
                data += piece
                if len(data) > _MAX_LIST:
                    break
        await answer.response.aclose()
    return bytes(data)


async def listening(providers: Iterable[Provider]) -> list[Provider]:
    """Give those of the providers whose port on this machine takes connections."""

    async def knock(provider: Provider) -> bool:
        try:
            async with asyncio.timeout(_KNOCK):
                _, writer = await asyncio.open_connection("127.0.0.1", provider.port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    asked = list(providers)
    answers = await asyncio.gather(*map(knock, asked))
    return [each for each, answered in zip(asked, answers, strict=True) if answered]


def png(colour: tuple[int, int, int], size: int = 64) -> bytes:
    """Draw a square of one colour (red, green, blue, each to 255), ``size`` pixels wide."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes(colour) * size) * size
    head = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
