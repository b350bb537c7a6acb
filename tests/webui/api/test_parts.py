"""The small parts of the API, each alone: limits, cursors, problems; and two writers with one key."""

from __future__ import annotations

import threading

import pytest

from appliance.errors import ConflictError, NotFoundError, PausedError, ThrottledError
from tests.webui.api.programs import ApiHouse, Program
from transport.errors import PilulierError, RefusedError, UsageError
from webui import problems
from webui.api import cursors
from webui.api.limits import Limiter


def test_a_window_holds_so_many_and_begins_anew() -> None:
    limiter = Limiter(2)
    first = limiter.take("a", 61.5)
    assert (first.allowed, first.limit, first.remaining, first.reset_s) == (True, 2, 1, 59)
    assert limiter.take("a", 62.0).remaining == 0
    assert not limiter.take("a", 119.9).allowed and limiter.take("a", 119.9).reset_s == 1
    assert limiter.take("b", 119.9).allowed
    assert limiter.take("a", 120.0).remaining == 1
    assert limiter.take("a", 5.0).allowed, "a clock that was set back locks nobody out"


def test_many_threads_take_no_more_than_there_is() -> None:
    limiter, taken = Limiter(50), []

    def ask() -> None:
        taken.extend(limiter.take("a", 1.0).allowed for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken.count(True) == 50 and len(taken) == 120


@pytest.mark.parametrize("position", ["1", "c1234", "0x1p+3_00_1", "a:b"])
def test_a_cursor_leads_back_and_into_its_own_list_only(position: str) -> None:
    cursor = cursors.encode("contracts", position)
    assert cursors.decode("contracts", cursor) == position and "=" not in cursor
    with pytest.raises(UsageError):
        cursors.decode("machines", cursor)


@pytest.mark.parametrize("text", ["", "x", "é", "a" * 201, "====", cursors.encode("logs", ""), "/+/+"])
def test_what_is_no_cursor(text: str) -> None:
    with pytest.raises(UsageError):
        cursors.decode("logs", text)


@pytest.mark.parametrize("position", ["-1", "x", "1.5", "9" * 19, "٣"])
def test_numbers_that_are_none(position: str) -> None:
    with pytest.raises(UsageError):
        cursors.number("logs", cursors.encode("logs", position))
    assert cursors.number("logs", None) is None


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFoundError("see 'pilulier x list'"), 404),
        (ConflictError("c"), 409),
        (PausedError("resume it with 'pilulier contract resume'"), 409),
        (RefusedError("r"), 403),
        (UsageError("u"), 422),
        (ThrottledError("t", 61.2), 429),
        (PilulierError("p"), 500),
    ],
)
def test_each_error_has_its_status_and_no_word_of_commands(error: PilulierError, status: int) -> None:
    assert problems.status_of(error) == status
    answer = problems.of_error(error)
    assert answer.json is not None and answer.json["code"] == error.code
    assert "'pilulier" not in answer.json["detail"]
    assert answer.headers.get("Retry-After") == ("62" if status == 429 else None)


def test_two_with_one_key_at_one_moment_make_one_contract(api: ApiHouse) -> None:
    body = {"client_id": "race", "email": "race@example.org"}
    answers: list[tuple[int, bytes]] = []
    start = threading.Barrier(4)

    def ask() -> None:
        program = Program(api.web.app.test_client(), api.program.token)
        start.wait(30)
        answer = program.ask("POST", "/contracts", body, Idempotency_Key="race")
        answers.append((answer.status_code, answer.get_data()))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4 and len(set(answers)) == 1 and answers[0][0] == 201
    assert len(api.program.get("/contracts?text=race")["items"]) == 1
