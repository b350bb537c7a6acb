"""The base of all messages and the bounded types of their fields, for every module that holds some.

`transport.messages` tells of their form; nothing else may be imported from here by who only speaks them.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from transport.names import REMOTE_RULE_LIMIT

Id = Annotated[bytes, Meta(min_length=16, max_length=16)]
Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]
Text = Annotated[str, Meta(max_length=500)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Language = Annotated[str, Meta(max_length=16)]
RemoteRule = Annotated[str, Meta(min_length=1, max_length=REMOTE_RULE_LIMIT)]


class Message(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Base of all messages."""
