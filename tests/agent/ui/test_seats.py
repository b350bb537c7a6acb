"""Seats: who may go on, and when an interface is forgotten."""

from __future__ import annotations

from agent.ui.gate import IDLE_S, Seats


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def test_a_seat_ends_when_nobody_uses_it_and_a_page_alone_is_nobody() -> None:
    clock = Clock()
    seats = Seats(clock)
    seat = seats.take()
    clock.at += IDLE_S - 1
    assert seats.holds(seat, alone=True), "a page that refreshes is served"
    clock.at += 2
    assert not seats.holds(seat, alone=True), "and keeps nothing open"
    again = seats.take()
    clock.at += IDLE_S - 1
    assert seats.holds(again, alone=False)
    clock.at += IDLE_S - 1
    assert seats.holds(again, alone=True), "somebody was there"
    assert seats.idle_s() == IDLE_S - 1


def test_a_seat_that_was_given_up_or_never_taken_is_nobodys() -> None:
    seats = Seats(Clock())
    seat = seats.take()
    seats.leave(seat)
    assert not seats.holds(seat, alone=False)
    assert not seats.holds("", alone=False)


def test_seats_are_bounded_and_the_oldest_goes() -> None:
    clock = Clock()
    seats = Seats(clock)
    taken = []
    for _ in range(80):
        clock.at += 1
        taken.append(seats.take())
    held = [seats.holds(seat, alone=True) for seat in taken]
    assert held.count(True) == 50 and held[-1] and not held[0]
