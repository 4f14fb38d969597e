"""The bounded GET against a real server that does everything wrong."""

from __future__ import annotations

import resource
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from power.grid.addresses import ForbiddenAddress, checked, resolve
from power.grid.http import FetchError, get
from tests.feed_builders import GOOD_BODY, HostileServer, gzip_bomb, hostile_server, silent_port

DEADLINE_S = 0.4
SLACK_S = 3.0  # a busy machine; a drip without a total deadline would last for ever


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile_server() as running:
        yield running


def fetch(url: str, *, max_bytes: int = 100_000, deadline_s: float = DEADLINE_S) -> bytes:
    return get(url, deadline_s=deadline_s, max_bytes=max_bytes, allow_loopback=True)


def test_a_good_answer_is_returned_whole(server: HostileServer) -> None:
    assert fetch(server.url("/good"), deadline_s=5) == GOOD_BODY


def test_asks_for_no_compression_and_names_itself(server: HostileServer) -> None:
    fetch(server.url("/good"), deadline_s=5)
    assert server.headers_seen[0]["accept-encoding"] == "identity"
    assert server.headers_seen[0]["user-agent"] == "wattmill"


@pytest.mark.parametrize("path", ["/drip", "/drip-head", "/hang", "/informational"])
def test_a_slow_answer_ends_at_the_total_deadline(server: HostileServer, path: str) -> None:
    began = time.monotonic()
    with pytest.raises(FetchError, match=r"did not finish within 0\.4 s"):
        fetch(server.url(path))
    assert DEADLINE_S * 0.9 <= time.monotonic() - began < DEADLINE_S + SLACK_S


def test_a_silent_tls_handshake_ends_at_the_deadline() -> None:
    with silent_port() as port:
        began = time.monotonic()
        with pytest.raises(FetchError, match="did not finish"):
            fetch(f"https://127.0.0.1:{port}/")
        assert time.monotonic() - began < DEADLINE_S + SLACK_S


def test_a_resolver_that_hangs_ends_at_the_deadline() -> None:
    def hangs(host: str, port: int, timeout_s: float) -> list[str]:
        time.sleep(timeout_s)
        raise TimeoutError(f"no address for {host}")

    began = time.monotonic()
    with pytest.raises(FetchError, match=r"no address|did not finish"):  # whoever is heard first
        get("https://example.org/", deadline_s=0.1, max_bytes=10, resolver=hangs)
    assert time.monotonic() - began < 0.1 + SLACK_S


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/endless", "sent more than 100000 bytes"),
        ("/announced", "announced more than 100000 bytes"),
        ("/bomb", "compressed answer"),
        ("/html", "sent text/html instead of data"),
        ("/html-as-json", "web page"),
        ("/untyped", "no content type"),
        ("/redirect", "redirect 302"),
        ("/unavailable", "answered 503"),
        ("/too-many", "answered 429"),
        ("/short", "RemoteProtocolError"),
        ("/garbage", "RemoteProtocolError"),
    ],
)
def test_each_misbehaviour_is_refused_by_name(server: HostileServer, path: str, message: str) -> None:
    with pytest.raises(FetchError, match=message):
        fetch(server.url(path), deadline_s=5)
    assert server.hits == [path]


def test_a_gzip_bomb_is_never_unpacked(server: HostileServer) -> None:
    gzip_bomb()
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        with pytest.raises(FetchError):
            fetch(server.url("/bomb"), deadline_s=5, max_bytes=10**9)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 15_000


def test_retry_after_is_kept_when_it_is_seconds(server: HostileServer) -> None:
    with pytest.raises(FetchError) as busy:
        fetch(server.url("/unavailable"), deadline_s=5)
    assert (busy.value.status, busy.value.retry_after_s) == (503, 120.0)
    with pytest.raises(FetchError) as limited:
        fetch(server.url("/too-many"), deadline_s=5)
    assert (limited.value.status, limited.value.retry_after_s) == (429, None)


def test_an_error_never_quotes_the_answer(server: HostileServer) -> None:
    with pytest.raises(FetchError) as caught:
        fetch(server.url("/html"), deadline_s=5)
    assert "Maintenance" not in str(caught.value)


