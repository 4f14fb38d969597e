"""One bounded GET for every feed: total deadline, size limit, public addresses, no redirects, no surprises.

A timeout of httpx restarts with each received byte, so a server that drips never meets it. Here the
deadline sits under the protocol, at the socket: every read and write gets only the time that is left.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterable, Iterator

import httpcore
import httpx
from httpcore import SOCKET_OPTION

from power.grid.addresses import ForbiddenAddress, Resolver, checked, resolve
from power.grid.feed import FeedError

JSON_TYPES = ("application/json", "text/json")
USER_AGENT = "wattmill"


class FetchError(FeedError):
    """The request gave nothing usable. `retry_after_s` is what the server asked us to wait, if it did."""

    def __init__(
        self, message: str, *, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


def get(
    url: str,
    *,
    deadline_s: float,
    max_bytes: int,
    content_types: tuple[str, ...] = JSON_TYPES,
    allow_loopback: bool = False,
    resolver: Resolver = resolve,
    tls: ssl.SSLContext | None = None,
) -> bytes:
    """The body of a 200 answer, whole, within `deadline_s` seconds from now.

    Only https, except plain http to loopback where `allow_loopback`; the name is resolved once and the
    connection goes to the address that was checked. Redirects, proxies from the environment and
    compressed answers are refused. Messages name the host and never quote what it sent.

    Raises:
        FetchError: refused address, network failure, deadline, size, status or content type.
    """
    target = _permitted_url(url, allow_loopback)
    backend = _DeadlineBackend(
        until=time.monotonic() + deadline_s,
        resolver=resolver,
        allow_loopback=allow_loopback,
        loopback_only=target.scheme == "http",
    )
    try:
        context = tls or httpx.create_ssl_context(trust_env=False)
        with (
            httpx.Client(
                transport=_Transport(backend, context),
                trust_env=False,
                follow_redirects=False,
                timeout=deadline_s,
                headers={"Accept-Encoding": "identity", "User-Agent": USER_AGENT},
            ) as client,
            client.stream("GET", target) as response,
        ):
            _check_head(response, target.host, max_bytes, content_types)
            return _read_body(response, target.host, max_bytes)
    except ForbiddenAddress as error:
        raise FetchError(f"refused: {error}") from error
    except (httpcore.TimeoutException, httpx.TimeoutException) as error:
        raise FetchError(f"{target.host} did not finish within {deadline_s:g} s") from error
    except (
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.UnsupportedProtocol,
        httpx.HTTPError,
        OSError,
    ) as error:
        raise FetchError(f"{target.host}: {type(error).__name__}: {error}") from error


def _permitted_url(text: str, allow_loopback: bool) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError, TypeError) as error:
        raise FetchError(f"not a URL: {error}") from error
    if url.scheme not in ("https", "http") or not url.host:
        raise FetchError(f"only https URLs are fetched, got scheme {url.scheme!r}")
    if not re.fullmatch(rb"[A-Za-z0-9._:-]+", url.raw_host):
        raise FetchError(f"not a host name: {ascii(url.host)[:60]}")
    if url.scheme == "http" and not allow_loopback:
        raise FetchError(f"{url.host}: only https is fetched, got plain http")
    if url.userinfo:
        raise FetchError(f"{url.host}: a URL must not carry a user name or password")
    return url


def _check_head(response: httpx.Response, host: str, max_bytes: int, content_types: tuple[str, ...]) -> None:
    if response.is_redirect or 300 <= response.status_code < 400:
        raise FetchError(f"{host} answered with redirect {response.status_code}", status=response.status_code)
    if response.status_code != 200:
        raise FetchError(
            f"{host} answered {response.status_code}",
            status=response.status_code,
            retry_after_s=_retry_after_s(response),
        )
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise FetchError(f"{host} sent a compressed answer that was not asked for", status=200)
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in content_types:
        raise FetchError(f"{host} sent {_plain(kind) or 'no content type'} instead of data", status=200)
    length = response.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > max_bytes:
        raise FetchError(f"{host} announced more than {max_bytes} bytes", status=200)


def _read_body(response: httpx.Response, host: str, max_bytes: int) -> bytes:
    body = bytearray()
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > max_bytes:
            raise FetchError(f"{host} sent more than {max_bytes} bytes", status=200)
    if body[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise FetchError(f"{host} sent a web page instead of data", status=200)
    return bytes(body)


def _retry_after_s(response: httpx.Response) -> float | None:
    """Seconds only; the date form is rare and the caller backs off anyway."""
    text = response.headers.get("retry-after", "").strip()
    return float(text) if re.fullmatch(r"[0-9]{1,6}", text) else None


def _plain(text: str) -> str:
    """A header value that is safe to show: short, and nothing but printable letters."""
    return re.sub(r"[^a-z0-9/+.-]", "?", text)[:60]


class _DeadlineBackend(httpcore.NetworkBackend):
    """Connects to checked addresses only, and hands out streams that know when time is up."""

    def __init__(
        self, *, until: float, resolver: Resolver, allow_loopback: bool, loopback_only: bool
    ) -> None:
        self._until = until
        self._resolver = resolver
        self._allow_loopback = allow_loopback
        self._loopback_only = loopback_only
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = checked(
            host,
            self._resolver(host, port, _left_s(self._until)),
            allow_loopback=self._allow_loopback,
            loopback_only=self._loopback_only,
        )
        failure: Exception = httpcore.ConnectError(f"no address for {host}")
        for address in addresses:
            try:
                stream = self._sockets.connect_tcp(address, port, _left_s(self._until))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _DeadlineStream(stream, self._until)
        raise failure


class _DeadlineStream(httpcore.NetworkStream):
    """A stream whose every operation ends at one instant of the monotonic clock."""

    def __init__(self, inner: httpcore.NetworkStream, until: float) -> None:
        self._inner = inner
        self._until = until

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left_s(self._until))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _left_s(self._until))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._inner.start_tls(ssl_context, server_hostname, _left_s(self._until))
        return _DeadlineStream(secured, self._until)

    def get_extra_info(self, info: str) -> object:
        return self._inner.get_extra_info(info)


def _left_s(until: float) -> float:
    """Seconds left; never zero, which would mean a non-blocking socket."""
    left = until - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("deadline")
    return left


class _Transport(httpx.BaseTransport):
    """httpx over one connection of our own backend."""

    def __init__(self, backend: httpcore.NetworkBackend, tls: ssl.SSLContext) -> None:
        self._pool = httpcore.ConnectionPool(ssl_context=tls, max_connections=1, network_backend=backend)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        answer = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=request.headers.raw,
                extensions=request.extensions,
            )
        )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer))

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    """The answer's bytes as they arrive."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        return self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()
