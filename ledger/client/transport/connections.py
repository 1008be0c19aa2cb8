"""How HTTP connections are made: trusted certificate authorities, proxies, and the names of what goes wrong with them.

Certificates are read from `ca_file`, else from the file that `REFUND_LEDGER_CA_FILE` names, else from `SSL_CERT_FILE`
or `SSL_CERT_DIR`, else from the system's store. A proxy is `proxy`, else what `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`
and `NO_PROXY` say, except for addresses of this machine.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from ledger import __version__
from ledger.errors import ConfigurationError, Unavailable

CA_VARIABLE = "REFUND_LEDGER_CA_FILE"
MAX_CONNECTIONS = 32
IDLE_SECONDS = 5.0
"""Idle connections are closed after this number of seconds. Servers close them later, so a request does not use a
connection that is being closed."""
PROXY_SCHEMES = ("http", "https")
_PROXY_VARIABLES = ("https_proxy", "http_proxy", "all_proxy")
_MAX_CAUSES = 10
_TLS_CHARS = 200

ClientFactory = Callable[[], httpx2.Client]


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """The options of connections that an integrator may set.

    `ca_file` is a PEM file of the certificate authorities that are trusted instead of the system's. `proxy` is the URL
    of an HTTP proxy; an empty text means none, whatever the environment says. `http_client` is a function that makes an
    `httpx2.Client`, called once in each process; it replaces the other two.
    """

    ca_file: str | Path | None = None
    proxy: str | None = None
    http_client: ClientFactory | None = None

    def check(self) -> None:
        """Check the options without reading a file. Raises ConfigurationError for options that cannot be used."""
        if self.http_client is not None and (self.ca_file is not None or self.proxy is not None):
            raise ConfigurationError("Give either http_client, or ca_file and proxy: the function sets both itself.")
        if self.http_client is not None and not callable(self.http_client):
            raise ConfigurationError(
                "http_client must be a function that makes an httpx2.Client, such as "
                "`lambda: httpx2.Client(...)`: each process needs one of its own."
            )
        if self.ca_file is not None and not isinstance(self.ca_file, str | Path):
            raise ConfigurationError("ca_file must be the path of a PEM file.")
        if self.proxy is not None and not isinstance(self.proxy, str):
            raise ConfigurationError(
                "proxy must be a URL such as http://proxy.example:3128, or an empty text for none."
            )
        if self.proxy and urlsplit(self.proxy).scheme not in PROXY_SCHEMES:
            raise ConfigurationError("proxy must begin with http:// or https://. SOCKS proxies are not supported.")


def new_client(url: str, local: bool, options: HttpOptions) -> httpx2.Client:
    """Return an HTTP client for the service at `url`; `local` says that it is on this machine, which no proxy can
    reach.

    Raises ConfigurationError, which names the argument or the environment variable to correct.
    """
    if options.http_client is not None:
        client = options.http_client()
        if not isinstance(client, httpx2.Client):
            raise ConfigurationError("http_client must make an httpx2.Client.")
        return client
    in_clear = local and url.startswith("http://")
    by_environment = options.proxy is None and not local
    if by_environment:
        _refuse_socks()
    try:
        return httpx2.Client(
            trust_env=by_environment,
            proxy=options.proxy or None,
            verify=False if in_clear else tls_context(options.ca_file),  # reading all certificates costs 25 ms
            limits=httpx2.Limits(
                max_connections=MAX_CONNECTIONS,
                max_keepalive_connections=MAX_CONNECTIONS,
                keepalive_expiry=IDLE_SECONDS,
            ),
            headers={"User-Agent": f"refund-ledger/{__version__}"},
        )
    except (ImportError, ValueError, httpx2.InvalidURL) as error:
        named = "The argument proxy" if options.proxy else f"The environment ({_proxies_named()})"
        raise ConfigurationError(f"{named} names a proxy that cannot be used. Give http://host:port.") from error


def tls_context(ca_file: str | Path | None) -> ssl.SSLContext:
    """Return the TLS context by which a server's certificate is verified. Raises ConfigurationError when the named file
    cannot be used."""
    if ca_file is not None:
        return _trusting(str(ca_file), "the argument ca_file")
    named = os.environ.get(CA_VARIABLE)
    if named:
        return _trusting(named, f"the environment variable {CA_VARIABLE} (or the option --ca-file)")
    of_system = os.environ.get("SSL_CERT_FILE")
    if of_system:
        return _trusting(of_system, "the environment variable SSL_CERT_FILE")
    return httpx2.create_ssl_context()  # SSL_CERT_DIR, or the system's store


def _trusting(path: str, named: str) -> ssl.SSLContext:
    # Errors are logged and shown, so they name the file only, not the folders of the machine.
    called = f"{named[0].upper()}{named[1:]} names {Path(path).name}"
    try:
        context = ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{called}, which cannot be read as certificates in PEM.") from error
    if not context.get_ca_certs():
        raise ConfigurationError(f"{called}, which holds no CA certificate.")
    return context


def _refuse_socks() -> None:
    for name, value in _proxy_environment():
        if value.lower().startswith("socks"):
            raise ConfigurationError(
                f"The environment variable {name} names a SOCKS proxy, which is not supported. Unset it for this "
                'program, or give the argument proxy: "http://host:port" of an HTTP proxy, or "" for none.'
            )


def _proxy_environment() -> Iterator[tuple[str, str]]:
    for name, value in os.environ.items():
        if name.lower() in _PROXY_VARIABLES and value:
            yield name, value


def _proxies_named() -> str:
    return ", ".join(sorted(name for name, _ in _proxy_environment())) or "no proxy"


def uses_proxy(url: str, local: bool, options: HttpOptions) -> bool:
    """True if requests to `url` go through a proxy that is configured here."""
    if options.http_client is not None or local:
        return bool(options.proxy)
    if options.proxy is not None:
        return bool(options.proxy)
    from urllib.request import getproxies, proxy_bypass  # 15 ms to load, needed by few

    named = getproxies()
    parts = urlsplit(url)
    return bool(named.get(parts.scheme) or named.get("all")) and not proxy_bypass(parts.hostname or "")


# --- names of faults ------------------------------------------------------------------------------------------------


def unreached(error: Exception, host: str, proxied: bool, in_connecting: bool = False) -> Unavailable:
    """Return the Unavailable for a request that got no answer. `details["reason"]` is `timeout`, `dns_failed`,
    `tls_failed`, `proxy_failed`, `connect` (no connection was made, which `in_connecting` says of an OSError) or
    `connection` (it broke)."""
    if isinstance(error, httpx2.TimeoutException | TimeoutError):
        return Unavailable("The ledger did not answer in time.", reason="timeout")
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            said = _tls_words(cause.verify_message)
            return Unavailable(
                f"The certificate of {host} was not accepted: {said}. If a CA of your own signed it, give its "
                f"certificate as ca_file, or in {CA_VARIABLE}.",
                reason="tls_failed",
                tls=said,
            )
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            said = _tls_words(cause.reason or "no TLS")
            return Unavailable(f"No TLS connection to {host} could be made: {said}.", reason="tls_failed", tls=said)
    in_connecting = in_connecting or isinstance(error, httpx2.ConnectError | ConnectionRefusedError)
    if isinstance(error, httpx2.ProxyError) or (proxied and in_connecting):
        return Unavailable("The proxy could not be reached, or refused the connection.", reason="proxy_failed")
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return Unavailable(f"The name {host} could not be resolved.", reason="dns_failed")
    return Unavailable("The ledger could not be reached.", reason="connect" if in_connecting else "connection")


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def _tls_words(text: str) -> str:
    return "".join(char for char in text[:_TLS_CHARS] if char.isprintable()).replace("_", " ").lower()


def host_of(url: str) -> str:
    """Return the host that `url` leads to, for messages."""
    return urlsplit(url).hostname or "the server"


def client_headers() -> Mapping[str, str]:
    """Return the headers of every request, also of a client made by `http_client`."""
    return {"User-Agent": f"refund-ledger/{__version__}", "Accept": "application/json"}
