"""The audit log's pages, and that every act of the interface leaves a line: a table of all that can be posted."""

from __future__ import annotations

import ast
import csv
import hashlib
import inspect
import io
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.control import audit
from appliance.control.audit import Actor
from appliance.control.database import Database
from appliance.control.scope import EVERYTHING
from tests.support.control_house import NOW
from tests.webui.web_house import WebHouse
from webui import audit_words

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Writes:
    """What an endpoint writes: one or more of these kinds, found in the module of its view or in `where`."""

    kinds: tuple[str, ...]
    where: str = ""


@dataclass(frozen=True, slots=True)
class Nothing:
    """Why an endpoint that takes a POST writes no line."""

    reason: str


def writes(*kinds: str, where: str = "") -> Writes:
    return Writes(kinds, where)


POSTED: dict[str, Writes | Nothing] = {
    "account_invitations.invite": writes("account.invite"),
    "account_invitations.resend": writes("account.invite"),
    "account_invitations.withdraw": writes("account.invite-cancel"),
    "account_requests.decide": writes("device.approve", "device.refuse"),
    "accounts.edit": writes("account.edit"),
    "accounts.state": writes("account.disable", "account.enable"),
    "alerts.acknowledge": writes("alert.acknowledge"),
    "api.acknowledge_alert": writes("alert.acknowledge"),
    "api.ask_backup": writes("machine.backup"),
    "api.cancel_deletion": writes("deletion.cancel"),
    "api.change_contract": writes("contract.edit"),
    "api.change_machine": writes("machine.rename", "machine.language"),
    "api.close_restore": writes("restore.close"),
    "api.create_code": writes("contract.code"),
    "api.create_contract": writes("contract.add"),
    "api.delete_contract": writes("contract.delete"),
    "api.delete_machine": writes("machine.delete"),
    "api.download_archive": writes("restore.download"),
    "api.list_folder": Nothing("it reads; names of folders are no matter for the log"),
    "api.cancel_sent": writes("delivery.cancel"),
    "api.move_machine": writes("machine.move"),
    "api.open_restore": writes("restore.open"),
    "api.send_restore": writes("delivery.send"),
    "api.pause_contract": writes("contract.pause"),
    "api.resume_contract": writes("contract.resume"),
    "api.revoke_machine": writes("machine.revoke"),
    "api.save_settings": writes("machine.settings"),
    "api.search_entries": Nothing("it looks for names; words that are looked for may be a patient's"),
    "api.create_webhook": writes("webhook.add"),
    "api.remove_webhook": writes("webhook.remove"),
    "api.withdraw_codes": writes("contract.codes-withdraw"),
    "api_tokens.index": writes("api-token.create"),
    "api_tokens.revoke": writes("api-token.revoke"),
    "audit.verify": Nothing("it reads the chain and changes nothing"),
    "contract_acts.cancel": writes("deletion.cancel"),
    "contract_acts.delete": writes("contract.delete"),
    "contract_acts.new_code": writes("contract.code"),
    "contract_acts.notify": writes("contract.edit"),
    "contract_acts.pause": writes("contract.pause"),
    "contract_acts.resume": writes("contract.resume"),
    "contract_acts.withdraw_codes": writes("contract.codes-withdraw"),
    "contract_exports.index": writes("contract.export"),
    "contract_forms.edit": writes("contract.edit"),
    "contract_forms.new": writes("contract.add"),
    "device.replace": writes("device.replace"),
    "device.request": writes("device.request"),
    "invitation.accept": writes("account.add"),
    "login.code": writes("login"),
    "login.language": writes("account.language"),
    "login.leave": writes("logout"),
    "login.password": Nothing("half a login is none: the attempt is counted by throttling, the other half writes"),
    "machine_acts.accept_selection": writes("machine.accept-selection"),
    "machine_acts.backup": writes("machine.backup"),
    "machine_acts.delete": writes("machine.delete"),
    "machine_acts.language": writes("machine.language"),
    "machine_acts.move": writes("machine.move"),
    "machine_acts.rename": writes("machine.rename"),
    "machine_acts.revoke": writes("machine.revoke"),
    "machine_settings.edit": writes("machine.settings"),
    "password.choose": writes("account.password"),
    "password.forgotten": Nothing("a stranger asks for a mail, of any address; what the link does is written"),
    "profile.codes": writes("account.recovery-codes"),
    "profile.device": writes("device.replace"),
    "profile.end": writes("account.sessions"),
    "profile.end_others": writes("account.sessions"),
    "profile.language": writes("account.language"),
    "profile.password": writes("account.password"),
    "webhooks.index": writes("webhook.add"),
    "webhooks.pause": writes("webhook.pause"),
    "webhooks.remove": writes("webhook.remove"),
    "webhooks.test": writes("webhook.test"),
    "sending.allow_crossings": writes("contract.crossings"),
    "sending.cancel": writes("delivery.cancel"),
    "sending.send": writes("delivery.send"),
    "sending.send_all": writes("delivery.send"),
    "restore.download": writes("restore.download"),
    "restore.leave": writes("restore.close"),
    "restore.search": Nothing("it looks for names; words that are looked for may be a patient's"),
    "restore.start": writes("restore.open"),
    "restore.tick": Nothing("a list that is being put together"),
    "settings.index": writes("space.theme"),
    "settings.sending": writes("mail.set"),
    "settings.try_sending": writes("mail.test"),
    "settings.logo": writes("space.logo"),
    "settings.rules": writes("space.settings"),
    "system.checks": Nothing("it looks at the box and changes nothing"),
    "system.retry": writes("mail.retry"),
    "system.start": writes("job.start"),
    "spaces.add": writes("space.add"),
    "spaces.delete": writes("space.delete"),
    "spaces.focus": Nothing("a super-user looks at less, for a while"),
    "spaces.keep": writes("deletion.cancel"),
    "spaces.rename": writes("space.rename"),
}


