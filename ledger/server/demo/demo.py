"""`demo`: the main workflow end to end, over real HTTP, on a ledger in a folder of its own. It checks every standing
that it shows, and can be run again."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich import box
from rich.console import Console

from ledger.cli import output
from ledger.cli.decorator import command
from ledger.cli.exit_codes import ExitCode
from ledger.cli.platform.lookup import TIER_STYLES
from ledger.cli.tables import Table
from ledger.client import (
    Buyer,
    Check,
    Evidence,
    Lookup,
    PictureReuse,
    Refund,
    RefundLedger,
    VerifiedReceipt,
    claim_upload,
    evidence,
    inspect,
    inspected_evidence,
    issuer_answer,
    picture_hash,
)
from ledger.client.transport.http import Transport
from ledger.client.verify.log import LogReport, verify_log
from ledger.client.verify.receipts import log_fetcher
from ledger.errors import SnapshotUnknown, UnexpectedAnswer
from ledger.rules.languages import DEFAULT_LOCALE, LOCALES, language_for
from ledger.server.demo.texts import PRODUCER, TEXTS

if TYPE_CHECKING:
    from ledger.i18n import Texts
    from ledger.server.demo.appeal import DemoDecision
    from ledger.server.demo.local_holders import SharedLedger
    from ledger.server.demo.parties import Findings

SERVICE = "demo.refund-ledger.local"
CONSENT = "separate-consent-2026-11-03-8842"
"""Reference to the separate consent of the fictitious buyers."""

SNAPSHOT_SECONDS = 20.0
PLATFORMS = {"acme": "east-group", "corner": "east-group", "bazaar": "west-group"}
"""Control groups by platform. Acme and corner have one owner, so that their reports count as those of one reporter."""

ADVICE = 5
"""Number of the column of codes, which are not wrapped."""

STOPPED_HOLDER = "south"
"""The holder that is stopped at the end."""
FAILURE_SECONDS = 5.0
"""How long the demo waits until the SDK has named the stopped holder: its answer does not wait for that."""


@dataclass(frozen=True)
class _Photos:
    """The conclusions about the photo and about its copy, and the earlier uses of the copy's picture."""

    original: str
    copy: str
    reuse: PictureReuse

    @property
    def as_expected(self) -> bool:
        label_is_lost = (self.original, self.copy) == ("ai_indicated", "nothing_found")
        return label_is_lost and (self.reuse.reports, self.reuse.platforms) == (1, 1)


@dataclass(frozen=True)
class _Outage:
    """The lookup of a new buyer while a holder was stopped: how long it took with the evaluation by the other holders,
    and the failures that the SDK counted meanwhile, by holder and reason."""

    seconds: float
    failures: Mapping[str, Mapping[str, int]]

    @property
    def as_expected(self) -> bool:
        return set(self.failures) == {STOPPED_HOLDER}


@dataclass
class _Story:
    """The rows of the demo so far."""

    said: Texts
    rows: list[tuple[str, str, Lookup]] = field(default_factory=list)
    ways: list[tuple[str, Lookup | Check]] = field(default_factory=list)
    photos: _Photos | None = None
    decided: DemoDecision | None = None
    outage: _Outage | None = None
    findings: Findings | None = None
    listed_phones: list[str] = field(default_factory=list)
    """Phone numbers of the people of this run who are listed."""

    def text(self, name: str, **values: object) -> str:
        """Return the text `name` of `TEXTS` in the language of the demo, with `%(name)s` filled in."""
        return self.said.gettext(TEXTS[name], **values)

    def record(self, step: str, expected: str, lookup: Lookup) -> None:
        self.rows.append((step, expected, lookup))
        self.note(step)

    def note(self, name: str, **values: object) -> None:
        """Print a line about the progress."""
        if not output.json_asked():
            output.messages().print(f"[dim]- {self.text(name, **values)}[/]")

    @property
    def as_expected(self) -> bool:
        agreeing = {(lookup.tier, lookup.credit) for _, lookup in self.ways}
        if any(part is None or not part.as_expected for part in (self.photos, self.outage, self.findings)):
            return False
        return len(agreeing) == 1 and all(lookup.tier == expected for _, expected, lookup in self.rows)


@command
def demo(
    folder: Annotated[Path, typer.Option("--dir", help="Folder of the demo's ledger.")] = Path("var/demo"),
    lang: Annotated[str | None, typer.Option("--lang", help=f"{' or '.join(LOCALES)}. (default: from LANG)")] = None,
) -> None:
    """Run the main workflow once on a ledger of its own, whose key three holders share: enrol, tag, look up, report,
    withdraw, prove. Takes half a minute."""
    from ledger.i18n import texts
    from ledger.server.demo.local_holders import has_single_holder, shared_ledger

    language = _language(lang)
    said = texts(language)
    started = time.monotonic()
    story = _Story(said)
    if has_single_holder(folder):
        # The key of such a ledger cannot be shared later: its holder keeps it.
        former, folder = folder, folder.parent / f"{folder.resolve().name}-2-of-3"
        story.note("former", former=former, folder=folder)
    story.note("begin")
    with shared_ledger(folder, PLATFORMS, service=SERVICE) as ledger:
        receipt, log = _play(ledger, story, language)
    _show(story, receipt, log, folder, time.monotonic() - started)
    if not story.as_expected:
        output.fail(ExitCode.REFUSED, "The ledger did not answer as this demo expects.")


