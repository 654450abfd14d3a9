"""Settings: what cannot be right is refused at the start, in words that help."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest

from runyard.engine.errors import ConfigError
from runyard.engine.settings import Settings, worker_id

ITEMS = {item.metadata["env"]: item for item in fields(Settings)}
NUMBERS = [name for name, item in ITEMS.items() if isinstance(item.default, (int, float))]


def refusal(name: str, value: str) -> str:
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({name: value})
    return str(caught.value)


def test_nothing_has_to_be_set() -> None:
    assert Settings.from_env({}) == Settings()


def test_an_empty_variable_is_as_one_that_is_not_set() -> None:
    assert Settings.from_env(dict.fromkeys(ITEMS, "")) == Settings()


def test_variables_of_others_are_ignored() -> None:
    assert Settings.from_env({"PATH": "/bin", "RUNYARD_UNKNOWN": "1"}) == Settings()


def test_each_variable_is_read_into_its_setting_with_the_type_of_its_default() -> None:
    for name, item in ITEMS.items():
        if name in NUMBERS:
            made = getattr(Settings.from_env({name: "7"}), item.name)
            assert (made, type(made)) == (7, type(item.default)), name
    assert Settings.from_env({"RUNYARD_QUEUE": "mine"}).queue == "mine"
    assert Settings.from_env({"REDIS_URL": "redis://host:1/2"}).redis_url == "redis://host:1/2"


def test_an_override_wins_over_its_variable_which_is_then_not_even_read() -> None:
    assert Settings.from_env({"RUNYARD_PORT": "not a number"}, port=9).port == 9


def test_an_override_is_checked_like_a_variable() -> None:
    with pytest.raises(
        ConfigError, match=r"RUNYARD_PARTITIONS=0 is not valid: it must be a whole number from 1 to 4096"
    ):
        Settings.from_env({}, partitions=0)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["many", "1 000", "0x10", "1;2", "--1"])
def test_what_is_not_a_number_is_refused_with_variable_value_and_accepted_form(name: str, value: str) -> None:
    kind = "a whole number" if isinstance(ITEMS[name].default, int) else "a number"
    assert refusal(name, value) == f"{name}={value!r} is not valid: it must be {kind}."


def test_a_fraction_is_not_a_whole_number() -> None:
    assert "RUNYARD_CONCURRENCY='1.5' is not valid: it must be a whole number." in refusal("RUNYARD_CONCURRENCY", "1.5")


@pytest.mark.parametrize(
    ("name", "value", "form"),
    [
        ("RUNYARD_PARTITIONS", "0", "a whole number from 1 to 4096"),
        ("RUNYARD_PARTITIONS", "4097", "a whole number from 1 to 4096"),
        ("RUNYARD_LEASE_S", "0", "a number above 0"),
        ("RUNYARD_LEASE_S", "-1", "a number above 0"),
        ("RUNYARD_LEASE_S", "nan", "a number above 0"),
        ("RUNYARD_LEASE_S", "inf", "a number above 0"),
        ("RUNYARD_PREFIX", "a{b}", "letters, digits, '-', '_' and '.'"),
        ("RUNYARD_PORT", "65536", "a port from 0 to 65535"),
        ("RUNYARD_CONCURRENCY", "0", "a number above 0"),
        ("RUNYARD_QUANTUM_S", "-0.1", "0 or a number above it"),
        ("RUNYARD_KEEP_RUNS_S", "-1", "0 or a number above it"),
        ("REDIS_URL", "localhost:6379", "a URL that starts with redis://, rediss:// or unix://"),
        ("REDIS_URL", "http://localhost", "a URL that starts with redis://, rediss:// or unix://"),
    ],
)
def test_a_value_out_of_range_is_refused_with_variable_value_and_accepted_form(
    name: str, value: str, form: str
) -> None:
    said = refusal(name, value)
    assert said.startswith(f"{name}=")
    assert value.rstrip("0").rstrip(".") in said
    assert said.endswith(f"is not valid: it must be {form}.")


@pytest.mark.parametrize("name", ["RUNYARD_QUANTUM_S", "RUNYARD_DRAIN_S", "RUNYARD_KEEP_RUNS_S"])
def test_zero_means_something_where_it_is_accepted(name: str) -> None:
    assert getattr(Settings.from_env({name: "0"}), ITEMS[name].name) == 0
    assert "0" in ITEMS[name].metadata["help"] or name == "RUNYARD_DRAIN_S"


def test_every_setting_says_what_it_means_and_has_a_variable_of_its_own() -> None:
    assert len(ITEMS) == len(fields(Settings))
    for name, item in ITEMS.items():
        assert name.startswith(("RUNYARD_", "REDIS_", "SENTRY_", "OTEL_"))
        assert item.metadata["help"].endswith(".")


def test_the_broker_is_the_store_unless_it_is_said_otherwise_in_celerys_spelling() -> None:
    assert Settings(redis_url="unix:///run/store.sock").celery_broker == "redis+socket:///run/store.sock"
    assert Settings(redis_url="redis://a/0", broker_url="amqp://b").celery_broker == "amqp://b"


def test_settings_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


def test_no_two_workers_have_the_same_name() -> None:
    assert len({worker_id() for _ in range(100)}) == 100
