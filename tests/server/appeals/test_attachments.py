"""Files of appeals: their names, how they lie on disk, what is swept, and how they are served."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, insert

from ledger.errors import AttachmentRefused, NotFound
from ledger.server.appeals import attachments
from ledger.server.appeals.attachments import (
    MAX_NAME_CHARS,
    check_file,
    check_room,
    delete_many,
    display_name,
    read,
    save,
    serving_headers,
    sweep,
)
from ledger.server.appeals.file_types import EXTENSIONS
from ledger.server.db.engine import open_engine, reading, writing
from ledger.server.db.tables.appeals import AppealCase
from ledger.server.log import queries as log_store
from ledger.server.settings import Settings

pytestmark = pytest.mark.one_engine

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        database_url="sqlite:///unused.db", attachments_dir=tmp_path / "a" / "files", attachments_per_case=3
    )


@pytest.fixture
def engine(migrated_url: str) -> Iterator[Engine]:
    opened = open_engine(migrated_url, pool_size=5)
    with writing(opened) as connection:
        log_store.create_head(connection, NOW)
    yield opened
    opened.dispose()


def attachment(case_id: int, file: str, **changes: object) -> attachments.NewAttachment:
    values: dict[str, object] = {
        "case_id": case_id,
        "party": "subject",
        "platform": None,
        "name": "照片.jpg",
        "media_type": "image/jpeg",
        "size_bytes": 9,
        "width_px": 3,
        "height_px": 4,
        "sha256": hashlib.sha256(file.encode()).digest(),
        "file": file,
        "evidence_index": 0,
        "added_at": NOW,
    }
    return attachments.NewAttachment(**{**values, **changes})  # type: ignore[arg-type]


def add_case(engine: Engine, case_id: int, report_id: int) -> None:
    with writing(engine) as connection:
        connection.execute(
            insert(AppealCase).values(
                id=case_id, group_id=case_id, report_id=report_id, round=1, state="submitted", grounds="not_me",
                profile="CN", locale="en", filed_via="acme", filed_by_subject=True, suspends=True,
                withdrawals=0, platform="acme", control_group="g",
                conduct="wardrobing", severity=1, opened_at=NOW, due_at=NOW, extended=False, overdue=False,
            )
        )  # fmt: skip


def age(settings: Settings, file: str, days: float) -> None:
    moment = (datetime.now(UTC) - timedelta(days=days)).timestamp()
    os.utime(settings.attachments_dir / file[:2] / file, (moment, moment))


def kept(settings: Settings) -> set[str]:
    return {path.name for path in settings.attachments_dir.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("declared", "media_type", "shown"),
    [
        ("photo.jpg", "image/jpeg", "photo.jpg"),
        ("Photo.JPEG", "image/jpeg", "Photo.JPEG"),
        ("photo.png", "image/jpeg", "photo.png.jpg"),
        ("invoice.exe", "application/pdf", "invoice.exe.pdf"),
        ("page.html", "text/plain", "page.html.txt"),
        ("../../etc/passwd", "text/plain", "passwd.txt"),
        ("C:\\Users\\ann\\包裹.png", "image/png", "包裹.png"),
        (".htaccess", "text/plain", "htaccess.txt"),
        ("", "image/webp", "file.webp"),
        ("...", "image/webp", "file.webp"),
        (".png", "image/png", "png.png"),
        ("photo\u202egnp.exe", "image/png", "photognp.exe.png"),
        ("a\u2066b\u200fc\u200b\ufeff.png", "image/png", "abc.png"),
        ("a\r\nSet-Cookie: x.png", "image/png", "aSet-Cookie_ x.png"),
        ("a\0b\x7f\x9b.png", "image/png", "ab.png"),
        ("\ud800a.png", "image/png", "a.png"),
        ("a   b .png", "image/png", "a b.png"),
        ("e\u0301.png", "image/png", "é.png"),
        ("a\u2028b.png", "image/png", "ab.png"),
    ],
)
def test_names_are_for_people(declared: str, media_type: str, shown: str) -> None:
    assert display_name(declared, media_type) == shown


@given(st.text(st.characters(), max_size=300), st.sampled_from(sorted(EXTENSIONS)))
def test_any_name_becomes_harmless(declared: str, media_type: str) -> None:
    name = display_name(declared, media_type)
    assert 4 < len(name) <= MAX_NAME_CHARS
    assert name.lower().endswith(EXTENSIONS[media_type])
    assert not set(name) & set('/\\<>:"|?*\r\n\0\u202e\u2066')
    assert not name.startswith((".", " "))
    name.encode("utf-8")
    headers = serving_headers(media_type, name)
    for value in headers.values():
        value.encode("ascii")
        assert value.isprintable()
    assert unquote(headers["Content-Disposition"].partition("filename*=UTF-8''")[2]) == name
    assert display_name(name, media_type) == name


def test_long_names_keep_their_ending() -> None:
    assert display_name("长" * 500 + ".pdf", "application/pdf") == "长" * 116 + ".pdf"


def test_a_checked_file_has_the_digest_of_its_bytes(settings: Settings) -> None:
    checked = check_file("你好".encode(), "dir/a.txt", settings)
    assert checked.sha256 == hashlib.sha256("你好".encode()).digest()
    assert (checked.media_type, checked.name, checked.size_bytes) == ("text/plain", "a.txt", 6)


def test_a_file_is_kept_privately_and_comes_back(settings: Settings) -> None:
    before = os.umask(0)
    try:
        name = save(settings, b"bytes", secrets.token_bytes)
    finally:
        os.umask(before)
    path = settings.attachments_dir / name[:2] / name
    assert len(name) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (path.parent, settings.attachments_dir):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert read(settings, name) == b"bytes"
    assert delete_many(settings, [name, name]) == 1
    with pytest.raises(NotFound):
        read(settings, name)


def test_nothing_is_overwritten(settings: Settings) -> None:
    name = save(settings, b"first", bytes)
    with pytest.raises(FileExistsError):
        save(settings, b"second", bytes)
    assert read(settings, name) == b"first"


@pytest.mark.parametrize("name", ["", "../x", "a" * 31, "A" * 32, "a" * 32 + "\n", "/etc/passwd", "a" * 33])
def test_only_our_names_are_paths(settings: Settings, name: str) -> None:
    with pytest.raises(NotFound):
        read(settings, name)
    with pytest.raises(NotFound):
        delete_many(settings, [name])


def test_a_link_is_not_followed(settings: Settings, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("key")
    name = save(settings, b"x", secrets.token_bytes)
    path = settings.attachments_dir / name[:2] / name
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(OSError, match="symbolic"):
        read(settings, name)


@pytest.mark.both_engines
def test_rows(engine: Engine) -> None:
    add_case(engine, 1, 101)
    add_case(engine, 2, 102)
    with writing(engine) as connection:
        first = attachments.insert_file_row(connection, attachment(1, "a" * 32))
        second = attachments.insert_file_row(
            connection, attachment(1, "b" * 32, party="reporter", platform="acme", width_px=None)
        )
        third = attachments.insert_file_row(connection, attachment(2, "c" * 32))
    with reading(engine) as connection:
        rows = attachments.files_of_case(connection, 1)
        assert [row.id for row in rows] == [first, second]
        assert attachments.file_row(connection, first) == rows[0]
        assert (rows[0].name, rows[0].added_at, rows[0].sha256) == ("照片.jpg", NOW, hashlib.sha256(b"a" * 32).digest())
        assert attachments.file_row(connection, third + 1) is None
        assert attachments.count_files(connection, 1) == 2
        assert [row.id for row in attachments.files_of_reports(connection, [102, 999])] == [third]
        assert attachments.known_files(connection, ["a" * 32, "f" * 32]) == {"a" * 32}
    with writing(engine) as connection:
        attachments.delete_file_rows(connection, [row.id for row in attachments.files_of_reports(connection, [101])])
    with reading(engine) as connection:
        assert attachments.count_files(connection, 1) == 0
        assert attachments.count_files(connection, 2) == 1


def test_a_case_takes_so_many_files(engine: Engine, settings: Settings) -> None:
    with writing(engine) as connection:
        for letter in "abc":
            check_room(connection, 1, settings)
            attachments.insert_file_row(connection, attachment(1, letter * 32))
        with pytest.raises(AttachmentRefused) as refusal:
            check_room(connection, 1, settings)
        check_room(connection, 2, settings)
    assert refusal.value.details["reason"] == "too_many_files"


def test_strays_are_swept_and_nothing_else(engine: Engine, settings: Settings) -> None:
    assert sweep(engine, settings, datetime.now(UTC)) == 0  # before there is a folder
    named, stray, young = (save(settings, b"x", secrets.token_bytes) for _ in range(3))
    with writing(engine) as connection:
        attachments.insert_file_row(connection, attachment(1, named))
    age(settings, named, 3)
    age(settings, stray, 1.1)
    age(settings, young, 0.9)
    (settings.attachments_dir / "README").write_text("not ours")
    other = settings.attachments_dir / stray[:2] / "notes.txt"
    other.write_text("not ours")
    os.utime(other, (0, 0))
    assert sweep(engine, settings, datetime.now(UTC)) == 1
    assert kept(settings) == {named, young, "README", "notes.txt"}


def test_a_crash_between_file_and_row_leaves_only_what_is_swept(engine: Engine, settings: Settings) -> None:
    def upload() -> None:
        with writing(engine) as connection:
            file = save(settings, b"x", secrets.token_bytes)
            attachments.insert_file_row(connection, attachment(1, file))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upload()
    (stray,) = kept(settings)
    with reading(engine) as connection:
        assert attachments.files_of_case(connection, 1) == []
    age(settings, stray, 2)
    assert sweep(engine, settings, datetime.now(UTC)) == 1


def test_a_clock_that_runs_ahead_sweeps_nothing(engine: Engine, settings: Settings) -> None:
    save(settings, b"x", secrets.token_bytes)
    assert sweep(engine, settings, datetime.now(UTC) + timedelta(days=400)) == 0


def test_nothing_is_swept_while_the_log_is_frozen(engine: Engine, settings: Settings) -> None:
    stray = save(settings, b"x", secrets.token_bytes)
    age(settings, stray, 2)
    with writing(engine) as connection:
        log_store.set_frozen(connection, "an old backup?")
    assert sweep(engine, settings, datetime.now(UTC)) == 0
    assert kept(settings) == {stray}


@pytest.mark.both_engines
def test_uploads_go_on_while_strays_are_swept(engine: Engine, settings: Settings) -> None:
    strays = [save(settings, b"x", secrets.token_bytes) for _ in range(30)]
    for stray in strays:
        age(settings, stray, 2)
    uploaded: list[str] = []
    errors: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                errors.append(error)

        return run

    def upload() -> None:
        for _ in range(10):
            file = save(settings, b"y", secrets.token_bytes)
            with writing(engine) as connection:
                attachments.insert_file_row(connection, attachment(1, file))
            uploaded.append(file)

    def clean() -> None:
        for _ in range(10):
            sweep(engine, settings, datetime.now(UTC))

    threads = [threading.Thread(target=guarded(work)) for work in (upload, clean, upload, clean)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(uploaded) == 20
    assert kept(settings) == set(uploaded)


@pytest.mark.parametrize("media_type", [*EXTENSIONS, "text/html"])
def test_nothing_that_is_served_can_run(media_type: str) -> None:
    headers = serving_headers(media_type, 'a "b".png')
    shown = "inline" if media_type.startswith("image/") else "attachment"
    assert headers["Content-Disposition"] == f"{shown}; filename=\"a _b_.png\"; filename*=UTF-8''a%20%22b%22.png"
    assert headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Content-Type"] != "text/html"


def test_a_chinese_name_survives() -> None:
    value = serving_headers("image/jpeg", "包裹 1.jpg")["Content-Disposition"]
    assert value == "inline; filename=\"__ 1.jpg\"; filename*=UTF-8''%E5%8C%85%E8%A3%B9%201.jpg"
