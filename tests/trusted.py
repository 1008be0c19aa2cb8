"""TLS contexts with the system's certificates are made once for each test process.

Reading the certificates of all authorities takes 25 ms. Nearly every test of the SDK and of webhooks would do it, and
the context is the same each time: only the environment can name other certificates.
"""

from __future__ import annotations

import os
import ssl
from functools import cache

import httpcore2

_make = httpcore2.default_ssl_context


@cache
def _made(trust_env: bool, file: str | None, folder: str | None) -> ssl.SSLContext:
    return _make(_trust_env=trust_env)


def _default_ssl_context(*, _trust_env: bool = True) -> ssl.SSLContext:
    """As `httpcore2.default_ssl_context`; the context of an earlier call where the environment is the same."""
    return _made(_trust_env, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


def share() -> None:
    """From now on this process reads the system's certificates once."""
    httpcore2.default_ssl_context = _default_ssl_context
