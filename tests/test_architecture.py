"""The walls of the house: who may import whom, where foreign libraries live, what only some modules may do.

Reads syntax trees only; nothing is imported. Each exception stands in a table here with its reason: a new one is
a decision, not an accident.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGES = ("transport", "agent", "appliance", "webui")
CODE_LINES_LIMIT = 400

MAY_IMPORT = {
    "transport": ("transport",),
    "agent": ("agent", "transport", "appliance.store"),
    "appliance.store": ("appliance.store", "transport"),
    "appliance": ("appliance", "transport"),
    "webui": ("webui", "appliance", "transport"),
}
"""The longest matching key decides. A package may always import what lies within itself."""

ROOMS = {
    "zmq": ("transport/channel.py",),
    "ctypes": ("transport/librsync.py", "transport/allocator.py", "agent/system/*.py", "appliance/opening/opener.py"),
    "pyrsync": ("transport/librsync.py",),
    "cryptography": ("transport/sealing.py", "transport/keys.py", "transport/escrow.py", "appliance/escrow.py"),
    "zstandard": ("transport/sealing.py",),
    "msgspec": ("transport/*.py", "appliance/*.py", "agent/*.py", "webui/api/*.py"),
    "pyotp": ("appliance/control/two_factor.py",),
    "PIL": ("appliance/control/themes.py",),
    "sqlite_utils": ("appliance/control/*.py",),
    # The agent's local files; `sqlite_files` opens them, the others hold their tables.
    "sqlite3": (
        *("appliance/store/*.py", "appliance/control/*.py"),
        *("agent/sqlite_files.py", "agent/ledger.py", "agent/pending.py", "agent/staging.py"),
        "agent/onsite/sealed.py",
        "agent/sources/sqlite.py",  # of other people's databases
    ),
    "watchdog": ("agent/watching/*.py",),
    "rich": ("agent/cli*.py", "agent/progress.py", "appliance/cli*.py", "appliance/commands/*.py"),
    "prometheus_client": ("appliance/metrics.py",),
    "huey": ("appliance/jobs.py",),
    "matplotlib": ("webui/charts.py",),
    "flask": ("webui/*.py", "agent/ui/*.py"),
    "flask_login": ("webui/gate.py", "webui/context.py", "webui/login.py"),
    "flask_bootstrap": ("webui/app.py", "webui/icons.py", "agent/ui/app.py"),
    "flask_wtf": ("webui/app.py", "webui/forms.py", "webui/errors.py", "agent/ui/app.py", "agent/ui/failures.py"),
    "wtforms": ("webui/*.py",),
    "flask_babel": ("webui/*.py", "agent/ui/*.py"),
    "babel": (
        *("webui/formats.py", "webui/translation.py", "appliance/mail/composing.py"),
        *("agent/ui/formats.py", "agent/ui/translation.py"),
    ),
    "jinja2": ("webui/*.py", "appliance/mail/composing.py"),
    "markupsafe": ("webui/*.py",),
    "werkzeug": ("webui/*.py", "agent/ui/*.py"),
    "segno": ("webui/qr_codes.py", "agent/sheet_page.py"),
    "gunicorn": ("webui/serving.py", "webui/worker.py"),
    "holidays": ("appliance/control/opening_days.py",),
    "waitress": ("agent/ui/serving.py",),
}
"""Where a library may be imported. `*` crosses folders. A library that is not named here has no room yet."""

FORBIDDEN_NAMES = frozenset({"util", "utils", "helper", "helpers", "common", "misc"})

SPEAKERS = (
    *("agent/cli*.py", "agent/commands*.py", "appliance/cli*.py", "appliance/commands/*.py"),
    "appliance/opening/opener.py",
)
"""Only these print, or end the process. The opener is a process of its own, which a browser may leave in the middle."""

EDGE_COMMENT = "edge of"
"""What an `except Exception` that does not raise again says about itself: `# the edge of a worker: …`."""

DOOR = "appliance/store/durable.py"
_WRITING_OS = frozenset(
    {"rename", "replace", "renames", "unlink", "remove", "rmdir", "removedirs", "mkdir", "makedirs", "link", "symlink"}
    | {"fsync", "fdatasync", "sync", "truncate", "ftruncate", "posix_fallocate", "utime", "chmod", "chown"}
    | {"write", "writev", "pwrite", "pwritev", "sendfile", "copy_file_range"}
)
_READING_FLAGS = frozenset({"O_RDONLY", "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_BINARY", "O_NOATIME"})
_WRITING_METHODS = frozenset(
    {"unlink", "write_bytes", "write_text", "touch", "rmdir", "mkdir", "hardlink_to", "symlink_to"}
)


ONE_SYSTEM_MODULES = frozenset({"fcntl", "pwd", "grp", "resource", "termios", "pty", "msvcrt", "winreg", "ctypes"})
ONE_SYSTEM_NAMES = frozenset(
    {"fork", "getuid", "geteuid", "getgid", "getegid", "chown", "fchown", "lchown", "fchmod", "mkfifo", "mknod"}
    | {"pread", "pwrite", "posix_fadvise", "posix_fallocate", "statvfs", "nice", "killpg", "getpgid", "setsid"}
    | {"getxattr", "setxattr", "listxattr", "removexattr", "sched_setaffinity", "SEEK_DATA", "SEEK_HOLE"}
    | {"O_NOFOLLOW", "O_DIRECTORY", "O_TMPFILE", "O_CLOEXEC", "O_NONBLOCK", "O_NOATIME", "O_BINARY", "O_PATH"}
    | {"AF_UNIX", "SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "pidfd_open", "WNOHANG", "uname"}
)
"""What Windows or macOS does not have: the agent runs on both."""
ONE_SYSTEM_ROOMS = ("agent/system/*.py", "agent/watching/inotify.py")


@dataclass(frozen=True, slots=True)
class Module:
    """One source file: its path in the checkout, its dotted name, its syntax tree."""

    path: str
    name: str
    source: str
    tree: ast.Module


@cache
def modules() -> tuple[Module, ...]:
    """Every module of the packages."""
    found = []
    for package in PACKAGES:
        for path in sorted((CHECKOUT / package).rglob("*.py")):
            relative = path.relative_to(CHECKOUT)
            parts = relative.with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            source = path.read_text(encoding="utf-8")
            found.append(Module(relative.as_posix(), name, source, ast.parse(source, str(relative))))
    return tuple(found)


def imports(module: Module) -> Iterator[tuple[str, int]]:
    """Every module that this one imports, in whatever place, as (dotted name, line)."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                inside = module.name.split(".")
                keep = len(inside) - node.level + module.path.endswith("__init__.py")
                base = ".".join([*inside[:keep], *([base] if base else [])])
            # `from appliance import store` imports appliance.store.
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def _anywhere(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(path, pattern) for pattern in patterns)


