"""`demo`: the main job end to end, over real HTTP, in a folder of its own. Checks what it shows; can be run again."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from ledger.cli import output
from ledger.cli.lookup_commands import TIER_STYLES
from ledger.cli.output import ExitCode, JsonFlag, guarded
from ledger.client import (
    Buyer,
    Check,
    Evidence,
    Finding,
    Lookup,
    Refund,
    RefundLedger,
    Strength,
    VerifiedReceipt,
    evidence,
)
from ledger.client.log import LogReport, verify_log
from ledger.client.receipts import log_fetcher
from ledger.client.transport import Transport
from ledger.errors import SnapshotUnknown, UnexpectedAnswer

if TYPE_CHECKING:
    from ledger.cli.demo_appeal import Decided

SERVICE = "demo.refund-ledger.local"
SNAPSHOT_SECONDS = 20.0
PLATFORMS = {"acme": "east-group", "corner": "east-group", "bazaar": "west-group"}
"""Acme and corner belong to one owner: together they are one voice."""

TEXTS: dict[str, dict[str, str]] = {
    "en": {
        "title": "One buyer's standing, as each platform's report changes it",
        "columns": "what happened|tier|credit|points|owners|advice",
        "before": "nobody has reported yet",
        "first": "acme reports: AI-made damage photo",
        "same": "corner, same owner: false non-receipt",
        "second": "bazaar, independent: false non-receipt",
        "high": "bazaar again: switched return",
        "restitution": "acme is paid back: its points halve",
        "withdraw": "bazaar withdraws the last: wrong facts",
        "honest": "another buyer, never reported",
        "victim": "a third one, whose account was abused",
        "accused": "a fourth one: acme reports a switched return",
        "contested": "the fourth contests it at /me",
        "healed": "a reviewer at /console overturns it",
        "ways": "The first buyer again, asked about in three ways",
        "way_columns": "how|tier|credit|points|what the ledger learns",
        "direct": "lookup|the pseudonyms, and that they are asked about now",
        "private": "check, one sealed bucket each|the first few bits of each pseudonym",
        "download": "check, from a downloaded copy|nothing about anybody",
        "bounded": "at least",
        "receipt": "Receipt of acme's report: entry {index} is in the log of {size} entries, signed by its key.",
        "log": "Log verified: {size} entries recomputed from their leaves, {events} of them commitments only.",
        "statement": "I sent back what I had received, with the serial number on the box.",
        "reasons": "The reporter could not show the serial number of the item that it sent.",
        "appeal": "Case {case}: {outcome}. Letter to the buyer: {letter}",
        "one_voice": "One owner alone never lifts anybody above watch, and no tier is ever a refusal.",
        "again": "Everything is in {folder}; run it again and new buyers join the same ledger. Took {seconds:.0f} s.",
    },
    "zh-CN": {
        "title": "同一买家的信用状态随各平台举报的变化",
        "columns": "事件|等级|信用分|扣分|独立来源|建议",
        "before": "尚无任何举报",
        "first": "acme 举报：AI 伪造损坏照片",
        "same": "corner（同一控制人）：谎称未收货",
        "second": "bazaar（独立）：谎称未收到货",
        "high": "bazaar 再次举报：退货调包",
        "restitution": "acme 收到全额赔付：分值减半",
        "withdraw": "bazaar 撤回上一举报：事实有误",
        "honest": "另一位从未被举报的买家",
        "victim": "第三位：账号曾被他人冒用",
        "accused": "第四位：acme 举报退货调包",
        "contested": "第四位在 /me 提出异议",
        "healed": "复核员在 /console 撤销该记录",
        "ways": "再看第一位买家：三种查询方式",
        "way_columns": "方式|等级|信用分|扣分|账本得知的内容",
        "direct": "lookup 直接查询|假名，以及此刻有人在查询",
        "private": "check，各取一个密封桶|每个假名的前几位",
        "download": "check，使用已下载的副本|不涉及任何人",
        "bounded": "至少",
        "receipt": "acme 举报的回执：第 {index} 条记录在含 {size} 条记录的日志中，签名有效。",
        "log": "日志验证通过：由叶子重算 {size} 条记录，其中 {events} 条仅为承诺值。",
        "statement": "我退回的就是收到的商品，序列号在包装盒上。",
        "reasons": "上报平台无法证明其寄出商品的序列号。",
        "appeal": "案件 {case}：{outcome}。致买家的信函：{letter}",
        "one_voice": "单一控制人不能使任何人高于“watch”，任何等级都不等于拒绝退款。",
        "again": "全部数据在 {folder}；再次运行会在同一账本中加入新买家。用时 {seconds:.0f} 秒。",
    },
}


@dataclass
class _Story:
    """The rows told so far."""

    texts: Mapping[str, str]
    rows: list[tuple[str, str, Lookup]] = field(default_factory=list)
    ways: list[tuple[str, Lookup | Check]] = field(default_factory=list)
    decided: Decided | None = None

    def tell(self, what: str, expected: str, found: Lookup) -> None:
        self.rows.append((what, expected, found))
        if not output.json_asked():
            output.messages().print(f"[dim]- {self.texts[what]}[/]")

    @property
    def as_expected(self) -> bool:
        agreeing = {(found.tier, found.credit) for _, found in self.ways}
        return len(agreeing) == 1 and all(found.tier == expected for _, expected, found in self.rows)


@guarded
def demo(
    folder: Annotated[Path, typer.Option("--dir", help="Where the demo's ledger lives.")] = Path("var/demo"),
    lang: Annotated[str | None, typer.Option("--lang", help="en or zh-CN. (default: from LANG)")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Run the main job once: enrol, tag, look up, report, withdraw, prove. Takes some seconds."""
    from ledger.cli.local_ledger import local_ledger

    texts = TEXTS[_language(lang)]
    started = time.monotonic()
    story = _Story(texts)
    with local_ledger(folder, PLATFORMS, service=SERVICE) as platforms:
        receipt, log = _play(platforms, story, folder, _language(lang))
    _show(story, receipt, log, folder, time.monotonic() - started)
    if not story.as_expected:
        output.fail(ExitCode.REFUSED, "The ledger answered otherwise than this demo expects.")


