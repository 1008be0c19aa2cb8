"""One made-up row of each kind, put into the sources while they are imported, and everything that must follow from it.

Run as a program, in a process of its own: `python -m tests.made_up_rows` prints, by kind, the msgids that the row
brings and that no catalogue has. A check that fails ends the program: the row would need a change in some other place.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.util import spec_from_loader
from types import CodeType, ModuleType
from typing import Any
from zoneinfo import ZoneInfo

from tests import made_up_language

# By module: a line of its table, and the row that is put before it. Nothing else of any file is changed.
ROWS: dict[str, list[tuple[str, str]]] = {
    "ledger.rules.conduct": [
        (
            "    IMPERSONATED = ConductSpec(\n",
            """\
    ITEM_SWAP_CLAIM = ConductSpec(
        code="item_swap_claim",
        byte=200,
        severity=3,
        reason=Reason.FALSE_DELIVERY,
        minimum=((_need(_E.DISPATCH_WEIGHT), _need(_E.DELIVERY_PHOTO)),),
        text=_("A made-up conduct"),
    )
""",
        )
    ],
    "ledger.rules.jurisdictions": [
        (
            "    EU = Jurisdiction(\n",
            """\
    ZZ = Jurisdiction(
        code="ZZ",
        clock=AppealClock(days=10, months=0, extension_days=5, time_zone="Asia/Tokyo"),
        limits=StatutoryLimits(days=10, months=0, extension_days=5),
        receipt_day_counts=True,
        consent_for_reports=True,
        consent_for_lookups=False,
        clock_text=_("A made-up clock"),
        limit_text=_("A made-up limit"),
        statutes={Purpose.CONTEST: _("A made-up statute")},
        routes=(Route(_("go to a made-up court;")), Route(_("ask a made-up board."), RouteAfter.RECORD_KEPT)),
        handover=_("A made-up caution"),
        sources=(LegalSource("A made-up act", "nowhere", date(2020, 1, 1)),),
    )
""",
        )
    ],
    "ledger.rules.outcomes": [
        (
            "    UNLINKED = OutcomeSpec(\n",
            """\
    SET_ASIDE = OutcomeSpec(
        code="set_aside",
        effect=Effect(unconfirmed=True),
        burden=1,
        contestable=True,
        counts_again=False,
        name=_("A made-up outcome"),
        choice=_("Choose what is made up"),
        consequence=_("A made-up consequence"),
        verdict=_("On %(date)s we made this up."),
        changes=(_("A made-up change until %(date)s."),),
    )
""",
        )
    ],
    "ledger.rules.findings": [
        (
            "    LISTING_SAME = SignalSpec(\n",
            """\
    CONTENT_MARKED = SignalSpec(
        code="content_marked",
        strength=_S,
        about=About.MADE_BY_AI,
        title=_("A made-up mark"),
        shows=_("A made-up mark of %(issuer)s was found."),
        limit=_("It is made up."),
    )
""",
        )
    ],
    "ledger.tlog.entries": [
        (
            '    ERASURE = EntrySpec("erasure"',
            """\
    OBJECTION = EntrySpec(
        "objection", frozenset({"report", "recorded_at"}), frozenset({"scope"}), _("A made-up entry")
    )
""",
        )
    ],
    "ledger.rules.webhooks": [
        ('    TEST = "webhook.test"\n', '    LOOKUP_CORRECTED = "lookup.corrected"\n'),
        (
            "    WebhookType.TEST: EventSpec(\n",
            """\
    WebhookType.LOOKUP_CORRECTED: EventSpec(
        "something made up happened",
        {Recipient.MEMBER: (_id("lookup", "lk", "lk_6LgZXD0J", "the lookup"),)},
    ),