def _allowed(module: Module) -> tuple[str, ...]:
    return MAY_IMPORT[max((key for key in MAY_IMPORT if _within(module.name, key)), key=len)]


def test_there_is_something_to_look_at() -> None:
    assert {module.name.split(".")[0] for module in modules()} >= {"transport", "agent", "appliance"}


def test_imports_run_one_way() -> None:
    wrong = [
        f"{module.path}:{line} imports {name}; it may import {', '.join(_allowed(module))}"
        for module in modules()
        for name, line in imports(module)
        if name.split(".")[0] in (*PACKAGES, "tests")
        and not any(_within(name, package) for package in _allowed(module))
    ]
    assert not wrong, "\n".join(wrong)


def test_a_foreign_library_has_one_room() -> None:
    wrong = []
    for module in modules():
        for name, line in imports(module):
            top = name.split(".")[0]
            if top in ROOMS:
                if not _anywhere(module.path, ROOMS[top]):
                    wrong.append(f"{module.path}:{line} imports {top}; its room is {', '.join(ROOMS[top])}")
            elif top not in sys.stdlib_module_names and top not in PACKAGES and top != "tests":
                wrong.append(f"{module.path}:{line} imports {top}, which has no room yet: give it one in ROOMS")
    assert not wrong, "\n".join(wrong)


