"""An authority for time stamps (RFC 3161) on this machine: the command `openssl ts` behind a small HTTP server."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.evidence.signed import Keys

_CONFIGURATION = """[stamps]
serial = {folder}/serial
signer_cert = {folder}/stamps.crt
certs = {folder}/stamps.crt
signer_key = {folder}/stamps.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
ess_cert_id_alg = sha256
"""


@contextmanager
def stamping(keys: Keys, folder: Path) -> Iterator[str]:
    """The address of a server that stamps with these keys. Skips the test where there is no `openssl`."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no command `openssl` here, which makes the time stamps of this test")
    (folder / "stamps.crt").write_bytes(keys["chain"])
    (folder / "stamps.key").write_bytes(keys["key"])
    (folder / "serial").write_text("01\n", encoding="ascii")
    (folder / "stamps.cnf").write_text(_CONFIGURATION.format(folder=folder), encoding="ascii")

    class Stamps(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = folder / "query"
            query.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            command = ["openssl", "ts", "-reply", "-queryfile", str(query), "-config", str(folder / "stamps.cnf")]
            answer = subprocess.run([*command, "-section", "stamps"], capture_output=True, check=True).stdout
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Stamps)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
