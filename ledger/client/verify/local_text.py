"""Texts that people keep as files, such as receipts and checkpoints, after mail programs and editors have changed
them."""

from __future__ import annotations

_MARK = "\ufeff"


def kept_text(data: bytes) -> str:
    """Return the text (UTF-8) as it was written: without a byte order mark, with Unix line ends, and ended by one.

    Signed texts are compared in this form, so nothing else may differ. Raises UnicodeDecodeError.
    """
    text = data.decode("utf-8").removeprefix(_MARK).replace("\r\n", "\n")
    return text if not text or text.endswith("\n") else text + "\n"
