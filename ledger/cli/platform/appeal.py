"""`appeal` and `record-link`: contest reports for customers, answer as reporter, and link a person to their record."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.text import Text

from ledger.cli import output
from ledger.cli.decorator import command
from ledger.cli.options import LedgerOptions, PageOptions, PersonOptions, TextOptions
from ledger.cli.tables import Table
from ledger.client import Appeal, AppealGrounds, AppealParty, AppealRole, AppealState, LetterKind, RefundLedger
from ledger.errors import ConfigurationError
from ledger.protocol.encoding import format_time
from ledger.rules.languages import DEFAULT_LOCALE, LOCALES

appeal = typer.Typer(
    no_args_is_help=True, help="File appeals for customers, and answer appeals about your own reports."
)

AppealId = Annotated[str, typer.Argument(help="The case's id, ap_...")]
LocaleOption = Annotated[str, typer.Option("--locale", help=f"{' or '.join(LOCALES)}: the person's language.")]
PartyOption = Annotated[
    str, typer.Option("--party", help="subject: you act for your customer; reporter: you act for yourself.")
]
IdempotencyOption = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key", help="Your own key. A request that is repeated with the same key is recorded once."
    ),
]


@appeal.command("file")
@command
def file_appeal(
    account: LedgerOptions,
    person: PersonOptions,
    words: TextOptions,
    report: Annotated[list[str], typer.Option("--report", help="A report's id, rp_... Repeat for more, up to 20.")],
    grounds: Annotated[
        str,
        typer.Option("--grounds", help="not_me, wrong_facts, evidence_wrong, paid_back, not_told or other."),
    ],
    locale: LocaleOption = DEFAULT_LOCALE,
    idempotency_key: IdempotencyOption = None,
) -> None:
    """File an appeal for a customer against reports of other members, in the customer's words. For a report of your own
    control group, create a link with `record-link`: the person contests the report on that page."""
    statement, identifiers = words.read(), person.identifiers()
    with account.open() as ledger:
        buyer = ledger.tag(region=person.region, **identifiers) if identifiers else None
        cases = ledger.appeals.open(
            report, cast(AppealGrounds, grounds), statement, locale, buyer, idempotency_key=idempotency_key
        )

    def show_table(console: Console) -> None:
        table = Table("case", "report", "state", "decision due")
        for case in cases:
            table.add_row(case.id, case.report, case.state, format_time(case.due_at))
        console.print(table)

    output.emit({"appeals": output.plain(cases)}, show_table)


@appeal.command("list")
@command
def list_all(
    ledger: RefundLedger,
    paging: PageOptions,
    role: Annotated[
        str | None, typer.Option("--role", help="filed: cases that you filed; reported: cases about your reports.")
    ] = None,
    state: Annotated[str | None, typer.Option("--state", help="Only cases in this state.")] = None,
) -> None:
    """List your cases, newest first."""
    page = ledger.appeals.list(
        role=cast(AppealRole | None, role),
        state=cast(AppealState | None, state),
        limit=paging.limit,
        starting_after=paging.starting_after,
    )

    def show_table(console: Console) -> None:
        table = Table("case", "as", "state", "outcome", "report", "answer due", "decision due")
        for case in page.appeals:
            answer = "" if case.answer_due_at is None else format_time(case.answer_due_at)
            late = " (late)" if case.overdue else ""
            table.add_row(
                case.id,
                case.party or "opener",
                case.state,
                case.outcome,
                case.report,
                answer,
                format_time(case.due_at) + late,
            )
        console.print(table)
        if page.has_more:
            console.print(f"More: --starting-after {page.appeals[-1].id}")

    output.emit(output.plain(page), show_table)


@appeal.command("show")
@command
def show(
    ledger: RefundLedger,
    case: AppealId,
    party: Annotated[
        str | None,
        typer.Option("--party", help="subject or reporter, if you are both in this case. (default: subject)"),
    ] = None,
) -> None:
    """Show a case with its question, decision, timeline and files."""
    _show(ledger.appeals.get(case, cast(AppealParty | None, party)))


@appeal.command("answer")
@command
def answer(
    account: LedgerOptions,
    words: TextOptions,
    case: AppealId,
    party: PartyOption,
    idempotency_key: IdempotencyOption = None,
) -> None:
    """Answer the open question to this party, or add a statement. The other party can read it."""
    statement = words.read()
    with account.open() as ledger:
        _show(ledger.appeals.answer(case, cast(AppealParty, party), statement, idempotency_key=idempotency_key))


@appeal.command("attach")
@command
def attach(
    ledger: RefundLedger,
    case: AppealId,
    file: Annotated[Path, typer.Argument(help="JPEG, PNG, WebP, PDF, MP4 or plain text.")],
    party: PartyOption,
    evidence_index: Annotated[
        int | None,
        typer.Option("--evidence-index", min=0, help="Which reported item of evidence this file is; 0 is the first."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The name that the other party sees. (default: the file's name)")
    ] = None,
    idempotency_key: IdempotencyOption = None,
) -> None:
    """Add a file to a case. The other party can read the file and its name."""
    attachment = ledger.appeals.attach(
        case, cast(AppealParty, party), file, evidence_index, name=name, idempotency_key=idempotency_key
    )
    facts = output.plain(attachment)
    output.emit(facts, lambda console: console.print(output.fields(facts)))


@appeal.command("withdraw")
@command
def withdraw(ledger: RefundLedger, case: AppealId, idempotency_key: IdempotencyOption = None) -> None:
    """Withdraw an appeal at your customer's request."""
    _show(ledger.appeals.withdraw(case, idempotency_key=idempotency_key))


