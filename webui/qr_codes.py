"""QR codes as inline SVG: modules as one path, colours as attributes, so that the content policy lets them through.

The only room for segno. Black on white whatever the page's mode: cameras read nothing else reliably.
"""

from __future__ import annotations

from typing import Final

import segno
from markupsafe import Markup

QUIET_MODULES: Final = 4
"""The white border that ISO/IEC 18004 asks for."""
CORRECTION: Final = "m"
"""15 % of the picture may be lost: screens reflect."""


def qr_code(text: str, label: str) -> Markup:
    """A text as a picture that `label` describes to who cannot see it."""
    drawn = segno.make(text, error=CORRECTION, micro=False).svg_inline(
        border=QUIET_MODULES, dark="#000", light="#fff", omitsize=True, svgclass=None, lineclass=None
    )
    return Markup('<div class="qr" role="img" aria-label="{}">{}</div>').format(label, Markup(drawn))
