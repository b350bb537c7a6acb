"""What an agent takes over from the appliance, and what stays its owner's."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from agent import remote_settings
from agent.remote_settings import allowed, chosen_here, spoken
from agent.selection import Selection
from agent.settings import Settings
from agent.sources.configured import Databases, Hook, Hooks, SqliteSource
from tests.agent.test_settings import SETTINGS
from transport import messages as m
from transport.schedule import Schedule

NOON = Schedule.of(["12:00"])
NIGHT = Schedule.of(["23:00"])
WANTED = m.WantedSettings(3, m.RemoteSelection(["/srv/é"], ["*.tmp"]), 2, NOON, 3)


def take_over(settings: Settings, wanted: m.WantedSettings, *missing: bytes) -> Settings:
    return remote_settings.take_over(settings, wanted, lambda path: path not in missing)


def test_what_is_wanted_is_taken_over_once() -> None:
    taken = take_over(SETTINGS, WANTED)
    assert taken.selection == Selection.of(["/srv/é".encode()], [b"*.tmp"]) and taken.schedule == NOON
    remote = taken.remote
    assert (remote.answered, remote.applied, remote.outcome, remote.reason) == (3, 3, "applied", "")
    assert (remote.selection_version, remote.schedule_version) == (2, 3)
    assert take_over(taken, WANTED) is taken
    assert (taken.delta, taken.appliance, taken.name) == (SETTINGS.delta, SETTINGS.appliance, SETTINGS.name)


def test_a_choice_made_here_stands_until_the_web_changes_that_part() -> None:
    here = chosen_here(take_over(SETTINGS, WANTED), selection=Selection.of([b"/home"]))
    assert (here.remote.selection_version, here.remote.schedule_version) == (0, 3)
    later = take_over(here, dataclasses_replace(WANTED, version=4, schedule=NIGHT, schedule_version=4))
    assert later.selection == Selection.of([b"/home"]) and later.schedule == NIGHT
    assert (later.remote.selection_version, later.remote.schedule_version) == (0, 4)
    imposed = take_over(later, dataclasses_replace(WANTED, version=5, selection_version=5))
    assert imposed.selection == Selection.of(["/srv/é".encode()], [b"*.tmp"])
    assert chosen_here(imposed, schedule=NIGHT).remote.schedule_version == 4, "the same again is no choice"
    assert chosen_here(imposed, schedule=NOON).remote.schedule_version == 0


def dataclasses_replace(wanted: m.WantedSettings, **changes: object) -> m.WantedSettings:
    return msgspec.structs.replace(wanted, **changes)


def test_no_word_of_the_appliance_sets_a_command_or_a_database() -> None:
    """The message has no field for either; one that had would not be read; and all else of the settings stays."""
    assert set(m.WantedSettings.__struct_fields__) == {
        *("version", "selection", "selection_version", "schedule", "schedule_version")
    }
    assert set(m.RemoteSelection.__struct_fields__) == {"include", "exclude"}
    mine = dataclasses.replace(
        SETTINGS,
        hooks=Hooks((Hook(("/usr/local/bin/quiesce",)),), (Hook(("/usr/local/bin/go-on",), required=False),)),
        databases=Databases((SqliteSource("officine", "/srv/officine.db"),), threshold_bytes=5),
    )
    steps = (
        take_over(mine, WANTED),
        take_over(mine, m.WantedSettings(1, None, 0, None, 0)),
        take_over(allowed(mine, False), WANTED),
        allowed(take_over(allowed(mine, False), WANTED), True),
        spoken(mine, "de"),
        chosen_here(mine, schedule=NIGHT),
    )
    by_the_web = {"selection", "schedule", "remote", "language"}
    for after in steps:
        for field in dataclasses.fields(Settings):
            if field.name not in by_the_web:
                assert getattr(after, field.name) == getattr(mine, field.name), field.name


def test_parts_that_are_left_to_the_machine_stay() -> None:
    taken = take_over(SETTINGS, m.WantedSettings(1, None, 0, None, 0))
    assert dataclasses.replace(taken, remote=SETTINGS.remote) == SETTINGS and taken.remote.outcome == "applied"


def test_the_owner_refuses_and_allows_again() -> None:
    closed = allowed(SETTINGS, False)
    refused = take_over(closed, WANTED)
    assert (refused.remote.answered, refused.remote.applied, refused.remote.outcome) == (3, 0, "refused")
    assert (refused.selection, refused.schedule) == (SETTINGS.selection, SETTINGS.schedule)
    assert spoken(refused, "de") == refused
    opened = allowed(refused, True)
    assert (opened.remote.answered, opened.remote.outcome) == (0, "none"), "what waits is asked for again"
    assert take_over(opened, WANTED).schedule == NOON
    taken = take_over(SETTINGS, WANTED)
    assert allowed(allowed(taken, False), True) == taken
    assert allowed(taken, True) is taken


@pytest.mark.parametrize("rule", ["srv", "/a/../b", "\0"])
def test_what_makes_no_sense_changes_nothing(rule: str) -> None:
    answered = take_over(SETTINGS, dataclasses_replace(WANTED, selection=m.RemoteSelection([rule], [])))
    assert (answered.remote.outcome, answered.remote.answered, answered.remote.applied) == ("invalid", 3, 0)
    assert (answered.selection, answered.schedule) == (SETTINGS.selection, SETTINGS.schedule)
    assert answered.remote.reason
    better = take_over(answered, dataclasses_replace(WANTED, version=4, selection_version=4))
    assert better.remote.outcome == "applied" and better.schedule == NOON


def test_a_folder_that_is_not_there_is_remarked() -> None:
    two = dataclasses_replace(WANTED, selection=m.RemoteSelection(["/a", "/b", "/c"], []))
    taken = take_over(SETTINGS, two, b"/a", b"/c")
    assert taken.remote.outcome == "applied" and taken.selection.include == (b"/a", b"/b", b"/c")
    assert taken.remote.reason == "/a and 1 more: not there on this machine now"


def test_a_language_is_taken_where_the_web_names_another_one() -> None:
    german = spoken(SETTINGS, "de")
    assert (german.language, german.remote.language) == ("de", "de")
    own = dataclasses.replace(german, language="en")
    assert spoken(own, "de").language == "en", "the same word again changes nothing"
    assert spoken(own, "fr").language == "fr"
    assert spoken(german, "").language == "de", "left to the machine: as it is"


def test_no_message_of_the_appliance_can_carry_a_command_or_the_owners_word() -> None:
    assert set(m.WantedSettings.__struct_fields__) == {
        *("version", "selection", "selection_version", "schedule", "schedule_version"),
    }
    assert set(m.RemoteSelection.__struct_fields__) == {"include", "exclude"}
    assert set(m.Attended.__struct_fields__) == {
        *("settings", "backup", "paused", "language", "spread_s", "again_s", "delivery", "now_ms"),
    }
    assert set(Schedule.__struct_fields__) == {"minutes", "weekdays", "continuous"}