""",
        ),
    ],
    "ledger.rules.languages": [("    )\n}\n", made_up_language.ROW)],
}


class _Loader(importlib.abc.InspectLoader):
    """Loads a module from its source with the row in it; no compiled file is read or written."""

    def __init__(self, path: str, rows: Sequence[tuple[str, str]]) -> None:
        self._path, self._rows = path, rows

    def get_source(self, fullname: str) -> str:
        with open(self._path, encoding="utf-8") as file:
            text = file.read()
        for line, row in self._rows:
            assert text.count(line) == 1, (fullname, line)
            text = text.replace(line, row + line)
        return text

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = compile(self.get_source(fullname), self._path, "exec", dont_inherit=True)
        return code


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in ROWS:
            return None
        result = importlib.machinery.PathFinder.find_spec(fullname, path)
        assert result is not None
        assert result.origin is not None
        return spec_from_loader(fullname, _Loader(result.origin, ROWS[fullname]), origin=result.origin)


NOW = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)


def has(model: Any, code: str) -> None:
    """That the JSON schema of a Pydantic model allows this code."""
    assert f'"{code}"' in json.dumps(model.model_json_schema()), model


def conduct() -> list[str]:
    """Intake, expiry, sealed events, reasons, schemas, lists of choices, texts and the SDK's checks."""
    from api.platform.appeal_schemas import CaseConcession
    from api.platform.report_schemas import ReportBody
    from ledger.client.inputs import check_choice
    from ledger.code_names import conduct_text
    from ledger.errors import ConductNotInPolicy, EvidenceInsufficient, UnknownConduct
    from ledger.rules import conduct as table
    from ledger.rules.jurisdictions import Profile
    from ledger.rules.policy.shipped import shipped_policy
    from ledger.rules.policy.values import parse_policy
    from ledger.rules.reasons import CONDUCT_REASON
    from ledger.rules.reports import check_intake, parse_body
    from ledger.server.stats.policy_draft import values_of
    from ledger.snapshots.sealed import CONDUCT_BYTES
    from tests.rules.test_reports import body, c

    code = "item_swap_claim"
    new = table.Conduct(code)
    text, policy = shipped_policy()
    named = parse_policy(text.replace("wardrobing = 1\n", f"wardrobing = 1\n{code} = 3\n"))
    proof = [{"type": name, "sha256": c(place)} for place, name in enumerate(("dispatch_weight", "delivery_photo"), 4)]
    sent = parse_body(body(conduct=code, evidence=proof))
    assert check_intake(sent, Profile("CN"), named, NOW).severity == 3
    for rules, evidence, error in ((policy, proof, ConductNotInPolicy), (named, proof[:1], EvidenceInsufficient)):
        try:
            check_intake(parse_body(body(conduct=code, evidence=evidence)), Profile("CN"), rules, NOW)
        except error:
            continue
        raise AssertionError(error)
    assert CONDUCT_BYTES[code] == 200
    assert CONDUCT_REASON[code] == "false_delivery_claim"
    assert policy.severity[code] == 3, "a recorded report folds under a policy that does not name it"
    has(ReportBody, code)
    has(CaseConcession, code)
    check_choice("conduct", code, list(table.Conduct), UnknownConduct)
    assert values_of(named)[f"severity.{code}"] == 3
    assert conduct_text(code, "en") == new.spec.text
    return [new.spec.text]


def jurisdiction() -> list[str]:
    """Clocks, consent, enrolment, suite files, letters, pages, figures and the referral."""
    from api.console.figures import NAMES, _time
    from api.platform.appeal_schemas import AppealView
    from ledger.client.identity.suite import parse_suite
    from ledger.errors import ConsentMissing
    from ledger.i18n import texts
    from ledger.referral.audience import Audience
    from ledger.rules.deadlines import due_at
    from ledger.rules.jurisdictions import Profile
    from ledger.rules.policy.shipped import shipped_policy
    from ledger.rules.reports import check_intake, parse_body
    from ledger.server.appeals.case_changes import zone_of
    from ledger.server.platforms.members import PROFILES
    from ledger.server.stats.dashboard import TimeToDecision, limit_days
    from ledger.server.texts.letters import LetterKind, render
    from tests.client.test_suite import suite_json
    from tests.referral.samples import referred, source
    from tests.rules.test_reports import body
    from tests.server.texts.test_letters import facts

    new = Profile("ZZ")
    law, policy = new.spec, shipped_policy()[1]
    assert policy.appeals.clocks[new] == law.clock, "a policy that does not name it takes its default"
    zone = zone_of(policy, "ZZ")
    opened = datetime(2026, 3, 1, 12, tzinfo=ZoneInfo("Asia/Tokyo"))
    assert due_at(opened, new, law.clock, zone).astimezone(zone).date().isoformat() == "2026-03-11"
    assert limit_days(new, law.clock) == (9, 10)
    try:
        check_intake(parse_body(body(consent_ref=...)), new, policy, NOW)
    except ConsentMissing:
        check_intake(parse_body(body()), new, policy, NOW)
    else:
        raise AssertionError
    assert "ZZ" in PROFILES
    assert parse_suite({**suite_json(), "profile": "ZZ"}).profile == "ZZ"
    has(AppealView, "ZZ")
    letter = render(LetterKind.RECEIVED, facts(new), "en").to_text()
    assert "go to a made-up court;" in letter
    assert "1681" not in letter, "no law falls back to another one"
    assert "time-zz" in NAMES
    figure = _time(TimeToDecision(new, [1], 0, limit_days(new, law.clock), 5), texts("en"))
    assert figure.about[0] == law.limit_text
    assert referred(Audience.AUTHORITY, source(), profile="ZZ").profile == "ZZ"
    return [
        law.clock_text, law.limit_text, law.handover or "", *law.statutes.values(),
        *(route.text for route in law.routes),
    ]  # fmt: skip


