"""A browser without a screen, for the pages of /me."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlencode

import httpx2

from tests.api.conftest import Api

SAME = {"Sec-Fetch-Site": "same-origin"}


class BrowserClient:
    """A browser without a screen: it keeps its cookies, and its forms come from our own page."""

    def __init__(self, api: Api, language: str = "en") -> None:
        self.client = httpx2.Client(verify=False, base_url=api.url, timeout=30, headers={"Accept-Language": language})

    def get(self, path: str) -> httpx2.Response:
        """A page."""
        return self.client.get(path)

    def post(self, path: str, headers: dict[str, str] | None = None, **fields: str) -> httpx2.Response:
        """A form."""
        sent = {"Content-Type": "application/x-www-form-urlencoded", **(SAME if headers is None else headers)}
        return self.client.post(path, content=urlencode(fields), headers=sent)

    def open(self, code: str) -> BrowserClient:
        """Open the record behind a code."""
        answer = self.post("/me/open", code=code)
        assert (answer.status_code, answer.headers["location"]) == (303, "/me"), answer.text
        return self

    def contest(self, report: str, text: str = "I sent it back.", grounds: str = "wrong_facts") -> str:
        """File an appeal; the case."""
        answer = self.post("/me/appeal", report=report, grounds=grounds, text=text)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"].split("/")[3]

    def upload(self, case: str, data: bytes, name: str) -> httpx2.Response:
        """A file."""
        files = {"file": (name, data, "application/octet-stream")}
        return self.client.post(f"/me/cases/{case}/files", files=files, headers=SAME)


NewBrowser = Callable[..., BrowserClient]


@contextmanager
def browser_clients(api: Api) -> Iterator[NewBrowser]:
    """`new_browser()` opens a further browser; `new_browser("zh-CN")` one with Chinese as its language."""
    created: list[BrowserClient] = []

    def new_browser(language: str = "en") -> BrowserClient:
        created.append(BrowserClient(api, language))
        return created[-1]

    try:
        yield new_browser
    finally:
        for browser in created:
            browser.client.close()
