"""The stock ``langgraph_sdk`` client against an application in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from langgraph_sdk.client import SyncLangGraphClient

from tests.support.web import Web


@contextmanager
def sdk(web: Web) -> Iterator[SyncLangGraphClient]:
    with httpx.Client(transport=httpx.WSGITransport(app=web.app), base_url="http://localhost") as http:
        yield SyncLangGraphClient(http)
