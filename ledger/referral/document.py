"""A referral as a PDF in one language: what stands on which page, and in what order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ledger.code_names import actor_text, conduct_text, evidence_text, outcome_text, state_text
from ledger.errors import ConfigurationError
from ledger.evidence import finding_texts
from ledger.evidence.findings import Finding
from ledger.i18n import LOCALES, Texts, texts
from ledger.protocol.encoding import b64url
from ledger.referral import words
from ledger.referral.audience import Audience, Part, gets
from ledger.referral.checks import check_commands, evidence_command
from ledger.referral.facts import Contest, Referral, ReferredReport, receipt_name
from ledger.referral.inspections import Found, Inspected
from ledger.referral.law import LEVELS, Band
from ledger.referral.pdf import Document
from ledger.rules.conduct import Evidence, EvidenceType
from ledger.rules.findings import TRUSTED, About, Strength, Trust
from ledger.rules.jurisdictions import find_jurisdiction
from ledger.rules.provenance import Origin
from ledger.rules.reports import Status

SHORT_DIGEST_CHARS = 16
REPORT_MM, CHECKS_MM = 80.0, 110.0
"""Where less than this is left of a page, a report or the commands begin on the next."""
MARKED = (Status.DISPUTED, Status.UNCONFIRMED, Status.COOLING)


def render(made: Referral, locale: str, content: bytes) -> bytes:
    """The PDF of a referral whose `referral.json` is `content`. Raises ConfigurationError where there is no time zone
    data."""
    said = texts(locale)
    title, subject = said.gettext(words.TITLE), said.gettext(words.SUBJECT)
    document = Document(title, subject, made.platform, locale, made.made_at, content)
    writing = _Writing(made, said, document, _zone(made.profile))
    writing.front()
    for number, report in enumerate(made.reports, 1):
        writing.report(number, report)
    if made.audience is Audience.AI_PROVIDER:
        writing.content_numbers()
    if gets(made.audience, Part.MONEY):
        writing.losses()
    if gets(made.audience, Part.LAW):
        writing.law()
    writing.checks()
    return document.bytes()


def _zone(profile: str) -> tzinfo:
    """The time zone of a profile's law; UTC for a profile of a later ledger."""
    law = find_jurisdiction(profile)
    if law is None:
        return UTC
    name = law.clock.time_zone
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError as error:
        raise ConfigurationError(f"There is no time zone data for {name} here: pip install tzdata.") from error


