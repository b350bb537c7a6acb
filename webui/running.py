"""Backups under way, live: what agents say of themselves, a few seconds old; and those that have just ended.

The page asks for its changing part every two seconds, so that part costs one small file and one query, and nothing
more while nothing runs.
"""

from __future__ import annotations

from typing import Final

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from appliance.control import reports, running
from appliance.control.reports import Backup, Window
from webui import context
from webui.gate import EVERYONE, allow
from webui.rendering import is_fragment

blueprint = Blueprint("running", __name__)

ENDED_S: Final = 15 * 60.0
"""How long a finished backup stays on the page."""
ENDED_SHOWN: Final = 12


@blueprint.get("/running")
@allow(EVERYONE)
def index() -> ResponseReturnValue:
    """Backups under way, and those that ended a moment ago."""
    db, scope, now = context.db(), context.scope(), context.now()
    backups = running.listed(db, scope, context.home().running_file, now)
    return render_template(
        "running/part.html" if is_fragment() else "running/index.html",
        title=_("Sauvegardes en cours"),
        backups=backups,
        rate=sum(one.rate_bytes_s for one in backups),
        ended=_ended({one.machine_id for one in backups}),
        ended_minutes=round(ENDED_S / 60),
    )


def _ended(still_running: set[bytes]) -> list[Backup]:
    """What ended a moment ago, newest first. A checkpoint of a backup that goes on is no end."""
    now = context.now()
    page = reports.rows(context.db(), context.scope(), Window(now - ENDED_S, now + 1), limit=ENDED_SHOWN * 2)
    found = [row for day in page.days for row in day.rows if row.complete or row.machine_id not in still_running]
    return found[:ENDED_SHOWN]
