"""Tokens of Entra ID, with which Azure's endpoints are used without a key."""

import asyncio
import time
from typing import Any

from ..errors import BadCredentials
from .providers import AZURE

SCOPE = "https://cognitiveservices.azure.com/.default"
_EARLY = 300.0  # seconds before its end that a token is replaced


class Login:
    """Azure's default login, made at its first use; it keeps the last token until shortly before that expires."""

    def __init__(self) -> None:
        self._credential: Any = None
        self._token = ""
        self._expires = 0.0

    async def token(self) -> str:
        """Give a token that is good for minutes at least.

        Raises:
            BadCredentials: azure-identity is not installed, or nobody is logged in.
        """
        if time.time() > self._expires - _EARLY:
            await asyncio.to_thread(self._renew)
        return self._token

    def _renew(self) -> None:
        # Raised outside the ``except``: the client's own errors can hold parts of credentials.
        try:
            if self._credential is None:
                from azure.identity import DefaultAzureCredential  # noqa: PLC0415 - an extra, and it takes long

                self._credential = DefaultAzureCredential()
            found = self._credential.get_token(SCOPE)
            self._token, self._expires = str(found.token), float(found.expires_on)
        except ImportError:
            failure = (
                f"There is no API key for azure: set {AZURE.key}, "
                'or `pip install "codeact_magic[azure]"` to log in with Entra ID.'
            )
        except Exception as error:  # noqa: BLE001 - the login tries many ways, and each has its own errors
            failure = f"The login to Azure failed ({type(error).__name__}): run `az login`, or set {AZURE.key}."
        else:
            return
        raise BadCredentials(failure)


_login = Login()


async def token() -> str:
    """Give a token of this process's login; see ``Login.token``."""
    return await _login.token()
