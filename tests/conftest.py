"""Fixtures for all tests: a real store, a clean environment, no network but this machine's own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import redis as redis_py

from runyard.engine.store.embedded import EmbeddedServer

#: Settings of the developer's shell that would change what a test does, or send something somewhere.
_SCRUBBED = ("REDIS_", "RUNYARD_", "SENTRY_", "OPENAI_", "LANGSMITH", "LANGCHAIN_", "FLOWER_", "CELERY_", "OTEL_")
#: Where the suite itself is told about servers that only some machines have.
_KEPT = ("RUNYARD_TEST_",)


def pytest_configure(config: pytest.Config) -> None:
    """Scrub before anything is imported or started, so that child processes are clean too."""
    for name in list(os.environ):
        if name.startswith(_SCRUBBED) and not name.startswith(_KEPT):
            del os.environ[name]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A store for the whole session. A test that kills, pauses or fills one starts its own (``EmbeddedServer``)."""
    with EmbeddedServer(tmp_path_factory.mktemp("store")) as running:
        yield running


@pytest.fixture(scope="session")
def _admin(server: EmbeddedServer) -> Iterator[redis_py.Redis]:
    with redis_py.Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
def redis_url(server: EmbeddedServer, _admin: redis_py.Redis) -> str:
    """The URL of an empty store."""
    _admin.flushall()
    return server.url


@pytest.fixture
def redis(redis_url: str, _admin: redis_py.Redis) -> redis_py.Redis:
    """A synchronous client (bytes, as redis-py gives them) of an empty store."""
    return _admin
