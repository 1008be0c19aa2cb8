"""A file in a form that a page sends (multipart/form-data, RFC 7578), within the limit for attachments."""

from __future__ import annotations

from python_multipart.exceptions import FormParserError
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from ledger.errors import AttachmentRefused, InvalidRequest
from ledger.settings import Settings

MEDIA_TYPE = "multipart/form-data"


async def read_upload(request: Request, settings: Settings) -> tuple[str, bytes]:
    """(name, bytes) of the one file in the form's field `file`. The request's frame has limited the whole body.

    Raises InvalidRequest, AttachmentRefused (no file), BodyTooLarge.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise InvalidRequest("The form cannot be read.")
    try:
        async with request.form(max_files=1, max_fields=4, max_part_size=16 * 1024) as form:
            file = form.get("file")
            if file is None or isinstance(file, str) or not file.filename:
                raise AttachmentRefused("Choose a file first.", reason="empty")
            return file.filename, await file.read(settings.attachment_limit_bytes + 1)
    except (MultiPartException, FormParserError) as error:
        raise InvalidRequest("The form cannot be read.") from error
