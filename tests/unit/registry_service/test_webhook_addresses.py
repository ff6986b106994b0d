"""Where webhooks may go: addresses, URLs, signatures."""

from __future__ import annotations

import base64
from ipaddress import ip_address, ip_network

import pytest

from registry_service.webhooks.addresses import refusal
from registry_service.webhooks.signing import secret_problem, signed_headers
from registry_service.webhooks.urls import parse_url

_NOT_PUBLIC = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.1.2.3
    168.63.129.16 169.254.0.1 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1
    192.88.99.1 192.168.0.1 192.168.255.255 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1
    239.255.255.255 240.0.0.1 255.255.255.255
    :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:8.8.8.8 64:ff9b::7f00:1 64:ff9b::808:808
    64:ff9b:1::1 100::1 2001::1 2001:0:53aa:64c::1 2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1::1
    2002:808:808::1 3ffe::1 3fff::1 4000::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 febf::1 fec0::1 ff02::1
    ff0e::1
"""
_PUBLIC = """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.1 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 168.63.129.17
    172.15.255.255 172.32.0.1 192.167.255.255 192.169.0.1 198.17.255.255 198.20.0.1 223.255.255.255
    2001:200::1 2001:4860:4860::8888 2400:cb00::1 2606:4700::1111 2a00:1450::1
"""


@pytest.mark.parametrize("address", _NOT_PUBLIC.split())
def test_what_is_not_public_is_refused(address: str) -> None:
    assert refusal(ip_address(address))


@pytest.mark.parametrize("address", _PUBLIC.split())
def test_what_is_public_is_taken(address: str) -> None:
    assert refusal(ip_address(address)) is None
    assert ip_address(address).is_global


def test_an_operator_may_allow_networks() -> None:
    allowed = [ip_network("10.1.0.0/16"), ip_network("fd00::/8")]
    assert refusal(ip_address("10.1.2.3"), allowed) is None
    assert refusal(ip_address("fd00::5"), allowed) is None
    assert refusal(ip_address("10.2.0.1"), allowed) == "a private network"
    # Also not by way of another family.
    assert refusal(ip_address("::ffff:10.1.2.3"), allowed)


@pytest.mark.parametrize(
    ("url", "host", "port", "target"),
    [
        ("https://example.com", "example.com", 443, "/"),
        ("https://Example.com/hook?a=1&b=%20", "example.com", 443, "/hook?a=1&b=%20"),
        ("HTTPS://example.com:8443/x", "example.com", 8443, "/x"),
        ("https://1.2.3.4/", "1.2.3.4", 443, "/"),
        ("https://[2606:4700::1111]:8443/", "2606:4700::1111", 8443, "/"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", 443, "/"),
        ("https://example.com?x", "example.com", 443, "/?x"),
    ],
)
def test_urls_that_are_taken(url: str, host: str, port: int, target: str) -> None:
    endpoint = parse_url(url, allow_http=False)
    assert (endpoint.host, endpoint.port, endpoint.target) == (host, port, target)
    assert endpoint.secure


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "required"),
        ("http://example.com/", "https://"),
        ("ftp://example.com/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("example.com", "https://"),
        ("https:/example.com", "no host"),
        ("https://", "no host"),
        ("https://:443/", "no host"),
        ("https://ann:secret@example.com/", "user name"),
        ("https://example.com@10.0.0.1/", "user name"),
        ("https://example.com/#part", "fragment"),
        ("https://example.com/#", "fragment"),
        ("https://example.com/a b", "blank"),
        ("https://example.com/\r\nX-Injected: 1", "blank"),
        ("https://example.com\\@10.0.0.1/", "backslash"),
        ("https://bücher.example/", "ASCII"),
        ("https://example.com:22/", "port 22"),
        ("https://example.com:80/", "port 80"),
        ("https://example.com:0/", "port 0"),
        ("https://example.com:99999/", "malformed"),
        ("https://example.com:x/", "malformed"),
        ("https://127.1/", "looks like an address"),
        ("https://2130706433/", "looks like an address"),
        ("https://0x7f000001/", "looks like an address"),
        ("https://0x7f.0.0.1/", "looks like an address"),
        ("https://0177.0.0.1/", "looks like an address"),
        ("https://1.2.3.4.5/", "looks like an address"),
        ("https://example.com./", "no name"),
        ("https://exa%6dple.com/", "no name"),
        ("https://-example.com/", "no name"),
        ("https://[fe80::1%25eth0]/", "zone"),
        ("https://[1.2.3.4]/", "malformed|brackets"),
        ("https://[::1]example.com/", "malformed"),
        ("https://example.com/" + "x" * 2_000, "characters"),
    ],
)
def test_urls_that_are_refused(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_url(url, allow_http=False)


def test_http_only_where_allowed() -> None:
    endpoint = parse_url("http://example.com/hook", allow_http=True)
    assert (endpoint.secure, endpoint.port, endpoint.authority) == (False, 80, "example.com")
    assert parse_url("http://example.com:8080/", allow_http=True).origin == "http://example.com:8080"
    assert parse_url("https://[2606:4700::1]/", allow_http=False).authority == "[2606:4700::1]"


def test_a_refusal_does_not_repeat_the_url() -> None:
    with pytest.raises(ValueError, match="user name") as caught:
        parse_url("https://ann:geheim@example.com/token", allow_http=False)
    assert "geheim" not in str(caught.value)
    assert "token" not in str(caught.value)


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example that the specification's libraries are tested with."""
    headers = signed_headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize(
    ("secret", "problem"),
    [
        ("", "0 characters"),
        ("fifteen letters", "15 characters"),
        ("x" * 257, "257 characters"),
        ("whsec_not base64 at all", "not base64"),
        ("whsec_" + base64.b64encode(b"fifteen letters").decode(), "15 bytes"),
        ("sixteen letters!\x00", "NUL"),
    ],
)
def test_secrets_that_are_refused(secret: str, problem: str) -> None:
    found = secret_problem(secret)
    assert found is not None
    assert problem in found
    assert not secret or secret not in found


@pytest.mark.parametrize(
    "secret", ["sixteen letters!", "whsec_" + base64.b64encode(bytes(24)).decode(), "ünïcödé äñd lông"]
)
def test_secrets_that_are_taken(secret: str) -> None:
    assert secret_problem(secret) is None
