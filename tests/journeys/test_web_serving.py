"""The web interface as `pilulier serve` runs it: a process of its own, by TLS where a certificate is given."""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import os
import signal
import socket
import ssl
import urllib.parse
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.faults import wait_until
from tests.support.processes import House

pytestmark = pytest.mark.whole_service


def ask(address: str, path: str, context: ssl.SSLContext | None = None, **headers: str) -> http.client.HTTPResponse:
    """One GET, its body read."""
    parts = urllib.parse.urlsplit(address)
    assert parts.hostname and parts.port
    connection = (
        http.client.HTTPSConnection(parts.hostname, parts.port, timeout=20, context=context)
        if parts.scheme == "https"
        else http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    )
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pilulier test")])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    chain, secret = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return chain, secret


def test_the_ready_line_says_where_and_it_answers(house: House) -> None:
    assert house.appliance.web.startswith("http://127.0.0.1:")
    assert ask(house.appliance.web, "/healthz").status == 200
    answer = ask(house.appliance.web, "/contracts")
    assert answer.status == 303 and answer.headers["Location"].startswith("/login")
    assert ask(house.appliance.web, "/api/v1/contracts").status == 401


def test_the_service_may_hold_a_file_for_each_agent(house: House) -> None:
    limits = Path(f"/proc/{house.appliance.pid}/limits").read_text().splitlines()
    soft, hard = next(line for line in limits if line.startswith("Max open files")).split()[3:5]
    assert hard == "unlimited" or int(soft) == min(65_536, int(hard))


def _worker_of(house: House) -> int:
    """The process id of the web part."""
    for children in Path(f"/proc/{house.appliance.pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            if b"webui.serving" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
    return 0


def test_a_web_interface_that_dies_comes_back_and_backups_go_on(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "one").write_bytes(b"1")
    agent = house.agent(source)
    os.kill(_worker_of(house), signal.SIGKILL)
    assert agent.backup()["state"] == "complete"

    def answers() -> bool:
        try:
            return ask(house.appliance.web, "/healthz").status == 200
        except OSError:
            return False

    wait_until(answers, "a web interface that came back", 60)
    assert house.appliance.stop() is not None


def test_tls_by_certificate_and_a_cookie_that_only_tls_carries(house: House, tmp_path: Path) -> None:
    chain, secret = certificate(tmp_path)
    house.appliance.stop()
    house.appliance.serve("--web-certificate", str(chain), "--web-key", str(secret))
    assert house.appliance.web.startswith("https://")
    context = ssl.create_default_context(cafile=str(chain))
    answer = ask(house.appliance.web, "/login", context)
    assert answer.status == 200
    assert "max-age" in answer.headers["Strict-Transport-Security"]
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-pilulier=") and "Secure" in cookie and "HttpOnly" in cookie and "Lax" in cookie


def test_half_a_certificate_is_refused_in_one_sentence(house: House, tmp_path: Path) -> None:
    chain, secret = certificate(tmp_path)
    house.appliance.stop()
    for words in (
        ("--web-certificate", str(chain)),
        ("--web-certificate", str(chain), "--web-key", str(tmp_path / "missing.pem")),
        ("--web-certificate", str(chain), "--web-key", str(secret), "--behind-proxy"),
    ):
        outcome = house.appliance.command("serve", *words, expect=2)
        assert len(outcome.stderr.strip().splitlines()) == 1 and "--" in outcome.stderr, outcome.told()
    house.appliance.serve()
    assert house.appliance.web.startswith("http://"), "what was refused was not remembered"


def test_a_taken_port_leaves_agents_served(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "one").write_bytes(b"1")
    agent = house.agent(source)
    house.appliance.stop()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        house.appliance.serve("--web", f"127.0.0.1:{taken.getsockname()[1]}")
        assert house.appliance.web == ""
        assert "another program has 127.0.0.1" in house.appliance.said()
        assert agent.backup()["state"] == "complete"
