"""What the sender does with receivers of every kind; real sockets, a fake resolver."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from registry_service.threads import Threads
from registry_service.webhooks.addresses import Address
from registry_service.webhooks.receivers import ReceiverRules
from registry_service.webhooks.sender import Outcome, Sender, system_resolver
from tests.support_receiver import Receiver, closes, receiver, says, status

LOOPBACK = ReceiverRules(allow_http=True, allowed=(ip_network("127.0.0.0/8"),))
SECURE = ReceiverRules(allowed=(ip_network("127.0.0.0/8"),))


class FakeResolver:
    """Answers by host; counts how often it was asked."""

    def __init__(self, **hosts: Sequence[str]) -> None:
        self.hosts, self.asked = hosts, 0

    async def __call__(self, host: str) -> Sequence[Address]:
        self.asked += 1
        if host not in self.hosts:
            raise OSError("unknown host")
        return [ip_address(address) for address in self.hosts[host]]


def sender(resolver: FakeResolver | None = None, timeout: float = 5) -> Sender:
    return Sender(resolver or FakeResolver(hooks=["127.0.0.1"]), LOOPBACK, timeout=timeout)


async def test_an_accepted_request() -> None:
    with receiver() as there:
        outcome = await sender().post(f"{there.url}?a=1", {"webhook-id": "7"}, b'{"a":1}')
    assert outcome == Outcome(200, "")
    assert outcome.accepted
    (request,) = there.requests
    assert request.line == "POST /hook?a=1 HTTP/1.1"
    assert request.body == b'{"a":1}'
    assert request.headers["content-type"] == "application/json"
    assert request.headers["host"] == f"127.0.0.1:{there.port}"
    assert request.headers["webhook-id"] == "7"


@pytest.mark.parametrize("code", [201, 202, 204, 299])
async def test_every_2xx_accepts(code: int) -> None:
    with receiver() as there:
        there.answers.append(status(code))
        assert await sender().post(there.url, {}, b"") == Outcome(code, "")


@pytest.mark.parametrize("code", [400, 401, 404, 410, 500, 503])
async def test_errors(code: int) -> None:
    with receiver() as there:
        there.answers.append(status(code, body=b"secret of the receiver"))
        assert await sender().post(there.url, {}, b"") == Outcome(code, f"answered {code}")


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_not_followed(code: int) -> None:
    with receiver() as there, receiver() as inner:
        there.answers.append(status(code, f"Location: {inner.url}"))
        outcome = await sender().post(there.url, {}, b"")
        assert inner.requests == []
    assert outcome.status == code
    assert "redirect, which is not followed" in outcome.error


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", "closed the connection"),
        (b"HTTP/1.1 200", "closed the connection"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 abc\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000 + b"\r\n", "headers are too long"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 9, "goes on"),
    ],
)
async def test_answers_that_are_none(raw: bytes, error: str) -> None:
    with receiver() as there:
        there.answers.append(says(raw))
        outcome = await sender().post(there.url, {}, b"")
    assert outcome.status == 0
    assert error in outcome.error


async def test_interim_answers_are_passed_over() -> None:
    with receiver() as there:
        there.answers.append(says(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 202 Yes\r\n\r\n"))
        assert await sender().post(there.url, {}, b"") == Outcome(202, "")


async def test_a_huge_answer_is_not_read() -> None:
    with receiver() as there:
        there.answers.append(status(200, body=bytes(50_000_000)))
        began = time.monotonic()
        assert await sender().post(there.url, {}, b"") == Outcome(200, "")
        assert time.monotonic() - began < 4
        # The connection ends at the loop's next turn.
        await asyncio.sleep(0)


@pytest.mark.parametrize("how", ["hangs", "drips"])
async def test_the_timeout_is_over_everything(how: str) -> None:
    with receiver() as there:
        there.answers.append(getattr(there, how))
        outcome = await sender(timeout=0.3).post(there.url, {}, b"")
    assert outcome == Outcome(0, "no answer within 0.3 s")


async def test_a_closed_port() -> None:
    with receiver() as there:
        url = there.url
    outcome = await sender().post(url, {}, b"")
    assert "no connection to the host's port" in outcome.error
    assert "refused" in outcome.error


@pytest.mark.parametrize(
    "addresses",
    [
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["127.0.0.1", "192.168.1.1"],
        ["::ffff:127.0.0.1"],
        ["8.8.8.8", "10.0.0.1"],
        ["::1"],
    ],
)
async def test_one_address_that_is_not_public_is_enough_to_refuse(addresses: list[str]) -> None:
    outcome = await sender(FakeResolver(hooks=addresses)).post("https://hooks/", {}, b"")
    assert outcome.status == 0
    assert "not a public one" in outcome.error
    assert not any(address in outcome.error for address in addresses)


async def test_nothing_reaches_loopback_unless_it_is_allowed() -> None:
    with receiver() as there:
        strict = Sender(FakeResolver(hooks=["127.0.0.1"]), ReceiverRules(allow_http=True), timeout=5)
        for url in (there.url, f"http://hooks:{there.port}/"):
            assert "not a public one" in (await strict.post(url, {}, b"")).error
        assert there.requests == []


async def test_a_name_is_looked_up_once_and_the_checked_address_is_used() -> None:
    """A name that is public when checked, and private when connected to, gets nothing."""

    class Rebinding(FakeResolver):
        async def __call__(self, host: str) -> Sequence[Address]:
            await super().__call__(host)
            return [ip_address("127.0.0.2" if self.asked == 1 else "127.0.0.1")]

    resolver = Rebinding(hooks=[""][:0])
    with receiver() as there:
        only = Sender(resolver, ReceiverRules(True, (ip_network("127.0.0.2/32"),)), timeout=5)
        outcome = await only.post(f"http://hooks:{there.port}/", {}, b"")
        assert there.requests == []
    assert resolver.asked == 1
    assert "no connection" in outcome.error


async def test_the_second_address_is_tried() -> None:
    with receiver() as there:
        both = FakeResolver(hooks=["127.0.0.2", "127.0.0.1"])
        assert (await sender(both).post(f"http://hooks:{there.port}/", {}, b"")).accepted
    assert there.requests[0].headers["host"] == f"hooks:{there.port}"


async def test_a_host_without_an_address() -> None:
    assert (await sender().post("https://nobody/", {}, b"")).error == "the host has no address"
    empty = FakeResolver(hooks=[])
    assert (await sender(empty).post("https://hooks/", {}, b"")).error == "the host has no address"


async def test_http_is_refused_unless_allowed() -> None:
    with receiver() as there:
        secure = Sender(FakeResolver(), SECURE, timeout=5)
        assert "https://" in (await secure.post(there.url, {}, b"")).error
        assert there.requests == []


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as there, receiver() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert (await sender().post(there.url, {}, b"")).accepted
        assert proxy.requests == []


async def test_the_resolver_of_this_machine() -> None:
    threads = Threads("dns", 1)
    try:
        resolve = system_resolver(threads)
        assert all(address.is_loopback for address in await resolve("localhost"))
        # As resolvers read it; the check of the address is what counts.
        assert await resolve("127.1") == [ip_address("127.0.0.1")]
        with pytest.raises((OSError, UnicodeError)):
            await resolve("a" * 64 + ".invalid")
    finally:
        threads.close(5)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for "hooks.example" that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hooks.example")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "hooks.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


async def _post_securely(certificate: Path, host: str, *, trusted: bool) -> tuple[Outcome, Receiver]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    trust = ssl.create_default_context(cafile=certificate if trusted else None)
    to = FakeResolver(**{"hooks.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]})
    with receiver(server) as there:
        secure = Sender(to, SECURE, timeout=5, tls=trust)
        return await secure.post(f"https://{host}:{there.port}/hook", {}, b"{}"), there


async def test_tls_checks_the_certificate_against_the_name(certificate: Path) -> None:
    outcome, there = await _post_securely(certificate, "hooks.example", trusted=True)
    assert outcome == Outcome(200, "")
    assert there.requests[0].body == b"{}"


@pytest.mark.parametrize(
    ("host", "trusted", "error"),
    [
        ("hooks.example", False, "certificate is not good: self-signed"),
        ("other.example", True, "certificate is not good: Hostname mismatch"),
        ("127.0.0.1", True, "certificate is not good: IP address mismatch"),
    ],
)
async def test_tls_refuses(certificate: Path, host: str, trusted: bool, error: str) -> None:
    outcome, there = await _post_securely(certificate, host, trusted=trusted)
    assert there.requests == []
    assert error in outcome.error


async def test_plain_text_on_a_secure_port() -> None:
    with receiver() as there:
        outcome = await sender(timeout=2).post(there.url.replace("http:", "https:"), {}, b"")
    assert outcome.status == 0
    assert outcome.error


async def test_a_receiver_that_closes_at_once() -> None:
    with receiver() as there:
        there.answers.append(closes)
        assert "closed" in (await sender().post(there.url, {}, b"")).error
