"""Which addresses requests may be sent to that clients have given."""

from __future__ import annotations

import ipaddress

import pytest

from runyard.engine.reach import Reach, Refused, is_public

INSIDE = (
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.9.9.9", "169.254.169.254", "172.16.0.1",
    "192.168.1.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "203.0.113.1", "224.0.0.1", "240.0.0.1",
    "255.255.255.255", "168.63.129.16", "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1",
    "2001:db8::1", "2002:7f00:1::", "2002:a00:1::", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1",
    "fec0::1", "ff02::1",
)  # fmt: skip
OUTSIDE = (
    "1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::808:808",
)  # fmt: skip


@pytest.mark.parametrize("text", INSIDE)
def test_what_is_not_of_the_public_internet_is_refused(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))
    with pytest.raises(Refused, match="inside this network or reserved"):
        Reach().checked("name.dev", [text])


@pytest.mark.parametrize("text", OUTSIDE)
def test_the_public_internet_is_allowed(text: str) -> None:
    assert Reach().checked("name.dev", [text, text]) == [text]


@pytest.mark.parametrize("name", ["localhost", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "[::1]".strip("[]")])
def test_an_address_is_judged_by_what_it_means_not_by_how_it_is_spelled(name: str) -> None:
    with pytest.raises(Refused):
        Reach().check(name, 80)


def test_without_a_lookup_addresses_are_judged_and_names_are_not() -> None:
    for spelled in ("127.0.0.1", "127.1", "0x7f.1", "::1"):
        with pytest.raises(Refused):
            Reach().check(spelled, 80, look_up=False)
    Reach().check("localhost", 80, look_up=False)


def test_one_address_of_a_name_that_may_not_be_reached_is_enough_to_refuse_it() -> None:
    with pytest.raises(Refused, match=r"10\.0\.0\.1"):
        Reach().checked("name.dev", ["8.8.8.8", "10.0.0.1"])
    with pytest.raises(Refused):
        Reach().checked("name.dev", ["fe80::1%eth0"])


def test_an_operator_opens_networks_and_hosts_and_nothing_else() -> None:
    reach = Reach.of(["10.0.0.0/8", "192.168.7.7", "fd00::/8", "Hooks.internal", "*.lan"])
    for allowed in ("10.9.9.9", "192.168.7.7", "fd12::1", "::ffff:10.0.0.1"):
        assert reach.checked("name.dev", [allowed]) == [allowed]
    for refused in ("192.168.7.8", "127.0.0.1", "fe80::1"):
        with pytest.raises(Refused):
            reach.checked("name.dev", [refused])
    for host in ("hooks.internal", "HOOKS.internal.", "a.lan", "b.a.lan"):
        assert reach.checked(host, ["127.0.0.1"]) == ["127.0.0.1"]
    for host in ("lan", "xlan", "hooks.internal.dev", "a.hooks.internal"):
        with pytest.raises(Refused):
            reach.checked(host, ["127.0.0.1"])


@pytest.mark.parametrize("entry", ["10.0.0.1/8", "10.0.0.0/33", "a/b", "*.", "::g", "-"])
def test_an_entry_that_is_no_host_and_no_network_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Reach.of([entry])
