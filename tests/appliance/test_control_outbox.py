"""The outbox: what waits, what has left, and that a secret leaves with its mail."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import outbox
from appliance.control.outbox import GIVE_UP_S, LEASE_S, MailState
from appliance.errors import NotFoundError
from tests.support.control_house import NOW, build
from transport.errors import UsageError


def test_mails_wait_in_order_and_lose_their_secret_when_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = build(tmp_path, monkeypatch).db
    numbers = [
        outbox.add(
            db, recipient=f"p{n}@x.org", kind="test", language="de", fields={"n": n, "t": "é"}, secret=f"s{n}", now=NOW
        )
        for n in range(3)
    ]
    first, *_ = waiting = outbox.pending(db)
    assert [mail.id for mail in waiting] == numbers and outbox.pending(db, 1) == [first]
    assert (first.fields, first.secret, first.language) == ({"n": 0, "t": "é"}, "s0", "de")
    assert "s0" not in repr(first)
    outbox.mark_sent(db, numbers[0], NOW + 5)
    assert [mail.id for mail in outbox.pending(db)] == numbers[1:]
    newest = outbox.recent(db)
    assert [mail.id for mail in newest] == numbers[::-1] and all(mail.secret is None for mail in newest)
    assert newest[-1].sent_at == NOW + 5
    assert db.value("SELECT count(*) AS n FROM outbox WHERE secret IS NOT NULL") == 2


def test_one_sender_at_a_time_and_a_dead_one_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = build(tmp_path, monkeypatch).db
    outbox.add(db, recipient="p@x.org", kind="test", language="fr", fields={}, secret="s", now=NOW)
    mine = outbox.claim(db, "<1@here>", NOW)
    assert mine is not None and (mine.attempts, mine.message_id) == (1, "<1@here>")
    assert outbox.claim(db, "<2@here>", NOW + LEASE_S - 1) is None and not outbox.anything_due(db, NOW + 1)
    again = outbox.claim(db, "<2@here>", NOW + LEASE_S)
    assert again is not None and (again.attempts, again.message_id, again.secret) == (2, "<1@here>", "s")
    outbox.mark_sent(db, again.id, NOW + 301)
    assert outbox.claim(db, "<3@here>", NOW + 1e6) is None
    assert outbox.counts(db) == outbox.Counts(waiting=0, sent=1, given_up=0, oldest_at=None)


def test_pauses_grow_and_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = build(tmp_path, monkeypatch).db
    number = outbox.add(db, recipient="p@x.org", kind="test", language="fr", fields={}, secret="s", now=NOW)
    now, pauses = NOW, []
    while True:
        mail = outbox.claim(db, "<1@here>", now)
        assert mail is not None
        if outbox.put_off(db, mail, "no\nserver", now) is MailState.GIVEN_UP:
            break
        pauses.append(outbox.pending(db)[0].next_at - now)
        now += pauses[-1]
    assert pauses[:6] == [60, 300, 900, 3600, 14400, 14400] and set(pauses[6:]) == {14400}
    assert now - NOW >= GIVE_UP_S > now - NOW - 14400
    (given_up,) = outbox.recent(db)
    assert (given_up.state, given_up.last_error) == (MailState.GIVEN_UP, "no server")
    assert db.value("SELECT secret FROM outbox") is None
    with pytest.raises(NotFoundError):
        outbox.try_now(db, number)
    assert outbox.forget_before(db, now) == 0 and outbox.forget_before(db, now + 1) == 1


def test_a_recipient_cannot_carry_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = build(tmp_path, monkeypatch).db
    with pytest.raises(UsageError):
        outbox.add(db, recipient="a@x.org\nBcc: b@y.org", kind="test", language="fr", fields={}, now=NOW)
    assert outbox.pending(db) == []
