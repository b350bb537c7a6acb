"""Telling webhooks over real sockets: signed, pinned, no redirect, nothing on the box's own network unless allowed."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import webhook_sending
from appliance.control import statistics, webhooks
from appliance.control.scope import EVERYTHING
from appliance.control.webhooks import Delivery, Due, Event
from appliance.webhook_sending import NotTakenError, TargetRefusedError
from tests.support import control_house
from tests.support.control_house import NOW, figures
from tests.support.webhook_receiver import Receiver, receiving
from transport.errors import UsageError


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as known:
        yield known


def due(receiver: Receiver, path: str = "/told?x=1", host: str = "127.0.0.1") -> Due:
    """A delivery to a receiver."""
    delivery = Delivery(7, "w1", "snapshot", '{"event": "snapshot"}', NOW, 1, NOW, None, None, "")
    return Due(delivery, f"http://{host}:{receiver.port}{path}", "secret")


def test_it_is_signed_so_that_the_receiver_can_tell(receiver: Receiver) -> None:
    webhook_sending.send(due(receiver), 1_800_000_000, private=True)
    [(path, headers, body)] = receiver.heard
    assert path == "/told?x=1" and json.loads(body) == {"event": "snapshot"}
    mac = hmac.new(b"secret", b"1800000000." + body, hashlib.sha256).hexdigest()
    assert headers["Pilulier-Signature"] == f"t=1800000000,v1={mac}"
    assert (headers["Pilulier-Event"], headers["Pilulier-Delivery"]) == ("snapshot", "7")
    assert headers["Host"] == f"127.0.0.1:{receiver.port}" and headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("status", [302, 400, 404, 500])
def test_only_2xx_counts_and_no_redirect_is_followed(receiver: Receiver, status: int) -> None:
    receiver.status = status
    with pytest.raises(NotTakenError, match=str(status)):
        webhook_sending.send(due(receiver), 1, private=True)
    assert len(receiver.heard) == 1


@pytest.mark.parametrize("address", [
    *("127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
    *("224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1"),
    *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1", "x", ""),
])  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not webhook_sending.is_public(address)


@pytest.mark.parametrize("address", ["9.9.9.9", "1.1.1.1", "2606:4700::1", "::ffff:9.9.9.9"])
def test_addresses_that_are(address: str) -> None:
    assert webhook_sending.is_public(address)


def named(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Names lead where the test says, one answer after the other; the names that were asked for."""
    asked: list[str] = []
    left = list(answers)

    def look_up(host: str, port: int, *_: object, **__: object) -> list[object]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in left.pop(0)]

    monkeypatch.setattr(webhook_sending.socket, "getaddrinfo", look_up)
    return asked


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["9.9.9.9", "10.0.0.1"], ["::1"], ["169.254.169.254"]])
def test_a_name_with_any_private_address_is_refused_unconnected(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    def connect(*_: object, **__: object) -> None:
        raise AssertionError("a connection was made")

    named(monkeypatch, addresses)
    monkeypatch.setattr(webhook_sending.socket, "create_connection", connect)
    delivery = Delivery(7, "w1", "late", "{}", NOW, 1, NOW, None, None, "")
    with pytest.raises(TargetRefusedError):
        webhook_sending.send(Due(delivery, "https://receiver.example/", "s"), 1, private=False)


def test_a_name_is_looked_up_once_and_kept_to(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebinding: the second answer of a name server that lies is never asked for."""
    real = socket.create_connection
    went: list[object] = []

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        went.append(address)
        monkeypatch.undo()
        return real(("127.0.0.1", address[1]), timeout)

    asked = named(monkeypatch, ["9.9.9.9"])
    monkeypatch.setattr(webhook_sending.socket, "create_connection", connect)
    webhook_sending.send(due(receiver, host="receiver.example"), 1, private=True)
    assert asked == ["receiver.example"] and went == [("9.9.9.9", receiver.port)]
    assert receiver.heard[0][1]["Host"] == f"receiver.example:{receiver.port}"


@pytest.mark.parametrize("url", ["http://example.org/", "ftp://example.org/", "https://", "https://u:p@example.org/",
                                 "https://example.org/#x", "https://127.0.0.1/", "https://[::1]/", "https://x:y/",
                                 "https://example.org:99999/", "https://example.org/\r\nX: y", "https://é.example/",
                                 "https://[::1", "https://10.0.0.1:8443/", "https://e.org/" + "x" * 500])  # fmt: skip
def test_addresses_that_cannot_be_told(url: str) -> None:
    with pytest.raises(UsageError):
        webhook_sending.checked_url(url, private=False)


def test_addresses_that_can() -> None:
    for url in ("https://example.org", "https://example.org:8443/a?b=c", "https://9.9.9.9/"):
        assert webhook_sending.checked_url(url, private=False) == url
    assert webhook_sending.checked_url("http://127.0.0.1:1/", private=True)


def test_who_never_answers_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_sending, "DEADLINE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for scheme in ("http", "https"):
            delivery = Delivery(7, "w1", "late", "{}", NOW, 1, NOW, None, None, "")
            target = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/"
            with pytest.raises(NotTakenError):
                webhook_sending.send(Due(delivery, target, "s"), 1, private=True)


def test_nobody_there_and_not_to_be_believed(receiver: Receiver) -> None:
    delivery = Delivery(7, "w1", "late", "{}", NOW, 1, NOW, None, None, "")
    with pytest.raises(NotTakenError):
        webhook_sending.send(Due(delivery, f"https://127.0.0.1:{receiver.port}/", "s"), 1, private=True)
    assert not receiver.heard
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(NotTakenError, match="reached"):
        webhook_sending.send(Due(delivery, f"http://127.0.0.1:{port}/", "s"), 1, private=True)


def test_a_round_tells_all_and_one_that_fails_costs_one_attempt(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = control_house.build(tmp_path, monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/", f"http://127.0.0.1:{receiver.port}/told"):
        webhooks.create(house.db, space_id=house.ours.space_id, url=url, events=[Event.SNAPSHOT], by="x", now=NOW)
    for number in (1, 2, 3):
        statistics.record(house.db, house.machine.id, number, complete=True, figures=figures(), now=NOW)
    done = webhook_sending.deliver(house.db, private=True, now=lambda: NOW, check=lambda: None)
    assert (done.sent, done.put_off, done.given_up) == (3, 1, 0)
    assert [json.loads(body)["snapshot"] for _path, _headers, body in receiver.heard] == [1, 2, 3]
    refused = webhook_sending.deliver(house.db, private=False, now=lambda: NOW + 3600, check=lambda: None)
    assert (refused.sent, refused.put_off) == (0, 1)
    (gone_one,) = [one for one in webhooks.every(house.db, EVERYTHING) if str(port) in one.url]
    assert any("https://" in one.last_error for one in webhooks.deliveries(house.db, EVERYTHING, gone_one.id))
