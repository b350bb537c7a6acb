"""What another selection would leave out: paths that were included and no longer are, exclusions that came in.

Pure, over rules as text: a page asks for a confirmation with it. The agent, which sees the files, has the last word.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.control.machine_settings import SelectionRules


@dataclass(frozen=True, slots=True)
class Loss:
    """What is left out. `unknown`: the machine's own selection is replaced, and what it held is known to it alone."""

    includes: tuple[str, ...]
    excludes: tuple[str, ...]
    unknown: bool = False

    def __bool__(self) -> bool:
        return bool(self.includes or self.excludes or self.unknown)


def _plain(path: str) -> str:
    """A path in one spelling, for comparison: Windows knows two separators and no case."""
    spelled = path.replace("\\", "/").rstrip("/")
    return spelled.lower() if spelled[1:2] == ":" else spelled


def _covers(folder: str, path: str) -> bool:
    return path == folder or path.startswith(folder + "/") or folder == ""


def loss(before: SelectionRules | None, after: SelectionRules | None) -> Loss:
    """What `after` leaves out of `before`. None as `before` is the machine's own selection; as `after`, nothing is lost
    here, since the machine goes on with what it has.
    """
    if after is None:
        return Loss((), ())
    if before is None:
        return Loss((), (), unknown=True)
    kept = [_plain(path) for path in after.include]
    gone = tuple(path for path in before.include if not any(_covers(folder, _plain(path)) for folder in kept))
    known = {_plain(rule) for rule in before.exclude}
    return Loss(gone, tuple(rule for rule in after.exclude if _plain(rule) not in known))