def _language(lang: str | None) -> str:
    if lang is not None and lang not in TEXTS:
        raise typer.BadParameter("--lang is en or zh-CN.")
    return lang or ("zh-CN" if os.environ.get("LANG", "").startswith("zh") else "en")


def _play(
    platforms: Mapping[str, RefundLedger], story: _Story, folder: Path, locale: str
) -> tuple[VerifiedReceipt, LogReport]:
    from ledger.cli.local_ledger import publish_snapshot

    acme, corner, bazaar = platforms["acme"], platforms["corner"], platforms["bazaar"]
    ids = _identifiers()
    look = _Looker(acme, acme.subject(**ids))
    story.tell("before", "clear", look())

    label = Finding("c2pa.generator", Strength.IDENTIFIES, "inspect-1")
    fabricated = [
        _evidence("original_file"),
        evidence("ai_label", sha256=secrets.token_bytes(32), finding=label),
        _evidence("live_reshoot_failed"),
    ]
    first = _report(acme, acme.subject(**ids), "ai_fabricated_image", fabricated, 12_900, act_days=6)
    story.tell("first", "watch", look())

    scans = [_evidence("delivery_scan"), _evidence("delivery_photo")]
    _report(corner, corner.subject(**ids), "false_non_receipt", scans, 4_500, act_days=7)
    story.tell("same", "watch", look())

    buyer = bazaar.subject(**ids)
    _report(bazaar, buyer, "false_non_receipt", scans, 8_800, act_days=60)
    story.tell("second", "review", look())

    switched = [_evidence("serial_mismatch"), _evidence("intake_photo")]
    grave = _report(bazaar, buyer, "switched_return", switched, 99_900, act_days=9)
    story.tell("high", "high", look())

    acme.restitution(first.id, datetime.now(UTC), 12_900, "CNY")
    story.tell("restitution", "high", look())
    bazaar.withdraw(grave.id, "wrong_facts")
    story.tell("withdraw", "review", look())

    story.tell("honest", "clear", _Looker(acme, acme.subject(**_identifiers()))())
    victim = _identifiers()
    _report(bazaar, bazaar.subject(**victim), "impersonated", [_evidence("admission")], 5_000, act_days=6)
    story.tell("victim", "clear", _Looker(acme, acme.subject(**victim))())

    last = _appeal(acme, bazaar, story, folder, locale)
    look.in_three_ways(story, publish_snapshot(folder, SERVICE))

    acme.receipt(last)  # waits for a checkpoint that covers the whole story
    receipt = acme.receipt(first)
    transport = Transport(acme.suite.url)
    try:
        log = verify_log(
            log_fetcher(transport, 5.0), acme.suite.pinned.log_origin, acme.suite.log_public, receipts=[receipt.text]
        )
    finally:
        transport.close()
    return receipt, log


def _appeal(acme: RefundLedger, bazaar: RefundLedger, story: _Story, folder: Path, locale: str) -> Any:
    """A fourth buyer is reported, contests it through bazaar, and is put right; the report."""
    from ledger.cli.demo_appeal import contest, decide

    ids = _identifiers()
    look = _Looker(bazaar, bazaar.subject(**ids))
    switched = [_evidence("serial_mismatch"), _evidence("intake_photo")]
    report = _report(acme, acme.subject(**ids), "switched_return", switched, 45_000, act_days=8)
    story.tell("accused", "watch", look())
    case = contest(bazaar, bazaar.subject(**ids), report.id, story.texts["statement"], locale)
    story.tell("contested", "clear", look())
    story.decided = decide(folder, SERVICE, bazaar.suite.url, case, story.texts["reasons"], locale)
    story.tell("healed", "clear", look())
    return report


