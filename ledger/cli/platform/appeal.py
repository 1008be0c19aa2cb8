"""`appeal` and `record-link`: contest a report for a customer, answer as reporter, show a person their record."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ledger.cli import options, output, streams
from ledger.cli.options import (
    CnIdOption,
    DeviceOption,
    EmailOption,
    KeyOption,
    PaymentOption,
    PhoneOption,
    RegionOption,
    StateOption,
    SuiteOption,
)
from ledger.cli.output import JsonFlag, guarded
from ledger.cli.tables import Table
from ledger.client import Appeal
from ledger.errors import ConfigurationError, InvalidRequest
from ledger.protocol.encoding import format_time
from ledger.rules.languages import DEFAULT_LOCALE, LOCALES

appeal = typer.Typer(no_args_is_help=True, help="Contest reports for customers, and answer for your own.")

AppealId = Annotated[str, typer.Argument(help="The case's id, ap_...")]
LocaleOption = Annotated[str, typer.Option("--locale", help=f"{' or '.join(LOCALES)}: the person's language.")]
PartyOption = Annotated[str, typer.Option("--party", help="subject: for your customer; reporter: for yourself.")]
TextOption = Annotated[str | None, typer.Option("--text", help="What to say. Or use --text-file.")]
TextFileOption = Annotated[
    Path | None, typer.Option("--text-file", help="A file with the text, UTF-8. - is standard input.")
]
IdempotencyOption = Annotated[
    str | None, typer.Option("--idempotency-key", help="Your own key: repeated with it, nothing happens twice.")
]


@appeal.command("file")
@guarded
def file_appeal(
    suite: SuiteOption,
    key: KeyOption,
    report: Annotated[list[str], typer.Option("--report", help="A report's id, rp_...; once for each, up to 20.")],
    grounds: Annotated[
        str,
        typer.Option("--grounds", help="not_me, wrong_facts, evidence_wrong, paid_back, not_told or other."),
    ],
    text: TextOption = None,
    text_file: TextFileOption = None,
    locale: LocaleOption = DEFAULT_LOCALE,
    phone: PhoneOption = None,
    email: EmailOption = None,
    cn_id: CnIdOption = None,
    payment: PaymentOption = None,
    device: DeviceOption = None,
    region: RegionOption = None,
    idempotency_key: IdempotencyOption = None,
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Contest reports of other members for a customer, in their words. For a report of your own control group make the
    person a link with `record-link`: there they contest it themselves."""
    said, given = text_of(text, text_file), options.identifiers(phone, email, cn_id, payment, device)
    with options.open_ledger(suite, key, state_dir) as ledger:
        buyer = ledger.tag(region=region, **given) if given else None
        cases = ledger.appeals.open(report, grounds, said, locale, buyer, idempotency_key=idempotency_key)

    def tell(console: Console) -> None:
        table = Table("case", "report", "state", "decision due")
        for one in cases:
            table.add_row(one.id, one.report, one.state, format_time(one.due_at))
        console.print(table)

    output.emit({"appeals": output.plain(cases)}, tell)


