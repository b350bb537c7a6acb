"""`make run`: Pilulier's main job on real files, watched step by step.

Everything is real: both programs as processes of their own, CURVE on 127.0.0.1, the files of this machine (a copy
of the folder is worked on; the original is only read). It ends by itself: the appliance is stopped, the temporary
folder removed, and the exit code is 0 only if every restored file was the same as its original.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.support.processes import Agent, House, ProcessError, landed
from tests.support.trees import assert_same
from transport.enrolment import NO_TOKEN, EnrolmentCode

STEP_TIMEOUT_S = 900.0
_SOURCE_LIMIT_BYTES = 2 << 30
_LEAVE_OUT = shutil.ignore_patterns("__pycache__", "site-packages", "dist-packages", "test", ".venv", ".git")


class Guide:
    """Tells each step in the same form: a number, what happens, then what came of it. Texts are taken literally."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty())
        self._number = 0

    def say(self, text: str, style: str = "") -> None:
        """A line outside the steps."""
        self._console.print(text, style=style)

    def step(self, text: str) -> None:
        """Begin a step."""
        self._number += 1
        self._console.print(f"\n{self._number}. {text}", style="bold")

    def command(self, text: str) -> None:
        """The command that a person would type."""
        self._console.print(f"   $ {text}", style="cyan")

    def result(self, text: str, *, shown: bool = False) -> None:
        """What came of it; `shown` marks what the demonstration is there to show."""
        self._console.print(f"   {text}", style="green" if shown else "")

    def figures(self, report: dict[str, Any]) -> None:
        """A backup's report as a small table."""
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_row("   snapshot", f"{report['snapshot']} ({report['state']})")
        table.add_row("   files", f"{report['files_total']:,}, {size_text(report['bytes_source'])}")
        table.add_row("   sent whole", f"{report['files_full']:,}")
        table.add_row("   sent as deltas", f"{report['files_delta']:,}")
        table.add_row("   only moved", f"{report['files_moved']:,}")
        table.add_row("   unchanged, gone", f"{report['files_unchanged']:,}, {report['files_deleted']:,}")
        table.add_row("   bytes sent", size_text(report["bytes_sent"]))
        table.add_row("   took", f"{report['seconds']:.1f} s")
        self._console.print(table)


def size_text(count: float) -> str:
    """A size for people, in powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def _files(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _copy(source: Path, work: Path) -> Path:
    """A copy of the source to work on, so that nobody's files are changed; links stay links."""
    size = sum(path.stat().st_size for path in _files(source))
    if size > _SOURCE_LIMIT_BYTES:
        limit = size_text(_SOURCE_LIMIT_BYTES)
        raise ProcessError(f"{source} holds {size_text(size)}: choose a folder of {limit} at most")
    try:
        shutil.copytree(source, work, symlinks=True, ignore=_LEAVE_OUT)
    except shutil.Error as error:
        skipped = len(error.args[0])
        print(f"{skipped} files of {source} could not be copied (sockets, or not readable): left out", file=sys.stderr)
    if not any(_files(work)):
        raise ProcessError(f"{source} holds no files: choose another folder, for example SOURCE=/usr/share/doc")
    return work