def posted(web: WebHouse) -> set[str]:
    changing = {"POST", "PUT", "PATCH", "DELETE"}
    return {rule.endpoint for rule in web.app.url_map.iter_rules() if (rule.methods or set()) & changing}


def test_every_endpoint_that_takes_a_post_says_what_it_writes(web: WebHouse) -> None:
    found = posted(web)
    missing = sorted(found - set(POSTED))
    assert not missing, f"say in POSTED which line of the audit log each writes, or why none: {missing}"
    assert not set(POSTED) - found, "these are gone"


def test_what_an_endpoint_is_said_to_write_stands_in_its_code(web: WebHouse) -> None:
    wrong = []
    for endpoint, said in POSTED.items():
        if isinstance(said, Nothing):
            assert said.reason
            continue
        view = inspect.unwrap(web.app.view_functions[endpoint])
        source = inspect.getsource(sys.modules[said.where or view.__module__])
        if not any(f'"{kind}"' in source for kind in said.kinds):
            wrong.append(f"{endpoint}: {said.kinds}")
    assert not wrong, wrong


WRITERS = ("write", "note", "_note")


def written_kinds() -> Iterator[tuple[str, str]]:
    """Every kind that a call of `audit.write` or of one of the `note`s names, with the module that does."""
    kind = re.compile(r"[a-z]+(-[a-z]+)*\.[a-z]+(-[a-z]+)*")
    for path in sorted([*(CHECKOUT / "appliance").rglob("*.py"), *(CHECKOUT / "webui").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or ast.unparse(node.func).rpartition(".")[2] not in WRITERS:
                continue
            for argument in (*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "kind")):
                # A kind may be chosen on the spot: "account.disable" if … else "account.enable".
                for part in [argument.body, argument.orelse] if isinstance(argument, ast.IfExp) else [argument]:
                    if isinstance(part, ast.Constant) and isinstance(part.value, str) and kind.fullmatch(part.value):
                        yield part.value, path.relative_to(CHECKOUT).as_posix()


def test_every_kind_of_act_has_a_word() -> None:
    found = set(written_kinds())
    assert len({kind for kind, _ in found}) > 15, "the look for kinds sees nothing"
    missing = sorted(f"{kind} ({path})" for kind, path in found if kind not in audit_words.KINDS)
    assert not missing, f"give each a word in webui/audit_words.py: {missing}"


def test_no_word_is_for_an_act_that_nothing_writes() -> None:
    sources = [*(CHECKOUT / "appliance").rglob("*.py"), *(CHECKOUT / "webui").rglob("*.py")]
    code = "".join(path.read_text(encoding="utf-8") for path in sources if path.name != "audit_words.py")
    assert not sorted(kind for kind in audit_words.KINDS if f'"{kind}"' not in code)


def line(
    db: Database, kind: str, email: str = "admin@example.org", *, space: str | None, at: float = NOW, **values: object
) -> None:
    actor = Actor("a1", email, "admin", "192.0.2.7")
    audit.write(db, actor, kind, now=at, object_kind="contract", object_id="c1", object_name="ours", space_id=space,
                before=values.get("before"), after=values.get("after"))  # fmt: skip


@pytest.fixture
def told(web: WebHouse) -> WebHouse:
    """A near line, a far one and one of the appliance itself, before anybody logs in."""
    db, near, far = web.house.db, web.house.ours.space_id, web.house.elsewhere.space_id
    line(db, "contract.edit", space=near, before={"allocated_bytes": 20 * 10**9}, after={"allocated_bytes": 50 * 10**9})
    line(db, "contract.pause", "boss@far.example", space=far, at=NOW + 1)
    line(db, "clock.accept", "root", space=None, at=NOW + 2)
    return web


def text(answer: object) -> str:
    return re.sub(r"[ \n]+", " ", answer.get_data(as_text=True))  # type: ignore[attr-defined]


def test_admins_read_their_own_space_and_the_super_user_everything(told: WebHouse) -> None:
    seen = {"super": (True, True, True), "admin": (True, False, False)}
    for who, (near, far, own) in seen.items():
        browser = told.browser(who)
        for path in ("/audit", "/audit.csv", "/audit.json"):
            page = text(browser.get(path))
            assert ("Contrat modifié" in page or "contract.edit" in page) is near, (who, path)
            assert ("boss@far.example" in page) is far, (who, path)
            assert ("root" in page) is own, (who, path)
    browser = told.browser("super")
    browser.post("/focus", {"space": told.house.elsewhere.space_id})
    page = text(browser.get("/audit"))
    assert "boss@far.example" in page and "Contrat modifié" not in page


@pytest.mark.parametrize("who", ["support", "customer"])
def test_others_may_not_read_it(told: WebHouse, who: str) -> None:
    browser = told.browser(who)
    for path in ("/audit", "/audit.csv", "/audit.json", "/audit/verify"):
        assert browser.get(path).status_code == 403
    assert "/audit" not in browser.get("/").get_data(as_text=True)


def test_a_line_says_who_when_from_where_what_before_and_after(told: WebHouse) -> None:
    page = text(told.browser("admin").get("/audit"))
    for part in ("admin@example.org", "192.0.2.7", "Administrateur", "Contrat modifié", "ligne 1", "Espace alloué :"):
        assert part in page, part
    assert "<del>20\u00a0Go</del>" in page and "<ins>50\u00a0Go</ins>" in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("text=OURS", True),
        ("text=192.0.2.7", True),
        ("text=50000000000", True),
        ("text=nobody", False),
        ("text=%25", False),
        ("kind=contract.edit", True),
        ("kind=contract.pause", False),
        ("who=admin@example.org", True),
        ("who=root", False),
        ("from=2027-01-15&to=2027-01-15", True),
        ("from=2027-01-16", False),
        ("to=2027-01-14", False),
    ],
)
def test_it_is_searched_by_text_kind_account_and_date(told: WebHouse, query: str, found: bool) -> None:
    browser = told.browser("admin")
    # Logging in wrote a line too: the edit is told apart by its number.
    assert (">20\u00a0Go<" in browser.get(f"/audit?{query}").get_data(as_text=True)) is found
    assert ("20000000000" in browser.get(f"/audit.csv?{query}").get_data(as_text=True)) is found


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("from=2027-13-01", "Cette date n’en est pas une"),
        ("to=0001-01-01", "Cette date n’en est pas une"),
        ("from=2027-02-01&to=2027-01-01", "La période commence après sa fin"),
    ],
)
def test_dates_that_make_no_sense_are_said_beside_them(told: WebHouse, query: str, sentence: str) -> None:
    answer = told.browser("admin").get(f"/audit?{query}")
    assert answer.status_code == 200 and sentence in text(answer)


