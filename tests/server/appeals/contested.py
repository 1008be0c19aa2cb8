"""Cases and staff for tests of the console's services."""

from __future__ import annotations

from ledger.protocol.public_ids import encode_id
from ledger.rules.case_machine import Staff
from ledger.server.appeals import consumer, participants
from ledger.server.appeals.case_changes import changing, load_case
from ledger.server.appeals.participants import Participant
from ledger.server.context import Context
from ledger.server.db.engine import writing
from ledger.server.records.case_queries import CaseRow
from ledger.server.staff import queries as store
from tests.server.appeals.test_appeals import session_of
from tests.server.conftest import LedgerFixture, Subjects

STATEMENT = "The parcel came broken."


def staff_of(ledger: LedgerFixture, name: str, role: str = "reviewer", group: str | None = None) -> Staff:
    """Return a member of staff with an account that is never used to sign in, so its password costs no time."""
    values = {"name": name, "role": role, "control_group": group, "language": "en", "created_at": ledger.clock()}
    secrets = {"password_hash": "", "totp_secret": b"", "must_change_password": False, "failed_count": 0}
    with writing(ledger.rt.engine) as connection:
        number = store.insert_staff(connection, **values, **secrets)
    return Staff(number, role, group)


def contest(
    ledger: LedgerFixture, person: Subjects, *reports: dict[str, object], statement: str = STATEMENT
) -> list[str]:
    """File an appeal; the public ids of the cases."""
    ids = [str(report["id"]) for report in reports]
    rows = consumer.open_cases(ledger.rt.context, session_of(ledger, person), ids, "wrong_facts", statement, "en")
    return [encode_id("ap", row.id, ledger.rt.settings.service) for row in rows]


def add_message(context: Context, case_id: int, participant: Participant, text: str) -> CaseRow:
    """Add a message to the case in a transaction of its own."""
    with changing(context) as batch:
        return participants.add_message(batch, load_case(batch, case_id), participant, text)
