"""`pilulier mail` as an operator types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import outbox
from appliance.control.database import Database
from appliance.settings import Home
from tests.support.command_line import Shell, initialised
from tests.support.mail_samples import FIELDS
from tests.support.mail_server import PASSWORD, USER, MailServer, certificate


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return initialised(tmp_path / "home", capsys)


def test_set_show_test_and_send(shell: Shell, tmp_path: Path) -> None:
    tls = certificate(tmp_path)
    (tmp_path / "mail-password").write_text(PASSWORD + "\n")
    with MailServer(tls=tls, login=True) as server:
        made = shell(
            *("--json", "mail", "set", "--host", "127.0.0.1", "--port", str(server.port), "--user", USER),
            *("--password-file", str(tmp_path / "mail-password"), "--sender", "box@example.org"),
            *("--authority", str(tls.authority), "--public-url", "https://box.example.org/"),
        ).document
        assert made["has_password"] and made["security"] == "starttls" and made["public_url"] == "https://box.example.org"
        shown = shell("mail", "show")
        assert PASSWORD not in shown.out and "password:    kept" in shown.out
        sent = shell("--json", "mail", "test", "--to", "boss@example.org", "--language", "en").document
        assert sent == {"to": "boss@example.org", "server": "127.0.0.1", "sent": True}
        with Database.open(Home(shell.root).control_db) as db:
            outbox.add(db, recipient="p@example.org", kind=outbox.BACKUP_FAILED, language="fr",
                       fields=FIELDS[outbox.BACKUP_FAILED], now=0.0)  # fmt: skip
        ran = shell("--json", "jobs", "run", "outbox").document
        assert (ran["outcome"], ran["text"]) == ("done", "1 mails sent, 0 put off, 0 given up")
        (listed,) = shell("--json", "mail", "list").document
        assert (listed["to"], listed["state"], listed["last_error"]) == ("p@example.org", "sent", None)
    assert [message["Subject"] for message in server.taken] == [
        "A test message from Pilulier",
        "Échec de sauvegarde : COMPTOIR-1",
    ]
    assert PASSWORD not in Home(shell.root).settings_file.read_text()
    # What was changed, but not the password, stands in the audit log.
    with Database.open(Home(shell.root).control_db) as db:
        lines = [row["after"] for row in db.rows("SELECT after FROM audit WHERE kind = 'mail.set'")]
    assert len(lines) == 1 and '"password": "changed"' in lines[0] and PASSWORD not in lines[0]


def test_what_is_wrong_is_said(shell: Shell) -> None:
    assert "no mail server is configured" in shell("mail", "test", "--to", "p@example.org").sentence
    assert shell("mail", "set").code == 2 and shell("mail", "set", "--port", "x").code == 2
    refused = shell("mail", "set", "--host", "mail.example.org", "--sender", "a@x.org", "--security", "none")
    assert refused.code == 2 and "without TLS" in refused.err
    assert "127.0.0.1:1 cannot be reached: Connection refused" in shell(
        "mail", "set", "--host", "127.0.0.1", "--port", "1", "--sender", "a@x.org"
    ).out + shell("mail", "test", "--to", "p@example.org").sentence
