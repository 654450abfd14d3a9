"""Runs and threads in the words of LangGraph's API."""

from __future__ import annotations

from runyard.app.shapes import of_thread
from runyard.engine.store.threads import decode


def test_clients_hear_of_a_threads_error_its_name_and_its_message_only() -> None:
    told = b'{"error": "ValueError", "message": "no", "node": "work", "traceback": "Traceback \\u2026"}'
    stored = {"thread_id": b"t", "created_at": b"1", "rest": b"error", "error": told}
    assert of_thread(decode(stored))["error"] == {"error": "ValueError", "message": "no"}
    assert of_thread(decode({**stored, "error": b""}))["error"] is None