@appeal.command("list")
@guarded
def list_all(
    suite: SuiteOption,
    key: KeyOption,
    role: Annotated[
        str | None, typer.Option("--role", help="filed: through you; reported: about your reports.")
    ] = None,
    state: Annotated[str | None, typer.Option("--state", help="Only cases in this state.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100)] = 50,
    starting_after: Annotated[str | None, typer.Option("--starting-after", help="Last id of the page before.")] = None,
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """List your cases, newest first."""
    with options.open_ledger(suite, key, state_dir) as ledger:
        page = ledger.appeals.list(role=role, state=state, limit=limit, starting_after=starting_after)

    def tell(console: Console) -> None:
        table = Table("case", "as", "state", "outcome", "report", "answer due", "decision due")
        for one in page.appeals:
            answer = "" if one.answer_due_at is None else format_time(one.answer_due_at)
            late = " (late)" if one.overdue else ""
            table.add_row(
                one.id,
                one.party or "opener",
                one.state,
                one.outcome,
                one.report,
                answer,
                format_time(one.due_at) + late,
            )
        console.print(table)
        if page.has_more:
            console.print(f"More: --starting-after {page.appeals[-1].id}")

    output.emit(output.plain(page), tell)


@appeal.command("show")
@guarded
def show(
    case: AppealId,
    suite: SuiteOption,
    key: KeyOption,
    party: Annotated[
        str | None, typer.Option("--party", help="Where you are both: subject or reporter. (default: subject)")
    ] = None,
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Show a case with its question, decision, timeline and files."""
    with options.open_ledger(suite, key, state_dir) as ledger:
        _show(ledger.appeals.get(case, party))


@appeal.command("answer")
@guarded
def answer(
    case: AppealId,
    suite: SuiteOption,
    key: KeyOption,
    party: PartyOption,
    text: TextOption = None,
    text_file: TextFileOption = None,
    idempotency_key: IdempotencyOption = None,
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Answer the question that waits for this party, or add something. The other party reads it."""
    said = text_of(text, text_file)
    with options.open_ledger(suite, key, state_dir) as ledger:
        _show(ledger.appeals.answer(case, party, said, idempotency_key=idempotency_key))


@appeal.command("attach")
@guarded
def attach(
    case: AppealId,
    file: Annotated[Path, typer.Argument(help="JPEG, PNG, WebP, PDF, MP4 or plain text.")],
    suite: SuiteOption,
    key: KeyOption,
    party: PartyOption,
    evidence_index: Annotated[
        int | None, typer.Option("--evidence-index", min=0, help="The reported item that it is; 0 is the first.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What it is called. (default: the file's name)")] = None,
    idempotency_key: IdempotencyOption = None,
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Hand in a file. The other party can read it, and its name."""
    with options.open_ledger(suite, key, state_dir) as ledger:
        made = ledger.appeals.attach(case, party, file, evidence_index, name=name, idempotency_key=idempotency_key)
    facts = output.plain(made)
    output.emit(facts, lambda console: console.print(output.fields(facts)))


@appeal.command("withdraw")
@guarded
def withdraw(
    case: AppealId,
    suite: SuiteOption,
    key: KeyOption,
    idempotency_key: IdempotencyOption = None,
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Take an appeal back, as your customer wishes."""
    with options.open_ledger(suite, key, state_dir) as ledger:
        _show(ledger.appeals.withdraw(case, idempotency_key=idempotency_key))


@appeal.command("reopen")
@guarded
def reopen(
    case: AppealId,
    suite: SuiteOption,
    key: KeyOption,
    text: TextOption = None,
    text_file: TextFileOption = None,
    idempotency_key: IdempotencyOption = None,
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Contest a decision once more for your customer, in their words."""
    said = text_of(text, text_file)
    with options.open_ledger(suite, key, state_dir) as ledger:
        _show(ledger.appeals.reopen(case, said, idempotency_key=idempotency_key))


@appeal.command("concede")
@guarded
def concede(
    case: AppealId,
    suite: SuiteOption,
    key: KeyOption,
    conduct: Annotated[str, typer.Option("--conduct", help="Another conduct, of no higher severity.")],
    idempotency_key: IdempotencyOption = None,
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Concede, as the reporter, that the report should name another conduct. It costs your weight nothing."""
    with options.open_ledger(suite, key, state_dir) as ledger:
        _show(ledger.appeals.concede(case, conduct, idempotency_key=idempotency_key))


@appeal.command("agree")
@guarded
def agree(
    case: AppealId,
    suite: SuiteOption,
    key: KeyOption,
    idempotency_key: IdempotencyOption = None,
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Agree, as your customer wishes, to what the reporter conceded."""
    with options.open_ledger(suite, key, state_dir) as ledger:
        _show(ledger.appeals.agree(case, idempotency_key=idempotency_key))


@appeal.command("request-reopening")
@guarded
def request_reopening(
    case: AppealId,
    evidence: Annotated[Path, typer.Argument(help="The file that is new evidence; only its SHA-256 is sent.")],
    suite: SuiteOption,
    key: KeyOption,
    text: TextOption = None,
    text_file: TextFileOption = None,
    idempotency_key: IdempotencyOption = None,
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Ask, as the reporter, that a case that was decided `unconfirmed` be opened again for new evidence."""
    said = text_of(text, text_file)
    try:
        digest = hashlib.sha256(evidence.read_bytes()).digest()
    except OSError as error:
        raise ConfigurationError(f"{evidence.name} cannot be read.") from error
    with options.open_ledger(suite, key, state_dir) as ledger:
        _show(ledger.appeals.request_reopening(case, digest, said, idempotency_key=idempotency_key))


@appeal.command("letter")
@guarded
def letter(
    case: AppealId,
    suite: SuiteOption,
    key: KeyOption,
    kind: Annotated[
        str | None, typer.Argument(help="received, question, overdue or decided; without it, which there are.")
    ] = None,
    locale: Annotated[str | None, typer.Option("--locale", help=f"{' or '.join(LOCALES)}. (default: as filed)")] = None,
    of_round: Annotated[
        int | None, typer.Option("--round", min=1, max=2, help="Of this round. (default: the newest that has one)")
    ] = None,
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Print a letter to your customer, for you to send."""
    with options.open_ledger(suite, key, state_dir) as ledger:
        if kind is None:
            kinds, earlier = list(ledger.appeals.list_letters(case)), ledger.appeals.list_earlier_letters(case)
            lines = [*(f"{one.kind} --round {one.round}" for one in earlier), *kinds]
            made = {"letters": kinds, "earlier": [output.plain(one) for one in earlier]}
            output.emit(made, lambda console: console.print("\n".join(lines)))
            return
        found = ledger.appeals.get_letter(case, kind, locale, round=of_round)
    output.emit(output.plain(found), lambda console: console.print(Text(found.text)))


@guarded
def record_link(
    suite: SuiteOption,
    key: KeyOption,
    phone: PhoneOption = None,
    email: EmailOption = None,
    cn_id: CnIdOption = None,
    payment: PaymentOption = None,
    device: DeviceOption = None,
    region: RegionOption = None,
    locale: LocaleOption = DEFAULT_LOCALE,
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Print a link for a person to their own record. It works once and shows everything: give it to nobody else."""
    given = options.identifiers(phone, email, cn_id, payment, device)
    with options.open_ledger(suite, key, state_dir) as ledger:
        link = ledger.appeals.open_record(ledger.tag(region=region, **given), locale)

    def tell(console: Console) -> None:
        console.print(Text(link.url), soft_wrap=True)
        output.messages().print(f"Good once, until {format_time(link.expires_at)}.")

    output.emit(output.plain(link), tell)


def text_of(text: str | None, text_file: Path | None) -> str:
    """The text of --text, or that of the file of --text-file (UTF-8, with or without a byte order mark; - is standard
    input). Raises InvalidRequest unless one of the two is given, ConfigurationError when the file cannot be read."""
    if (text is None) == (text_file is None):
        raise InvalidRequest("Give the text with --text, or with --text-file.")
    if text_file is None:
        return text or ""
    try:
        source = streams.source(text_file)
        data = source.read_bytes() if isinstance(source, Path) else source.read()
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{_named(text_file)} is not UTF-8 text (byte {error.start + 1}). If it is in GBK or another encoding, save"
            " it as UTF-8."
        ) from error
    except OSError as error:
        raise ConfigurationError(f"{_named(text_file)} cannot be read.") from error


def _named(file: Path) -> str:
    return "Standard input" if str(file) == "-" else file.name


def _show(case: Appeal) -> None:
    def tell(console: Console) -> None:
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
            facts |= {"asked to reopen": "waits" if granted is None else "granted" if granted else "refused"}
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
            for one in case.attachments:
                place = "" if one.evidence_index is None else str(one.evidence_index)
                files.add_row(one.id, one.party, Text(one.name), one.media_type, str(one.size_bytes), place)
            console.print(files)

    output.emit(output.plain(case), tell)