def test_a_proxy_in_the_environment_is_ignored(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert fetch(server.url("/good"), deadline_s=5) == GOOD_BODY


def test_a_closed_port_is_an_error_that_names_the_host() -> None:
    with silent_port() as port:
        pass
    with pytest.raises(FetchError, match=r"127\.0\.0\.1"):
        fetch(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/price",
        "ftp://example.org/price",
        "file:///etc/passwd",
        "https://user:secret@example.org/",
        "https:///price",
        "not a url",
        "https://exa mple.org/",
        "",
    ],
)
def test_only_plain_https_urls_are_fetched(url: str) -> None:
    def must_not_resolve(host: str, port: int, timeout_s: float) -> list[str]:
        raise AssertionError(host)

    with pytest.raises(FetchError) as caught:
        get(url, deadline_s=1, max_bytes=10, resolver=must_not_resolve)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
    ],
)
def test_no_address_inside_is_reached(address: str) -> None:
    def leads_inside(host: str, port: int, timeout_s: float) -> list[str]:
        return [address]

    with pytest.raises(FetchError, match="not a public address"):
        get("https://feed.example.org/", deadline_s=1, max_bytes=10, resolver=leads_inside)


@pytest.mark.parametrize("host", ["0x7f.1", "2130706433", "127.1", "localhost", "[::ffff:127.0.0.1]", "0"])
def test_no_spelling_of_loopback_slips_through(host: str) -> None:
    with pytest.raises(FetchError, match=r"not a public address|not a URL"):
        get(f"https://{host}:9/", deadline_s=2, max_bytes=10)


def test_one_bad_address_among_good_ones_condemns_the_name() -> None:
    with pytest.raises(ForbiddenAddress):
        checked("h", ["93.184.215.14", "10.0.0.1"], allow_loopback=False, loopback_only=False)
    public = ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"]
    assert checked("h", public, allow_loopback=False, loopback_only=False) == public


def test_plain_http_goes_to_loopback_only() -> None:
    def public(host: str, port: int, timeout_s: float) -> list[str]:
        return ["93.184.215.14"]

    with pytest.raises(FetchError, match="loopback only"):
        get("http://example.org/", deadline_s=1, max_bytes=10, allow_loopback=True, resolver=public)


def test_the_name_is_resolved_once_and_that_address_is_used(server: HostileServer) -> None:
    """A name that changes its address between the check and the connection gains nothing."""
    answers = [["127.0.0.1"], ["169.254.169.254"]]
    asked: list[str] = []

    def rebinding(host: str, port: int, timeout_s: float) -> list[str]:
        asked.append(host)
        return answers[len(asked) - 1]

    port = server.server_address[1]
    body = get(
        f"http://rebind.example.org:{port}/good",
        deadline_s=5,
        max_bytes=1000,
        allow_loopback=True,
        resolver=rebinding,
    )
    assert body == GOOD_BODY
    assert asked == ["rebind.example.org"]
    assert server.headers_seen[0]["host"] == f"rebind.example.org:{port}"


def test_an_unknown_name_is_an_os_error() -> None:
    with pytest.raises(OSError):
        resolve("no-such-host.invalid", 443, 5.0)
    with pytest.raises(OSError):
        resolve("a" * 70 + ".example", 443, 5.0)


class TestTls:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        if shutil.which("openssl") is None:
            pytest.skip("no openssl to make a certificate")
        both = tmp_path / "both.pem"
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1"
        subject = ["-subj", "/CN=feed.example.org", "-addext", "subjectAltName=DNS:feed.example.org"]
        subprocess.run(
            [*command.split(), *subject, "-keyout", str(both), "-out", str(tmp_path / "cert.pem")],
            check=True,
            capture_output=True,
        )
        both.write_text(both.read_text() + (tmp_path / "cert.pem").read_text())
        return both

    @pytest.fixture
    def tls_server(self, certificate: Path) -> Iterator[HostileServer]:
        with hostile_server() as server:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            yield server

    def read(self, server: HostileServer, host: str, tls: ssl.SSLContext | None) -> bytes:
        return get(
            f"https://{host}:{server.server_address[1]}/good",
            deadline_s=5,
            max_bytes=1000,
            allow_loopback=True,
            resolver=lambda host, port, timeout_s: ["127.0.0.1"],
            tls=tls,
        )

    def test_an_unknown_issuer_is_refused(self, tls_server: HostileServer) -> None:
        with pytest.raises(FetchError, match="CERTIFICATE_VERIFY_FAILED"):
            self.read(tls_server, "feed.example.org", None)

    def test_the_certificate_must_be_for_the_name_asked_for(
        self, tls_server: HostileServer, certificate: Path
    ) -> None:
        trusting = ssl.create_default_context(cafile=str(certificate))
        assert self.read(tls_server, "feed.example.org", trusting) == GOOD_BODY
        with pytest.raises(FetchError, match="CERTIFICATE_VERIFY_FAILED"):
            self.read(tls_server, "other.example.org", trusting)
