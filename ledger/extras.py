"""Optional dependencies: the check, before they are imported, that an extra of a distribution is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from ledger.errors import ConfigurationError

PLATFORM = "refund-credit-ledger"
SERVER = "refund-credit-ledger-server"
"""Names of the two distributions."""


def is_installed(module: str) -> bool:
    """True if the top-level `module` can be imported; it is not imported."""
    return importlib.util.find_spec(module) is not None


def need(extra: str, modules: Sequence[str], doing: str, *, distribution: str = PLATFORM) -> None:
    """Check that the top-level `modules`, which `doing` needs, are installed.

    Raises ConfigurationError that names the `extra` of `distribution` to install.
    """
    missing = [module for module in modules if not is_installed(module)]
    if missing:
        raise ConfigurationError(
            f"{doing} needs the extra: pip install '{distribution}[{extra}]' (missing: {', '.join(missing)}).",
            extra=extra,
        )