def one_system_calls(source: str) -> list[tuple[int, str]]:
    """What a source text takes that not every system has, by line: names of `os` and its like, `dir_fd=`, paths."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in ("os", "socket", "signal") and node.attr in ONE_SYSTEM_NAMES:
                found.append((node.lineno, f"{node.value.id}.{node.attr}"))
        elif isinstance(node, ast.ImportFrom) and node.module in ("os", "signal", "socket"):
            found += [(node.lineno, alias.name) for alias in node.names if alias.name in ONE_SYSTEM_NAMES]
        elif isinstance(node, ast.keyword) and node.arg in ("dir_fd", "src_dir_fd", "dst_dir_fd", "preexec_fn"):
            found.append((node.value.lineno, f"{node.arg}="))
        elif isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            if text.startswith(("/proc/", "/sys/")):
                found.append((node.lineno, text))
    return found


def test_what_one_system_has_stays_in_its_room() -> None:
    wrong = []
    for module in modules():
        if module.name.split(".")[0] != "agent" or _anywhere(module.path, ONE_SYSTEM_ROOMS):
            continue
        wrong += [f"{module.path}:{line} takes {what}" for line, what in one_system_calls(module.source)]
        wrong += [f"{module.path}:{line} imports {name}" for name, line in imports(module)
                  if name.split(".")[0] in ONE_SYSTEM_MODULES]  # fmt: skip
    assert not wrong, "\n".join([*wrong, "ask in agent/system/, where each system has its answer"])


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("os.pread(handle, 1, 0)", True),
        ("from os import fork", True),
        ("open('x', dir_fd=3)", True),
        ("open('/proc/self/fd/3')", True),
        ("os.open(path, os.O_RDWR | os.O_CREAT)", False),
        ("handle.pread(1)", False),
    ],
)
def test_the_look_for_what_one_system_has_sees_it(line: str, found: bool) -> None:
    assert bool(one_system_calls(line)) == found


def test_no_star_imports() -> None:
    wrong = [f"{m.path}:{line}" for m in modules() for name, line in imports(m) if name.endswith(".*")]
    assert not wrong, wrong


def test_modules_open_with_a_docstring() -> None:
    wrong = [module.path for module in modules() if not (ast.get_docstring(module.tree) or "").strip()]
    assert not wrong, wrong


def test_module_names_say_what_they_own() -> None:
    wrong = [module.path for module in modules() if FORBIDDEN_NAMES & set(Path(module.path).with_suffix("").parts)]
    assert not wrong, wrong


def code_lines(module: Module) -> int:
    """Lines with code on them: neither blank, nor comment, nor docstring."""
    lines: set[int] = set()
    quiet = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    for token in tokenize.generate_tokens(io.StringIO(module.source).readline):
        if token.type not in quiet:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(module.tree):
        # Bare strings are docstrings, of attributes too.
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def test_modules_stay_readable() -> None:
    sizes = {module.path: code_lines(module) for module in modules()}
    wrong = [f"{path}: {size} lines of code" for path, size in sizes.items() if size > CODE_LINES_LIMIT]
    assert not wrong, f"over {CODE_LINES_LIMIT}: two rooms share one wall: {wrong}"


def _ends_the_process(node: ast.AST) -> str:
    """What a node says to a person or does to the process; empty when nothing."""
    if isinstance(node, ast.Raise) and node.exc is not None:
        named = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return "raise SystemExit" if ast.unparse(named) == "SystemExit" else ""
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        if called in ("print", "exit", "quit", "input", "breakpoint", "sys.exit", "os._exit", "os.abort"):
            return called
        if called.startswith(("sys.stdout.", "sys.stderr.")) and not called.endswith(("isatty", "fileno")):
            return called
    return ""


def test_only_the_command_lines_print_and_exit() -> None:
    wrong = [
        f"{module.path}:{getattr(node, 'lineno', 0)} {what}"
        for module in modules()
        if not _anywhere(module.path, SPEAKERS)
        for node in ast.walk(module.tree)
        if (what := _ends_the_process(node))
    ]
    assert not wrong, "\n".join(wrong)


def _catches_everything(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(ast.unparse(kind).rpartition(".")[2] in ("Exception", "BaseException") for kind in caught)


def test_everything_is_caught_only_at_named_edges() -> None:
    """A handler that raises again (the same, or translated) swallows nothing; any other says which edge it is."""
    wrong = []
    for module in modules():
        lines = module.source.splitlines()
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.ExceptHandler) or not _catches_everything(node):
                continue
            if isinstance(node.body[-1], ast.Raise):
                continue
            if EDGE_COMMENT not in lines[node.lineno - 1].partition("#")[2]:
                wrong.append(f"{module.path}:{node.lineno} {lines[node.lineno - 1].strip()}")
    assert not wrong, f"say `# the {EDGE_COMMENT} …: why` or catch less:\n" + "\n".join(wrong)


def _mode_of_open(call: ast.Call, position: int) -> str:
    """The mode of an `open` call; "?" where it is not written out."""
    given: ast.expr | None = call.args[position] if len(call.args) > position else None
    for keyword in call.keywords:
        if keyword.arg == "mode":
            given = keyword.value
    if given is None:
        return "r"
    return given.value if isinstance(given, ast.Constant) and isinstance(given.value, str) else "?"


def _changes_the_disk(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Name):
        return call.func.id == "open" and bool(set(_mode_of_open(call, 1)) & set("wax+?"))
    if not isinstance(call.func, ast.Attribute):
        return False
    owner, name = ast.unparse(call.func.value), call.func.attr
    if owner == "os" and name == "open":
        flags = {node.attr for node in ast.walk(call.args[1]) if isinstance(node, ast.Attribute)}
        return not flags or not flags <= _READING_FLAGS
    if owner == "os":
        return name in _WRITING_OS
    if owner in ("shutil", "tempfile"):
        return name != "disk_usage"
    if name in ("rename", "replace"):
        # Path.rename and Path.replace take one argument; str.replace two, the door's own rename two.
        return len(call.args) == 1 and not call.keywords
    if name == "open":
        return bool(set(_mode_of_open(call, 0)) & set("wax+"))
    return name in _WRITING_METHODS


def test_repositories_have_one_door_to_the_disk() -> None:
    wrong = [
        f"{module.path}:{node.lineno} {ast.unparse(node)[:80]}"
        for module in modules()
        if _within(module.name, "appliance.store") and module.path != DOOR
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and _changes_the_disk(node)
    ]
    assert not wrong, f"only {DOOR} writes, renames, removes and syncs:\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        ("open(path, 'ab')", True),
        ("open(path, mode=chosen)", True),
        ("open(path, 'rb')", False),
        ("path.open()", False),
        ("path.open('w')", True),
        ("os.open(path, os.O_RDONLY | os.O_CLOEXEC)", False),
        ("os.open(path, os.O_RDWR)", True),
        ("os.open(path, flags)", True),
        ("os.fsync(descriptor)", True),
        ("path.replace(other)", True),
        ("text.replace('a', 'b')", False),
        ("dataclasses.replace(noun, size=1)", False),
        ("disk.rename(old, new)", False),
        ("path.unlink(missing_ok=True)", True),
        ("shutil.rmtree(folder)", True),
        ("shutil.disk_usage(folder)", False),
    ],
)
def test_the_look_for_writes_sees_them(line: str, changes: bool) -> None:
    call = ast.parse(line, mode="eval").body
    assert isinstance(call, ast.Call)
    assert _changes_the_disk(call) is changes
