"""Whether a selection became smaller: pure, over rules alone.

The answer errs on the side of yes: what it calls not smaller selects every path that was selected before, whatever
the disk holds. A pattern that was not there before counts as smaller, though it may match nothing.
"""

from __future__ import annotations

import re
from typing import Final

from agent.selection import Selection

_PATH: Final = re.compile(rb"(/|[A-Za-z]:[/\\])[^*?\[]*")


def shrinks(before: Selection, after: Selection) -> bool:
    """Whether some path that `before` selects may be left out by `after`."""
    if before == after:
        return False
    if any(not after.selects(path) for path in before.include):
        return True
    added = set(after.exclude) - set(before.exclude)
    for rule in added:
        if _PATH.fullmatch(rule) is None:
            return bool(before.include)
        if before.selects(rule) or _inside(before, rule):
            return True
    # A pattern of several names begins below each included path: where one goes, its patterns begin higher up.
    gone = set(before.include) - set(after.include)
    return bool(gone) and any(b"/" in rule and not rule.startswith(b"/") for rule in after.exclude)


def _inside(before: Selection, rule: bytes) -> bool:
    """Whether something that is included lies below this path, so that leaving it out matters."""
    return any(path.startswith(rule.rstrip(b"/") + b"/") for path in before.include)