def test_odd_addresses_break_nothing(told: WebHouse) -> None:
    browser = told.browser("admin")
    for query in ("before=-1", "before=99999999999999999999999", "before=x", "endpoint=x", "_scheme=javascript",
                  "_external=1", "_anchor=x"):  # fmt: skip
        answer = browser.get(f"/audit?{query}&text=ours")
        assert answer.status_code == 200
        assert "javascript:" not in answer.get_data(as_text=True)


def test_pages_follow_one_another(web: WebHouse) -> None:
    for number in range(120):
        line(web.house.db, "contract.edit", space=web.house.ours.space_id, at=NOW + number)
    browser = web.browser("admin")
    found: list[int] = []
    path: str | None = "/audit?kind=contract.edit"
    while path:
        page = browser.get(path).get_data(as_text=True)
        found += [int(number) for number in re.findall(r"ligne (\d+)<", page)]
        following = re.search(r'rel="next" href="([^"]+)"', page)
        path = following[1].replace("&amp;", "&") if following else None
    assert found == list(range(120, 0, -1))


def test_what_was_typed_into_the_log_is_text_in_the_page(web: WebHouse) -> None:
    line(web.house.db, "contract.edit", '<script>x</script>"', space=None, after={"<b>": "<i>y</i>"})
    page = web.browser("super").get("/audit").get_data(as_text=True)
    assert "<script>x" not in page and "<i>y" not in page and "<b>" not in page


