"""Which network addresses a feed may be fetched from. Resolves a name once and judges the result."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

Resolver = Callable[[str, int, float], list[str]]
"""(host, port, timeout in seconds) -> addresses as text. Raises OSError."""

_NAT64 = ip_network("64:ff9b::/96")


class ForbiddenAddress(Exception):
    """A host name led to an address that feeds must not reach; the message names both."""


def resolve(host: str, port: int, timeout_s: float) -> list[str]:
    """Ask the system's resolver, which has no timeout of its own, for at most `timeout_s` seconds.

    Raises:
        OSError: the name is unknown, or the answer took too long.
    """
    found: list[str] = []
    failure: list[OSError] = []

    def ask() -> None:
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.extend(dict.fromkeys(str(row[4][0]) for row in rows))
        except OSError as error:
            failure.append(error)
        except UnicodeError as error:
            failure.append(OSError(f"not a host name: {error}"))

    thread = threading.Thread(target=ask, name="resolve", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if failure:
        raise failure[0]
    if not found:
        raise TimeoutError(f"no address for {host} within {timeout_s:.1f} s")
    return found


def checked(host: str, addresses: list[str], *, allow_loopback: bool, loopback_only: bool) -> list[str]:
    """The addresses, if every one of them may be reached: one bad address condemns the name.

    Raises:
        ForbiddenAddress: private, link-local, metadata, shared, reserved, or loopback without leave.
    """
    for text in addresses:
        address = _embedded(ip_address(text.partition("%")[0]))
        if address.is_loopback and allow_loopback:
            continue
        if loopback_only:
            raise ForbiddenAddress(f"plain http is for loopback only, and {host} is {address}")
        if not address.is_global or address.is_multicast:
            raise ForbiddenAddress(f"{host} is {address}, which is not a public address")
    return addresses


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one stands for, if it does: that is where the packets go."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
