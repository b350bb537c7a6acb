"""Recovery codes: ten, each once, of one account."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import recovery_codes
from tests.support.control_house import NOW, build


def test_each_works_once_for_its_own_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = build(tmp_path, monkeypatch)
    me, other = house.accounts["admin"].id, house.accounts["support"].id
    codes = recovery_codes.renew(house.db, me, NOW)
    assert len(set(codes)) == 10 == recovery_codes.left(house.db, me)
    assert not recovery_codes.use(house.db, other, codes[0])
    for left, code in zip(range(9, -1, -1), codes, strict=True):
        assert recovery_codes.use(house.db, me, code.replace("-", " "))
        assert not recovery_codes.use(house.db, me, code)
        assert recovery_codes.left(house.db, me) == left
    assert all(code.replace("-", "").encode() not in house.path.read_bytes() for code in codes)


def test_new_ones_replace_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = build(tmp_path, monkeypatch)
    me = house.accounts["admin"].id
    [old, *_] = recovery_codes.renew(house.db, me, NOW)
    recovery_codes.renew(house.db, me, NOW + 1)
    assert not recovery_codes.use(house.db, me, old) and recovery_codes.left(house.db, me) == 10


@pytest.mark.parametrize("text", ["", "123456", "abcd-efgh-jkm", "abcd-efgh-jkm0", "ABCD EFGH ÎKMN", "a" * 1000])
def test_other_text_is_no_recovery_code(text: str) -> None:
    assert not recovery_codes.looks_like_one(text)


def test_a_code_as_people_type_it_is_one() -> None:
    assert recovery_codes.looks_like_one(" ABCD efgh-jkmn\n")
