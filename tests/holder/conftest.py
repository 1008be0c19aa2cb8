"""A consortium of three holders with a log, and the service of one of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.holder.ceremony_kit import Exchange
from tests.holder.kit import Caller, Consortium, HolderService, TurnedClock, holder_settings

THREE = ("north", "ops", "south")


@pytest.fixture(scope="session")
def exchanges(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exchange]:
    """Exchanges of north, ops and south, who make a key 2 of 3: after `init`, after `deal`, after `certify`, and after
    `finish`. Tests change copies of them only (`after`)."""
    root = tmp_path_factory.mktemp("exchanges")
    exchange = Exchange.create(root / "init", THREE)
    copies = {"init": exchange}

    def keep(name: str, before: Exchange) -> Exchange:
        shutil.copytree(before.root, root / name)
        copies[name] = Exchange(root / name)
        return copies[name]

    dealt = keep("deal", exchange)
    dealt.begin("deal", THREE, "--threshold", 2)
    certified = keep("certify", dealt)
    certified.certify(THREE)
    keep("finish", certified).finish(THREE)
    return copies


@pytest.fixture
def after(exchanges: dict[str, Exchange], tmp_path: Path) -> Callable[[str], Exchange]:
    """Return a copy of the exchange after a step."""

    def copied(step: str) -> Exchange:
        shutil.copytree(exchanges[step].root, tmp_path / step)
        return Exchange(tmp_path / step)

    return copied


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    """Three holders whose first key is in the log."""
    consortium = Consortium(tmp_path / "holders")
    consortium.generate()
    return consortium


@pytest.fixture
def open_service(consortium: Consortium, clock: TurnedClock) -> Iterator[Callable[..., HolderService]]:
    """`open_service(name, **settings)` starts the service of a holder; all end with the test."""
    services: list[HolderService] = []

    def start(name: str = "north", **changes: Any) -> HolderService:
        services.append(HolderService(holder_settings(consortium.folders[name].path, **changes), consortium, clock))
        return services[-1]

    yield start
    for service in services:
        service.close()


@pytest.fixture
def service(open_service: Callable[..., HolderService]) -> HolderService:
    """north's service: 1000 elements a day, 100 at once, 10 a second."""
    return open_service("north", daily_quota_elements=1000, burst_elements=100, rate_elements_per_second=10)


@pytest.fixture
def acme(service: HolderService) -> Caller:
    """A platform that north admitted."""
    caller = Caller("acme", "acme-group").admitted(service.rt.engine)
    service.rt.state.refresh()
    return caller
