"""`holder`: a key holder's folder, and the ceremonies in which holders make and change the shares of the key.

The commands of the holder's service (`admit`, `serve`, ...) are in `holder_service`, which adds them to this group. The
modules of `ledger.holder` are loaded when a command runs, not before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger.cli import output
from ledger.cli.decorator import command
from ledger.cli.options import OptionGroup
from ledger.errors import CeremonyMismatch, ConfigurationError, InvalidRequest
from ledger.protocol.fingerprints import fingerprint

if TYPE_CHECKING:
    from ledger.holder.ceremony import Finished
    from ledger.holder.folder import HolderFolder
    from ledger.tlog.ceremony_files import Ceremony
    from ledger.tlog.key_statement import KeyStatement

holder = typer.Typer(
    no_args_is_help=True, help="Run a key holder: its keys, the ceremonies of its share, and its service."
)

FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", help="The holder's folder. (or $REFUND_LEDGER_HOLDER_DIR; default: var/holder)"),
]
OutOption = Annotated[Path | None, typer.Option("--out", help="File to write. (default: in the working folder)")]
FingerprintOption = Annotated[
    str | None,
    typer.Option("--fingerprint", help="The digits that all participants read aloud, instead of the question."),
]
AttemptOption = Annotated[
    int, typer.Option("--attempt", min=1, max=1000, help="Number of the attempt: the next one after one was given up.")
]
ThresholdOption = Annotated[
    int, typer.Option("--threshold", min=2, max=50, help="How many holders together can use the key.")
]
WithoutOption = Annotated[
    list[str] | None, typer.Option("--without", help="Id of a present holder that does not take part. Repeat for more.")
]
PassphraseOption = Annotated[
    Path | None, typer.Option("--passphrase-file", help="File with the passphrase of the backup. (default: a prompt)")
]


@dataclass(frozen=True)
class StepOptions(OptionGroup):
    """The options of every step of a ceremony."""

    fingerprint: FingerprintOption = None
    out: OutOption = None
    folder: FolderOption = None


@holder.command("init")
@command
def init(
    ledger: Annotated[Path, typer.Option("--ledger", help="ledger.json, as the operator of the ledger gave it.")],
    id_: Annotated[str, typer.Option("--id", help="Id of this holder: a-z, 0-9 and -, 32 characters at most.")],
    organisation: Annotated[str, typer.Option("--organisation", help="Name of the organisation that runs it.")],
    url: Annotated[str, typer.Option("--url", help="Public address of this holder's service.")],
    out: OutOption = None,
    folder: FolderOption = None,
) -> None:
    """Create this holder's keys, and its participant file for the other holders. Never overwrites a key."""
    from ledger.holder.files import read_limited
    from ledger.holder.folder import init_folder
    from ledger.tlog.ceremony_files import file_text
    from ledger.tlog.ledger_card import parse_ledger_card

    card = parse_ledger_card(read_limited(ledger))
    opened = init_folder(_path(folder), card, id_, organisation, url)
    participant = opened.participant()
    file = _write(out, f"{opened.holder}.participant.json", file_text(participant.members))
    own = fingerprint(participant.static_key + participant.signing_key)
    value = {
        "file": str(file),
        "folder": str(opened.path),
        "holder": opened.holder,
        "operator": participant.operator,
        "fingerprint": own,
    }
    _emit(
        value,
        f"The keys of {opened.holder} are in {opened.path}. Never give that folder to others.",
        f"Send {file} to all other participants, and get theirs. It is not secret.",
        output.digits_line("Fingerprint of this holder's public keys", own),
    )


@holder.command("deal")
@command
def deal(
    files: Annotated[list[Path], typer.Argument(help="The participant files of all holders, this one included.")],
    threshold: ThresholdOption,
    step: StepOptions,
    attempt: AttemptOption = 1,
) -> None:
    """Begin the ceremony that makes the key: write this holder's deal file."""
    from ledger.holder.ceremony import new_key, read_participants

    with _opened(step.folder) as opened:
        _begin(opened, new_key(opened, read_participants(files), threshold, attempt), step)


@holder.command("refresh")
@command
def refresh(step: StepOptions, without: WithoutOption = None, attempt: AttemptOption = 1) -> None:
    """Begin a refresh: new shares of the same key for the same holders. Write this holder's deal file."""
    from ledger.holder.ceremony import change_of_shares
    from ledger.protocol.ceremony.kinds import CeremonyKind

    with _opened(step.folder) as opened:
        _begin(opened, change_of_shares(opened, CeremonyKind.REFRESH, without or (), attempt), step)


