"""A space's settings: defaults, ranges, one space apart from another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.control import space_settings
from appliance.control.space_settings import DEFAULT, SpaceSettings
from tests.support.control_house import NOW, House, build
from transport.errors import UsageError


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(tmp_path, monkeypatch)


def test_each_space_has_its_own(house: House) -> None:
    chosen = SpaceSettings("de", 50, 10, 25, 120, 14, "mon,tue", tell_admins=True)
    assert space_settings.save(house.db, house.ours.space_id, chosen, NOW) == chosen
    assert space_settings.of_space(house.db, house.ours.space_id) == chosen
    assert space_settings.of_space(house.db, house.elsewhere.space_id) == DEFAULT
    assert space_settings.of_space(house.db, None) == DEFAULT


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"language": "it"}, "there is no language 'it'"),
        ({"late_hours": 0}, "0 hours until late are out of range"),
        ({"expiring_days": 400}, "400 days before an end date"),
        ({"suspicious_percent": 101}, "101 percent of files"),
        ({"floor_days": 91}, "a floor of 91 days is more than the 90 days"),
        ({"floor_days": 1}, "1 is out of range"),
    ],
)
def test_what_is_out_of_range_is_refused(house: House, changes: dict[str, int], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        space_settings.save(house.db, house.ours.space_id, replace(DEFAULT, **changes), NOW)  # type: ignore[arg-type]
    assert space_settings.of_space(house.db, house.ours.space_id) == DEFAULT
