"""The operator's list of benign pictures: what honest people send too, and nobody is to be found by.

It is for what the ledger cannot see by itself: a merchant's photo that a report did not name, a courier's page, a
picture that goes round. Effective in the next search of every process, and undone as quickly. Each change is in the
audit log.
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
    """Keep everything within the distance of `pdq` out of searches.

    Raises InvalidRequest, PictureUnfit (a hash that half of all pictures would be near), AlreadyExists,
    DatabaseUnavailable.
    """
    _check(pdq, reason)
    if is_degenerate(pdq):
        raise PictureUnfit("This is not the hash of a picture with anything in it.")
    try:
        with writing(engine) as connection:
            store.lock_benign(connection)  # so that two at once do not both find room
            added, removed = store.benign_version(connection)
            if added - removed >= MAX_BENIGN:
                raise InvalidRequest(f"The list holds at most {MAX_BENIGN} pictures. Remove some.")
            number = store.add_benign(connection, pdq, reason, now)
            record(connection, now, None, "picture_benign_added", "picture", str(number), reason)
    except IntegrityError as error:
        raise AlreadyExists("This picture is in the list already.") from error


def remove_benign(engine: Engine, pdq: bytes, reason: str, now: datetime) -> None:
    """Take a picture off the list; what is near it counts again.

    Raises InvalidRequest, NotFound, DatabaseUnavailable.
    """
    _check(pdq, reason)
    with writing(engine) as connection:
        number = store.remove_benign(connection, pdq, now)
        if number is None:
            raise NotFound("This very picture is not in the list. `refund-ledger pictures benign list` shows it.")
        record(connection, now, None, "picture_benign_removed", "picture", str(number), reason)


def list_benign(engine: Engine) -> list[BenignRow]:
    """The list, oldest first. Raises DatabaseUnavailable."""
    with reading(engine) as connection:
        return store.benign_pictures(connection)


def _check(pdq: bytes, reason: str) -> None:
    if len(pdq) != HASH_BYTES:
        raise InvalidRequest("A PDQ hash has 64 hexadecimal digits.")
    if not 1 <= len(reason.strip()) <= MAX_REASON_CHARS or not reason.isprintable():
        raise InvalidRequest(f"A reason has 1 to {MAX_REASON_CHARS} printable characters.")