@dataclass(frozen=True, slots=True)
class _Writing:
    made: Referral
    said: Texts
    document: Document
    zone: tzinfo

    def say(self, message: str, **values: object) -> str:
        return self.said.gettext(message, **values)

    def time(self, moment: datetime) -> str:
        return self.said.time(moment, self.zone)

    def front(self) -> None:
        """The first page: what this is and is not, and which reports do not simply stand."""
        made, say = self.made, self.say
        self.document.heading(say(words.TITLE))
        self.document.pairs(
            [
                (say(words.PLATFORM), made.platform),
                (say(words.FOR), say(words.AUDIENCES[made.audience])),
                (say(words.MADE), self.time(made.made_at)),
                (say(words.LEDGER), f"{made.service}, {made.url}"),
            ]
        )
        box = [say(notice, platform=made.platform) for notice in words.NOTICES]
        law = find_jurisdiction(made.profile)
        box += [say(law.handover)] if law is not None and law.handover is not None else []
        self.document.box(box)
        if made.environment != "live":
            self.document.box([say(words.ENVIRONMENT, environment=made.environment)])
        for status in MARKED:
            marked = [report.id for report in made.reports if report.status is status]
            if marked:
                self.document.box(self.mark(status, ", ".join(marked)))
        self.document.heading(say(words.AT_A_GLANCE), 1)
        rows = [
            (
                report.id,
                conduct_text(report.amended_conduct or report.conduct, self.said.locale),
                self.said.date(report.act_ended_at, self.zone),
                say(words.NOW[report.status]),
            )
            for report in made.reports
        ]
        header = (words.REPORT, words.WHAT_IT_SAYS, words.ACT_ENDED, words.NOW_IT)
        self.document.table([say(one) for one in header], rows, (22, 40, 22, 22))

    def mark(self, status: Status, reports: str) -> list[str]:
        """That reports do not simply stand, in every language, the reader's first."""
        languages = sorted(LOCALES, key=lambda one: one != self.said.locale)
        return [texts(one).gettext(words.MARKS[status], reports=reports) for one in languages]

    def report(self, number: int, report: ReferredReport) -> None:
        """Everything about one report."""
        say = self.say
        self.document.heading(f"{number}. {say(words.REPORT)} {report.id}", room_mm=REPORT_MM)
        self.document.pairs(self.facts(report))
        if report.evidence:
            self.document.heading(say(words.EVIDENCE), 1)
            whole = gets(self.made.audience, Part.EVIDENCE)
            self.document.paragraph(say(words.EVIDENCE_NOTE if whole else words.EVIDENCE_PART), small=True)
            rows = [(self.evidence(item), item.sha256.hex()) for item in report.evidence]
            self.document.table([say(words.WHAT_IT_IS), say(words.DIGEST)], rows, (35, 65))
        if report.inspections:
            self.document.heading(say(words.FINDINGS), 1)
            named = {one.value: say(text) for one, text in finding_texts.STRENGTHS.items()}
            self.document.paragraph(say(words.FINDINGS_NOTE, **named), small=True)
            for one in report.inspections:
                self.inspection(one)
        self.document.heading(say(words.APPEAL), 1)
        self.appeal(report.appeal)

    def facts(self, report: ReferredReport) -> list[tuple[str, str]]:
        say = self.say
        conduct = conduct_text(report.conduct, self.said.locale)
        if report.amended_conduct is not None:
            amended = conduct_text(report.amended_conduct, self.said.locale)
            conduct += "\n" + say(words.AMENDED, conduct=amended)
        receipt = say(
            words.RECEIPT, file=receipt_name(report.id), index=self.said.number(report.entry_index), hour=report.hour
        )
        rows = [
            (say(words.WHAT_IT_SAYS), conduct),
            (say(words.NOW_IT), say(words.NOW[report.status])),
            (say(words.ACT_ENDED), self.time(report.act_ended_at)),
            (say(words.TOLD), self.time(report.notice_sent_at)),
        ]
        if report.decided_by is not None:
            decision = say(words.DECISION, ref=report.decided_by, notice=report.notice_ref or "")
            rows.append((say(words.DECIDED_BY), decision))
        if report.order is not None:
            rows.append((say(words.ORDER), report.order))
        if report.money is not None:
            money = report.money
            amount = f"{self.said.money(money.amount_minor, money.currency)}\n{say(words.MONEY[money.outcome])}"
            if money.restituted_at is not None:
                amount += "\n" + say(words.RESTITUTED, date=self.said.date(money.restituted_at, self.zone))
            rows.append((say(words.AMOUNT), amount))
        rows += [
            (say(words.RECORDED), self.time(report.recorded_at)),
            (say(words.EXPIRES), self.time(report.expires_at)),
            (say(words.LOG_RECEIPT), receipt),
        ]
        if report.references is not None:
            found = report.references
            lines = [say(words.ORDER_REF, ref=b64url(found.order_ref))]
            lines += [say(words.CONSENT_REF, ref=found.consent_ref)] if found.consent_ref else []
            lines += [say(words.REPLACES, report=found.replaces)] if found.replaces else []
            rows.append((say(words.REFERENCES), "\n".join(lines)))
        return rows

    def evidence(self, item: Evidence) -> str:
        text = evidence_text(item.type, self.said.locale)
        if item.finding is not None:
            found = item.finding
            strength = self.say(finding_texts.STRENGTHS[found.strength])
            text += "\n" + self.say(words.OTHER_TOOL, tool=found.tool_version, code=found.code, strength=strength)
            if found.trust is not None or found.strength is Strength.IDENTIFIES:
                text += "\n" + self.trust(found.trust)
        if item.type is EvidenceType.ORIGINAL_FILE:
            text += "\n" + self.origin(item.origin)
        if item.confirmation is not None:
            said = item.confirmation
            text += "\n" + self.say(
                words.CONFIRMATION,
                issuer=said.issuer,
                date=self.said.date(said.answered_at, self.zone),
                verdict=self.say(words.VERDICTS[said.verdict]),
                digest=said.file_sha256.hex()[:SHORT_DIGEST_CHARS] + "…",
            )
        return text

    def trust(self, trust: Trust | None) -> str:
        """What stands behind a signature."""
        return self.say(finding_texts.NOT_SIGNED if trust is None else finding_texts.TRUSTS[trust])

    def origin(self, origin: Origin | None) -> str:
        """Where an original file came from."""
        if origin is None:
            return self.say(words.ORIGIN_UNKNOWN)
        if origin.received_at is None:
            return self.say(words.ORIGINS[origin.source])
        return self.say(words.ORIGINS_AT[origin.source], time=self.time(origin.received_at))

    def inspection(self, one: Inspected) -> None:
        say, digest = self.say, one.receipt_sha256.hex()
        short = one.sha256.hex()[:SHORT_DIGEST_CHARS] + "…"
        self.document.paragraph(say(words.INSPECTED_FILE, digest=short, tool=one.tool))
        named = words.IN_REPORT if one.in_report else words.NOT_IN_REPORT
        self.document.paragraph(say(named, digest=digest), small=True)
        if one.conclusion is not None:
            self.document.paragraph(say(finding_texts.CONCLUSIONS[one.conclusion]))
        if one.complete is False:
            self.document.paragraph(say(finding_texts.INCOMPLETE))
        if one.findings:
            rows = [(self.finding(found), self.strength(found)) for found in one.findings]
            self.document.table([say(words.FINDING), say(words.STRENGTH)], rows, (80, 20))
        elif one.conclusion is None:
            self.document.paragraph(say(words.NOTHING_FOUND))

    def finding(self, found: Found) -> str:
        """A finding in a sentence where its facts are known, always with its code, with what stands behind it, and with
        what it does not show."""
        locale = self.said.locale
        if found.known is None or found.facts is None:
            lines = [f"{found.code}\n{self.say(words.NO_FACTS)}" if found.facts is None else found.code]
            lines += [finding_texts.trust_sentence(found.code, found.trust, locale)]
        else:
            whole = Finding(found.known, found.where or "", found.facts)
            lines = [finding_texts.sentence(whole, locale), f"{found.code} · {found.where}"]
        lines.append(finding_texts.limit(found.code, locale, found.trust))
        return "\n".join(line for line in lines if line)

    def strength(self, found: Found) -> str:
        text = "" if found.strength is None else self.say(finding_texts.STRENGTHS[found.strength])
        for_person = found.about is About.CAPTURED and found.trust in TRUSTED
        return f"{text}\n{self.say(words.FOR_PERSON)}" if for_person else text

    def appeal(self, appeal: Contest | None) -> None:
        say = self.say
        if appeal is None:
            self.document.paragraph(say(words.APPEAL_NONE))
            return
        if appeal.outcome is not None:
            outcome = _called(outcome_text, appeal.outcome, self.said.locale)
            self.document.paragraph(say(words.APPEAL_OUTCOME, outcome=outcome))
        else:
            state = _called(state_text, appeal.state, self.said.locale)
            self.document.paragraph(say(words.APPEAL_STATE, state=state, due=self.time(appeal.due_at)))
        if appeal.said:
            self.document.paragraph(say(words.APPEAL_SAID), small=True)
            for one in appeal.said:
                speaker = actor_text(words.SPEAKERS[one.by], self.said.locale)
                self.document.paragraph(f"{speaker} · {self.time(one.at)}", small=True)
                self.document.paragraph(one.text, indent_mm=6)

    def content_numbers(self) -> None:
        """What the provider of an AI service can look up."""
        say = self.say
        self.document.heading(say(words.NUMBERS))
        rows = list(dict.fromkeys(row for report in self.made.reports for row in content_numbers(report.inspections)))
        if not rows:
            self.document.paragraph(say(words.NUMBERS_NONE))
            return
        self.document.paragraph(say(words.NUMBERS_NOTE))
        header = (words.PRODUCER, words.NUMBER, words.PLACE, words.DIGEST)
        self.document.table([say(one) for one in header], rows, (30, 27, 18, 25))

    def losses(self) -> None:
        say, money = self.say, self.said.money
        self.document.heading(say(words.LOSS))
        self.document.paragraph(say(words.LOSS_NOTE))
        header = (words.CURRENCY, words.LOST, words.PAID_OUT, words.CAME_BACK, words.RECOVERED, words.REFUSED)
        rows = [
            (
                loss.currency,
                *(
                    money(amount, loss.currency)
                    for amount in (loss.loss_minor, loss.suffered_minor, loss.restituted_minor, loss.recovered_minor)
                ),
                money(loss.refused_minor, loss.currency),
                money(loss.contested_minor, loss.currency),
            )
            for loss in self.made.losses
        ]
        self.document.table([say(one) for one in (*header, words.CONTESTED)], rows, (11, 15, 15, 14, 15, 15, 16))

    def law(self) -> None:
        say, laws = self.say, self.made.laws
        self.document.heading(say(words.LAW))
        if not laws:
            self.document.paragraph(say(words.LAW_NONE))
            return
        self.document.paragraph(say(words.LAW_NOTE))
        rows = [(f"{say(law.text)}\n{law.source}", law.since) for law in laws]
        self.document.table([say(words.RULE), say(words.SINCE)], rows, (84, 16))
        general, network = (law.bands for law in laws if law.bands)
        bands = [
            (say(LEVELS[one.level]), self.band(one), self.band(other))
            for one, other in zip(general, network, strict=True)
        ]
        self.document.table([say(one) for one in (words.LEVEL, words.GENERALLY, words.NETWORK)], bands, (25, 45, 30))

    def band(self, band: Band) -> str:
        number: Callable[[int], str] = self.said.number
        if band.to_yuan is None:
            return self.say(words.FROM, low=number(band.from_yuan))
        return self.say(words.FROM_RANGE, low=number(band.from_yuan), high=number(band.to_yuan))

    def checks(self) -> None:
        say, made = self.say, self.made
        whole = gets(made.audience, Part.WHOLE_RECEIPT)
        self.document.heading(say(words.CHECK), room_mm=CHECKS_MM)
        sums, receipts = check_commands(whole)
        self.command(words.CHECK_FILES, sums)
        self.command(words.CHECK_WHOLE if whole else words.CHECK_SEALED, receipts)
        self.document.paragraph(say(words.CHECK_KEY, url=made.url))
        self.document.paragraph(made.log_key, small=True, indent_mm=6)
        if whole:
            self.document.paragraph(say(words.CHECK_PLATFORM_KEY))
        self.command(words.CHECK_EVIDENCE, evidence_command())
        self.document.paragraph(say(words.CHECK_OTHERWISE))

    def command(self, message: str, command: str) -> None:
        self.document.paragraph(self.say(message))
        self.document.paragraph(command, small=True, indent_mm=6)


def _called(text_of: Callable[[str, str], str], code: str, locale: str) -> str:
    """The text of a code; the code itself where a later version of the ledger added it."""
    try:
        return text_of(code, locale)
    except ValueError:
        return code


def content_numbers(inspections: Sequence[Inspected]) -> list[tuple[str, str, str, str]]:
    """(producer, content number, place in the file, SHA-256 of the file) of each label that names one."""
    rows = []
    for one in inspections:
        for found in one.findings:
            facts = found.facts or {}
            for issuer, number in (("producer", "produce_id"), ("propagator", "propagate_id")):
                if facts.get(number):
                    name = str(facts.get("producer_name", "")) if issuer == "producer" else ""
                    codes = [name, str(facts.get(issuer, ""))]
                    producer = "\n".join(code for code in codes if code)
                    rows.append((producer, str(facts[number]), found.where or "", one.sha256.hex()))
    return rows
