"""What of this machine is backed up: included trees, excluded paths and glob patterns.

Owns the rules and their order; touches no disk. Paths are bytes, absolute, without a trailing slash.

* An **include** is always a path: that file, or that folder and all below it.
* An **exclude** that is absolute and has no `*`, `?` or `[` is a path; every other one is a pattern.
* Among path rules **the deepest one wins**: exclude /a/b inside include /a leaves b out, include /a/b/c inside
  that takes c again. A path that no rule covers is not selected.
* **Patterns** apply below included paths, never to an included path itself: naming a thing wins over a pattern
  that its name, or a folder above it, matches. What a pattern matches is left out with all below it.
  A pattern without a slash (`*.tmp`, `node_modules`) is a name at any depth; one with a slash (`build/*.o`,
  `**/cache/**`) is a chain of names beginning at any depth below the included path; one that begins with a slash
  (`/home/*/.cache`) is matched from the root. `*`, `?`, `[...]` stay within one name, `**` stands for any number
  of folders, and at the end for everything inside (the folder itself stays). `[*]` is a literal star.
* Folders above a selected path are taken as folders only (`Take.THROUGH`), with nothing else that they hold.

A walk asks folder by folder: a `Scope` knows the path rules below it and how far each pattern has matched, so a
child costs a set lookup and a suffix test, not a regular expression over its whole path.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from agent.errors import SelectionError
from agent.system import paths
from transport.names import Digest

_WILDCARDS: Final = re.compile(rb"[*?\[]")
_ANY_DEPTH: Final = b"**"
_LABEL: Final = b"pilulier/selection/1\0"


class Take(IntEnum):
    """What becomes of a child while walking."""

    SKIP = 0
    THROUGH = 1
    """A folder that is only passed through on the way to a selected path."""
    WHOLE = 2


def shown(path: bytes) -> str:
    """A path for people; bytes that are no UTF-8 appear as \\x.. escapes."""
    return path.decode("utf-8", "backslashreplace")


def components(path: bytes) -> tuple[bytes, ...]:
    """The names of a normalised absolute path, the root's own excepted: /a/b gives a, b."""
    return tuple(name for name in path.split(b"/") if name)


def normalised_path(path: bytes) -> bytes:
    """An absolute path without empty, `.` or trailing parts; SelectionError where it is not one."""
    path = paths.HERE.spelled(path)
    if not path or b"\0" in path:
        raise SelectionError(f"{shown(path)!r} is not a path")
    if not paths.HERE.is_absolute(path):
        raise SelectionError(f"{shown(path)} is not an absolute path: give it from the root")
    names = [name for name in path.split(b"/") if name not in (b"", b".")]
    if b".." in names:
        raise SelectionError(f"{shown(path)} contains '..': give the path without it")
    return paths.HERE.rooted(names)


def _is_absolute(rule: bytes) -> bool:
    return rule.startswith(b"/") or paths.HERE.is_absolute(rule)


def _normalised_exclude(rule: bytes) -> bytes:
    """A path or pattern in its one spelling; SelectionError where it means nothing or everything."""
    if not rule or b"\0" in rule:
        raise SelectionError(f"{shown(rule)!r} is neither a path nor a pattern")
    if _is_absolute(rule) and not _WILDCARDS.search(rule):
        return normalised_path(rule)
    rule = paths.HERE.spelled(rule)
    names: list[bytes] = []
    for name in rule.split(b"/"):
        if name in (b"", b".") or (name == _ANY_DEPTH and names[-1:] == [_ANY_DEPTH]):
            continue
        if name == b"..":
            raise SelectionError(f"pattern {shown(rule)} contains '..': a pattern only looks downwards")
        names.append(name)
    if not _is_absolute(rule) and names[:1] == [_ANY_DEPTH] and len(names) > 1:
        del names[0]  # a relative pattern begins at any depth anyway
    if not names or names in ([_ANY_DEPTH], [b"*"]):
        raise SelectionError(f"pattern {shown(rule)} would leave everything out: exclude the folder instead")
    return (b"/" if rule.startswith(b"/") else b"") + b"/".join(names)


def escaped_pattern(path: bytes) -> bytes:
    """A literal path spelled so that its `*`, `?` and `[` are read as themselves in an exclude."""
    return _WILDCARDS.sub(lambda match: b"[" + match.group() + b"]", path)