@appeal.command("reopen")
@command
def reopen(
    account: LedgerOptions,
    words: TextOptions,
    case: AppealId,
    idempotency_key: IdempotencyOption = None,
) -> None:
    """Contest a decision a second time for your customer, in the customer's words."""
    statement = words.read()
    with account.open() as ledger:
        _show(ledger.appeals.reopen(case, statement, idempotency_key=idempotency_key))


@appeal.command("concede")
@command
def concede(
    ledger: RefundLedger,
    case: AppealId,
    conduct: Annotated[
        str, typer.Option("--conduct", help="The conduct that the report should name; its severity must not be higher.")
    ],
    idempotency_key: IdempotencyOption = None,
) -> None:
    """Concede, as the reporter, that the report should name another conduct. The weight of your reports does not
    change."""
    _show(ledger.appeals.concede(case, conduct, idempotency_key=idempotency_key))


@appeal.command("agree")
@command
def agree(ledger: RefundLedger, case: AppealId, idempotency_key: IdempotencyOption = None) -> None:
    """Accept the reporter's concession at your customer's request."""
    _show(ledger.appeals.agree(case, idempotency_key=idempotency_key))


@appeal.command("request-reopening")
@command
def request_reopening(
    account: LedgerOptions,
    words: TextOptions,
    case: AppealId,
    evidence: Annotated[Path, typer.Argument(help="The file with the new evidence; only its SHA-256 is sent.")],
    idempotency_key: IdempotencyOption = None,
) -> None:
    """Request, as the reporter, that a case decided as `unconfirmed` is reopened because of new evidence."""
    statement = words.read()
    try:
        digest = hashlib.sha256(evidence.read_bytes()).digest()
    except OSError as error:
        raise ConfigurationError(f"{evidence.name} cannot be read.") from error
    with account.open() as ledger:
        _show(ledger.appeals.request_reopening(case, digest, statement, idempotency_key=idempotency_key))


@appeal.command("letter")
@command
def letter(
    ledger: RefundLedger,
    case: AppealId,
    kind: Annotated[
        str | None,
        typer.Argument(help="received, question, overdue or decided. (default: list the letters of the case)"),
    ] = None,
    locale: Annotated[
        str | None, typer.Option("--locale", help=f"{' or '.join(LOCALES)}. (default: the language of the appeal)")
    ] = None,
    of_round: Annotated[
        int | None,
        typer.Option("--round", min=1, max=2, help="Round of the case. (default: the newest round with such a letter)"),
    ] = None,
) -> None:
    """Print a letter that you send to your customer."""
    if kind is None:
        kinds, earlier = list(ledger.appeals.list_letters(case)), ledger.appeals.list_earlier_letters(case)
        lines = [*(f"{letter_kind.kind} --round {letter_kind.round}" for letter_kind in earlier), *kinds]
        listed = {"letters": kinds, "earlier": [output.plain(letter_kind) for letter_kind in earlier]}
        output.emit(listed, lambda console: console.print("\n".join(lines)))
        return
    printed = ledger.appeals.get_letter(case, cast(LetterKind, kind), locale, round=of_round)
    output.emit(output.plain(printed), lambda console: console.print(Text(printed.text)))


@command
def record_link(account: LedgerOptions, person: PersonOptions, locale: LocaleOption = DEFAULT_LOCALE) -> None:
    """Print a link with which a person opens their own record. It works once and shows the whole record: give it only
    to that person."""
    identifiers = person.identifiers()
    with account.open() as ledger:
        link = ledger.appeals.open_record(ledger.tag(region=person.region, **identifiers), locale)

    def show_table(console: Console) -> None:
        console.print(Text(link.url), soft_wrap=True)
        output.messages().print(f"Works once, until {format_time(link.expires_at)}.")

    output.emit(output.plain(link), show_table)


def _show(case: Appeal) -> None:
    def show_table(console: Console) -> None:
        facts: dict[str, Any] = {
            "case": case.id,
            "as": case.party or "opener of the person's session",
            "state": case.state,
            "decision due": format_time(case.due_at) + (" (late)" if case.overdue else ""),
        }
        if case.party is not None:
            facts |= {"report": case.report, "conduct": case.conduct, "grounds": case.grounds, "round": case.round}
        if case.question is not None:
            facts |= {"question": case.question.text, "answer due": format_time(case.question.due_at)}
        if case.concession is not None:
            agreed = case.concession.agreed_at
            facts |= {"conceded": case.concession.conduct, "agreed": None if agreed is None else format_time(agreed)}
        if case.reopening_request is not None:
            granted = case.reopening_request.granted
            facts |= {"reopening requested": "waits" if granted is None else "granted" if granted else "refused"}
        if case.decision is not None:
            facts |= {"outcome": case.decision.outcome, "reasons": case.decision.reasons}
        console.print(output.fields(facts))
        if case.timeline:
            table = Table("at", "who", "what", "text")
            for event in case.timeline:
                table.add_row(format_time(event.at), event.by, event.action, Text(event.text or ""))
            console.print(table)
        if case.attachments:
            files = Table("file", "of", "name", "type", "bytes", "evidence")
            for file in case.attachments:
                place = "" if file.evidence_index is None else str(file.evidence_index)
                files.add_row(file.id, file.party, Text(file.name), file.media_type, str(file.size_bytes), place)
            console.print(files)

    output.emit(output.plain(case), show_table)
