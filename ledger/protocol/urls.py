"""The path prefix in the public address of a service."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from ledger.errors import ConfigurationError

_PREFIX = re.compile(r"(/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]+)*\Z")
MAX_PREFIX_CHARS = 200


def path_prefix(url: str) -> str:
    """Return the path of `url` without a slash at its end, such as `/risk/ledger`; empty for no path.

    It is put into links, redirects and cookies unchanged, so it has no character that needs escaping there: letters,
    digits and `._~-` between single slashes. Raises ConfigurationError for another path, for a query or a fragment.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigurationError("The public address (REFUND_LEDGER_PUBLIC_URL) is no address.") from error
    prefix = parts.path.removesuffix("/")
    if not _PREFIX.match(prefix) or len(prefix) > MAX_PREFIX_CHARS or parts.query or parts.fragment:
        raise ConfigurationError(
            "The path of the public address (REFUND_LEDGER_PUBLIC_URL) may hold letters, digits and ._~- between "
            "single slashes, and nothing after it."
        )
    return prefix