def outcome() -> list[str]:
    """What a decision does, what may follow it, forms, letters, schemas and webhooks."""
    from api.console.case_pages import CHOICES, EFFECTS
    from api.console.forms import draft_of
    from api.platform.appeal_schemas import Decision
    from api.platform.report_schemas import ReportAppeal
    from ledger.code_names import outcome_text
    from ledger.rules.appeals import Action, Actor, CaseState, Outcome, is_worse
    from ledger.rules.jurisdictions import Profile
    from ledger.rules.rounds import report_marks
    from ledger.server.texts.letters import LetterKind, render
    from tests.rules.case_kit import ANNA, case_in, do
    from tests.server.texts.test_letters import facts

    new = Outcome("set_aside")
    decided = do(case_in(CaseState.UNDER_REVIEW), Action.DECIDE, Actor.STAFF, staff=ANNA, outcome=new)
    assert (decided.state, decided.outcome) == (CaseState.DECIDED, new)
    assert decided.reopen_until is not None
    assert is_worse(Outcome("upheld"), new)
    assert not is_worse(new, Outcome("upheld"))
    assert report_marks([], new) == (False, True)
    assert draft_of({"outcome": "set_aside", "reasons": "x"}).outcome is new
    assert (CHOICES["set_aside"], EFFECTS["set_aside"]) == (new.spec.choice, new.spec.consequence)
    letter = render(LetterKind.DECIDED, facts(Profile("EU"), new), "en").to_text()
    assert "On March 20, 2026 we made this up." in letter
    assert "A made-up change until January 15, 2027." in letter
    assert outcome_text("set_aside", "en") == new.spec.name
    has(Decision, "set_aside")
    has(ReportAppeal, "set_aside")
    return [new.spec.name, new.spec.choice, new.spec.consequence, new.spec.verdict, *new.spec.changes]


def signal() -> list[str]:
    """Strength, words, reports that carry it and what a reviewer is shown."""
    from ledger.evidence import finding_texts
    from ledger.evidence.findings import finding
    from ledger.rules.conduct import known_codes, parse_inspection
    from ledger.rules.findings import CODES, FindingCode, strength_of

    new = FindingCode("content_marked")
    assert strength_of(new, None) == "indicates"
    assert CODES[new] == ("indicates", "made_by_ai")
    sent = parse_inspection({"receipt_sha256": "A" * 43, "tool": "t/1", "findings": ["content_marked"]})
    assert known_codes(sent.findings) == [new]
    assert finding_texts.sentence(finding(new, "here", issuer="Acme"), "en") == "A made-up mark of Acme was found."
    assert finding_texts.sentence(finding(new, "here"), "en") == "A made-up mark of not stated was found."
    assert finding_texts.title("content_marked", "en") == new.spec.title
    assert finding_texts.limit("content_marked", "en") == new.spec.limit
    return [new.spec.title, new.spec.shows, new.spec.limit]


def entry() -> list[str]:
    """Canonical bodies and the page of a case."""
    from api.console.case_pages import ENTRIES
    from ledger.tlog.entries import EventType, event_entry

    new = EventType("objection")
    body = event_entry(new, {"report": "rp_x", "recorded_at": "2026-11-23T12:30:00Z", "scope": None})
    assert json.loads(body) == {"type": "objection", "report": "rp_x", "recorded_at": "2026-11-23T12:30:00Z"}
    assert new.spec.case_title is not None
    assert ENTRIES["objection"] == new.spec.case_title
    return [new.spec.case_title]


def webhook_event() -> list[str]:
    """Messages, subscriptions, the OpenAPI description, and the SDK, which gives an event without a class."""
    from api.platform.webhook_event_schemas import schema_name, webhook_schemas, webhook_section
    from ledger.rules.webhooks import MessageSource, Recipient, WebhookType, message_body, parse_types

    new = WebhookType("lookup.corrected")
    assert parse_types(["lookup.corrected"]) == (new,)
    text = message_body(new, Recipient.MEMBER, MessageSource("l.test", "live"), NOW, {"lookup": "lk_6LgZXD0J"})
    assert json.loads(text)["data"] == {"lookup": "lk_6LgZXD0J"}
    assert "lookup.corrected" in webhook_section()
    assert schema_name(new, Recipient.MEMBER) in webhook_schemas()
    return []


def language() -> list[str]:
    """See `tests.made_up_language`."""
    return made_up_language.check_language()


KINDS = (conduct, jurisdiction, outcome, signal, entry, webhook_event, language)


def forget_the_ledger() -> None:
    """From now on the ledger's modules and those of its tests are imported anew, also in a process that is forked from
    one that has them all."""
    kept = ("tests", "tests.made_up_language", "tests.made_up_rows")
    for name in [*sys.modules]:
        if name.partition(".")[0] in ("ledger", "api", "tests") and name not in kept:
            del sys.modules[name]


def main() -> None:
    """Make every check; print the texts of each row that no catalogue has."""
    forget_the_ledger()
    sys.meta_path.insert(0, _Finder())
    by_name = {}
    for check in KINDS:
        brought = check()
        from ledger.i18n import LOCALES, texts

        for locale in LOCALES[1:-1]:  # the last one is made up
            said = texts(locale)
            by_name[check.__name__] = [text for text in brought if said.gettext(text) == text]
    sys.stdout.write(json.dumps(by_name))


if __name__ == "__main__":
    main()
