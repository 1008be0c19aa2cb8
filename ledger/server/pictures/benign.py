"""The operator's list of benign pictures: pictures that honest people send too, and that searches must not match.

It is for pictures that the ledger cannot recognise as common: a merchant's photo that a report did not name, a
courier's page, a picture that is passed on widely. A change takes effect in the next search of every process. Each
change is in the audit log.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from ledger.errors import AlreadyExists, InvalidRequest, NotFound, PictureUnfit
from ledger.rules.pictures import HASH_BYTES, is_degenerate
from ledger.server.db.engine import reading, writing
from ledger.server.pictures import queries as store
from ledger.server.pictures.queries import BenignRow
from ledger.server.staff.audit import record

MAX_BENIGN = 10_000
MAX_REASON_CHARS = 128


def add_benign(engine: Engine, pdq: bytes, reason: str, now: datetime) -> None:
    """Add a picture to the list, so that searches do not match pictures within the distance of its hash `pdq`.

    Raises InvalidRequest, PictureUnfit (the hash of an almost empty picture, which is near half of all pictures),
    AlreadyExists, DatabaseUnavailable.
    """
    _check(pdq, reason)
    if is_degenerate(pdq):
        raise PictureUnfit("This is not the hash of a picture with anything in it.")
    try:
        with writing(engine) as connection:
            store.lock_benign(connection)  # so that two transactions at once do not exceed the limit
            added, removed = store.benign_version(connection)
            if added - removed >= MAX_BENIGN:
                raise InvalidRequest(f"The list holds at most {MAX_BENIGN} pictures. Remove some.")
            number = store.add_benign(connection, pdq, reason, now)
            record(connection, now, None, "picture_benign_added", "picture", str(number), reason)
    except IntegrityError as error:
        raise AlreadyExists("This picture is in the list already.") from error


def remove_benign(engine: Engine, pdq: bytes, reason: str, now: datetime) -> None:
    """Remove a picture from the list; searches match pictures near it again.

    Raises InvalidRequest, NotFound, DatabaseUnavailable.
    """
    _check(pdq, reason)
    with writing(engine) as connection:
        number = store.remove_benign(connection, pdq, now)
        if number is None:
            raise NotFound("This very picture is not in the list. `refund-ledger pictures benign list` shows it.")
        record(connection, now, None, "picture_benign_removed", "picture", str(number), reason)


def list_benign(engine: Engine) -> list[BenignRow]:
    """Return the list, oldest picture first. Raises DatabaseUnavailable."""
    with reading(engine) as connection:
        return store.benign_pictures(connection)


def _check(pdq: bytes, reason: str) -> None:
    if len(pdq) != HASH_BYTES:
        raise InvalidRequest("A PDQ hash has 64 hexadecimal digits.")
    if not 1 <= len(reason.strip()) <= MAX_REASON_CHARS or not reason.isprintable():
        raise InvalidRequest(f"A reason has 1 to {MAX_REASON_CHARS} printable characters.")