def test_the_export_holds_all_that_the_chain_is_made_of(told: WebHouse) -> None:
    browser = told.browser("super")
    acts = json.loads(browser.get("/audit.json").get_data(as_text=True))
    previous = bytes(32)
    order = (
        *("line", "at_ms", "account_id", "email", "role", "address", "kind", "object_kind", "object_id"),
        *("object_name", "space_id", "contract_id", "before", "after"),
    )
    assert len(acts) == 4
    for act in acts:
        # As anybody may check it who has read the module's first lines.
        canonical = json.dumps([act[name] for name in order], ensure_ascii=True, separators=(",", ":"))
        digest = hashlib.sha256(b"pilulier/audit/1\0" + previous + canonical.encode()).digest()
        assert act["hash"] == digest.hex()
        previous = digest
    rows = list(csv.DictReader(io.StringIO(browser.get("/audit.csv").get_data(as_text=True)[1:]), delimiter=";"))
    assert [row["Acte"] for row in rows] == ["Contrat modifié", "Contrat mis en pause", *[rows[2]["Acte"]], "Connexion"]
    assert rows[-1]["Empreinte"] == previous.hex()
    assert json.loads(browser.get("/audit.json?text=nobody").get_data(as_text=True)) == []


def test_the_chain_is_walked_and_its_head_can_be_noted(told: WebHouse) -> None:
    browser = told.browser("admin")
    browser.get("/audit/verify")
    page = text(browser.post("/audit/verify"))
    assert "Le journal est intact" in page
    # How much others do is none of an admin's business.
    assert "lignes vérifiées" not in page
    head = re.search(r"<code data-copy-source>([0-9a-f]{64})</code>", page)
    assert head is not None
    line(told.house.db, "contract.edit", space=None)
    assert "Le journal est intact" in text(browser.post("/audit/verify", {"head": head[1]}))
    assert "ne figure plus" in text(browser.post("/audit/verify", {"head": "ab" * 32}))
    assert "lignes vérifiées" in text(_super(told))


def _super(told: WebHouse) -> object:
    browser = told.browser("super")
    browser.get("/audit/verify")
    return browser.post("/audit/verify")


def test_the_first_altered_line_is_named(told: WebHouse) -> None:
    db = told.house.db
    with db.write():
        db.execute("DROP TRIGGER audit_stays")
        db.execute("UPDATE audit SET object_name = 'theirs' WHERE line = 2")
    page = text(_super(told))
    assert "la ligne 2 est la première qui ne tient pas" in page


def test_a_head_that_is_none_is_said_beside_the_field(told: WebHouse) -> None:
    browser = told.browser("admin")
    browser.get("/audit/verify")
    for typed in ("12", "zz" * 32, "ab" * 31):
        page = text(browser.post("/audit/verify", {"head": typed}))
        assert "64 chiffres hexadécimaux" in page and f'value="{typed}"' in page


def test_logging_out_and_changing_language_are_written(web: WebHouse) -> None:
    browser = web.browser("customer")
    browser.post("/language", {"language": "de", "next": "/"})
    browser.post("/language", {"language": "de", "next": "/"})
    browser.post("/language", {"language": "xx", "next": "/"})
    browser.post("/logout")
    acts = list(audit.export(web.house.db, EVERYTHING))
    assert [act.kind for act in acts] == ["login", "account.language", "logout"]
    assert acts[1].after == '{"language": "de"}' and acts[1].contract_id == web.house.ours.id


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, None, []),
        ('{"a": 1, "b": 2}', '{"a": 1, "b": 3}', [("b", "2", "3")]),
        (None, '{"role": "admin"}', [("Rôle", None, "Administrateur")]),
        ('{"paused": true}', '{"paused": false}', [("En pause", "oui", "non")]),
        ('{"end_date": null}', '{"end_date": "2027-03-01"}', [("Date de fin", "–", "01/03/2027")]),
        (None, '{"selection": {"include": ["/a", "/b"], "exclude": []}}',
         [("Inclus", None, "/a, /b"), ("Exclus", None, "–")]),
        ('"old"', '"new"', [("", "old", "new")]),
        (None, '{"due_at": 1800000000.0}', [("Effective", None, "15/01/2027 09:00")]),
        (None, '{"language": ""}', [("Langue", None, "–")]),
        (None, '{"end_date": "soon", "state": "odd"}', [("Date de fin", None, "soon"), ("État", None, "odd")]),
    ],
)  # fmt: skip
def test_changes_in_the_readers_words(
    web: WebHouse, before: str | None, after: str | None, expected: list[tuple[str, str | None, str | None]]
) -> None:
    with web.app.test_request_context(headers={"Accept-Language": "fr"}):
        found = audit_words.changes(before, after)
    assert [(change.label, change.before, change.after) for change in found] == expected
