"""Messages: strict both ways, and a table that both ends walk."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport import messages as m
from transport.errors import DecodeError, ProtocolError
from transport.names import MESSAGE_LIMIT
from transport.session import TABLE, Session, State, answers


def test_round_trip_of_both_directions() -> None:
    for message in (
        m.PutSegment(3, b"s" * 16),
        m.FetchSegments([b"a" * 16], 5),
        m.Progress("sending", 1, 2, 3, 4),
        m.RestoreOpen("a@b.fr", "123456"),
    ):
        assert m.decode_agent(m.encode(message)) == message
    for message in (m.Acknowledged(7), m.Refused("paused", "because"), m.SegmentData(b"s" * 16)):
        assert m.decode_appliance(m.encode(message)) == message


def test_directions_do_not_mix() -> None:
    with pytest.raises(DecodeError):
        m.decode_agent(m.encode(m.Acknowledged(7)))
    with pytest.raises(DecodeError):
        m.decode_appliance(m.encode(m.PutSegment(3, b"s" * 16)))
    with pytest.raises(DecodeError):
        m.decode_enrolment(m.encode(m.Ping()))


def test_cut_extended_and_altered_messages_are_refused() -> None:
    good = m.encode(m.PutSegment(3, b"s" * 16))
    for length in range(len(good)):
        with pytest.raises(DecodeError):
            m.decode_agent(good[:length])
    for bad in (
        good + b"\0",
        msgspec.msgpack.encode({"type": "PutSegment", "seq": 3}),
        msgspec.msgpack.encode({"type": "PutSegment", "seq": -1, "segment": b"s" * 16}),
        msgspec.msgpack.encode({"type": "PutSegment", "seq": 3, "segment": b"s" * 15}),
        msgspec.msgpack.encode({"type": "PutSegment", "seq": 3, "segment": b"s" * 16, "machine": "other"}),
        msgspec.msgpack.encode({"type": "Nonsense"}),
        msgspec.msgpack.encode({"type": "FetchSegments", "segments": [b"a" * 16] * 65, "received_bytes": 0}),
        b"\x91" * 5000,
        b"\0" * (MESSAGE_LIMIT + 1),
    ):
        with pytest.raises(DecodeError):
            m.decode_agent(bad)


@given(st.binary(max_size=300))
def test_noise_is_refused_with_one_kind_of_error(noise: bytes) -> None:
    for decode in (m.decode_agent, m.decode_appliance, m.decode_enrolment, m.decode_enrolment_reply):
        with contextlib.suppress(DecodeError):
            decode(noise)


def test_a_session_walks_the_table() -> None:
    session = Session()
    for refused in (m.BackupBegin(b"s" * 16, bytes(32)), m.FetchSegments([], 0), m.SnapshotsQuery(0)):
        with pytest.raises(ProtocolError, match="not allowed in state 'new'"):
            session.allowed(refused)
    session.succeeded(m.Hello(1, "0", "p", 1, b"i" * 16))
    with pytest.raises(ProtocolError):
        session.allowed(m.FetchSegments([], 0))
    session.succeeded(m.BackupBegin(b"s" * 16, bytes(32)))
    assert session.state is State.BACKUP
    with pytest.raises(ProtocolError):
        session.allowed(m.RestoreOpen("a", "b"))
    session.succeeded(m.BackupEnd())
    session.succeeded(m.RestoreOpen("a", "b"))
    session.allowed(m.FetchSegments([], 0))


def test_every_agent_message_has_its_place() -> None:
    said = {message for _, message in TABLE}
    every = set(m.AgentMessage.__args__)  # type: ignore[attr-defined]
    assert said == every
    assert all(issubclass(answer, m.Message) for rule in TABLE.values() for answer in rule.answers)
    assert answers(m.Ping(), m.Pong()) and not answers(m.Ping(), m.Acknowledged(1))
