"""The appliance is lost; it is put back on an empty home beside its repositories, and the agent goes on."""

from __future__ import annotations

from pathlib import Path

from tests.support.processes import Appliance, House


def test_an_agent_goes_on_with_an_appliance_that_was_put_back(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "base.db").write_bytes(b"pharmacy" * 1000)
    agent = house.agent(source)
    assert agent.command("backup").document["snapshot"] == 1
    house.appliance.command("jobs", "run", "safety")
    (copy,) = house.appliance.command("safety", "list").document
    key = house.appliance.command("safety", "key").document["key"]
    (tmp_path / "key").write_text(key)
    # A day later than the copy: the appliance is behind its own repositories.
    (source / "base.db").write_bytes(b"pharmacy" * 1001)
    assert agent.command("backup").document["snapshot"] == 2
    house.appliance.kill()
    lost = house.appliance.home
    again = Appliance(tmp_path / "again")
    again.home.mkdir()
    (lost / "repositories").rename(again.home / "repositories")
    again.address = house.appliance.address
    again.command("safety", "restore", copy["copy"], "--key-file", str(tmp_path / "key"))
    assert all(check["ok"] for check in again.command("doctor").document)
    again.serve()
    try:
        (source / "more.txt").write_text("after the loss")
        assert agent.command("backup").document["snapshot"] == 3
        (machine,) = again.command("machine", "list").document
        assert (machine["machine"], machine["last_snapshot"]) == (agent.machine, 3)
        assert again.command("repo", "check", agent.machine, "--read-data").document["ok"]
    finally:
        again.stop()
