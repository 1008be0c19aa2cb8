"""Read C2PA manifests in a separate process, so that the native library cannot harm the process that inspects.

Run as a script by `sandbox.c2pa`. Arguments are the bytes of memory and the seconds that it may use, and the folder of
trust lists. Standard input is the media type, a line feed and the file; standard output is one JSON object {sdk, store,
signatures} or {sdk, error}: `signatures` has for each manifest's signature the facts by which `signers` judges it.
Before the library reads a byte of the file, the process gives up the right to open anything: it can open no file and no
socket, whatever a manifest asks for, and the system limits its memory and time.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

# The package would read its own version out of the metadata of what is installed, which takes as long as the rest of
# its start together, and does without where it cannot.
sys.modules["importlib.metadata"] = None  # type: ignore[assignment]
import c2pa  # type: ignore[import-untyped]  # noqa: E402

SETTINGS: dict[str, Any] = {
    "verify": {
        "remote_manifest_fetch": False,
        "ocsp_fetch": False,
        "verify_trust": True,
        "verify_timestamp_trust": True,
    },
    "core": {"allowed_network_hosts": [], "decode_identity_assertions": False},
}
"""The library's own switches for the network; the lack of descriptors holds even if a version forgets them. Identity
assertions (CAWG) are not decoded: to look up whom they name, the library would need the network, and stop without it.
"""

_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_TOLD = ("claimSignature.", "signingCredential.", "timeStamp.")


def main() -> None:
    """Read standard input, write standard output."""
    memory, seconds = (int(argument) for argument in sys.argv[1:3])
    settings = {**SETTINGS, "trust": {"anchors": _anchors(Path(sys.argv[3]))}}
    given = sys.stdin.buffer.read()
    media_type, _, data = given.partition(b"\n")
    del given
    context = c2pa.Context(c2pa.Settings.from_dict(settings))
    _give_up(memory + 3 * len(data), seconds)
    answer: dict[str, Any] = {"sdk": c2pa.sdk_version()}
    try:
        with c2pa.Reader(media_type.decode("ascii"), io.BytesIO(data), context=context) as reader:
            answer["store"] = json.loads(reader.json())
            answer["signatures"] = _signatures(json.loads(reader.crjson()))
    except Exception as error:
        answer["error"] = f"{type(error).__name__}: {error}"[:500]
    sys.stdout.write(json.dumps(answer))


def _anchors(folder: Path) -> list[dict[str, str]]:
    """Return the lists of a folder in the form of the library. For a certificate in two lists it reports either, by
    chance, so each certificate is in one of them only, the official one first."""
    named = json.loads((folder / "lists.json").read_bytes())
    seen: set[str] = set()

    def read(name: str) -> str:
        text = (folder / str(named[name]["file"])).read_text("utf-8")
        blocks = {"".join(block.split()): block for block in _CERTIFICATE.findall(text)}
        fresh = [block for bare, block in blocks.items() if bare not in seen]
        seen.update(blocks)
        return "\n".join(fresh)

    official, interim = read("official_signers"), read("interim_anchors")
    allowed, stamps = read("interim_allowed"), read("official_time_stamps")
    lists = [
        {"trust_uri": "official", "trust_kind": "manifest", "trust_anchors": official},
        {"trust_uri": "interim", "trust_kind": "manifest", "trust_anchors": interim, "allowed_list": allowed},
        {"trust_uri": "time-stamps", "trust_kind": "tsa", "trust_anchors": stamps},
    ]
    return [
        {name: text for name, text in trust_list.items() if text} for trust_list in lists if trust_list["trust_anchors"]
    ]


def _signatures(report: dict[str, Any]) -> dict[str, Any]:
    """Return {label: {claim, valid_from, valid_to, stamped_at, success, failure}} from the library's report in the form
    of the conformance programme; only the codes about signatures, certificates and time stamps."""
    signatures = {}
    for manifest in report.get("manifests", []):
        signature, results = manifest.get("signature") or {}, manifest.get("validationResults") or {}
        validity = (signature.get("certificateInfo") or {}).get("validity") or {}
        signatures[manifest["label"]] = {
            "claim": "v2" if "claim.v2" in manifest else "v1",
            "valid_from": validity.get("notBefore"),
            "valid_to": validity.get("notAfter"),
            "stamped_at": (signature.get("timeStampInfo") or {}).get("timestamp"),
            **{kind: _told(results.get(kind) or []) for kind in ("success", "failure")},
        }
    return signatures


def _told(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"code": result["code"], "explanation": result.get("explanation")}
        for result in results
        if str(result.get("code")).startswith(_TOLD)
    ]


def _give_up(memory_bytes: int, seconds: int) -> None:
    """Limit this process. If the system has no such limits, those of the library and the caller's timeout remain."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


if __name__ == "__main__":
    main()
