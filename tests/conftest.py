"""Fixtures that every test may use: a running house, the programs Pilulier is held against, Hypothesis without luck."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.support.processes import House

# The same examples each time and no clock: a slow machine must not fail a true property.
hypothesis.settings.register_profile("pilulier", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.load_profile("pilulier")


@pytest.fixture
def house(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[House]:
    """An appliance of its own, serving; ended with the test.

    Its exchange with agents alone, unless the test is marked `whole_service`: web and jobs take three processes and
    some seconds of CPU, which journeys that never speak to them would pay a hundred times.
    """
    with House(tmp_path / "house", whole=request.node.get_closest_marker("whole_service") is not None) as opened:
        yield opened


@pytest.fixture(scope="session")
def rdiff() -> str:
    """Path of librsync's own program."""
    found = shutil.which("rdiff")
    if found is None:
        pytest.skip("rdiff is not installed: apt-get install rdiff")
    return found


@pytest.fixture(scope="session")
def setfacl() -> str:
    """Path of the program that sets POSIX ACLs."""
    found = shutil.which("setfacl")
    if found is None:
        pytest.skip("setfacl is not installed: apt-get install acl")
    return found
