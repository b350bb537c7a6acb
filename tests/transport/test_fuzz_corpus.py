"""The fuzz corpus, replayed, and a short Hypothesis pass over each target; `make fuzz` looks for longer.

A target may answer with a PilulierError; anything else comes through here as a failure.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from types import UnionType
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.run import CORPUS, INPUT_BYTES, inputs, mutated
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS, attempt
from transport import messages as m
from transport.errors import PilulierError, UsageError

EXAMPLES = 60
SIZE_LIMIT = 64 * 1024


def test_each_target_has_a_corpus_and_no_corpus_is_left_over() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    for name in TARGETS:
        assert inputs(name), name
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 1 << 20


def test_the_seeds_are_what_the_generator_makes() -> None:
    """A format that changes changes its seeds: `python -m tests.fuzz.seeds` writes them anew."""
    for name, made in seeds().items():
        kept = [path.read_bytes() for path in sorted((CORPUS / name).glob("seed-*"))]
        assert kept == made, name


@pytest.mark.parametrize(
    ("name", "decode", "spoken"),
    [
        ("message-agent", m.decode_agent, m.AgentMessage),
        ("message-appliance", m.decode_appliance, m.ApplianceMessage),
    ],
)
def test_every_message_has_a_seed(name: str, decode: Callable[[bytes], m.Message], spoken: UnionType) -> None:
    assert {type(decode(data)) for data in seeds()[name]} == set(get_args(spoken))


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_is_answered(name: str) -> None:
    """Seeds, and every input that once was a finding."""
    accepted = [attempt(TARGETS[name], data) for data in inputs(name)]
    # Nobody signed the certificates: none of them may be accepted.
    assert any(accepted) is (name != "certificate"), "well-formed inputs get past the first check"


def test_a_finding_is_one() -> None:
    """What is no PilulierError is not swallowed."""

    def fails(data: bytes) -> None:
        raise IndexError(data)

    def refuses(data: bytes) -> None:
        raise UsageError("no")

    with pytest.raises(IndexError):
        attempt(fails, b"")
    assert attempt(refuses, b"") is False and issubclass(UsageError, PilulierError)


@st.composite
def near(draw: st.DrawFn, corpus: list[bytes]) -> bytes:
    """An input of the corpus with a few bytes changed, put in, taken out or spliced."""
    data = bytearray(draw(st.sampled_from(corpus)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        gone = draw(st.sampled_from((0, 1, 1, 4, 32)))
        data[at : at + gone] = draw(st.binary(max_size=8))
    return bytes(data[:INPUT_BYTES])


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_near_the_corpus_is_answered(name: str) -> None:
    corpus = [data for data in inputs(name) if len(data) <= SIZE_LIMIT]

    @settings(max_examples=EXAMPLES, database=None)
    @given(st.one_of(near(corpus), st.binary(max_size=200)))
    def run(data: bytes) -> None:
        attempt(TARGETS[name], data)

    run()


def test_the_runner_mutates_the_same_way_each_time() -> None:
    corpus = inputs("commit")
    one, two = random.Random(3), random.Random(3)
    made = [mutated(one, corpus) for _ in range(200)]
    assert made == [mutated(two, corpus) for _ in range(200)]
    assert len(set(made)) > 100 and all(len(data) <= INPUT_BYTES for data in made)
