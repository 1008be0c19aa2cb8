"""`python -m tests.compat.freeze [NAME]`: freezes the SDK of the newest commit as `tests/compat/sdk-NAME.zip`.

NAME is the version of the package unless it is given. The archive has what a platform installs and uses: the
package without its server side. It is made of the committed files alone, so that it is the same wherever it is made.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from ledger import __version__

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
MAX_ARCHIVE_BYTES = 1 << 20
LEFT_OUT = ("ledger/server/", "ledger/cli/operator/", "ledger/locale/", "ledger/evidence/trust_lists/")
"""The server's side, and what only letters, documents and inspections of files need."""
ANSWERS = "/answers.po"
"""What a catalogue's name ends with that the SDK reads: the translations of reasons and advice."""

_TIME = (1980, 1, 1, 0, 0, 0)


def is_kept(name: str) -> bool:
    """Whether the archive has this file."""
    return name.endswith(ANSWERS) or not name.startswith(LEFT_OUT)


def archive(commit: str = "HEAD") -> bytes:
    """The bytes of the archive of `commit`; always the same for one commit. Raises CalledProcessError where there is no
    such commit."""
    command = ["git", "archive", "--format=tar", commit, "ledger"]
    tar = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    made = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(tar)) as given, zipfile.ZipFile(made, "w") as out:
        for member in sorted(given.getmembers(), key=lambda one: one.name):
            if member.isfile() and is_kept(member.name):
                file = given.extractfile(member)
                assert file is not None
                info = zipfile.ZipInfo(member.name, _TIME)
                info.external_attr = 0o644 << 16
                out.writestr(info, file.read(), zipfile.ZIP_DEFLATED, 9)
    return made.getvalue()


def main(arguments: list[str]) -> int:
    """Write the archive, and print its name and size. Returns the exit code."""
    data = archive()
    if len(data) > MAX_ARCHIVE_BYTES:
        sys.stderr.write(f"The archive has {len(data)} bytes; at most {MAX_ARCHIVE_BYTES} are kept.\n")
        return 1
    path = HERE / f"sdk-{arguments[0] if arguments else __version__}.zip"
    path.write_bytes(data)
    sys.stdout.write(f"{path.relative_to(ROOT)}: {len(data)} bytes\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