def _language(lang: str | None) -> str:
    if lang is not None and lang not in LOCALES:
        raise typer.BadParameter(f"--lang is one of: {', '.join(LOCALES)}.")
    return lang or language_for(os.environ.get("LANG", "")) or DEFAULT_LOCALE


def _play(ledger: SharedLedger, story: _Story, locale: str) -> tuple[VerifiedReceipt, LogReport]:
    from ledger.server.demo.local_ledger import local_settings, publish_snapshot
    from ledger.server.demo.parties import look_for_names
    from ledger.server.demo.picture import labelled_photo

    folder = ledger.folder
    acme, corner, bazaar = ledger.platforms["acme"], ledger.platforms["corner"], ledger.platforms["bazaar"]
    ids = _identifiers()
    story.listed_phones.append(ids["phone"])
    look = _Looker(acme, acme.tag(**ids))
    story.record("before", "clear", look())

    photo = folder / "claims" / f"{secrets.token_hex(6)}.png"
    labelled_photo(photo)
    uploaded = claim_upload(datetime.now(UTC) - timedelta(days=6))
    fabricated = [
        inspected_evidence("original_file", photo, origin=uploaded),
        inspected_evidence("ai_label", photo),
        _answer_of_issuer(photo),
        _evidence("live_reshoot_failed"),
    ]
    first = _report(acme, acme.tag(**ids), "ai_fabricated_image", fabricated, 12_900, act_days=6)
    story.record("first", "watch", look())
    story.photos = _passed_on(bazaar, photo)

    scans = [_evidence("delivery_scan"), _evidence("delivery_photo")]
    _report(corner, corner.tag(**ids), "false_non_receipt", scans, 4_500, act_days=7)
    story.record("same", "watch", look())

    buyer = bazaar.tag(**ids)
    _report(bazaar, buyer, "false_non_receipt", scans, 8_800, act_days=60)
    story.record("second", "review", look())

    switched = [_evidence("serial_mismatch"), _evidence("intake_photo")]
    grave = _report(bazaar, buyer, "switched_return", switched, 99_900, act_days=9)
    story.record("high", "high", look())

    acme.reports.restitute(first.id, datetime.now(UTC), 12_900, "CNY")
    story.record("restitution", "high", look())
    bazaar.reports.withdraw(grave.id, "wrong_facts")
    story.record("withdraw", "review", look())

    story.record("honest", "clear", _Looker(acme, acme.tag(**_identifiers()))())
    victim = _identifiers()
    story.listed_phones.append(victim["phone"])
    _report(bazaar, bazaar.tag(**victim), "impersonated", [_evidence("admission")], 5_000, act_days=6)
    story.record("victim", "clear", _Looker(acme, acme.tag(**victim))())

    last = _appeal(acme, bazaar, story, folder, locale)
    look.in_three_ways(story, publish_snapshot(folder, SERVICE))
    story.findings = look_for_names(local_settings(folder, SERVICE), folder, story.listed_phones, PLATFORMS["acme"])
    story.outage = _without_a_holder(ledger, acme, story)

    acme.reports.receipt(last)  # waits for a checkpoint that covers all reports of the demo
    receipt = acme.reports.receipt(first)
    transport = Transport(acme.suite.url)
    try:
        log = verify_log(
            log_fetcher(transport, 5.0), acme.suite.pinned.log_origin, acme.suite.log_public, receipts=[receipt.text]
        )
    finally:
        transport.close()
    return receipt, log


def _passed_on(bazaar: RefundLedger, photo: Path) -> _Photos:
    """Return the conclusions about the photo and a copy without metadata, and the result of bazaar's search for the
    copy."""
    from ledger.server.demo.picture import passed_on

    copy = photo.with_suffix(".jpg")
    passed_on(photo, copy)
    (reuse,) = bazaar.pictures.search([picture_hash(copy)], order=f"B-{secrets.token_hex(4)}")
    return _Photos(inspect(photo).conclusion.value, inspect(copy).conclusion.value, reuse)


