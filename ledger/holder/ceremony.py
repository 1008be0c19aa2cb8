"""The steps of a ceremony in a holder's folder: begin (round 1), certify, finish, give up.

The private state of the ceremony that runs is `ceremony.json`. A step writes it before it returns a file to be sent,
and a step that is repeated returns the same file: a holder never deals two polynomials in one ceremony, and never
certifies two sets of deals. A process may be killed anywhere; the same command then goes on.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from ledger.errors import (
    CeremonyFault,
    CeremonyMismatch,
    ConfigurationError,
    HolderMismatch,
    InvalidInput,
    LedgerError,
)
from ledger.holder.agreement import deals_digest, describe, difference
from ledger.holder.files import destroy, read_limited, read_secret, replace_secret, write_once
from ledger.holder.folder import HolderFolder, open_folder
from ledger.holder.shares import (
    OVERLAP,
    HeldShare,
    ShareFile,
    destroy_shares,
    read_share,
    replaced_shares,
    share_files,
    share_path,
    share_text,
)
from ledger.protocol.ceremony import rounds
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.protocol.encoding import b64url, unb64url
from ledger.tlog.ceremony_files import (
    Ceremony,
    CertificateFile,
    DealFile,
    ParticipantFile,
    ceremony_of,
    check_certificate,
    make_certificate,
    make_deal,
    make_endorsement_file,
    parse_certificate,
    parse_deal,
    parse_participant,
    participant_of,
)
from ledger.tlog.key_statement import KeyStatement, endorse, make_card

STATE_NAME = "ceremony.json"
STATE_FORMAT = 1
DEALT, CERTIFIED, FINISHED, GIVEN_UP = "dealt", "certified", "finished", "given up"

T = TypeVar("T", ParticipantFile, DealFile, CertificateFile)


@dataclass(frozen=True, slots=True)
class CeremonyState:
    """The content of `ceremony.json`. `deal` and `certificate` are this holder's messages, `private` is the state that
    the next step takes, `deals` the digest of the certified deals. `given_up` are digests of ceremonies that this
    holder must not take part in again."""

    step: str
    ceremony: Ceremony
    deal: bytes = b""
    certificate: bytes = b""
    deals: bytes = b""
    private: bytes = field(default=b"", repr=False)
    given_up: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The result of a ceremony: the statement that this holder signed, its share if it has one, and the members of the
    file for the operator: a card, or an endorsement of a holder that leaves."""

    statement: KeyStatement
    share: HeldShare | None
    card: Mapping[str, Any] | None
    endorsement: Mapping[str, Any] | None


# --- files of participants ----------------------------------------------------------------------------------


def read_participants(paths: Sequence[Path]) -> list[ParticipantFile]:
    """Return the participants of these files. Raises what `parse_participant` does, HolderMismatch for two files of one
    holder; each error names the file."""
    return list(_read(paths, parse_participant).values())


def read_deals(paths: Sequence[Path]) -> dict[Path, DealFile]:
    """Return the contents of files of the first round. Raises what `parse_deal` does, HolderMismatch for two files of
    one holder, each with the name of the file; InvalidInput for no file."""
    files = _read(paths, parse_deal)
    if not files:
        raise InvalidInput("Name the deal files of all participants.")
    return files


def read_certificates(paths: Sequence[Path]) -> dict[Path, CertificateFile]:
    """Return the contents of files of the second round. Raises as `read_deals`."""
    return _read(paths, parse_certificate)


def _read(paths: Sequence[Path], parse: Any) -> dict[Path, Any]:
    files: dict[Path, Any] = {}
    owners: dict[str, Path] = {}
    for path in paths:
        try:
            content = parse(read_limited(path))
        except LedgerError as error:
            raise in_file(error, path) from error
        other = owners.setdefault(content.holder, path)
        if other != path:
            raise HolderMismatch(
                f"{other.name} and {path.name} are both of {content.holder}: give one file of each participant.",
                holder=content.holder,
                file=path.name,
            )
        files[path] = content
    return files


def in_file(error: LedgerError, path: Path) -> LedgerError:
    """Return `error` with the name of the file that it is about."""
    return type(error)(f"{path.name}: {error}", **{**error.details, "file": path.name})


# --- which ceremony -----------------------------------------------------------------------------------------


def new_key(folder: HolderFolder, participants: Sequence[ParticipantFile], threshold: int, attempt: int) -> Ceremony:
    """Return the ceremony that makes the first key. Raises what `Ceremony` does, HolderMismatch without this holder's
    own file."""
    _check_own(folder, participants)
    return Ceremony(CeremonyKind.GENERATE, attempt, threshold, tuple(participants))


