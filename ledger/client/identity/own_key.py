"""The check that a signing key is one of the platform that the suite file names."""

from __future__ import annotations

from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.client.identity.suite import Suite
from ledger.errors import ConfigurationError


def suite_of_key(suite: Suite, key: Ed25519PrivateKey) -> Suite:
    """Return the suite with the `kid` of this key, which may be a former key of the platform.

    A suite file without `keys`, of an earlier version, is taken as it is. Raises ConfigurationError when the key is
    none of the platform's.
    """
    own = key.public_key().public_bytes_raw()
    kids = [key.kid for key in suite.keys if key.public_key == own]
    if not suite.keys or suite.kid in kids:
        return suite
    if not kids:
        raise ConfigurationError(
            f"The signing key is none of the keys that the suite file names for {suite.platform}: "
            f"{', '.join(key.kid for key in suite.keys)}. Give the key file of this platform, or the suite file that "
            "the operator wrote for this key."
        )
    return replace(suite, kid=kids[-1])