def _without_a_holder(ledger: SharedLedger, platform: RefundLedger, story: _Story) -> _Outage:
    """Stop a holder, and look up a buyer whom the platform has not tagged before."""
    ledger.services[STOPPED_HOLDER].stop()
    started = time.monotonic()
    lookup = _Looker(platform, platform.tag(**_identifiers()))()
    seconds = time.monotonic() - started
    story.record("stopped", "clear", lookup)
    while STOPPED_HOLDER not in platform.holder_failures and time.monotonic() < started + FAILURE_SECONDS:
        time.sleep(0.02)
    return _Outage(seconds, platform.holder_failures)


def _appeal(acme: RefundLedger, bazaar: RefundLedger, story: _Story, folder: Path, locale: str) -> Any:
    """Report a fourth buyer, who appeals through bazaar and whose standing is corrected. Return the report."""
    from ledger.server.demo.appeal import contest, decide

    ids = _identifiers()
    look = _Looker(bazaar, bazaar.tag(**ids))
    switched = [_evidence("serial_mismatch"), _evidence("intake_photo")]
    report = _report(acme, acme.tag(**ids), "switched_return", switched, 45_000, act_days=8)
    story.record("accused", "watch", look())
    case = contest(bazaar, bazaar.tag(**ids), report.id, story.text("statement"), locale)
    story.record("contested", "clear", look())
    story.decided = decide(folder, SERVICE, bazaar.suite.url, case, story.text("reasons"), locale)
    story.record("healed", "clear", look())
    return report


class _Looker:
    """Looks up one buyer for a platform, again at each call. An outage is a failure of the demo."""

    def __init__(self, ledger: RefundLedger, buyer: Buyer) -> None:
        self._ledger = ledger
        self._buyer = buyer

    def __call__(self) -> Lookup:
        return self._ledger.lookup(
            self._buyer,
            order=f"A-{secrets.token_hex(4)}",
            refund=Refund(12_900, "CNY", "damaged"),
            consent_ref=CONSENT,
        )

    def _snapshot_of(self) -> datetime:
        """Return the time of the newest snapshot that the server serves."""
        try:
            return self._ledger.refresh_snapshot()
        except SnapshotUnknown:  # the first one is still being built
            return datetime.min.replace(tzinfo=UTC)

    def in_three_ways(self, story: _Story, published: datetime) -> None:
        """Look the buyer up directly, privately and locally, as soon as the snapshot of `published` is served.

        Raises UnexpectedAnswer if the server does not serve it in time.
        """
        deadline = time.monotonic() + SNAPSHOT_SECONDS
        while self._snapshot_of() < published:
            if time.monotonic() > deadline:
                raise UnexpectedAnswer("The demo's own server did not serve its snapshot.")
            time.sleep(0.2)
        story.ways.append(("direct", self()))
        refund = Refund(12_900, "CNY", "damaged")
        check = partial(self._ledger.check, self._buyer, refund=refund, consent_ref=CONSENT)
        story.ways.append(("private", check(policy="private")))
        story.ways.append(("download", check(policy="download")))


def _identifiers() -> dict[str, str]:
    """Return fictitious identifiers of a new buyer. A wallet account is a strong identifier."""
    return {
        "phone": f"+86 138 {secrets.randbelow(10**4):04d} {secrets.randbelow(10**4):04d}",
        "payment": f"demo-wallet/{secrets.token_hex(8)}",
    }


def _answer_of_issuer(photo: Path) -> Evidence:
    """Return the answer of the image service that the label names. Service and answer are fictitious; the answer is
    written to a file in the folder of the photo."""
    sha256, answered_at = hashlib.sha256(photo.read_bytes()).digest(), datetime.now(UTC) - timedelta(days=5)
    answer = photo.with_suffix(".txt")
    answer.write_text(f"{PRODUCER} made the file {sha256.hex()}.\n", encoding="utf-8")
    confirmation = issuer_answer(PRODUCER, answered_at, "generated", sha256)
    return evidence("issuer_confirmation", file=answer, confirmation=confirmation)


def _evidence(kind: str) -> Evidence:
    return evidence(kind, sha256=secrets.token_bytes(32))


def _report(
    ledger: RefundLedger, buyer: Buyer, conduct: str, items: list[Evidence], amount_minor: int, *, act_days: int
) -> Any:
    """Send a report whose notice is four days old, so that it counts at once."""
    now = datetime.now(UTC)
    result = ledger.reports.create(
        buyer,
        conduct=conduct,
        evidence=items,
        order=f"R-{secrets.token_hex(6)}",
        amount_minor=amount_minor,
        currency="CNY",
        outcome="refund_refused",
        act_ended_at=now - timedelta(days=act_days),
        notice_sent_at=now - timedelta(days=4),
        notice_ref="demo-notice",
        decided_by="demo-agent",
        consent_ref=CONSENT,
    )
    if result.report is None:
        raise UnexpectedAnswer("The demo's own server did not accept a report.")
    return result.report


