"""Hooks as a machine's owner sets them, around real backups."""

from __future__ import annotations

from pathlib import Path

from tests.support.processes import House


def _program(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_hooks_around_a_backup(house: House, tmp_path: Path) -> None:
    source, programs = tmp_path / "source", tmp_path / "programs"
    source.mkdir()
    programs.mkdir(mode=0o755)
    (source / "paper").write_text("x")
    agent = house.agent(source)
    before = _program(programs, "before", f'echo "$@" > {source}/made-by-the-hook; echo quiet now')
    after = _program(programs, "after", f'echo "$PILULIER_OUTCOME $PILULIER_SNAPSHOT" >> {programs}/told')
    agent.command("hooks", "add", "before", "--timeout", "60", "--", before, "--json", "a b")
    agent.command("hooks", "add", "after", "--", after)
    assert agent.backup()["files_total"] == 2
    assert (source / "made-by-the-hook").read_text() == "--json a b\n"
    listed = agent.command("hooks", "list").document
    assert [(row["number"], row["when"], row["timeout"], row["last_code"]) for row in listed] == [
        (1, "before", 60, 0),
        (2, "after", 300, 0),
    ]
    assert listed[0]["command"] == [before, "--json", "a b"] and listed[0]["last_output"] == "quiet now\n"

    agent.command("hooks", "add", "before", "--", "/bin/false")
    report = agent.backup(expect=3)
    assert report["state"] == "complete"
    assert report["warnings"] == [
        {"path": "before-hook /bin/false", "reason": "ended with code 1; the backup went on"}
    ]
    assert "1 path was not backed up" in "\n".join(house.log(agent))
    agent.command("hooks", "remove", "2")
    agent.command("hooks", "add", "before", "--required", "--", "/bin/false")
    sentence = agent.told("backup", code=1)
    assert sentence.startswith("the before-hook /bin/false ended with code 1, and the backup requires it")
    assert (programs / "told").read_text() == "done 1\nwarnings 2\nfailed \n"
    assert agent.command("status").document["last_error"] == sentence
    assert "Backup failed: a program that must run before each backup failed" in house.log(agent)
    assert agent.command("snapshots").document[-1]["snapshot"] == 2

    assert "whole path" in agent.told("hooks", "add", "before", "--", "false", code=2)
    assert "no hook 9" in agent.told("hooks", "remove", "9", code=2)
    assert "bounds" in agent.told("hooks", "add", "before", "--timeout", "0", "--", before, code=2)
