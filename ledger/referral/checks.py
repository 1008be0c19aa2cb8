"""Commands with which a third party verifies a bundle offline, in its folder. A test runs exactly these commands."""

from __future__ import annotations

LOG_KEY_FILE = "log-key.txt"
PLATFORM_KEY_FILE = "platform-key.pem"
RECEIPTS_FOLDER = "receipts"
SUMS_FILE = "SHA256SUMS"


def check_commands(whole: bool) -> tuple[str, str]:
    """Return the command that checks the files and the one that checks the log receipts. `whole`: the receipts contain
    the signed bodies."""
    receipts = f'refund-ledger verify --offline --log-key "$(cat {LOG_KEY_FILE})"'
    if whole:
        receipts += f" \\\n  --platform-key {PLATFORM_KEY_FILE}"
    return f"sha256sum -c {SUMS_FILE}", f"{receipts} --receipt {RECEIPTS_FOLDER}"


def evidence_command() -> str:
    """Return the command that prints the digest of a file."""
    return "sha256sum FILE"
