"""Log lines: one a record in either form, whatever a message holds."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from appliance import log_lines
from appliance.log_lines import JsonLines, PlainLines

HOSTILE = "name\r\n2026-01-01 ERROR all is lost\x1b[31m"


def record(message: str, *arguments: object, error: bool = False) -> logging.LogRecord:
    info = None
    if error:
        try:
            raise KeyError("x")
        except KeyError:
            info = sys.exc_info()
    return logging.LogRecord("pilulier.x", logging.WARNING, "f.py", 1, message, arguments, info)


def test_plain_lines() -> None:
    line = PlainLines().format(record("machine %s", HOSTILE))
    assert line.endswith("WARNING pilulier.x: machine name 2026-01-01 ERROR all is lost[31m") and "\n" not in line
    assert "Traceback" in PlainLines().format(record("x", error=True))


def test_json_lines() -> None:
    made = record("machine %s", HOSTILE, error=True)
    made.request_id = "r1"
    line = JsonLines().format(made)
    assert "\n" not in line
    read = json.loads(line)
    assert read["message"] == "machine name 2026-01-01 ERROR all is lost[31m" and read["level"] == "warning"
    assert read["logger"] == "pilulier.x" and read["request_id"] == "r1" and "KeyError" in read["exception"]
    assert read["at"].endswith("Z") and read["process"] > 0


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:]
    try:
        for value, first in (("json", "{"), ("", "2")):
            monkeypatch.setenv(log_lines.VARIABLE, value)
            log_lines.to_stderr()
            logging.getLogger("pilulier.x").warning("hello")
            assert capsys.readouterr().err.startswith(first)
    finally:
        logging.getLogger().handlers[:] = before