def _show(story: _Story, receipt: VerifiedReceipt, log: LogReport, folder: Path, seconds: float) -> None:
    text = story.text
    steps = [
        {"step": step, "expected": expected, "tier": lookup.tier, "credit": lookup.credit, "points": lookup.points}
        for step, expected, lookup in story.rows
    ]

    def show(console: Console) -> None:
        table = Table(title=text("title"), box=box.SIMPLE, show_edge=False)
        for number, name in enumerate(text("columns").split("|")):
            justify: Literal["left", "right"] = "right" if number in (2, 3, 4) else "left"
            table.add_column(name, justify=justify, overflow="fold", no_wrap=number == ADVICE)
        for step, _, lookup in story.rows:
            style = TIER_STYLES[lookup.tier]
            points = "" if lookup.points is None else f"{lookup.points:.2f}"
            advice = "\n".join([*lookup.guidance, *(["(protected)"] if lookup.protected else [])])
            table.add_row(
                text(step),
                f"[{style}]{lookup.tier}[/]",
                str(lookup.credit),
                points,
                str(lookup.reporters),
                advice,
            )
        console.print(table)
        console.print(_ways(story))
        if story.findings is not None:
            console.print(_parties(story.findings, story))
        if story.photos is not None:
            console.print(_photos(story.photos, story))
        checkpoint = receipt.receipt.checkpoint
        if story.decided is not None:
            console.print(text("appeal", **asdict(story.decided)))
        if story.outage is not None:
            console.print(text("outage", milliseconds=f"{story.outage.seconds * 1000:.0f}", named=_named(story.outage)))
        console.print(text("control_group"))
        console.print(text("receipt", index=receipt.receipt.index, size=checkpoint.size))
        console.print(text("log", size=log.entries_count, events=log.events_count))
        console.print(text("again", folder=folder, seconds=f"{seconds:.0f}"))

    output.emit(
        {
            "as_expected": story.as_expected,
            "folder": str(folder),
            "steps": steps,
            "ways": [{"way": way, "tier": lookup.tier, "credit": lookup.credit} for way, lookup in story.ways],
            "photos": None if story.photos is None else asdict(story.photos),
            "appeal": None if story.decided is None else asdict(story.decided),
            "holders": None if story.findings is None else {**asdict(story.findings), "stopped": STOPPED_HOLDER},
            "outage": None if story.outage is None else asdict(story.outage),
            "receipt": {"entry_index": receipt.receipt.index, "log_size": receipt.receipt.checkpoint.size},
            "log": {"size": log.entries_count, "events": log.events_count},
            "seconds": round(seconds, 1),
        },
        show,
    )


def _ways(story: _Story) -> Table:
    text = story.text
    table = Table(title=text("ways"), box=box.SIMPLE, show_edge=False)
    for number, name in enumerate(text("way_columns").split("|")):
        table.add_column(name, justify="right" if number in (2, 3) else "left", overflow="fold")
    for way, lookup in story.ways:
        how, learns = text(way).split("|")
        bounded = isinstance(lookup, Check) and lookup.bounded
        tier = f"{text('bounded')} {lookup.tier}" if bounded else lookup.tier
        points = "" if lookup.points is None else f"{lookup.points:.2f}"
        table.add_row(how, f"[{TIER_STYLES[lookup.tier]}]{tier}[/]", str(lookup.credit), points, learns)
    return table


def _photos(photos: _Photos, story: _Story) -> Table:
    text = story.text
    table = Table(title=text("photos"), box=box.SIMPLE, show_edge=False)
    for name in text("photo_columns").split("|"):
        table.add_column(name, overflow="fold")
    table.add_row(text("photo"), text(photos.original), text("not_asked"))
    table.add_row(text("copy"), text(photos.copy), text("used", **asdict(photos.reuse)))
    return table


def _parties(findings: Findings, story: _Story) -> Table:
    """Return the table of what each party holds, how many people it named in this run, and what it could learn."""
    text, number = story.text, story.said.number
    title = text("parties", candidates=findings.candidates, listed=findings.listed)
    table = Table(title=title, box=box.SIMPLE, show_edge=False)
    for name in text("party_columns").split("|"):
        table.add_column(name, overflow="fold")
    rows = [(party.name, f"{party.named} / {findings.listed}", bool(party.named)) for party in findings.parties]
    rows.insert(-1, ("member", text("by_budget"), True))
    for row, named, can_name in rows:
        name, holds, learns = text(row, daily=number(findings.daily), days=number(findings.days_for_1e9)).split("|")
        table.add_row(name, holds, f"[{'red' if can_name else 'green'}]{named}[/]", learns)
    return table


def _named(outage: _Outage) -> str:
    """Return the failures of holders in words, such as `south (connect)`."""
    return ", ".join([f"{holder} ({', '.join(reasons)})" for holder, reasons in outage.failures.items()])