class _Looker:
    """Acme's question about one buyer, asked again and again. An outage here is a failure of the demo."""

    def __init__(self, ledger: RefundLedger, buyer: Buyer) -> None:
        self._ledger = ledger
        self._buyer = buyer

    def __call__(self) -> Lookup:
        return self._ledger.lookup(
            self._buyer, order=f"A-{secrets.token_hex(4)}", refund=Refund(12_900, "CNY", "damaged")
        )

    def _snapshot_of(self) -> datetime:
        """How old the newest snapshot is that the server gives out."""
        try:
            return self._ledger.refresh_snapshot()
        except SnapshotUnknown:  # the first one is on its way
            return datetime.min.replace(tzinfo=UTC)

    def in_three_ways(self, story: _Story, published: datetime) -> None:
        """Directly, privately and locally, from the snapshot of `published` on."""
        deadline = time.monotonic() + SNAPSHOT_SECONDS
        while self._snapshot_of() < published:
            if time.monotonic() > deadline:
                raise UnexpectedAnswer("The demo's own server did not serve its snapshot.")
            time.sleep(0.2)
        story.ways.append(("direct", self()))
        refund = Refund(12_900, "CNY", "damaged")
        story.ways.append(("private", self._ledger.check(self._buyer, policy="private", refund=refund)))
        story.ways.append(("download", self._ledger.check(self._buyer, policy="download", refund=refund)))


def _identifiers() -> dict[str, str]:
    """Made-up identifiers of a new buyer; a wallet account is a strong identifier."""
    return {
        "phone": f"+86 138 {secrets.randbelow(10**4):04d} {secrets.randbelow(10**4):04d}",
        "payment": f"demo-wallet/{secrets.token_hex(8)}",
    }


def _evidence(kind: str) -> Evidence:
    return evidence(kind, sha256=secrets.token_bytes(32))


def _report(
    ledger: RefundLedger, buyer: Buyer, conduct: str, items: list[Evidence], amount_minor: int, *, act_days: int
) -> Any:
    """Report with a notice four days old, so that nothing is cooling any more."""
    now = datetime.now(UTC)
    result = ledger.report(
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
        consent_ref="demo-terms",
    )
    if result.report is None:
        raise UnexpectedAnswer("The demo's own server did not take a report.")
    return result.report


def _show(story: _Story, receipt: VerifiedReceipt, log: LogReport, folder: Path, seconds: float) -> None:
    texts = story.texts
    steps = [
        {"step": what, "expected": expected, "tier": found.tier, "credit": found.credit, "points": found.points}
        for what, expected, found in story.rows
    ]

    def show(console: Console) -> None:
        table = Table(title=texts["title"], box=box.SIMPLE, show_edge=False)
        for number, name in enumerate(texts["columns"].split("|")):
            table.add_column(name, justify="right" if number in (2, 3, 4) else "left", overflow="fold")
        for what, _, found in story.rows:
            style = TIER_STYLES[found.tier]
            points = "" if found.points is None else f"{found.points:.2f}"
            advice = "\n".join([*found.guidance, *(["(protected)"] if found.protected else [])])
            table.add_row(
                texts[what],
                f"[{style}]{found.tier}[/]",
                str(found.credit),
                points,
                str(found.reporters),
                advice,
            )
        console.print(table)
        console.print(_ways(story))
        checkpoint = receipt.receipt.checkpoint
        if story.decided is not None:
            console.print(texts["appeal"].format(**asdict(story.decided)))
        console.print(texts["one_voice"])
        console.print(texts["receipt"].format(index=receipt.receipt.index, size=checkpoint.size))
        console.print(texts["log"].format(size=log.entries_count, events=log.events_count))
        console.print(texts["again"].format(folder=folder, seconds=seconds))

    output.emit(
        {
            "as_expected": story.as_expected,
            "steps": steps,
            "ways": [{"way": way, "tier": found.tier, "credit": found.credit} for way, found in story.ways],
            "appeal": None if story.decided is None else asdict(story.decided),
            "receipt": {"entry_index": receipt.receipt.index, "log_size": receipt.receipt.checkpoint.size},
            "log": {"size": log.entries_count, "events": log.events_count},
            "seconds": round(seconds, 1),
        },
        show,
    )


def _ways(story: _Story) -> Table:
    texts = story.texts
    table = Table(title=texts["ways"], box=box.SIMPLE, show_edge=False)
    for number, name in enumerate(texts["way_columns"].split("|")):
        table.add_column(name, justify="right" if number in (2, 3) else "left", overflow="fold")
    for way, found in story.ways:
        how, learns = texts[way].split("|")
        bounded = isinstance(found, Check) and found.bounded
        tier = f"{texts['bounded']} {found.tier}" if bounded else found.tier
        points = "" if found.points is None else f"{found.points:.2f}"
        table.add_row(how, f"[{TIER_STYLES[found.tier]}]{tier}[/]", str(found.credit), points, learns)
    return table
