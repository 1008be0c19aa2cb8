"""The packages that some functions need and a plain installation has not: asked for before they are imported."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from ledger.errors import ConfigurationError


def need(extra: str, modules: Sequence[str], doing: str) -> None:
    """Check that `modules` can be imported. Raises ConfigurationError, which names the extra to install for `doing`."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise ConfigurationError(
            f"{doing} needs the extra: pip install 'refund-credit-ledger[{extra}]' (missing: {', '.join(missing)}).",
            extra=extra,
        )
