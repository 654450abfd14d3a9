"""What a process keeps of the threads that it had in hand last."""

from __future__ import annotations

from runyard.engine.recent import Recent


def test_what_was_put_last_is_found_and_takes_the_place_of_what_was_there() -> None:
    recent = Recent(100)
    recent.put("a", "old", 60)
    recent.put("a", "new", 50)
    assert recent.get("a") == "new"
    assert recent.get("b") is None
    assert recent.size == 50


def test_what_was_used_longest_ago_makes_room() -> None:
    recent = Recent(100)
    for name in ("a", "b", "c"):
        recent.put(name, name, 33)
    assert recent.get("a") == "a"
    recent.put("d", "d", 33)
    assert [recent.get(name) for name in ("a", "b", "c", "d")] == ["a", None, "c", "d"]
    assert recent.size == 99


def test_what_is_larger_than_all_the_room_is_not_kept_and_drives_nothing_out() -> None:
    recent = Recent(100)
    recent.put("a", "a", 10)
    recent.put("b", "b", 10)
    recent.put("b", "large", 101)
    assert recent.get("b") is None
    assert recent.get("a") == "a"
    assert recent.size == 10


def test_without_room_nothing_is_kept() -> None:
    recent = Recent(0)
    recent.put("a", "a", 1)
    assert recent.get("a") is None
    assert recent.size == 0
