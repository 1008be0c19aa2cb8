"""A referral as a PDF in one language: the pages and their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ledger.code_names import actor_text, conduct_text, evidence_text, outcome_text, state_text
from ledger.errors import ConfigurationError
from ledger.evidence import finding_texts
from ledger.evidence.findings import InspectionFinding
from ledger.i18n import LOCALES, Texts
from ledger.i18n import texts as texts_of
from ledger.protocol.encoding import b64url
from ledger.referral import texts
from ledger.referral.audience import Audience, Part, gets
from ledger.referral.checks import check_commands, evidence_command
from ledger.referral.facts import Referral, ReferredAppeal, ReferredReport, receipt_name
from ledger.referral.inspections import ReferredFinding, ReferredInspection
from ledger.referral.law import LEVELS, AmountBand
from ledger.referral.pdf import Document
from ledger.rules.conduct import Evidence, EvidenceType
from ledger.rules.findings import TRUSTED, About, Strength, Trust
from ledger.rules.jurisdictions import find_jurisdiction
from ledger.rules.provenance import Origin
from ledger.rules.reports import Status

SHORT_DIGEST_CHARS = 16
REPORT_MM, CHECKS_MM = 80.0, 110.0
"""Room on a page that a report, or the commands, need; with less, they begin on the next page."""
MARKED = (Status.DISPUTED, Status.UNCONFIRMED, Status.COOLING)


def render(referral: Referral, locale: str, content: bytes) -> bytes:
    """Return the PDF of a referral whose `referral.json` is `content`. Raises ConfigurationError if time zone data is
    missing."""
    language = texts_of(locale)
    title, subject = language.gettext(texts.TITLE), language.gettext(texts.SUBJECT)
    document = Document(title, subject, referral.platform, locale, referral.made_at, content)
    writing = _Writing(referral, language, document, _zone(referral.profile))
    writing.front()
    for number, report in enumerate(referral.reports, 1):
        writing.report(number, report)
    if referral.audience is Audience.AI_PROVIDER:
        writing.content_numbers()
    if gets(referral.audience, Part.MONEY):
        writing.losses()
    if gets(referral.audience, Part.LAW):
        writing.law()
    writing.checks()
    return document.bytes()


def _zone(profile: str) -> tzinfo:
    """Return the time zone of a profile's law; UTC for a profile that this version does not know."""
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
    referral: Referral
    language: Texts
    document: Document
    zone: tzinfo

    def say(self, message: str, **values: object) -> str:
        return self.language.gettext(message, **values)

    def time(self, moment: datetime) -> str:
        return self.language.time(moment, self.zone)

    def front(self) -> None:
        """Write the first page: what a referral is and is not, and which reports are contested, unconfirmed or
        recent."""
        referral, say = self.referral, self.say
        self.document.heading(say(texts.TITLE))
        self.document.pairs(
            [
                (say(texts.PLATFORM), referral.platform),
                (say(texts.FOR), say(texts.AUDIENCES[referral.audience])),
                (say(texts.MADE), self.time(referral.made_at)),
                (say(texts.LEDGER), f"{referral.service}, {referral.url}"),
            ]
        )
        box = [say(notice, platform=referral.platform) for notice in texts.NOTICES]
        law = find_jurisdiction(referral.profile)
        box += [say(law.handover)] if law is not None and law.handover is not None else []
        self.document.box(box)
        if referral.environment != "live":
            self.document.box([say(texts.ENVIRONMENT, environment=referral.environment)])
        for status in MARKED:
            marked = [report.id for report in referral.reports if report.status is status]
            if marked:
                self.document.box(self.mark(status, ", ".join(marked)))
        self.document.heading(say(texts.AT_A_GLANCE), 1)
        rows = [
            (
                report.id,
                conduct_text(report.amended_conduct or report.conduct, self.language.locale),
                self.language.date(report.act_ended_at, self.zone),
                say(texts.NOW[report.status]),
            )
            for report in referral.reports
        ]
        header = (texts.REPORT, texts.WHAT_IT_SAYS, texts.ACT_ENDED, texts.NOW_IT)
        self.document.table([say(name) for name in header], rows, (22, 40, 22, 22))

    def mark(self, status: Status, reports: str) -> list[str]:
        """Return the notice about reports of this status in every language, the reader's language first."""
        languages = sorted(LOCALES, key=lambda locale: locale != self.language.locale)
        return [texts_of(locale).gettext(texts.MARKS[status], reports=reports) for locale in languages]

    def report(self, number: int, report: ReferredReport) -> None:
        """Write the pages about one report."""
        say = self.say
        self.document.heading(f"{number}. {say(texts.REPORT)} {report.id}", room_mm=REPORT_MM)
        self.document.pairs(self.facts(report))
        if report.evidence:
            self.document.heading(say(texts.EVIDENCE), 1)
            whole = gets(self.referral.audience, Part.EVIDENCE)
            self.document.paragraph(say(texts.EVIDENCE_NOTE if whole else texts.EVIDENCE_PART), small=True)
            rows = [(self.evidence(item), item.sha256.hex()) for item in report.evidence]
            self.document.table([say(texts.WHAT_IT_IS), say(texts.DIGEST)], rows, (35, 65))
        if report.inspections:
            self.document.heading(say(texts.FINDINGS), 1)
            named = {strength.value: say(text) for strength, text in finding_texts.STRENGTHS.items()}
            self.document.paragraph(say(texts.FINDINGS_NOTE, **named), small=True)
            for inspection in report.inspections:
                self.inspection(inspection)
        self.document.heading(say(texts.APPEAL), 1)
        self.appeal(report.appeal)

    def facts(self, report: ReferredReport) -> list[tuple[str, str]]:
        say = self.say
        conduct = conduct_text(report.conduct, self.language.locale)
        if report.amended_conduct is not None:
            amended = conduct_text(report.amended_conduct, self.language.locale)
            conduct += "\n" + say(texts.AMENDED, conduct=amended)
        receipt = say(
            texts.RECEIPT,
            file=receipt_name(report.id),
            index=self.language.number(report.entry_index),
            hour=report.hour,
        )
        rows = [
            (say(texts.WHAT_IT_SAYS), conduct),
            (say(texts.NOW_IT), say(texts.NOW[report.status])),
            (say(texts.ACT_ENDED), self.time(report.act_ended_at)),
            (say(texts.TOLD), self.time(report.notice_sent_at)),
        ]
        if report.decided_by is not None:
            decision = say(texts.DECISION, ref=report.decided_by, notice=report.notice_ref or "")
            rows.append((say(texts.DECIDED_BY), decision))
        if report.order is not None:
            rows.append((say(texts.ORDER), report.order))
        if report.money is not None:
            money = report.money
            amount = f"{self.language.money(money.amount_minor, money.currency)}\n{say(texts.MONEY[money.outcome])}"
            if money.restituted_at is not None:
                amount += "\n" + say(texts.RESTITUTED, date=self.language.date(money.restituted_at, self.zone))
            rows.append((say(texts.AMOUNT), amount))
        rows += [
            (say(texts.RECORDED), self.time(report.recorded_at)),
            (say(texts.EXPIRES), self.time(report.expires_at)),
            (say(texts.LOG_RECEIPT), receipt),
        ]
        if report.references is not None:
            references = report.references
            lines = [say(texts.ORDER_REF, ref=b64url(references.order_ref))]
            lines += [say(texts.CONSENT_REF, ref=references.consent_ref)] if references.consent_ref else []
            lines += [say(texts.REPLACES, report=references.replaces)] if references.replaces else []
            rows.append((say(texts.REFERENCES), "\n".join(lines)))
        return rows

    def evidence(self, item: Evidence) -> str:
        text = evidence_text(item.type, self.language.locale)
        if item.finding is not None:
            finding = item.finding
            strength = self.say(finding_texts.STRENGTHS[finding.strength])
            text += "\n" + self.say(texts.OTHER_TOOL, tool=finding.tool_version, code=finding.code, strength=strength)
            if finding.trust is not None or finding.strength is Strength.IDENTIFIES:
                text += "\n" + self.trust(finding.trust)
        if item.type is EvidenceType.ORIGINAL_FILE:
            text += "\n" + self.origin(item.origin)
        if item.confirmation is not None:
            confirmation = item.confirmation
            text += "\n" + self.say(
                texts.CONFIRMATION,
                issuer=confirmation.issuer,
                date=self.language.date(confirmation.answered_at, self.zone),
                verdict=self.say(texts.VERDICTS[confirmation.verdict]),
                digest=confirmation.file_sha256.hex()[:SHORT_DIGEST_CHARS] + "…",
            )
        return text

    def trust(self, trust: Trust | None) -> str:
        """Return the text about the trust in a signature."""
        return self.say(finding_texts.NOT_SIGNED if trust is None else finding_texts.TRUSTS[trust])

    def origin(self, origin: Origin | None) -> str:
        """Return the text about the origin of an original file."""
        if origin is None:
            return self.say(texts.ORIGIN_UNKNOWN)
        if origin.received_at is None:
            return self.say(texts.ORIGINS[origin.source])
        return self.say(texts.ORIGINS_AT[origin.source], time=self.time(origin.received_at))

    def inspection(self, inspection: ReferredInspection) -> None:
        say, digest = self.say, inspection.receipt_sha256.hex()
        short = inspection.sha256.hex()[:SHORT_DIGEST_CHARS] + "…"
        self.document.paragraph(say(texts.INSPECTED_FILE, digest=short, tool=inspection.tool))
        named = texts.IN_REPORT if inspection.in_report else texts.NOT_IN_REPORT
        self.document.paragraph(say(named, digest=digest), small=True)
        if inspection.conclusion is not None:
            self.document.paragraph(say(finding_texts.CONCLUSIONS[inspection.conclusion]))
        if inspection.complete is False:
            self.document.paragraph(say(finding_texts.INCOMPLETE))
        if inspection.findings:
            rows = [(self.finding(finding), self.strength(finding)) for finding in inspection.findings]
            self.document.table([say(texts.FINDING), say(texts.STRENGTH)], rows, (80, 20))
        elif inspection.conclusion is None:
            self.document.paragraph(say(texts.NOTHING_FOUND))

    def finding(self, finding: ReferredFinding) -> str:
        """Return a finding as text: a sentence if its facts are known, its code, the trust in its signature, and what
        it does not show."""
        locale = self.language.locale
        if finding.known is None or finding.facts is None:
            lines = [f"{finding.code}\n{self.say(texts.NO_FACTS)}" if finding.facts is None else finding.code]
            lines += [finding_texts.trust_sentence(finding.code, finding.trust, locale)]
        else:
            whole = InspectionFinding(finding.known, finding.where or "", finding.facts)
            lines = [finding_texts.sentence(whole, locale), f"{finding.code} · {finding.where}"]
        lines.append(finding_texts.limit(finding.code, locale, finding.trust))
        return "\n".join(line for line in lines if line)

    def strength(self, finding: ReferredFinding) -> str:
        text = "" if finding.strength is None else self.say(finding_texts.STRENGTHS[finding.strength])
        for_person = finding.about is About.CAPTURED and finding.trust in TRUSTED
        return f"{text}\n{self.say(texts.FOR_PERSON)}" if for_person else text

    def appeal(self, appeal: ReferredAppeal | None) -> None:
        say = self.say
        if appeal is None:
            self.document.paragraph(say(texts.APPEAL_NONE))
            return
        if appeal.outcome is not None:
            outcome = _text_or_code(outcome_text, appeal.outcome, self.language.locale)
            self.document.paragraph(say(texts.APPEAL_OUTCOME, outcome=outcome))
        else:
            state = _text_or_code(state_text, appeal.state, self.language.locale)
            self.document.paragraph(say(texts.APPEAL_STATE, state=state, due=self.time(appeal.due_at)))
        if appeal.statements:
            self.document.paragraph(say(texts.APPEAL_SAID), small=True)
            for statement in appeal.statements:
                speaker = actor_text(texts.SPEAKERS[statement.by], self.language.locale)
                self.document.paragraph(f"{speaker} · {self.time(statement.at)}", small=True)
                self.document.paragraph(statement.text, indent_mm=6)

    def content_numbers(self) -> None:
        """Write the numbers that the provider of an AI service can look up."""
        say = self.say
        self.document.heading(say(texts.NUMBERS))
        rows = list(
            dict.fromkeys(row for report in self.referral.reports for row in content_numbers(report.inspections))
        )
        if not rows:
            self.document.paragraph(say(texts.NUMBERS_NONE))
            return
        self.document.paragraph(say(texts.NUMBERS_NOTE))
        header = (texts.PRODUCER, texts.NUMBER, texts.PLACE, texts.DIGEST)
        self.document.table([say(name) for name in header], rows, (30, 27, 18, 25))

    def losses(self) -> None:
        say, money = self.say, self.language.money
        self.document.heading(say(texts.LOSS))
        self.document.paragraph(say(texts.LOSS_NOTE))
        header = (texts.CURRENCY, texts.LOST, texts.PAID_OUT, texts.CAME_BACK, texts.RECOVERED, texts.REFUSED)
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
            for loss in self.referral.losses
        ]
        self.document.table([say(name) for name in (*header, texts.CONTESTED)], rows, (11, 15, 15, 14, 15, 15, 16))

    def law(self) -> None:
        say, laws = self.say, self.referral.laws
        self.document.heading(say(texts.LAW))
        if not laws:
            self.document.paragraph(say(texts.LAW_NONE))
            return
        self.document.paragraph(say(texts.LAW_NOTE))
        rows = [(f"{say(law.text)}\n{law.source}", law.since) for law in laws]
        self.document.table([say(texts.RULE), say(texts.SINCE)], rows, (84, 16))
        general, network = (law.bands for law in laws if law.bands)
        bands = [
            (say(LEVELS[band.level]), self.band(band), self.band(network_band))
            for band, network_band in zip(general, network, strict=True)
        ]
        self.document.table([say(name) for name in (texts.LEVEL, texts.GENERALLY, texts.NETWORK)], bands, (25, 45, 30))

    def band(self, band: AmountBand) -> str:
        number: Callable[[int], str] = self.language.number
        if band.to_yuan is None:
            return self.say(texts.FROM, low=number(band.from_yuan))
        return self.say(texts.FROM_RANGE, low=number(band.from_yuan), high=number(band.to_yuan))

    def checks(self) -> None:
        say, referral = self.say, self.referral
        whole = gets(referral.audience, Part.WHOLE_RECEIPT)
        self.document.heading(say(texts.CHECK), room_mm=CHECKS_MM)
        sums, receipts = check_commands(whole)
        self.command(texts.CHECK_FILES, sums)
        self.command(texts.CHECK_WHOLE if whole else texts.CHECK_SEALED, receipts)
        self.document.paragraph(say(texts.CHECK_KEY, url=referral.url))
        self.document.paragraph(referral.log_key, small=True, indent_mm=6)
        if whole:
            self.document.paragraph(say(texts.CHECK_PLATFORM_KEY))
        self.command(texts.CHECK_EVIDENCE, evidence_command())
        self.document.paragraph(say(texts.CHECK_OTHERWISE))

    def command(self, message: str, command: str) -> None:
        self.document.paragraph(self.say(message))
        self.document.paragraph(command, small=True, indent_mm=6)


def _text_or_code(text_of: Callable[[str, str], str], code: str, locale: str) -> str:
    """Return the text of a code; the code itself if this version does not know it."""
    try:
        return text_of(code, locale)
    except ValueError:
        return code


def content_numbers(inspections: Sequence[ReferredInspection]) -> list[tuple[str, str, str, str]]:
    """Return (producer, content number, place in the file, SHA-256 of the file) of each label with a content number."""
    rows = []
    for inspection in inspections:
        for finding in inspection.findings:
            facts = finding.facts or {}
            for issuer, number in (("producer", "produce_id"), ("propagator", "propagate_id")):
                if facts.get(number):
                    name = str(facts.get("producer_name", "")) if issuer == "producer" else ""
                    codes = [name, str(facts.get(issuer, ""))]
                    producer = "\n".join(code for code in codes if code)
                    rows.append((producer, str(facts[number]), finding.where or "", inspection.sha256.hex()))
    return rows
