"""`make-key`: the platform's own signing key, made where it stays."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ledger.cli import output
from ledger.cli.output import JsonFlag, guarded
from ledger.client.keyfiles import create_secret, load_or_create_signing_key, public_key_path
from ledger.errors import AlreadyExists


@guarded
def make_key(
    key: Annotated[Path, typer.Argument(help="Where the private key goes (PEM, mode 0600); `acme.pem` for acme.")],
    json_output: JsonFlag = False,
) -> None:
    """Make a platform's signing key. The private key stays with the platform; the operator enrols the public one, which
    lies beside it as `acme.public.pem`."""
    public = public_key_path(key)
    for path in (key, public):
        if path.exists():
            raise AlreadyExists(f"{path.name} exists already.")
    made = load_or_create_signing_key(key).public_key()
    create_secret(public, made.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    public.chmod(0o644)
    output.emit(
        {"key": str(key), "public_key": str(public)},
        lambda console: console.print(f"Made {key} (secret, stays with you) and {public} (for the ledger's operator)."),
    )
