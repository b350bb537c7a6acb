"""The outbox: what waits, what has left, and that a secret leaves with its mail."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import outbox
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


def test_a_recipient_cannot_carry_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = build(tmp_path, monkeypatch).db
    with pytest.raises(UsageError):
        outbox.add(db, recipient="a@x.org\nBcc: b@y.org", kind="test", language="fr", fields={}, now=NOW)
    assert outbox.pending(db) == []
