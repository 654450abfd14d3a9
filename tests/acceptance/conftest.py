"""Fixtures of tests that look at real processes from outside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.stack import Stack, stack


@pytest.fixture(scope="module")
def server_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Store, web and a worker, for the tests of one file."""
    with stack(tmp_path_factory.mktemp("stack")) as (made, _):
        yield made
