"""Build hooks of `refund-credit-ledger-server`: its requirements, and its files out of the checkout.

In a checkout `api` and `migrations` are top-level folders. In the wheel they are `ledger/server/api` and
`ledger/server/migrations`, because a top-level package `api` would collide with those of other distributions. Import
statements of `api` are rewritten to match, on their own lines, so that line numbers stay those of the checkout.
"""

from __future__ import annotations

import ast
import re
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

PLATFORM = "refund-credit-ledger"
SERVER_GROUP = "server"

FOLDERS = {
    "ledger/server": "ledger/server",
    "ledger/service": "ledger/service",
    "ledger/holder": "ledger/holder",
    "ledger/cli/operator": "ledger/cli/operator",
    "api": "ledger/server/api",
    "migrations": "ledger/server/migrations",
}
"""Folders of the checkout, and where their files are in the wheel."""

PACKAGE, INSTALLED_PACKAGE = "api", "ledger.server.api"
_FROM = re.compile(rf"(\s*from\s+){PACKAGE}\b")


class Requirements(MetadataHookInterface):
    """Adds the requirements: the groups of pyproject.toml, and the platform's distribution of the same version."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `dependencies` and `optional-dependencies`."""
        with (Path(self.root) / "pyproject.toml").open("rb") as file:
            groups = tomllib.load(file)["dependency-groups"]
        version = metadata["version"]
        metadata["dependencies"] = [f"{PLATFORM}[cli,filter]=={version}", *groups.pop(SERVER_GROUP)]
        # The demonstration inspects a picture, as a platform does.
        metadata["optional-dependencies"] = {"demo": [f"{PLATFORM}[evidence]=={version}"], **groups}


class ServerFiles(BuildHookInterface[Any]):
    """Puts the server's files into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """List every file with its place. Raises ValueError for an editable installation, and outside a
        checkout."""
        if version == "editable":
            raise ValueError("The server runs from the checkout as it is; build a wheel to install it.")
        checkout = Path(self.root).resolve().parents[1]
        for folder in FOLDERS:
            if not (checkout / folder).is_dir():
                raise ValueError(f"There is no folder {folder}: build this distribution in a checkout.")
        self._rewritten = Path(tempfile.mkdtemp(prefix="refund-ledger-build-"))
        for folder, target in FOLDERS.items():
            for file in project_files(checkout / folder):
                place = f"{target}/{file.relative_to(checkout / folder).as_posix()}"
                build_data["force_include"][str(self._installed(file, place))] = place

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Delete the rewritten files."""
        shutil.rmtree(self._rewritten, ignore_errors=True)

    def _installed(self, file: Path, place: str) -> Path:
        """The file to pack: `file` itself, or its copy with other imports."""
        if file.suffix != ".py":
            return file
        source = file.read_text("utf-8")
        rewritten = installed_source(source, file.name)
        if rewritten == source:
            return file
        copy = self._rewritten / place
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(rewritten, "utf-8")
        return copy


def project_files(folder: Path) -> Iterator[Path]:
    """The files below `folder` in a fixed order, without what Python compiled."""
    return (file for file in sorted(folder.rglob("*")) if file.is_file() and "__pycache__" not in file.parts)


def installed_source(source: str, name: str) -> str:
    """`source` with its imports of `api` as they are in the wheel; the lines keep their numbers.

    Raises ValueError for `import api...`, which would bind the name `api`; SyntaxError if `source` is not Python.
    """
    lines = source.split("\n")
    for node in ast.walk(ast.parse(source, name)):
        if isinstance(node, ast.Import) and any(alias.name.partition(".")[0] == PACKAGE for alias in node.names):
            raise ValueError(f"{name}:{node.lineno}: write `from {PACKAGE} import ...`.")
        if not isinstance(node, ast.ImportFrom) or node.level or (node.module or "").partition(".")[0] != PACKAGE:
            continue
        line = lines[node.lineno - 1]
        # Offsets of the syntax tree count bytes of UTF-8.
        before = line.encode()[: node.col_offset].decode()
        statement, replaced = _FROM.subn(rf"\g<1>{INSTALLED_PACKAGE}", line[len(before) :], count=1)
        if not replaced:
            raise ValueError(f"{name}:{node.lineno}: write `from {PACKAGE}... import` on one line.")
        lines[node.lineno - 1] = before + statement
    return "\n".join(lines)
