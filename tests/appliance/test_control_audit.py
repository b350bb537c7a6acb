"""The audit log: what it finds, who sees it, and that no line is altered, removed, added or moved unseen."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pytest

from appliance.control import audit
from appliance.control.audit import Act
from appliance.control.database import Database
from appliance.control.scope import EVERYTHING, OneContract, OneSpace
from appliance.errors import ControlDatabaseError
from tests.support.control_house import NOW, House, build


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(tmp_path, monkeypatch)


def filled(house: House, lines: int = 6) -> list[Act]:
    actor = audit.actor_of(house.accounts["admin"], "192.0.2.9")
    places = (house.ours, house.neighbour, house.elsewhere)
    return [
        audit.write(
            house.db, actor, "contract.edit" if n % 2 else "contract.pause",
            object_kind="contract", object_id=places[n % 3].id, object_name=f"client {n} é",
            space_id=places[n % 3].space_id, contract_id=places[n % 3].id,
            before={"b": n, "a": None}, after=[n], now=NOW + n,
        )
        for n in range(lines)
    ]  # fmt: skip


def test_a_sound_log_verifies(house: House) -> None:
    assert audit.verify(house.db) == audit.Verification(True, 0, None, bytes(32))
    acts = filled(house)
    assert [act.line for act in acts] == [1, 2, 3, 4, 5, 6] and acts[0].before == '{"a": null, "b": 0}'
    assert audit.verify(house.db) == audit.Verification(True, 6, None, acts[-1].hash)
    assert audit.verify(house.db, acts[2].hash).ok
    assert not audit.verify(house.db, bytes(32)).ok, "a head that was noted is no longer there"


@pytest.mark.parametrize(
    ("statement", "first"),
    [
        ("UPDATE audit SET after = '[7]' WHERE line = 3", 3),
        ("UPDATE audit SET email = 'x@y.z' WHERE line = 1", 1),
        ("UPDATE audit SET at_ms = at_ms + 1 WHERE line = 6", 6),
        ("UPDATE audit SET space_id = NULL WHERE line = 2", 2),
        ("UPDATE audit SET hash = zeroblob(32) WHERE line = 4", 4),
        ("DELETE FROM audit WHERE line = 4", 4),
        ("DELETE FROM audit WHERE line = 1", 1),
        ("DELETE FROM audit WHERE line = 6", 6),
        ("DELETE FROM audit", 1),
        ("UPDATE audit SET line = CASE line WHEN 3 THEN 30 ELSE line END", 3),
        ("INSERT INTO audit SELECT 7, at_ms, account_id, email, role, address, kind, object_kind, object_id, "
         "object_name, space_id, contract_id, before, after, hash FROM audit WHERE line = 6", 7),
        ("DELETE FROM audit_head", 7),
    ],
)  # fmt: skip
def test_the_first_altered_line_is_named(house: House, statement: str, first: int) -> None:
    filled(house)
    with sqlite3.connect(house.path) as raw:
        raw.execute("DROP TRIGGER audit_stays")
        raw.execute("DROP TRIGGER audit_remains")
        raw.execute(statement)
    raw.close()
    found = audit.verify(house.db)
    assert (found.ok, found.first_altered) == (False, first)


def test_the_program_itself_cannot_alter_lines(house: House) -> None:
    filled(house)
    for statement in ("UPDATE audit SET kind = 'x'", "DELETE FROM audit"):
        with pytest.raises(ControlDatabaseError, match="never"), house.db.write():
            house.db.execute(statement)
    assert audit.verify(house.db).ok


def test_an_act_that_fails_leaves_no_line(house: House) -> None:
    with pytest.raises(RuntimeError), house.db.write():
        filled(house)
        raise RuntimeError
    assert audit.verify(house.db).lines == 0 and filled(house)[0].line == 1


def test_two_writers_make_one_chain(house: House) -> None:
    with Database.open(house.path) as second:
        for n in range(6):
            audit.write(second if n % 2 else house.db, audit.SYSTEM, "login", now=NOW + n)
    assert audit.verify(house.db).lines == 6 and audit.verify(house.db).ok


def test_search_export_and_kinds_keep_to_their_scope(house: House) -> None:
    audit.write(house.db, audit.SYSTEM, "box.secret", now=NOW)
    acts = filled(house)
    own, sibling, far = (acts[n::3] for n in range(3))

    def lines(found: Iterable[Act]) -> list[int]:
        return [act.line for act in found]

    for scope, expected in (
        (OneContract(house.ours.id), own),
        (OneContract(house.neighbour.id), sibling),
        (OneSpace(house.ours.space_id), sorted(own + sibling, key=lambda act: act.line)),
        (OneSpace(house.elsewhere.space_id), far),
    ):
        assert lines(audit.search(house.db, scope).acts) == lines(expected)[::-1]
        assert lines(audit.export(house.db, scope)) == lines(expected)
        assert "box.secret" not in audit.kinds(house.db, scope)
    assert audit.kinds(house.db, EVERYTHING) == ["box.secret", "contract.edit", "contract.pause"]
    assert len(list(audit.export(house.db, EVERYTHING))) == 7


def test_search_by_text_account_kind_and_time_in_pages(house: House) -> None:
    filled(house, 9)

    def numbers(**chosen: object) -> list[int]:
        return [act.line for act in audit.search(house.db, EVERYTHING, **chosen).acts]  # type: ignore[arg-type]

    assert numbers(text="CLIENT 3") == [4] and numbers(text="192.0.2.9", limit=1) == [9]
    assert numbers(text="%") == numbers(text="_' OR 1") == []
    assert numbers(kind="contract.edit") == [8, 6, 4, 2]
    assert numbers(account_id="nobody") == [] and len(numbers(account_id=house.accounts["admin"].id)) == 9
    assert numbers(since=NOW + 3, until=NOW + 5) == [5, 4]
    seen, before = [], None
    while True:
        page = audit.search(house.db, EVERYTHING, before=before, limit=4)
        seen += [act.line for act in page.acts]
        if (before := page.next) is None:
            break
    assert seen == list(range(9, 0, -1))


def test_values_are_bounded_and_lines_stay_lines(house: House) -> None:
    act = audit.write(house.db, audit.SYSTEM, "x\ny", object_name="a\x1b[31m\nb", after={"text": "z" * 30_000}, now=NOW)
    assert (act.kind, act.object_name) == ("x y", "a[31m b") and act.after == '{"too_long": 30012}'
    assert audit.verify(house.db).ok