def change_of_shares(folder: HolderFolder, kind: CeremonyKind, without: Collection[str], attempt: int) -> Ceremony:
    """Return the refresh or rotation of the newest sharing of this folder by its holders, except those of `without`.

    Raises what `Ceremony` does, HolderMismatch for an unknown id in `without`, ConfigurationError without a share.
    """
    newest = newest_share(folder)
    participants = [participant_of(members) for members in newest.participants]
    unknown = set(without) - {participant.holder for participant in participants}
    if unknown:
        raise HolderMismatch(f"{min(unknown)} is no holder of the present sharing.", holder=min(unknown))
    staying = tuple([participant for participant in participants if participant.holder not in without])
    _check_own(folder, staying)
    return Ceremony(kind, attempt, newest.share.statement.keys.threshold, staying, (), newest.share.statement)


def resharing(
    folder: HolderFolder,
    participants: Sequence[ParticipantFile],
    threshold: int,
    leaving: Sequence[str],
    attempt: int,
    present: KeyStatement | None,
) -> Ceremony:
    """Return the resharing by and for these participants. `present` is the statement of the present sharing for a
    holder that has no share yet.

    Raises what `Ceremony` does, HolderMismatch without this holder's own file or for another `present` than this
    folder's, ConfigurationError without share and `present`.
    """
    _check_own(folder, participants)
    if share_files(folder.path):
        held = newest_share(folder).share.statement
        if present is not None and present.canonical != held.canonical:
            raise HolderMismatch("The card is of another sharing than this folder's newest share.")
        present = held
    if present is None:
        raise ConfigurationError("A holder without a share names the present sharing with --card: ask a holder for it.")
    return Ceremony(CeremonyKind.RESHARE, attempt, threshold, tuple(participants), tuple(leaving), present)


def newest_share(folder: HolderFolder) -> ShareFile:
    """Return the share of the newest generation of the newest epoch. Raises ConfigurationError if there is none."""
    files = share_files(folder.path)
    if not files:
        raise ConfigurationError(
            "This holder has no share yet. It gets one with `holder deal`, or by joining with `holder reshare --card`."
        )
    return files[-1]


def _check_own(folder: HolderFolder, participants: Sequence[ParticipantFile]) -> None:
    own = folder.participant()
    for participant in participants:
        if participant.holder == folder.holder:
            if participant != own:
                raise HolderMismatch(
                    f"The participant file of {folder.holder} is not the one of this folder.", holder=folder.holder
                )
            return
    raise HolderMismatch(f"The participant file of this holder, {folder.holder}, is missing.", holder=folder.holder)


# --- steps --------------------------------------------------------------------------------------------------


def begin(folder: HolderFolder, ceremony: Ceremony) -> DealFile:
    """Do the first round of a ceremony, and return this holder's file for all participants.

    Raises ConfigurationError while another ceremony runs in the folder, and for one that was given up; OSError.
    """
    state = read_state(folder)
    given_up = () if state is None else state.given_up
    if state is not None and state.step in (DEALT, CERTIFIED, FINISHED):
        if state.ceremony.digest == ceremony.digest:
            return make_deal(ceremony, folder.holder, state.deal, folder.signing_key())
        if state.step != FINISHED:
            raise ConfigurationError(
                f"Another ceremony runs in this folder: {describe(state.ceremony)}. This one is "
                f"{difference(state.ceremony, ceremony)}. Finish the first, or give it up with `holder abandon`."
            )
    if ceremony.digest in given_up:
        raise ConfigurationError(
            f"This holder gave up attempt {ceremony.attempt} of this ceremony, and must not deal in it again. All "
            f"participants begin again with --attempt {ceremony.attempt + 1}."
        )
    if share_path(folder.path, ceremony.epoch, ceremony.generation).exists():
        raise ConfigurationError(f"This folder has a share already: {describe(ceremony)}.")
    session, number = ceremony.session(), ceremony.number(folder.holder)
    entropy = secrets.token_bytes(rounds.entropy_bytes(session, number))
    dealt = rounds.deal(session, number, folder.static_secret(), entropy, _old_share(folder, ceremony))
    state = CeremonyState(DEALT, ceremony, deal=dealt.message, private=dealt.state, given_up=given_up)
    _write_state(folder, state)
    return make_deal(ceremony, folder.holder, dealt.message, folder.signing_key())


