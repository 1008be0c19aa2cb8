"""The allowed targets of webhooks: the form of an endpoint's URL, and the public addresses of the Internet.

A platform names a URL and this service connects to it, from inside the operator's network: without these rules it would
be a way to reach what only the operator may reach (server-side request forgery). The URL is read by one strict pattern
here and never by a second parser; the address rule is asked for every address a name resolves to, at registration and
again for the very address that is connected to.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from ledger.errors import WebhookInvalid

MAX_URL_CHARS = 500
PORTS = frozenset({443, 8443})
_DEFAULT_PORTS = {"https": 443, "http": 80}

# RFC 3986 without userinfo and fragment. A host is a name of letters, digits and hyphens, or an address.
_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]|(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?))"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?)\Z",
    re.ASCII,
)
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)\Z", re.ASCII)

_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # NAT64, RFC 6052
_NEVER_V6 = tuple(
    ipaddress.ip_network(text)
    for text in (
        "2001::/32",  # Teredo, RFC 4380: leads to an address hidden in it
        "2001:db8::/32",  # documentation, RFC 3849
        "2002::/16",  # 6to4, RFC 3056: as Teredo
        "3fff::/20",  # documentation, RFC 9637
    )
)
_NEVER_V4 = tuple(
    ipaddress.ip_network(text)
    for text in (
        "100.64.0.0/10",  # carrier-grade NAT, RFC 6598
        "192.88.99.0/24",  # 6to4 relays, RFC 7526
    )
)


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint's URL in parts, as a connection needs them: `host` without brackets and in lower case, `target` the
    path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """The `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse_url(url: str, *, allow_private: bool = False) -> Target:
    """Return the parts of an endpoint's URL. Raises WebhookInvalid; the message does not repeat the URL.

    `allow_private`, for tests and closed networks, lets http and every port pass.
    """
    if len(url) > MAX_URL_CHARS:
        raise WebhookInvalid(f"The URL has more than {MAX_URL_CHARS} characters.")
    match = _URL.match(url)
    if match is None:
        raise WebhookInvalid("The URL must be an https one of ASCII characters, without user name and fragment.")
    scheme = match["scheme"]
    if scheme != "https" and not allow_private:
        raise WebhookInvalid("The URL must be https.")
    port = int(match["port"] or _DEFAULT_PORTS[scheme])
    if not 1 <= port <= 65535 or (port not in PORTS and not allow_private):
        raise WebhookInvalid(f"The port must be one of {', '.join(map(str, sorted(PORTS)))}.")
    target = match["target"]
    return Target(scheme, _host(match), port, target if target.startswith("/") else f"/{target}")


def _host(match: re.Match[str]) -> str:
    if match["v6"] is not None:
        try:
            return str(IPv6Address(match["v6"]))
        except ValueError as error:
            raise WebhookInvalid("The URL's host is not an IPv6 address.") from error
    host = match["host"].lower()
    if not all(_LABEL.match(label) for label in host.split(".")):
        raise WebhookInvalid("The URL's host is not a host name.")
    return host


def public_address(text: str) -> bool:
    """True if `text`, an IPv4 or IPv6 address as the resolver returns it, is public: global unicast, and not a mapped,
    translated or tunnelled address that leads to another one."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return _public_v4(address) if isinstance(address, IPv4Address) else _public_v6(address)


def _public_v4(address: IPv4Address) -> bool:
    if address.is_multicast or address.is_unspecified or address.is_loopback or address.is_link_local:
        return False
    return address.is_global and not any(address in network for network in _NEVER_V4)


def _public_v6(address: IPv6Address) -> bool:
    if address.scope_id is not None:  # a zone of this machine
        return False
    if address.ipv4_mapped is not None:
        return _public_v4(address.ipv4_mapped)
    if address in _TRANSLATED:
        return _public_v4(IPv4Address(int(address) & 0xFFFF_FFFF))
    if address not in _GLOBAL_UNICAST or any(address in network for network in _NEVER_V6):
        return False
    return address.is_global
