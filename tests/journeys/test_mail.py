"""From a backup to the mail in somebody's box: real agent, real service, real mail server."""

from __future__ import annotations

from pathlib import Path

from tests.support.mail_server import PASSWORD, USER, MailServer, certificate
from tests.support.processes import House


def test_a_backup_and_a_restore_are_mailed_without_names_of_files(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "base.db").write_bytes(b"pharmacy" * 1000)
    tls = certificate(tmp_path)
    (tmp_path / "mail-password").write_text(PASSWORD)
    agent = house.agent(source, name="SERVEUR")
    with MailServer(tls=tls, login=True) as server:
        house.appliance.command(
            *("mail", "set", "--host", "127.0.0.1", "--port", str(server.port), "--user", USER),
            *("--password-file", str(tmp_path / "mail-password"), "--authority", str(tls.authority)),
            *("--sender", "box@example.org", "--public-url", "https://box.example.org"),
        )
        assert agent.command("backup").document["snapshot"] == 1
        assert house.appliance.command("jobs", "run", "synthesis").document["text"].startswith("1 contracts told")
        assert house.appliance.command("jobs", "run", "outbox").document["text"].startswith("1 mails sent")
        # Opened for a restore: the contract's people hear of it.
        agent.restore(tmp_path / "target", account=house.account())
        house.appliance.command("jobs", "run", "alerts")
        house.appliance.command("jobs", "run", "outbox")
    subjects = [str(message["Subject"]) for message in server.taken]
    assert subjects[0].startswith("Sauvegardes du jour : 1 sur 1 complètes")
    assert "Restauration ouverte : SERVEUR" in subjects[1:]
    for message in server.taken:
        for part in message.walk():
            if part.get_content_maintype() == "text":
                assert "base.db" not in part.get_content()
    html = server.taken[0].get_body(("html",))
    assert html is not None
    shown = html.get_content()
    assert "SERVEUR" in shown and "https://box.example.org/contracts/" in shown
