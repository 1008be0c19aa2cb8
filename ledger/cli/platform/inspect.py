"""`inspect`: find signs of the origin of a claim's files, on this machine only."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from ledger.cli import output
from ledger.cli.decorator import command
from ledger.cli.exit_codes import ExitCode
from ledger.cli.tables import Table
from ledger.client import claim_upload, inspect, match_picture, verify_inspection
from ledger.client.reports.inspection import evidence_members
from ledger.errors import InspectionInvalid, InspectionReceiptInvalid, InvalidRequest, ListingUnreadable
from ledger.protocol.encoding import b64url, parse_time
from ledger.rules.languages import DEFAULT_LOCALE, LOCALES, language_for

if TYPE_CHECKING:
    from ledger.evidence.receipt import InspectionReceipt

STRENGTH_STYLES = {"identifies": "bold red", "indicates": "yellow", "hint": "dim"}


@command
def inspect_files(
    files: Annotated[
        list[Path], typer.Argument(help="JPEG, PNG, WebP, HEIC, AVIF, MP4 or MOV. They are not sent anywhere.")
    ],
    listing: Annotated[
        list[Path] | None,
        typer.Option(
            "--listing", help="The merchant's own photo, to detect a picture that was made from it. Repeat for more."
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", help="Write a PNG that shows the match; one for each listing if there are several."),
    ] = None,
    receipt: Annotated[
        Path | None,
        typer.Option("--receipt", help="Check that the file agrees with this receipt; exit 1 if it does not."),
    ] = None,
    received_at: Annotated[
        str | None,
        typer.Option(
            "--received-at",
            help="When the files were uploaded with the claim, such as 2026-01-31T23:59:59Z: `origin` of the evidence.",
        ),
    ] = None,
    lang: Annotated[str | None, typer.Option("--lang", help=f"{' or '.join(LOCALES)}. (default: from LANG)")] = None,
) -> None:
    """Inspect files for AI labels, traces of generators and signs of editing, and compare them with listing photos.
    Findings do not change the exit code."""
    locale, listings = _locale(lang), listing or []
    received = None if received_at is None else parse_time(received_at)
    if picture is not None and (len(files) != 1 or not listings or receipt is not None):
        raise InvalidRequest("--picture needs one file and --listing, and cannot be combined with --receipt.")
    if receipt is not None:
        _verify(files, receipt, listings, received)
        return
    results: list[tuple[Path, InspectionReceipt | InspectionInvalid]] = []
    for file in files:
        try:
            results.append((file, inspect(file, listing=listings, received_at=received)))
        except ListingUnreadable:
            raise
        except InspectionInvalid as error:
            results.append((file, error))
    compared = _by_digest(listings)
    answer: dict[str, Any] = {"files": [_as_json(*result, received) for result in results]}
    if picture is not None and not isinstance(results[0][1], InspectionInvalid):
        answer["pictures"] = _draw(files[0], results[0][1], compared, picture)
    names = {digest: path.name for digest, path in compared.items()}
    output.emit(answer, lambda console: _show(console, results, locale, names, answer.get("pictures")))
    if any(isinstance(result, InspectionInvalid) for _, result in results):
        raise typer.Exit(int(ExitCode.USAGE))


def _by_digest(listings: list[Path]) -> dict[str, Path]:
    """Return the listing photos by their SHA-256 (base64url, as in receipts)."""
    return {b64url(hashlib.sha256(path.read_bytes()).digest()): path for path in listings}


def _draw(file: Path, receipt: InspectionReceipt, listings: dict[str, Path], picture: Path) -> dict[str, str]:
    """Write a picture of each match and return {listing's name: picture's name}.

    Raises InvalidRequest if a picture cannot be written.
    """
    matched = {finding.facts.get("listing_sha256") for finding in receipt.findings}
    drawn = {}
    for number, (digest, listing) in enumerate(listings.items(), 1):
        shown = match_picture(file, listing) if digest in matched else None
        if shown is None:
            continue
        target = picture if len(listings) == 1 else picture.with_stem(f"{picture.stem}-{number}")
        try:
            target.write_bytes(shown)
        except OSError as error:
            raise InvalidRequest(f"{target.name} cannot be written there.") from error
        drawn[listing.name] = target.name
    return drawn


def _locale(lang: str | None) -> str:
    if lang is not None and lang not in LOCALES:
        raise typer.BadParameter(f"--lang is one of: {', '.join(LOCALES)}.")
    return lang or language_for(os.environ.get("LANG", "")) or DEFAULT_LOCALE


def _as_json(file: Path, result: InspectionReceipt | InspectionInvalid, received: datetime | None) -> dict[str, Any]:
    if isinstance(result, InspectionInvalid):
        error = {"message": str(result), "code": result.code, "details": result.details}
        return {"file": file.name, "error": error}
    from ledger.evidence.finding_texts import in_words

    return {
        "file": file.name,
        "receipt": result.to_json(),
        "evidence": evidence_members(result, None if received is None else claim_upload(received)),
        "words": {locale: in_words(result, locale) for locale in LOCALES},
    }


def _show(
    console: Console,
    results: list[tuple[Path, InspectionReceipt | InspectionInvalid]],
    locale: str,
    names: dict[str, str],
    drawn: dict[str, str] | None,
) -> None:
    for number, (file, result) in enumerate(results):
        if number:
            console.print()
        console.print(f"[bold]{escape(file.name)}[/]")
        if isinstance(result, InspectionInvalid):
            console.print(Text.assemble(("error: ", "bold red"), str(result)))
        else:
            _show_receipt(console, result, locale, names)
    for listing, picture in (drawn or {}).items():
        console.print(Text(f"{listing}: {picture}", style="dim"))
    if drawn == {}:
        console.print(Text("No match, so no picture was written.", style="dim"))


def _show_receipt(console: Console, receipt: InspectionReceipt, locale: str, names: dict[str, str]) -> None:
    from ledger.evidence import finding_texts

    size = f"{receipt.width_px} x {receipt.height_px}, {receipt.size_bytes:,} bytes"
    console.print(Text(f"{receipt.media_type}, {size}, SHA-256 {receipt.sha256.hex()}", style="dim"))
    if receipt.pdq:
        console.print(Text(f"PDQ {receipt.pdq}, quality {receipt.pdq_quality}", style="dim"))
    console.print(Text(finding_texts.conclusion(receipt, locale)))
    if receipt.findings:
        table = Table(box=None, pad_edge=False, show_header=False)
        for _ in range(2):
            table.add_column(overflow="fold")
        for finding in receipt.findings:
            listing = names.get(str(finding.facts.get("listing_sha256")))
            trust = [finding.trust.value] if finding.trust is not None else []
            parts = (finding.code.value, *trust, finding.where, *([listing] if listing else []))
            place = Text("\n" + " · ".join(parts), style="dim")
            strength = Text(finding_texts.strength(finding, locale), style=STRENGTH_STYLES[finding.strength.value])
            limit = Text("\n" + finding_texts.limit(finding.code, locale, finding.trust), style="italic")
            table.add_row(strength, Text(finding_texts.sentence(finding, locale)) + limit + place)
        console.print(table)
    for note in receipt.notes:
        detail = " · ".join(part for part in (note.code.value, note.where, note.detail) if part)
        console.print(Text.assemble("- ", finding_texts.note_sentence(note, locale), (f" {detail}", "dim")))


def _verify(files: list[Path], receipt: Path, listings: list[Path], received: datetime | None) -> None:
    if len(files) != 1:
        raise InvalidRequest("--receipt needs exactly one file.")
    try:
        claimed = json.loads(receipt.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InspectionReceiptInvalid(f"{receipt.name} cannot be read as JSON.") from error
    agreement = verify_inspection(files[0], _one_receipt(claimed), listing=listings, received_at=received)
    facts = {
        "agrees": agreement.agrees,
        "same_file": agreement.same_file,
        "same_tool": agreement.same_tool,
        "differences": list(agreement.differences),
    }
    shown = {name: ", ".join(value) if isinstance(value, list) else value for name, value in facts.items()}
    output.emit(facts, lambda console: console.print(output.fields(shown)))
    if not agreement.agrees:
        raise typer.Exit(int(ExitCode.REFUSED))


def _one_receipt(value: Any) -> Any:
    """Return `value`, or its only receipt if it is an output of `inspect --json`."""
    if isinstance(value, dict) and isinstance(value.get("files"), list) and len(value["files"]) == 1:
        return value["files"][0].get("receipt") if isinstance(value["files"][0], dict) else None
    return value