@holder.command("rotate")
@command
def rotate(step: StepOptions, without: WithoutOption = None, attempt: AttemptOption = 1) -> None:
    """Begin a rotation: new shares of a new key, a multiple of the present one. Write this holder's deal file."""
    from ledger.holder.ceremony import change_of_shares
    from ledger.protocol.ceremony.kinds import CeremonyKind

    with _opened(step.folder) as opened:
        _begin(opened, change_of_shares(opened, CeremonyKind.ROTATE, without or (), attempt), step)


@holder.command("reshare")
@command
def reshare(
    files: Annotated[
        list[Path],
        typer.Argument(help="The participant files of all that take part: new holders, staying ones, leaving ones."),
    ],
    threshold: ThresholdOption,
    step: StepOptions,
    leaving: Annotated[
        list[str] | None,
        typer.Option("--leaving", help="Id of a present holder that deals and gets no share. Repeat for more."),
    ] = None,
    card: Annotated[Path | None, typer.Option("--card", help="For a new holder: the card of a present holder.")] = None,
    attempt: AttemptOption = 1,
) -> None:
    """Begin a resharing: shares of the same key for other holders or another threshold. Write this holder's deal
    file."""
    from ledger.holder.ceremony import read_participants, resharing

    with _opened(step.folder) as opened:
        present = None if card is None else _statement_of(card)
        participants = read_participants(files)
        _begin(opened, resharing(opened, participants, threshold, leaving or (), attempt, present), step)


@holder.command("certify")
@command
def certify(
    files: Annotated[list[Path], typer.Argument(help="The deal files of all participants, this one included.")],
    step: StepOptions,
) -> None:
    """Check the deals of all participants, and write this holder's certificate file."""
    from ledger.holder import ceremony as steps
    from ledger.holder.agreement import describe
    from ledger.tlog.ceremony_files import file_text

    with _opened(step.folder) as opened:
        deals = steps.read_deals(files)
        digits = fingerprint(steps.check_deals(opened, deals))
        _confirm(step.fingerprint, digits, "the deal files")
        certificate = steps.certify(opened, deals)
        file = _write(step.out, f"{opened.holder}.certificate.json", file_text(certificate.members))
    ceremony = next(iter(deals.values())).ceremony
    ledger = " and to the ledger's operator" if ceremony.kind.value == "rotate" else ""
    _emit(
        {"file": str(file), **_facts(ceremony), "fingerprint": digits},
        f"All deals verify ({describe(ceremony)}).",
        f"Send {file} to all other participants{ledger}. It is not secret.",
        "When you have the certificate files of all: refund-ledger holder finish *.certificate.json",
    )


@holder.command("finish")
@command
def finish(
    files: Annotated[list[Path], typer.Argument(help="The certificate files of all participants, this one included.")],
    backup: Annotated[
        Path | None, typer.Option("--backup", help="New file for an encrypted backup of keys and share.")
    ] = None,
    passphrase_file: PassphraseOption = None,
    out: OutOption = None,
    folder: FolderOption = None,
) -> None:
    """Finish the ceremony with the certificates of all: keep the new share, and write this holder's card."""
    from ledger.holder import ceremony as steps
    from ledger.holder.backup import write_backup

    with _opened(folder) as opened:
        passphrase = None if backup is None else _passphrase(passphrase_file, new=True)
        finished = steps.finish(opened, steps.read_certificates(files))
        if backup is not None and passphrase is not None and finished.share is not None:
            write_backup(opened, backup, passphrase)
        name, members = _for_operator(opened, finished)
        file = _write(out, name, _json_text(members))
    digits = fingerprint(finished.statement.canonical)
    saved = backup is not None and finished.share is not None
    value = {
        "file": str(file),
        **_statement_facts(finished.statement),
        "index": None if finished.share is None else finished.share.index,
        "fingerprint": digits,
        "backup": str(backup) if saved else None,
    }
    _emit(value, *_what_next(finished, file, digits, backup if saved else None))


@holder.command("card")
@command
def card(
    out: OutOption = None,
    url: Annotated[str | None, typer.Option("--url", help="New address of this holder's service.")] = None,
    folder: FolderOption = None,
) -> None:
    """Write this holder's card for its newest share again, also with a new address."""
    from ledger.holder.ceremony import newest_share
    from ledger.holder.folder import change_url
    from ledger.tlog.key_statement import make_card

    with _opened(folder) as opened:
        share = newest_share(opened).share
        if url is not None:
            opened = change_url(opened, url)
        members = make_card(share.statement, share.index, opened.url, opened.signing_key())
        file = _write(out, f"{opened.holder}.card.json", _json_text(members))
    value = {"file": str(file), **_statement_facts(share.statement), "index": share.index, "url": opened.url}
    _emit(value, f"Give {file} to every platform that you admit, yourself, and to the ledger's operator.")