def check_deals(folder: HolderFolder, files: Mapping[Path, DealFile]) -> bytes:
    """Return the digest of the deals of all participants of this folder's ceremony, whose fingerprint is compared.

    Raises CeremonyMismatch for a file of another ceremony and for a file of this holder that it did not write,
    CeremonyFault for a participant without a file; ConfigurationError if no ceremony runs.
    """
    state = _running(folder)
    for path, deal in files.items():
        if deal.ceremony.digest != state.ceremony.digest:
            raise CeremonyMismatch(
                f"{path.name}: {deal.holder} deals in a ceremony {difference(state.ceremony, deal.ceremony)} than this "
                f"holder ({describe(state.ceremony)}).",
                holder=deal.holder,
                file=path.name,
            )
    _check_complete(state.ceremony, [deal.holder for deal in files.values()], "deal")
    return deals_digest(list(files.values()))


def certify(folder: HolderFolder, files: Mapping[Path, DealFile]) -> CertificateFile:
    """Do the second round with the deals of all, and return this holder's file for all participants.

    Raises as `check_deals`; CeremonyMismatch if this holder certified other deals; CeremonyFault for a dealing that
    does not verify, with the participant and its file; OSError.
    """
    digest = check_deals(folder, files)
    state = _running(folder)
    if state.step == DEALT:
        session = state.ceremony.session()
        numbers = {state.ceremony.number(deal.holder): deal.payload for deal in files.values()}
        try:
            certified = rounds.certify(session, state.private, folder.static_secret(), numbers)
        except CeremonyFault as error:
            raise _in_file_of(error, {deal.holder: path for path, deal in files.items()}) from error
        state = replace(state, step=CERTIFIED, certificate=certified.message, private=certified.state, deals=digest)
        _write_state(folder, state)
    elif state.deals != digest:
        raise CeremonyMismatch(
            "This holder has certified other deal files of this ceremony. It certifies once: give the ceremony up with "
            "`holder abandon`, and begin the next attempt."
        )
    return make_certificate(state.ceremony, folder.holder, state.certificate, folder.signing_key())


def finish(folder: HolderFolder, files: Mapping[Path, CertificateFile]) -> Finished:
    """Finish the ceremony with the certificates of all: write the share, and return what the operator gets.

    Raises CeremonyMismatch for a file of another ceremony, CeremonyFault for a participant without a file and for a
    certificate that does not verify; ConfigurationError before `certify`; OSError.
    """
    state = _running(folder)
    ceremony, signing_key = state.ceremony, folder.signing_key()
    if state.step == DEALT:
        raise ConfigurationError("This holder has not certified the ceremony yet: run `holder certify` first.")
    for path, certificate in files.items():
        try:
            check_certificate(ceremony, certificate)
        except LedgerError as error:
            raise in_file(error, path) from error
    _check_complete(ceremony, [certificate.holder for certificate in files.values()], "certificate")
    numbers = {ceremony.number(certificate.holder): certificate.payload for certificate in files.values()}
    old = _old_share(folder, ceremony) if ceremony.kind in (CeremonyKind.REFRESH, CeremonyKind.ROTATE) else None
    try:
        result = rounds.finish(ceremony.session(), state.private, numbers, old)
    except CeremonyFault as error:
        raise _in_file_of(error, {item.holder: path for path, item in files.items()}) from error
    statement = ceremony.statement(result)
    endorsement = endorse(statement, signing_key)
    share = card = leaving = None
    if result.index is not None and result.share is not None:
        share = HeldShare(statement.epoch, statement.keys.generation, result.index, result.share, statement)
        participants = tuple([participant.members for participant in ceremony.receivers])
        path = share_path(folder.path, share.epoch, share.generation)
        write_once(path, share_text(ShareFile(share, endorsement, participants)))
        card = make_card(statement, share.index, folder.url, signing_key)
    else:
        leaving = make_endorsement_file(statement, folder.holder, endorsement, signing_key)
    if state.step != FINISHED:
        _write_state(folder, replace(state, step=FINISHED))
    return Finished(statement, share, card, leaving)