@dataclass(frozen=True, slots=True)
class Selection:
    """A normalised selection; build it with `Selection.of`. Both tuples are sorted and without doubles."""

    include: tuple[bytes, ...] = ()
    exclude: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, include: Iterable[bytes], exclude: Iterable[bytes] = ()) -> Selection:
        """The selection that these rules make; SelectionError names the rule that makes no sense."""
        included = {normalised_path(path) for path in include}
        excluded = {_normalised_exclude(rule) for rule in exclude}
        both = included & {rule for rule in excluded if not _is_pattern(rule)}
        if both:
            raise SelectionError(f"{shown(min(both))} is both included and excluded: remove one of the two")
        return cls(tuple(sorted(included)), tuple(sorted(excluded)))

    def including(self, path: bytes) -> Selection:
        """This selection with `path` included; an exclusion of the very same path goes."""
        path = normalised_path(path)
        return Selection.of((*self.include, path), (rule for rule in self.exclude if rule != path))

    def excluding(self, rule: bytes) -> Selection:
        """This selection with a path or pattern excluded; an inclusion of the very same path goes."""
        rule = _normalised_exclude(rule)
        return Selection.of((path for path in self.include if path != rule), (*self.exclude, rule))

    def without(self, *rules: bytes) -> Selection:
        """This selection without a rule, given in any of these spellings; SelectionError where none of them stands."""
        spellings: set[bytes] = set()
        for rule in rules:
            with contextlib.suppress(SelectionError):
                spellings.add(_normalised_exclude(rule))
            with contextlib.suppress(SelectionError):
                spellings.add(normalised_path(rule))
        if not spellings & {*self.include, *self.exclude}:
            raise SelectionError(f"{shown(rules[0])} is neither included nor excluded: see pilulier-agent select show")
        return Selection.of(
            (path for path in self.include if path not in spellings),
            (rule for rule in self.exclude if rule not in spellings),
        )

    def digest(self) -> Digest:
        """SHA-256 over the rules, for the commit record: two snapshots under the same rules carry the same one."""
        digest = hashlib.sha256(_LABEL)
        for rules in (self.include, self.exclude):
            digest.update(len(rules).to_bytes(4, "big"))
            for rule in rules:
                digest.update(len(rule).to_bytes(4, "big") + rule)
        return Digest(digest.digest())

    def scope(self) -> Scope:
        """Where a walk begins: the scope of the root."""
        return _compiled(self)

    def selects(self, path: bytes) -> bool:
        """Whether this path (with what it holds) is backed up, not only passed through."""
        scope, take = self.scope(), Take.THROUGH
        names = components(normalised_path(path))
        if not names:
            return scope.selected
        for name in names:
            take = scope.take(name)
            if take is Take.SKIP:
                return False
            scope = scope.enter(name, take)
        return take is Take.WHOLE


def _is_pattern(rule: bytes) -> bool:
    return not _is_absolute(rule) or _WILDCARDS.search(rule) is not None


@dataclass(slots=True)
class _Node:
    """One path in the tree of path rules: True included, False excluded, None only on the way to a rule."""

    name: bytes
    rule: bool | None = None
    children: dict[bytes, _Node] = field(default_factory=dict)
    """By name, folded where the system does not tell case apart."""
    leads_to_include: bool = False


class _Name:
    """One name of a pattern. Literals and `*suffix` never reach the regular expression."""

    __slots__ = ("any_depth", "literal", "regex", "suffix")

    def __init__(self, glob: bytes) -> None:
        self.any_depth = glob == _ANY_DEPTH
        self.literal: bytes | None = None
        self.suffix: bytes | None = None
        self.regex = ""
        if not paths.HERE.folds_case and not _WILDCARDS.search(glob):
            self.literal = glob
        elif not paths.HERE.folds_case and glob[:1] == b"*" and not _WILDCARDS.search(glob[1:]):
            self.suffix = glob[1:]
        else:
            self.regex = fnmatch.translate(glob.decode("utf-8", "surrogateescape"))

    def matches(self, name: bytes) -> bool:
        if self.literal is not None:
            return name == self.literal
        if self.suffix is not None:
            return name.endswith(self.suffix)
        return _compiled_pattern(self.regex).match(name.decode("utf-8", "surrogateescape")) is not None


def _compiled_pattern(regex: str) -> re.Pattern[str]:
    return re.compile(regex, re.IGNORECASE if paths.HERE.folds_case else 0)


_State = frozenset[tuple[int, int]]
"""How far patterns have matched on the way to a folder: (pattern, its next name)."""


class _Patterns:
    """All patterns of a selection as one automaton over names; states are shared and their tests compiled once."""

    def __init__(self, rules: Iterable[bytes]) -> None:
        ordered = sorted(rules)
        self.patterns = [[_Name(name) for name in components(rule)] for rule in ordered]
        self.from_root: _State = self._closed({(i, 0) for i, rule in enumerate(ordered) if _is_absolute(rule)})
        self.anywhere: _State = self._closed({(i, 0) for i, rule in enumerate(ordered) if not _is_absolute(rule)})
        self._absolute = {i for i, rule in enumerate(ordered) if _is_absolute(rule)}
        self._tests: dict[_State, _Test] = {}

    def _closed(self, state: set[tuple[int, int]]) -> _State:
        """`**` also stands for no folder at all."""
        for pattern, at in list(state):
            if self.patterns[pattern][at].any_depth and at + 1 < len(self.patterns[pattern]):
                state.add((pattern, at + 1))
        return frozenset(state)

    def entered(self, state: _State, name: bytes) -> _State:
        """The state inside folder `name`, for absolute patterns and those that began above."""
        inside: set[tuple[int, int]] = set()
        for pattern, at in state:
            part = self.patterns[pattern][at]
            if part.any_depth:
                inside.add((pattern, at))
            elif at + 1 < len(self.patterns[pattern]) and part.matches(name):
                inside.add((pattern, at + 1))
        return self._closed(inside)

    def restarted(self, state: _State) -> _State:
        """The state at an included path: only absolute patterns go on, and those already complete end here."""
        kept = {
            (pattern, at)
            for pattern, at in state
            if pattern in self._absolute
            and not (self.patterns[pattern][at].any_depth and at + 1 == len(self.patterns[pattern]))
        }
        return frozenset(kept) | self.anywhere

    def test(self, state: _State) -> _Test:
        """The compiled test for children of a folder in this state."""
        test = self._tests.get(state)
        if test is None:
            ends = [self.patterns[p][at] for p, at in state if at + 1 == len(self.patterns[p])]
            test = self._tests[state] = _Test(ends, len(ends) < len(state))
        return test


