"""Mails through a real SMTP server: encrypted, logged in, once each, tried again, given up, never to a stranger."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.control import outbox
from appliance.control.database import Database
from appliance.control.outbox import LEASE_S, MailState
from appliance.mail import delivery
from appliance.mail import settings as mail_settings
from appliance.mail.delivery import MailServerError, Round
from appliance.settings import Home, MailSettings, Settings
from tests.support.mail_samples import FIELDS, SECRET
from tests.support.mail_server import PASSWORD, USER, Certificate, MailServer, certificate
from transport.errors import UsageError

NOW = 1_795_600_000.0


@dataclass(slots=True)
class Office:
    """A home that sends, and its database."""

    home: Home
    db: Database
    certificate: Certificate
    now: float = NOW

    def use(self, server: MailServer, **changes: object) -> None:
        options: dict[str, object] = {
            "host": "127.0.0.1",
            "port": server.port,
            "sender": "sauvegarde@example.org",
            "security": "starttls" if server.tls else "none",
            "authority": str(self.certificate.authority) if server.tls else "",
            "user": USER if server.login else "",
        }
        mail_settings.save(
            self.home, MailSettings(**options | changes), public_url="https://sauvegarde.example.org/"  # type: ignore[arg-type]
        )
        mail_settings.save_password(self.home, PASSWORD if server.login else "")

    def write(self, kind: str = outbox.BACKUP_FAILED, to: str = "p@example.org", secret: str | None = None) -> int:
        return outbox.add(
            self.db, recipient=to, kind=kind, language="fr", fields=FIELDS[kind], secret=secret, now=self.now
        )

    def deliver(self) -> Round:
        return delivery.deliver(self.home, self.db, now=lambda: self.now)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    home = Home(tmp_path / "home")
    home.keys.mkdir(parents=True)
    home.save_settings(Settings())
    return Office(home, Database.create(home.control_db), certificate(tmp_path))


def test_encrypted_logged_in_and_each_once(office: Office) -> None:
    with MailServer(tls=office.certificate, login=True) as server:
        office.use(server)
        office.write()
        office.write(outbox.INVITATION, "new@example.org", SECRET)
        assert office.deliver() == Round(sent=2, put_off=0, given_up=0, stopped="")
        assert office.deliver() == Round(0, 0, 0, "")
    failed, invited = server.taken
    assert server.recipients == ["p@example.org", "new@example.org"]
    assert failed["From"] == "Pilulier <sauvegarde@example.org>" and failed["To"] == "p@example.org"
    assert failed["Subject"] == "Échec de sauvegarde : COMPTOIR-1"
    assert failed["Message-ID"].endswith("@example.org>") and failed["Message-ID"] != invited["Message-ID"]
    assert failed["Auto-Submitted"] == "auto-generated"
    body = invited.get_body(("html",))
    assert body is not None and f"https://sauvegarde.example.org/invitation/{SECRET}" in body.get_content()
    assert office.db.value("SELECT count(*) AS n FROM outbox WHERE secret IS NOT NULL") == 0


def test_nobody_else_gets_name_password_or_mail(office: Office, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with MailServer(tls=certificate(other), login=True) as impostor:
        office.use(impostor)
        office.write()
        told = office.deliver()
    assert "is not to be believed" in told.stopped and told.sent == 0 and impostor.taken == []
    with MailServer() as without_tls:
        office.use(without_tls, security="starttls")
        assert "does not offer what is wanted of it" in office.deliver().stopped and without_tls.taken == []
    (waiting,) = outbox.pending(office.db)
    assert waiting.attempts == 0, "a server that cannot be used costs the mails nothing"


def test_a_wrong_password_and_no_server_keep_all_mails(office: Office) -> None:
    with MailServer(tls=office.certificate, login=True) as server:
        office.use(server)
        mail_settings.save_password(office.home, "wrong")
        office.write()
        told = office.deliver().stopped
        assert f"refuses user {USER} and its password" in told and "wrong" not in told
        port = server.port
    assert "cannot be reached" in office.deliver().stopped
    assert len(outbox.pending(office.db)) == 1 and port


def test_a_final_no_gives_up_and_another_is_tried_again(office: Office) -> None:
    answers = {"gone@example.org": "550 no such user", "full@example.org": "452 mailbox full"}
    with MailServer(answer_rcpt=lambda address: answers.get(address, "250 ok")) as server:
        office.use(server)
        for to in ("gone@example.org", "full@example.org", "well@example.org"):
            office.write(to=to)
        assert office.deliver() == Round(sent=1, put_off=1, given_up=1, stopped="")
        (waiting,) = outbox.pending(office.db)
        assert waiting.last_error == "full@example.org is refused: 452 mailbox full"
        answers.clear()
        assert office.deliver().sent == 0, "not before its pause is over"
        office.now += 60
        assert office.deliver().sent == 1
    assert server.recipients == ["well@example.org", "full@example.org"]
    (given_up,) = (mail for mail in outbox.recent(office.db) if mail.state is MailState.GIVEN_UP)
    assert given_up.last_error == "gone@example.org is refused: 550 no such user"


def test_a_sender_that_died_before_sending_loses_nothing_and_doubles_nothing(office: Office) -> None:
    with MailServer() as server:
        office.use(server)
        office.write()
        # One that claimed it and died before the server had it.
        assert outbox.claim(office.db, "<first@example.org>", office.now) is not None
        assert office.deliver().sent == 0
        office.now += LEASE_S
        assert office.deliver().sent == 1
    assert [message["Message-ID"] for message in server.taken] == ["<first@example.org>"]


def test_one_that_died_between_the_servers_word_and_its_own_doubles_under_one_id(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MailServer() as server:
        office.use(server)
        office.write()

        def die(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(outbox, "mark_sent", die)
            with pytest.raises(KeyboardInterrupt):
                office.deliver()
        office.now += LEASE_S
        assert office.deliver().sent == 1
    # The one case in which nobody can know: both copies say that they are the same.
    first, second = server.taken
    assert first["Message-ID"] == second["Message-ID"]


def test_a_session_that_breaks_off_keeps_what_was_not_taken(office: Office) -> None:
    taken = iter(["250 taken", "421 going down"])
    with MailServer(answer_data=lambda _: next(taken)) as server:
        office.use(server)
        for number in range(3):
            office.write(to=f"p{number}@example.org")
        told = office.deliver()
        assert (told.sent, "421 going down" in told.stopped) == (1, True)
    assert [mail.recipient for mail in outbox.pending(office.db)] == ["p1@example.org", "p2@example.org"]
    assert len(server.taken) == 1


def test_links_need_a_public_address_and_expired_ones_stay(office: Office) -> None:
    with MailServer() as server:
        office.use(server)
        mail_settings.save(office.home, public_url="")
        office.write(outbox.INVITATION, secret=SECRET)
        assert office.deliver() == Round(0, put_off=1, given_up=0, stopped="")
        assert "no public address is set" in outbox.pending(office.db)[0].last_error
        mail_settings.save(office.home, public_url="https://x.example.org")
        office.now += 3 * 86400
        assert office.deliver() == Round(0, 0, given_up=1, stopped="")
    assert server.taken == [] and "expired" in outbox.recent(office.db)[0].last_error


def test_a_kind_of_the_future_does_not_hold_up_the_others(office: Office) -> None:
    with MailServer() as server:
        office.use(server)
        outbox.add(office.db, recipient="p@example.org", kind="of-the-future", language="fr", fields={}, now=NOW)
        office.write()
        assert office.deliver() == Round(sent=1, put_off=1, given_up=0, stopped="")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"host": "bad host"}, "is not the name or address of a mail server"),
        ({"port": 0}, "out of range"),
        ({"security": "none"}, "without TLS they may only go to a server on this machine"),
        ({"sender": ""}, "give --sender"),
        ({"sender": "a@x.org\nBcc: b@x.org"}, "is not an e-mail address"),
        ({"sender_name": "a\nb"}, "control characters"),
        ({"authority": "here.pem"}, "not an absolute path"),
    ],
)
def test_settings_that_could_not_work_are_refused(office: Office, changes: dict[str, object], said: str) -> None:
    options: dict[str, object] = {"host": "mail.example.org", "sender": "a@example.org"}
    with pytest.raises(UsageError, match=said):
        mail_settings.save(office.home, MailSettings(**options | changes))  # type: ignore[arg-type]
    assert office.home.load_settings().mail == MailSettings()


@pytest.mark.parametrize(
    "url", ["http://example.org", "ftp://x.org", "https://", "https://u:p@x.org", "https://x.org/?a=1", "https://x.org/é"]
)
def test_public_addresses(office: Office, url: str) -> None:
    with pytest.raises(UsageError, match="links in mails begin with it"):
        mail_settings.save(office.home, public_url=url)
    assert mail_settings.save(office.home, public_url="https://x.org:8443/backup/").public_url == (
        "https://x.org:8443/backup"
    )
    assert mail_settings.checked_url("http://127.0.0.1:8787/") == "http://127.0.0.1:8787"


def test_the_password_is_private_and_a_credential_goes_before_it(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail_settings.save_password(office.home, PASSWORD)
    assert office.home.mail_password.stat().st_mode & 0o777 == 0o600
    assert mail_settings.load_password(office.home) == PASSWORD and mail_settings.has_password(office.home)
    (tmp_path / "mail-password").write_text("from systemd\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert mail_settings.load_password(office.home) == "from systemd"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    mail_settings.save_password(office.home, "")
    assert not mail_settings.has_password(office.home) and mail_settings.load_password(office.home) == ""


def test_a_test_message_says_what_is_wrong(office: Office) -> None:
    with pytest.raises(MailServerError, match="no mail server is configured"):
        delivery.send_test(office.home, office.db, "p@example.org", "fr", now=lambda: NOW)
    with MailServer() as server:
        office.use(server)
        delivery.send_test(office.home, office.db, "p@example.org", "de", now=lambda: NOW)
    assert [message["Subject"] for message in server.taken] == ["Testnachricht von Pilulier"]
    assert outbox.recent(office.db) == []
