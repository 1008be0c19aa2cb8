"""`make-key`: create a platform's signing key and order key on the machine where they stay."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from rich.console import Console
from rich.text import Text

from ledger.cli import output
from ledger.cli.decorator import command
from ledger.client.identity.keyfiles import (
    ORDER_KEY_SUFFIX,
    create_secret,
    load_or_create_order_key,
    load_or_create_signing_key,
    order_key_path,
    public_key_path,
)
from ledger.errors import AlreadyExists
from ledger.protocol.fingerprints import fingerprint


@command
def make_key(
    key: Annotated[Path, typer.Argument(help="File of the new private key (PEM, mode 0600), such as `acme.pem`.")],
    platform: Annotated[
        str | None, typer.Option("--platform", help="The platform's name. (default: the file's name without `.pem`)")
    ] = None,
    order_key_only: Annotated[
        bool, typer.Option("--order-key-only", help="Create only the order key that belongs to this key.")
    ] = False,
) -> None:
    """Create a platform's signing key and order key. Both stay with the platform. Send the public key, which is written
    to `acme.public.pem` in the same folder, to the operator. An existing order key in the folder is kept, because all
    services and signing keys of a platform share it."""
    public, order_key = public_key_path(key), order_key_path(key, platform or key.stem)
    for path in (order_key,) if order_key_only else (key, public):
        if os.path.lexists(path):
            raise AlreadyExists(f"{path.name} exists already.")
    others = sorted(key.parent.glob(f"*{ORDER_KEY_SUFFIX}")) if platform is None and not order_key_only else []
    lines = []
    if not order_key_only:
        public_key = load_or_create_signing_key(key).public_key()
        create_secret(public, public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        public.chmod(0o644)
        digits = fingerprint(public_key.public_bytes_raw())
        lines.append(f"Created {key} (secret, stays with you) and {public} (for the operator and key holders).")
        lines.append(output.digits_line("Fingerprint of the public key", digits))
        lines.append("Read it to each key holder by telephone.")
    if os.path.lexists(order_key):
        lines.append(f"Kept {order_key} (secret, one for all services and signing keys of the platform).")
    elif others:
        lines.append(
            f"Created no order key, because {others[0].name} exists here. For another platform give --platform."
        )
    else:
        load_or_create_order_key(order_key)
        lines.append(f"Created {order_key} (secret, one for all services and signing keys of the platform).")
    files: dict[str, str | None] = (
        {} if order_key_only else {"key": str(key), "public_key": str(public), "fingerprint": digits}
    )
    files["order_key"] = str(order_key) if os.path.lexists(order_key) else None

    def show(console: Console) -> None:
        for line in lines:
            console.print(Text(line), soft_wrap=True)

    output.emit(files, show)
