"""Documents that a test can fail: commands, exit codes, links, messages, session table, records on disk.

Each comparison runs both ways where a document has a table of its own: nothing undocumented, nothing documented
that is not there.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from appliance.store import records
from transport import messages, session
from transport.errors import PilulierError

CHECKOUT = Path(__file__).resolve().parents[1]
README = CHECKOUT / "README.md"
PROTOCOL = CHECKOUT / "transport" / "PROTOCOL.md"
FORMAT = CHECKOUT / "appliance" / "store" / "FORMAT.md"
EXIT_CODES = {0, 1, 2, 3, 4, 5}
"""Done, failed, usage, warnings, refused, unreachable: the contract that other people's scripts rely on."""

_ROW = re.compile(r"^\s*\|(.+)\|\s*$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def rows(path: Path) -> list[tuple[str, ...]]:
    """The cells of every table row of a document, without code marks."""
    return [
        tuple(cell.strip().replace("`", "").replace("*", "") for cell in match.group(1).split("|"))
        for match in _ROW.finditer(path.read_text(encoding="utf-8"))
    ]


def documents() -> list[Path]:
    """What people read: the README, the change log, docs/, and the documents beside the code."""
    beside = [path for package in ("transport", "appliance", "agent") for path in (CHECKOUT / package).rglob("*.md")]
    return [README, CHECKOUT / "CHANGELOG.md", *(CHECKOUT / "docs").rglob("*.md"), *beside]


def commands(parser: argparse.ArgumentParser, words: str) -> Iterator[str]:
    """Every complete command of a parser: `pilulier contract add`."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield words
    for action in below:
        for name, inner in action.choices.items():
            yield from commands(inner, f"{words} {name}")


def _all_commands() -> set[str]:
    found: set[str] = set()
    for program, module in (("pilulier", "appliance.cli"), ("pilulier-agent", "agent.cli")):
        found |= set(commands(import_module(module).build_parser(), program))
    return found


def test_every_command_is_documented() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in [README, *(CHECKOUT / "docs").rglob("*.md")])
    missing = sorted(words for words in _all_commands() if not re.search(rf"{re.escape(words)}(?![\w-])", text))
    assert not missing, f"neither in README.md nor in docs/: {missing}"


def test_the_readme_names_no_command_that_does_not_exist() -> None:
    known = _all_commands()
    named = {row[0] for row in rows(README) if row[0].startswith("pilulier")}
    assert named, "the README has no table of commands"
    wrong = {words for words in named if not any(words == one or words.startswith(one + " ") for one in known)}
    assert not wrong, wrong


def _subclasses(root: type[PilulierError]) -> Iterator[type[PilulierError]]:
    for below in root.__subclasses__():
        yield below
        yield from _subclasses(below)


def test_exit_codes_are_documented() -> None:
    for module in ("appliance.errors", "appliance.store.errors", "agent.errors"):
        import_module(module)
    used = {PilulierError.exit_code} | {error.exit_code for error in _subclasses(PilulierError)}
    assert used <= EXIT_CODES
    described = {int(row[0]): row[1] for row in rows(README) if row[0].isdigit()}
    assert set(described) == EXIT_CODES
    assert all(described.values())


def test_links_lead_somewhere() -> None:
    wrong = [
        f"{path.relative_to(CHECKOUT)}: {target}"
        for path in documents()
        for target in _LINK.findall(path.read_text(encoding="utf-8"))
        if "://" not in target and not target.startswith("mailto:") and not (path.parent / target).exists()
    ]
    assert not wrong, wrong


def _message_names() -> set[str]:
    return {
        value.__name__
        for value in vars(messages).values()
        if isinstance(value, type) and issubclass(value, messages.Message) and value is not messages.Message
    }


def test_every_message_is_in_the_protocol_document() -> None:
    text = PROTOCOL.read_text(encoding="utf-8")
    missing = sorted(name for name in _message_names() if f"`{name}`" not in text)
    assert not missing, missing


def session_rows() -> set[tuple[str, ...]]:
    """The state table as PROTOCOL.md prints it: state, message, state after success, answers (– for none)."""
    return {
        (
            state.value,
            message.__name__,
            rule.after.value,
            ", ".join(answer.__name__ for answer in rule.answers) or "–",
        )
        for (state, message), rule in session.TABLE.items()
    }


def test_the_session_table_is_in_the_protocol_document() -> None:
    states = {state.value for state in session.State}
    documented = {row for row in rows(PROTOCOL) if len(row) == 4 and row[0] in states}
    expected = session_rows()
    order = [state.value for state in session.State]
    printed = "\n".join(
        "| " + " | ".join(re.sub(r"\w+", r"`\g<0>`", cell) for cell in row) + " |"
        for row in sorted(expected, key=lambda row: (order.index(row[0]), row[1]))
    )
    assert documented == expected, f"the table must read:\n{printed}"


def test_the_kinds_of_records_are_in_the_format_document() -> None:
    documented = {
        (int(row[0]), re.split(r"\W", row[1].strip(), maxsplit=1)[0].upper())
        for row in rows(FORMAT)
        if len(row) >= 2 and row[0].isdigit()
    }
    assert documented == {(kind.value, kind.name) for kind in records.Kind}
