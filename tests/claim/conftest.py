"""The consortium that all tests of this folder share, for one process of the test run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.claim.consortium import Consortium, running_consortium


@pytest.fixture(scope="session")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """Three holders, a ledger with a hundred listed identifiers, and members."""
    with running_consortium(tmp_path_factory.mktemp("consortium")) as consortium:
        yield consortium