def give_up(folder: HolderFolder, unlogged: bool) -> Ceremony:
    """Give up the ceremony that runs, destroy its private state, and return it. With `unlogged`, also a finished one
    whose sharing the log never got: its share is destroyed.

    Raises ConfigurationError if none runs, or it is finished and not `unlogged`; OSError.
    """
    state = read_state(folder)
    if state is None:
        raise ConfigurationError("No ceremony runs in this folder.")
    if state.step == FINISHED:
        if not unlogged:
            raise ConfigurationError(
                "The ceremony is finished. Only if the log never got its sharing, and never will, its share may be "
                "destroyed: --unlogged."
            )
        destroy(share_path(folder.path, state.ceremony.epoch, state.ceremony.generation))
    if state.step != GIVEN_UP:
        given_up = (*state.given_up, state.ceremony.digest)
        _write_state(folder, CeremonyState(GIVEN_UP, state.ceremony, given_up=given_up))
    return state.ceremony


def destroy_old(
    path: Path, logged: Mapping[tuple[int, int], datetime], evaluated: Collection[int], now: datetime
) -> list[str]:
    """Destroy the shares and the ceremony state of a holder's folder that are no longer needed, and return the names of
    their files.

    `logged` has the time at which each (epoch, generation) was seen in the log, `evaluated` the epochs that holders
    still evaluate. See `replaced_shares` for shares; a finished ceremony's state is destroyed 24 hours after the log
    got its sharing. Repeatable after a crash. Raises ConfigurationError (also while a command changes the folder),
    OSError.
    """
    with open_folder(path) as folder:
        names = destroy_shares(path, replaced_shares(path, logged, evaluated, now))
        state = read_state(folder)
        if state is not None and state.step == FINISHED:
            seen = logged.get((state.ceremony.epoch, state.ceremony.generation))
            if seen is not None and now - seen >= OVERLAP:
                destroy(path / STATE_NAME)
                names.append(STATE_NAME)
        return names


def _old_share(folder: HolderFolder, ceremony: Ceremony) -> bytes | None:
    """Return this holder's share of the sharing that is changed; None if it deals nothing of it."""
    previous = ceremony.previous
    if previous is None or all(key.holder != folder.holder for key in previous.keys.holders):
        return None
    return read_share(folder.path, previous.epoch, previous.keys.generation).share.secret


def _check_complete(ceremony: Ceremony, holders: Sequence[str], name: str) -> None:
    for holder in holders:
        ceremony.participant(holder)
    for participant in ceremony.participants:
        if participant.holder not in holders:
            raise CeremonyFault(
                f"The {name} file of {participant.holder} is missing.", holder=participant.holder, reason="missing"
            )


def _in_file_of(error: CeremonyFault, paths: Mapping[str, Path]) -> LedgerError:
    """Return the error with the file of the participant that it names."""
    path = paths.get(str(error.details.get("holder")))
    return error if path is None else in_file(error, path)


def _running(folder: HolderFolder) -> CeremonyState:
    state = read_state(folder)
    if state is None or state.step == GIVEN_UP:
        raise ConfigurationError(
            "No ceremony runs in this folder. It begins with `holder deal`, `refresh`, `reshare` or `rotate`."
        )
    return state


# --- state --------------------------------------------------------------------------------------------------


def read_state(folder: HolderFolder) -> CeremonyState | None:
    """Return the content of `ceremony.json`, None if there is none. Raises ConfigurationError."""
    path = folder.path / STATE_NAME
    if not path.exists():
        return None
    text = read_secret(path)
    try:
        members = json.loads(text)
        if members["format"] != STATE_FORMAT or members["step"] not in (DEALT, CERTIFIED, FINISHED, GIVEN_UP):
            raise ValueError("format or step")
        return CeremonyState(
            step=members["step"],
            ceremony=ceremony_of(members["ceremony"]),
            deal=unb64url(members["deal"]),
            certificate=unb64url(members["certificate"]),
            deals=unb64url(members["deals"]),
            private=unb64url(members["private"]),
            given_up=tuple([unb64url(digest, 32) for digest in members["given_up"]]),
        )
    except (LedgerError, ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(
            f"{STATE_NAME} is damaged. Delete it, and begin the next attempt with all participants."
        ) from error


def _write_state(folder: HolderFolder, state: CeremonyState) -> None:
    members = {
        "format": STATE_FORMAT,
        "step": state.step,
        "ceremony": state.ceremony.json,
        "deal": b64url(state.deal),
        "certificate": b64url(state.certificate),
        "deals": b64url(state.deals),
        "private": b64url(state.private),
        "given_up": [b64url(digest) for digest in state.given_up],
    }
    replace_secret(folder.path / STATE_NAME, json.dumps(members, ensure_ascii=False) + "\n")