class _Test:
    """Whether a child's name completes a pattern."""

    __slots__ = ("everything", "literals", "moves", "regex", "suffixes")

    def __init__(self, ends: list[_Name], moves: bool) -> None:
        self.everything = any(end.any_depth for end in ends)
        self.literals = frozenset(end.literal for end in ends if end.literal is not None)
        self.suffixes = tuple(sorted(end.suffix for end in ends if end.suffix is not None))
        rest = sorted(end.regex for end in ends if end.regex and not end.any_depth)
        self.regex = _compiled_pattern("|".join(f"(?:{regex})" for regex in rest)) if rest else None
        self.moves = moves
        """Whether a name may also advance a longer pattern, so that folders below differ from this one."""

    def excludes(self, name: bytes) -> bool:
        return (
            name in self.literals
            or (bool(self.suffixes) and name.endswith(self.suffixes))
            or self.everything
            or (self.regex is not None and self.regex.match(name.decode("utf-8", "surrogateescape")) is not None)
        )


class Scope:
    """The rules as they stand inside one folder. Immutable; folders without rules of their own share one."""

    __slots__ = ("_node", "_patterns", "_same_below", "_state", "_test", "plain", "selected")

    def __init__(self, patterns: _Patterns, node: _Node | None, selected: bool, state: _State) -> None:
        self._patterns = patterns
        self._node = node
        self._state = state
        self._test = patterns.test(state) if state else None
        # Patterns that begin anew in every folder and are one name long: nothing to carry along.
        moves = self._test is not None and self._test.moves
        self._same_below = selected and node is None and not moves and state <= patterns.anywhere
        self.selected = selected
        """Everything in the folder is taken that no rule leaves out; otherwise only `named` children matter."""
        self.plain = selected and node is None and not state
        """Everything below is taken: `take` need not be asked."""

    @property
    def named(self) -> tuple[bytes, ...]:
        """Names of children that are included or lead to an included path, sorted."""
        children = self._node.children if self._node is not None else {}
        return tuple(sorted(child.name for child in children.values() if child.leads_to_include))

    def is_root(self, name: bytes) -> bool:
        """Whether child `name` is itself an included path."""
        child = self._node.children.get(paths.HERE.folded(name)) if self._node is not None else None
        return child is not None and child.rule is True

    def take(self, name: bytes) -> Take:
        """What becomes of child `name`."""
        child = self._node.children.get(paths.HERE.folded(name)) if self._node is not None else None
        if child is not None:
            if child.rule is True:
                return Take.WHOLE
            if child.rule is None and self.selected and not (self._test is not None and self._test.excludes(name)):
                return Take.WHOLE
            return Take.THROUGH if child.leads_to_include else Take.SKIP
        if not self.selected or (self._test is not None and self._test.excludes(name)):
            return Take.SKIP
        return Take.WHOLE

    def enter(self, name: bytes, take: Take) -> Scope:
        """The scope inside child folder `name`, for which `take` gave `take` (not SKIP)."""
        if self._same_below:
            return self
        node = self._node.children.get(paths.HERE.folded(name)) if self._node is not None else None
        state = self._patterns.entered(self._state, name)
        if node is not None and node.rule is True:
            state = self._patterns.restarted(state)
        elif take is Take.WHOLE:
            state |= self._patterns.anywhere
        if node is not None and not node.children:
            node = None
        return Scope(self._patterns, node, take is Take.WHOLE, state)


def _compiled(selection: Selection) -> Scope:
    rules = [(path, True) for path in selection.include]
    rules += [(rule, False) for rule in selection.exclude if not _is_pattern(rule)]
    root = _Node(b"")
    for path, included in rules:
        node = root
        node.leads_to_include |= included
        for name in components(path):
            node = node.children.setdefault(paths.HERE.folded(name), _Node(name))
            node.leads_to_include |= included
        node.rule = included
    patterns = _Patterns(rule for rule in selection.exclude if _is_pattern(rule))
    state = patterns.from_root | patterns.anywhere if root.rule else patterns.from_root
    return Scope(patterns, root, root.rule is True, state)