@holder.command("abandon")
@command
def abandon(
    unlogged: Annotated[
        bool,
        typer.Option(
            "--unlogged",
            help="Also a finished ceremony that cannot be logged, because a holder destroyed its card. Destroys the "
            "new share.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    folder: FolderOption = None,
) -> None:
    """Give up the ceremony that runs, and destroy its private state. All participants then begin the next attempt."""
    from ledger.holder.agreement import describe
    from ledger.holder.ceremony import give_up

    with _opened(folder) as opened:
        if not yes:
            if output.json_asked():
                raise InvalidRequest("With --json, `holder abandon` needs --yes.")
            typer.confirm("The other participants cannot finish without this holder. Give the ceremony up?", abort=True)
        ceremony = give_up(opened, unlogged)
    _emit(
        {"given_up": True, **_facts(ceremony)},
        f"Given up: {describe(ceremony)}. All participants do the same, and begin again with "
        f"--attempt {ceremony.attempt + 1}.",
    )


@holder.command("backup")
@command
def backup(
    file: Annotated[Path, typer.Argument(help="New file for the encrypted backup.")],
    passphrase_file: PassphraseOption = None,
    folder: FolderOption = None,
) -> None:
    """Write an encrypted backup of this holder's keys and newest share."""
    from ledger.holder.backup import write_backup
    from ledger.holder.ceremony import newest_share

    with _opened(folder) as opened:
        statement = newest_share(opened).share.statement
        write_backup(opened, file, _passphrase(passphrase_file, new=True))
    _emit({"backup": str(file), **_statement_facts(statement)}, *_about_backup(file))


@holder.command("restore")
@command
def restore(
    file: Annotated[Path, typer.Argument(help="The backup.")],
    passphrase_file: PassphraseOption = None,
    folder: FolderOption = None,
) -> None:
    """Restore a backup into an empty folder."""
    from ledger.holder.backup import restore_backup
    from ledger.holder.shares import active_shares

    opened = restore_backup(_path(folder), file, _passphrase(passphrase_file, new=False))
    shares = [{"epoch": share.epoch, "generation": share.generation} for share in active_shares(opened.path)]
    listed = ", ".join(f"epoch {share['epoch']}, generation {share['generation']}" for share in shares)
    _emit(
        {"folder": str(opened.path), "holder": opened.holder, "shares": shares},
        f"Restored {opened.holder} into {opened.path}: {listed}.",
        "Only one machine may run this holder. If the log has a later generation, this share is of no use: ask the "
        "other holders for a resharing.",
        "A backup has no admissions: copy holder.db from its own backup into the folder before holder serve, or admit "
        "every platform again.",
    )


def _begin(opened: HolderFolder, ceremony: Ceremony, step: StepOptions) -> None:
    """Confirm what all participants agree on, deal, and write the file."""
    from ledger.holder.agreement import describe
    from ledger.holder.ceremony import begin
    from ledger.tlog.ceremony_files import file_text

    digits = fingerprint(ceremony.canonical)
    if not output.json_asked():
        console = output.console()
        console.print(f"Ceremony: {describe(ceremony)}, of the ledger {ceremony.card.service}.")
        for participant in ceremony.participants:
            role = " (leaves)" if participant.holder in ceremony.leaving else ""
            operator = ", operator of the ledger" if participant.operator else ""
            console.print(f"  {participant.holder}: {participant.organisation}{operator}{role}")
    _confirm(step.fingerprint, digits, "participants, keys and ceremony")
    file = _write(step.out, f"{opened.holder}.deal.json", file_text(begin(opened, ceremony).members))
    _emit(
        {"file": str(file), **_facts(ceremony), "fingerprint": digits},
        f"Send {file} to all other participants. Its shares are encrypted; it is not secret.",
        "When you have the deal files of all: refund-ledger holder certify *.deal.json",
    )


def _confirm(given: str | None, digits: str, what: str) -> None:
    """Return if the fingerprint was compared. Raises CeremonyMismatch for another one, InvalidRequest with --json and
    none, typer.Abort if the person says no."""
    if given is not None:
        if "".join(given.split()) != digits.replace(" ", ""):
            raise CeremonyMismatch(
                f"The fingerprint of {what} is {digits} here, and not the one that was given. Do not go on: a file was "
                "exchanged, or the participants chose different options.",
                fingerprint=digits,
            )
        return
    if output.json_asked():
        raise InvalidRequest(
            f"With --json, give the digits that all participants compared: --fingerprint. Here they are {digits}.",
            fingerprint=digits,
        )
    output.console().print(output.digits_line(f"Fingerprint of {what}", digits))
    if not typer.confirm("Read it aloud. Does every participant read the same digits?"):
        output.console().print(
            "Nothing was written. Compare the files and the options of all participants, and run the command again."
        )
        raise typer.Abort


def _path(folder: Path | None) -> Path:
    from ledger.holder.folder import holder_directory

    return folder or holder_directory(os.environ)


@contextmanager
def _opened(folder: Path | None) -> Iterator[HolderFolder]:
    from ledger.holder.folder import open_folder

    with open_folder(_path(folder)) as opened:
        yield opened


def _write(out: Path | None, name: str, text: str) -> Path:
    from ledger.holder.files import write_public

    file = out or Path(name)
    write_public(file, text)
    return file


def _passphrase(file: Path | None, *, new: bool) -> str:
    """Return the passphrase of a file or of a prompt. Raises ConfigurationError, InvalidRequest, InvalidInput."""
    from ledger.client.identity.keyfiles import read_secret_file
    from ledger.holder.backup import check_passphrase

    if file is not None:
        try:
            text = read_secret_file(file, "passphrase file").decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"The passphrase file {file.name} is not UTF-8 text.") from error
    elif output.json_asked():
        raise InvalidRequest("With --json, give the passphrase with --passphrase-file.")
    else:
        text = str(typer.prompt("Passphrase of the backup", hide_input=True, confirmation_prompt=new))
    if new:
        check_passphrase(text)
    return text


def _statement_of(file: Path) -> KeyStatement:
    from ledger.errors import LedgerError
    from ledger.holder.ceremony import in_file
    from ledger.holder.files import read_limited
    from ledger.tlog.key_statement import parse_card

    try:
        return parse_card(read_limited(file)).statement
    except LedgerError as error:
        raise in_file(error, file) from error


def _for_operator(opened: HolderFolder, finished: Finished) -> tuple[str, Mapping[str, Any]]:
    if finished.card is not None:
        return f"{opened.holder}.card.json", finished.card
    return f"{opened.holder}.endorsement.json", finished.endorsement or {}


def _what_next(finished: Finished, file: Path, digits: str, backup: Path | None) -> Sequence[str]:
    statement = finished.statement
    sharing = f"epoch {statement.epoch}, generation {statement.keys.generation}"
    lines = [f"Finished: {sharing}, {statement.keys.threshold} of {len(statement.holders)}."]
    lines.append(output.digits_line("Fingerprint of the key statement", digits))
    lines.append("Read it aloud, and write it down.")
    if finished.share is None:
        return [
            *lines,
            f"Send {file} to the ledger's operator. This holder has no share of the new generation.",
            "Go on with holder serve until 24 hours after the log has the statement; then destroy folder and backups.",
        ]
    lines.append(f"Send {file} to the ledger's operator, and give it to every platform that you admit, yourself.")
    lines.append("The share is used when the log has the statement. Until then keep the certificate files.")
    if backup is None:
        lines.append("There is NO backup of this share: refund-ledger holder backup FILE")
        return lines
    return [*lines, *_about_backup(backup)]


def _about_backup(backup: Path) -> Sequence[str]:
    return (
        f"Encrypted backup: {backup}. Keep it at another place than the passphrase.",
        "Destroy the backups of earlier shares 24 hours after the log has the statement.",
    )


def _facts(ceremony: Ceremony) -> dict[str, Any]:
    return {
        "kind": ceremony.kind.value,
        "epoch": ceremony.epoch,
        "generation": ceremony.generation,
        "threshold": ceremony.threshold,
        "attempt": ceremony.attempt,
        "participants": [participant.holder for participant in ceremony.participants],
        "leaving": list(ceremony.leaving),
    }


def _statement_facts(statement: KeyStatement) -> dict[str, Any]:
    from ledger.protocol.encoding import b64url

    return {
        "kind": statement.kind.value,
        "epoch": statement.epoch,
        "generation": statement.keys.generation,
        "threshold": statement.keys.threshold,
        "public_key": b64url(statement.keys.public_key),
    }


def _json_text(members: Mapping[str, Any]) -> str:
    from ledger.tlog.ceremony_files import file_text

    return file_text(members)


def _emit(value: Mapping[str, Any], *lines: str) -> None:
    def show(console: Any) -> None:
        for line in lines:
            console.print(line, soft_wrap=True)

    output.emit(value, show)
