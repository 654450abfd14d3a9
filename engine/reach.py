"""Where requests may go whose address a client has given: the guard against server-side request forgery.

A name is resolved once, every address it has is checked, and the connection is made to a checked address, never to the
name: a record that moves between the check and the connection is of no use. Redirects are not followed by anybody here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from runyard.engine.errors import EngineError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Not global, whatever Python 3.11 says of them; the fourth is a cloud's metadata service at a public address.
_NOT_PUBLIC_4 = [
    ipaddress.IPv4Network(text)
    for text in ("192.0.0.0/24", "192.88.99.0/24", "224.0.0.0/3", "168.63.129.16/32")
]  # fmt: skip
_PUBLIC_6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6 = [ipaddress.IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Refused(EngineError):
    """Requests may not be sent there."""

    code = "address_refused"


@dataclass(frozen=True, slots=True)
class Reach:
    """What is allowed besides the public internet: hosts by name (``*.domain`` for all below one), and networks."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, entries: Iterable[str]) -> Reach:
        """Raises ValueError for an entry that is neither a host name nor an address nor a network."""
        hosts, networks = set(), []
        for entry in entries:
            try:
                networks.append(ipaddress.ip_network(entry))
            except ValueError as error:
                if "/" in entry or ":" in entry or not entry.removeprefix("*.").replace("-", "").replace(".", ""):
                    raise ValueError(entry) from error
                hosts.add(entry.lower().rstrip("."))
        return cls(frozenset(hosts), tuple(networks))

    def knows(self, host: str) -> bool:
        """Whether an operator named this host."""
        return any(named(host, entry) for entry in self.hosts)

    def allows(self, address: Address) -> bool:
        return is_public(address) or any(_inside(_plain(address), network) for network in self.networks)

    def checked(self, host: str, answers: Iterable[str]) -> list[str]:
        """The addresses of ``host`` if all of them are allowed, duplicates removed. Raises Refused."""
        found = list(dict.fromkeys(answers))
        if not self.knows(host):
            for text in found:
                if "%" in text or not self.allows(ipaddress.ip_address(text)):
                    raise Refused(f"{host} is inside this network or reserved ({text})")
        return found

    async def addresses(self, host: str, port: int) -> list[str]:
        """The addresses to connect to. Raises Refused, and OSError when there is none."""
        loop = asyncio.get_running_loop()
        answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return self.checked(host, (str(answer[4][0]) for answer in answers))

    def check(self, host: str, port: int, *, look_up: bool = True) -> None:
        """Raise Refused for a host that may not be reached, as far as that can be told now.

        Blocks for a lookup of a name; without ``look_up`` only addresses are judged.
        """
        try:
            flags = 0 if look_up else socket.AI_NUMERICHOST
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
        except (OSError, UnicodeError):  # it may have an address by the time that counts, and is checked again then
            return
        self.checked(host, (str(answer[4][0]) for answer in answers))


def named(host: str, entry: str) -> bool:
    """Whether ``entry`` names ``host``: the same, or ``*.domain`` and the host is below it."""
    host = host.lower().rstrip(".")
    return host.endswith(entry[1:]) if entry.startswith("*.") else host == entry


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet; what wraps an IPv4 address is judged by that."""
    address = _plain(address)
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not any(address in network for network in _NOT_PUBLIC_4)
    return address in _PUBLIC_6 and not any(address in network for network in _NOT_PUBLIC_6)


def _plain(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _inside(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network
