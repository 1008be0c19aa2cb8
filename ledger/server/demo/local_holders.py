"""A complete ledger in one folder whose key three holders share: their ceremony, their services, and the ledger itself.

    keys, ledger.db, ...    the operator's side, without a share of the key
    holders/NAME            the folder of each holder, with its database
    holders/exchange        the files of the ceremony, as participants send them to each other
    cards/PLATFORM          the holders' cards, as each platform got them

All of them are on one machine here, which in earnest no two organisations would share.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.cli.operator.server import environment_of
from ledger.client import RefundLedger
from ledger.client.identity.keyfiles import load_signing_key
from ledger.errors import ConfigurationError
from ledger.server.demo.local_ledger import (
    LocalService,
    check_ledger,
    enrol_if_new,
    local_settings,
    open_platform,
)

if TYPE_CHECKING:
    from ledger.holder.settings import HolderSettings
    from ledger.server.settings import Settings

OPERATOR = "Demo Ledger Operator"
THRESHOLD = 2
HOLDERS: Mapping[str, str] = {"north": "North Traders Association", "south": "South University", "ledger": OPERATOR}
"""The organisation of each holder. The operator runs the third one."""

_PLANNED_URL = "http://127.0.0.1:8000"
"""The address in `ledger.json`. The server chooses a free port in each run, and the holders get its address then."""
_PROFILE = "CN"


@dataclass(frozen=True, slots=True)
class SharedLedger:
    """A running ledger whose key several holders share: the open SDK of each platform, and the service of each
    holder."""

    folder: Path
    platforms: Mapping[str, RefundLedger]
    services: Mapping[str, LocalService]


@contextmanager
def shared_ledger(folder: Path, platforms: Mapping[str, str], *, service: str) -> Iterator[SharedLedger]:
    """Run a ledger in `folder` with its holders and these platforms (name -> control group). The first run makes the
    key in a ceremony.

    Raises ConfigurationError if the folder's ledger is damaged or of one holder, or a process does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = local_settings(folder, service)
    if has_single_holder(folder):
        raise ConfigurationError(f"{folder} has a ledger whose key one holder has. Choose another folder.")
    _begin(settings, folder)
    for name, control_group in platforms.items():
        enrol_if_new(settings, folder, name, control_group, _PROFILE)
    for holder in HOLDERS:
        _admit(folder, holder, platforms)
    with ExitStack() as stack:
        server = LocalService(["serve"], environment_of(settings), folder / "server.log")
        stack.callback(server.stop)
        url = server.url()
        services = {}
        for holder in HOLDERS:
            environment = _holder_environment(holder_settings(folder, holder, url))
            services[holder] = LocalService(["holder", "serve"], environment, folder / "holders" / f"{holder}.log")
            stack.callback(services[holder].stop)
        _hand_over_cards(settings, folder, {holder: each.url() for holder, each in services.items()}, platforms)
        opened = {
            name: stack.enter_context(open_platform(folder, name, url, folder / "cards" / name)) for name in platforms
        }
        yield SharedLedger(folder, opened, services)
        for each in services.values():
            each.terminate()  # together, so that one does not wait for the other


def has_single_holder(folder: Path) -> bool:
    """True if the folder has a ledger whose key one holder has: one of `replay`, or of an earlier version's demo."""
    from ledger.server.keys.files import OPRF_FILE

    return (folder / "keys" / OPRF_FILE).exists()


def holder_folder(folder: Path, holder: str) -> Path:
    """Return the folder of a holder."""
    return folder / "holders" / holder


def holder_settings(folder: Path, holder: str, ledger_url: str | None = None) -> HolderSettings:
    """Return the settings of a holder's service for the ledger at `ledger_url`. Raises ConfigurationError."""
    from ledger.holder.settings import load_holder_settings

    path = holder_folder(folder, holder)
    return load_holder_settings(
        dir=path, database_url=f"sqlite:///{path / 'holder.db'}", ledger_url=ledger_url, host="127.0.0.1"
    )


def _holder_environment(settings: HolderSettings) -> dict[str, str]:
    from ledger.holder.settings import HOLDER_PREFIX

    values = settings.model_dump(mode="json", exclude_none=True)
    return {**os.environ, **{HOLDER_PREFIX + name.upper(): str(value) for name, value in values.items()}}