def _change(work: Path) -> tuple[Path, str]:
    """Change some files as a day of work does; the file to look for later, and what was done."""
    files = sorted(_files(work), key=lambda path: path.stat().st_size, reverse=True)
    biggest, edited = files[0], files[: max(1, min(20, len(files) // 2))]
    for path in edited:
        path.chmod(path.stat().st_mode | 0o200)
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(content[:middle] + b"\n# a line in the middle\n" + content[middle:])
    (work / "a new file.txt").write_text("It was not there yesterday.\n" * 40)
    renamed = next((p for p in sorted(work.iterdir()) if p.is_dir() and biggest not in p.rglob("*")), None)
    did = f"{len(edited)} files got a line in their middle, a file was added"
    if renamed is not None:
        renamed.rename(renamed.with_name(f"{renamed.name} (renamed)"))
        did += f", the folder {renamed.name} was renamed"
    if len(files) > 40:
        gone = next(path for path in reversed(files) if path.exists())
        gone.unlink()
        did += f", {gone.name} was deleted"
    return biggest, did + "."


def _demonstrate(guide: Guide, house: House, agent_folder: Path, source: Path) -> None:
    guide.step("An appliance starts: it stores, and needs no key for that.")
    guide.command("pilulier init --admin admin@example.test --password-file … --listen tcp://127.0.0.1:0")
    guide.command("pilulier serve")
    house.open()
    guide.result(f"It listens on {house.appliance.address} and speaks CURVE-encrypted ZeroMQ.")

    guide.step("A customer gets a contract, and with it an enrolment code for one machine.")
    guide.command("pilulier contract add --client pharmacie-du-marche --email contact@example.test")
    contract, code = house.contract("pharmacie-du-marche")
    guide.result(f"Contract {contract}, code {code[:22]}…")

    guide.step("An agent enrols this machine and is told what to back up.")
    work = _copy(source, agent_folder / "documents")
    guide.result(f"(The files are a copy of {source}, so that yours stay as they are.)")
    guide.command(f"pilulier-agent enrol {code[:13]}… --name comptoir-1")
    guide.command(f"pilulier-agent select include {work}")
    agent: Agent = house.agent(work, name="comptoir-1", code=code)
    guide.result(f"Machine {agent.machine}. Its keys were made here; a copy is confided to the appliance, wrapped.")
    guide.result("(--passphrase-file would have kept it private: then no appliance opens these backups.)")

    guide.step("The first backup sends everything, compressed and sealed.")
    guide.command("pilulier-agent backup")
    first = agent.backup(timeout_s=STEP_TIMEOUT_S)
    guide.figures(first)

    guide.step("A day of work.")
    biggest, did = _change(work)
    guide.result(did)

    guide.step("The second backup sends only what changed.")
    guide.command("pilulier-agent backup")
    second = agent.backup(timeout_s=STEP_TIMEOUT_S)
    guide.figures(second)
    share = second["bytes_sent"] / max(1, second["bytes_source"])
    sent, held = size_text(second["bytes_sent"]), size_text(second["bytes_source"])
    guide.result(f"{sent} sent for {held} of files: {share:.2%} of their size.", shown=True)
    if second["bytes_sent"] >= first["bytes_sent"]:
        raise ProcessError("the second backup sent as much as the first")

    guide.step("One file is restored. The appliance asks for a TOTP code; a code works once.")
    one = agent_folder / "one file"
    guide.command(f"pilulier-agent restore --target … --account {house.admin.email} --otp ●●●●●● {biggest}")
    agent.restore(one, house.admin, biggest, timeout_s=STEP_TIMEOUT_S)
    if landed(one, biggest).read_bytes() != biggest.read_bytes():
        raise ProcessError(f"{biggest} came back with other bytes")
    guide.result(f"{biggest.name}, {size_text(biggest.stat().st_size)}: the same bytes.", shown=True)

    guide.step("Everything is restored, and compared with the original.")
    support = house.account()
    everything = agent_folder / "everything"
    guide.command(f"pilulier-agent restore --target … --account {support.email} --otp ●●●●●●")
    report = agent.restore(everything, support, timeout_s=STEP_TIMEOUT_S)
    try:
        assert_same(work, landed(everything, work))
    except AssertionError as error:
        raise ProcessError(f"what came back is not what was backed up: {error}") from None
    what = f"{report['files']:,} files, {size_text(report['bytes'])}, in {report['seconds']:.1f} s"
    guide.result(f"{what}: the same bytes, times, modes, owners and links.", shown=True)

    _burn(guide, house, agent, work, agent_folder)

    guide.step("The appliance checks its own store, without any key.")
    guide.command(f"pilulier repo check {agent.machine} --read-data")
    check = house.appliance.command("repo", "check", agent.machine, "--read-data", timeout_s=STEP_TIMEOUT_S).document
    guide.result(f"{check['records_checked']:,} records, {size_text(check['bytes_read'])} read, all sound.")


def _burn(guide: Guide, house: House, agent: Agent, work: Path, folder: Path) -> None:
    """The machine is lost; new hardware goes on where it ended, with the key that was left with the appliance."""
    guide.step("The PC burns: its files and its agent are gone. New hardware goes on where it ended.")
    lost, owner = folder / "what the files were", house.account()
    os.rename(work, lost)
    address = json.loads((agent.home / "config.json").read_text())["appliance"]
    code = EnrolmentCode(
        *(address["endpoints"], address["enrolment"], bytes.fromhex(address["identity"])),
        *(bytes.fromhex(address["curve_key"]), NO_TOKEN),
    ).encode()
    shutil.rmtree(agent.home)
    guide.command(f"pilulier-agent recover --appliance PIL1-… --account {owner.email} --otp ●●●●●● … --in-place")
    said = agent.command(
        *("recover", "--appliance", code, "--account", owner.email, "--otp", owner.code()),
        *("--password-file", str(house.password_file), "--in-place"),
        timeout_s=STEP_TIMEOUT_S,
    ).document
    try:
        assert_same(lost, work)
    except AssertionError as error:
        raise ProcessError(f"what came back is not what burnt: {error}") from None
    restored = said["restored"]
    what = f"{restored['files']:,} files, {size_text(restored['bytes'])}, in {restored['seconds']:.1f} s"
    guide.result(f"{what}: the same as before the fire. Selection and schedule are back as well.", shown=True)
    guide.command("pilulier-agent backup")
    report = agent.backup(timeout_s=STEP_TIMEOUT_S)
    sent = size_text(report["bytes_sent"])
    guide.result(f"Snapshot {report['snapshot']} continues the history: {sent} sent.", shown=True)


def main() -> int:
    """Run the demonstration; 0 when everything went as told."""
    parser = argparse.ArgumentParser(description="A guided demonstration of Pilulier on real files.")
    parser.add_argument(
        "--source",
        type=Path,
        default=Path(sysconfig.get_path("stdlib")),
        help="folder whose files are backed up, from a copy (default: Python's own, %(default)s)",
    )
    given = parser.parse_args()
    guide = Guide()
    source = given.source.resolve()
    if not source.is_dir():
        guide.say(f"{source} is not a folder: name one with make run SOURCE=/path")
        return 2
    guide.say("Pilulier: back up and restore for real, on this machine.", "bold")
    try:
        with tempfile.TemporaryDirectory(prefix="pilulier-demo-") as folder:
            house = House(Path(folder) / "house")
            try:
                _demonstrate(guide, house, Path(folder), source)
            finally:
                house.close()
    except ProcessError as error:
        guide.say(f"\nIt failed: {error}", "red")
        return 1
    guide.say("\nThe appliance is stopped and the temporary folder removed. Everything went as told.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