def _begin(settings: Settings, folder: Path) -> None:
    """Make the keys of the ledger, have the holders make the shared key, and begin the log with it; or check the ledger
    of an earlier run. A run that was stopped in between is completed."""
    from ledger.holder.shares import share_files
    from ledger.server.keys.cards import prepare_for_holders, read_cards
    from ledger.server.log.genesis import init_keys

    prepare_for_holders(settings, OPERATOR, _PLANNED_URL)
    if not all(share_files(holder_folder(folder, holder)) for holder in HOLDERS):
        _hold_ceremony(settings, folder)
    exchange = folder / "holders" / "exchange"
    try:
        init_keys(settings, datetime.now(UTC), read_cards([exchange / f"{holder}.card.json" for holder in HOLDERS]))
    except ConfigurationError:
        check_ledger(settings)  # the ledger of an earlier run, or a damaged one


def _hold_ceremony(settings: Settings, folder: Path) -> None:
    """Make the shared key: each holder runs each step in its own folder, and reads files of all others.

    People compare fingerprints before each step; here one program runs all of them.
    """
    from ledger.holder import ceremony
    from ledger.holder.folder import PROFILE_NAME, init_folder, open_folder
    from ledger.server.keys.cards import load_ledger_card

    exchange = folder / "holders" / "exchange"
    exchange.mkdir(parents=True, exist_ok=True)
    card = load_ledger_card(settings)
    for holder, organisation in HOLDERS.items():
        path = holder_folder(folder, holder)
        if not (path / PROFILE_NAME).exists():
            init_folder(path, card, holder, organisation, _PLANNED_URL)
        with open_folder(path) as opened:
            _send(exchange, holder, "participant", opened.participant().members)
    participants = ceremony.read_participants(_received(exchange, "participant"))
    for holder in HOLDERS:
        with open_folder(holder_folder(folder, holder)) as opened:
            begun = ceremony.begin(opened, ceremony.new_key(opened, participants, THRESHOLD, 1))
            _send(exchange, holder, "deal", begun.members)
    deals = ceremony.read_deals(_received(exchange, "deal"))
    for holder in HOLDERS:
        with open_folder(holder_folder(folder, holder)) as opened:
            _send(exchange, holder, "certificate", ceremony.certify(opened, deals).members)
    certificates = ceremony.read_certificates(_received(exchange, "certificate"))
    for holder in HOLDERS:
        with open_folder(holder_folder(folder, holder)) as opened:
            finished = ceremony.finish(opened, certificates)
        assert finished.card is not None
        _send(exchange, holder, "card", finished.card)


def _send(exchange: Path, holder: str, kind: str, members: Mapping[str, Any]) -> None:
    """Write a file of a holder for all others."""
    from ledger.holder.files import write_public
    from ledger.tlog.ceremony_files import file_text

    write_public(exchange / f"{holder}.{kind}.json", file_text(members))


def _received(exchange: Path, kind: str) -> list[Path]:
    return [exchange / f"{holder}.{kind}.json" for holder in HOLDERS]


def _admit(folder: Path, holder: str, platforms: Mapping[str, str]) -> None:
    """Admit the platforms at a holder, each with its public key. Repeating it changes nothing."""
    from ledger.holder.admission import admit_platform
    from ledger.holder.database import open_holder_database

    engine = open_holder_database(holder_settings(folder, holder), upgrade=True, pool_size=1)
    try:
        for name, control_group in platforms.items():
            admit_platform(
                engine,
                platform=name,
                control_group=control_group,
                kid=f"{name}-1",
                public_key=load_signing_key(folder / f"{name}.pem").public_key().public_bytes_raw(),
                now=datetime.now(UTC),
            )
    finally:
        engine.dispose()


def _hand_over_cards(settings: Settings, folder: Path, urls: Mapping[str, str], platforms: Mapping[str, str]) -> None:
    """Have each holder sign a card with its address in this run, give it to each platform, and have the operator store
    the addresses."""
    from ledger.holder.ceremony import newest_share
    from ledger.holder.folder import change_url, open_folder
    from ledger.server.db.opening import open_database
    from ledger.server.keys.cards import read_cards
    from ledger.server.rotation.sharings import publish_sharing
    from ledger.tlog.key_statement import make_card

    exchange = folder / "holders" / "exchange"
    for holder, url in urls.items():
        with open_folder(holder_folder(folder, holder)) as opened:
            share = newest_share(opened).share
            moved = change_url(opened, url)
            card = make_card(share.statement, share.index, moved.url, moved.signing_key())
        _send(exchange, holder, "card", card)
        for name in platforms:
            (folder / "cards" / name).mkdir(parents=True, exist_ok=True)
            _send(folder / "cards" / name, holder, "card", card)
    engine = open_database(settings, pool_size=1)
    try:
        publish_sharing(settings, engine, read_cards(_received(exchange, "card")), datetime.now(UTC))
    finally:
        engine.dispose()
