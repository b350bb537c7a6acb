"""Gestion des comptes: who sees whom, who changes whom, links shown once, nothing without a code."""

from __future__ import annotations

import re

import pytest

from appliance.control import accounts, audit, contracts, invitations, lost_devices, outbox, sessions
from appliance.control.accounts import AccountState, Role
from appliance.control.contract_cards import ContractName
from appliance.control.scope import EVERYTHING
from tests.support.control_house import PASSWORD
from tests.webui.web_house import Browser, WebHouse
from webui.account_forms import contract_labels

LINK = re.compile(r"http://localhost(/invitation/[A-Za-z0-9_-]{43})")


def text_of(browser: Browser, path: str = "/accounts") -> str:
    return browser.get(path).get_data(as_text=True)


def kinds(web: WebHouse) -> list[str]:
    return [act.kind for act in audit.search(web.house.db, EVERYTHING).acts]


def far_admin(web: WebHouse) -> accounts.Account:
    return accounts.add(
        web.house.db, email="far@example.org", role=Role.ADMIN, password=PASSWORD, now=web.clock(),
        space_id=web.house.elsewhere.space_id,
    ).account  # fmt: skip


def test_each_sees_the_accounts_of_their_scope(web: WebHouse) -> None:
    far_admin(web)
    page = text_of(web.browser("super"))
    for who in ("super", "admin", "support", "customer", "far"):
        assert f">{who}@example.org</a>" in page
    assert 'Modifier<span class="visually-hidden"> super@example.org' not in page, "nobody stands above oneself"
    page = text_of(web.browser("admin"))
    assert "far@example.org" not in page and "super@example.org" not in page
    for who, below in (("admin", False), ("support", True), ("customer", True)):
        assert f">{who}@example.org</a>" in page
        assert (f'Modifier<span class="visually-hidden"> {who}@example.org' in page) is below
    for who in ("support", "customer"):
        assert web.browser(who).get("/accounts").status_code == 403
    narrowed = web.browser("super")
    narrowed.post("/focus", {"space": web.house.elsewhere.space_id})
    page = text_of(narrowed)
    assert ">far@example.org</a>" in page and ">admin@example.org</a>" not in page


def test_the_list_is_searched(web: WebHouse) -> None:
    browser = web.browser("super")
    assert ">customer@example.org</a>" in text_of(browser, "/accounts?q=OURS")
    assert ">admin@example.org</a>" not in text_of(browser, "/accounts?role=customer")
    assert "Aucun compte ne correspond" in text_of(browser, "/accounts?q=nobody&state=disabled")
    assert browser.get("/accounts?role=x&state=y&page=-1").status_code == 200


def test_a_contracts_page_leads_to_an_invitation_of_its_customer(web: WebHouse) -> None:
    page = text_of(web.browser("admin"), f"/accounts/invite?contract={web.house.ours.id}")
    assert 'type="text" value="ours"' in page and '<option selected value="customer">' in page
    assert '<option value="next">' in page and '<option value="away">' not in page
    page = text_of(web.browser("admin"), f"/accounts/invite?contract={web.house.elsewhere.id}")
    # A token of the form may hold these four letters by chance.
    assert "away" not in re.sub(r'"[\w.-]{60,}"', "", page)


def test_an_invitation_shows_its_link_once_and_leads_to_the_page(web: WebHouse) -> None:
    browser = web.browser("admin")
    browser.get("/accounts/invite")
    fields = {"email": " New@Example.org", "role": "customer", "contract": "ours", "language": "de"}
    answer = browser.post("/accounts/invite", {**fields, "code": browser.code()})
    found = LINK.findall(answer.get_data(as_text=True))
    assert answer.status_code == 200 and len(set(found)) == 1
    assert not LINK.findall(text_of(browser)) and "new@example.org" in text_of(browser)
    guest = web.stranger()
    assert guest.get(found[0]).headers["Location"] == "/invitation"
    assert "new@example.org" in guest.get("/invitation").get_data(as_text=True)
    [one] = invitations.unanswered(web.house.db, EVERYTHING, web.clock())
    assert (one.invitation.language, one.invitation.invited_by) == ("de", "admin@example.org")
    assert "account.invite" in kinds(web)
    assert found[0].rpartition("/")[2] not in str(audit.search(web.house.db, EVERYTHING).acts)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"email": ""}, "À remplir."),
        ({"email": "no address"}, "pas une adresse e-mail"),
        ({"email": "support@example.org"}, "Un compte existe déjà"),
        ({"contract": ""}, "Choisissez le contrat"),
        ({"contract": "ELSEWHERE"}, "Choisissez le contrat"),
        ({"role": "admin"}, "choi"),
        ({"role": "super"}, "choi"),
        ({"role": "support", "space": "ELSEWHERE"}, "Choisissez l’espace"),
        ({"language": "xx"}, "choi"),
        ({"code": "000000"}, "Ce code n’est pas le bon"),
    ],
)
def test_wrong_input_of_an_invitation_is_said_beside_its_field(
    web: WebHouse, change: dict[str, str], sentence: str
) -> None:
    browser = web.browser("admin")
    browser.get("/accounts/invite")
    elsewhere = {"contract": "away", "space": web.house.elsewhere.space_id}
    change = {name: elsewhere[name] if value == "ELSEWHERE" else value for name, value in change.items()}
    fields = {"email": "new@example.org", "role": "customer", "contract": "ours", "language": "fr"}
    answer = browser.post("/accounts/invite", {**fields, "code": browser.code(), **change})
    page = answer.get_data(as_text=True)
    assert answer.status_code == 200 and sentence in page and "invalid-feedback" in page
    assert f'value="{change.get("email", "new@example.org")}"' in page, "what was typed stays"
    assert invitations.unanswered(web.house.db, EVERYTHING, web.clock()) == []


def test_a_slip_in_the_address_costs_no_second_code(web: WebHouse) -> None:
    browser = web.browser("admin")
    browser.get("/accounts/invite")
    fields = {"role": "customer", "contract": "ours", "language": "fr"}
    browser.post("/accounts/invite", {**fields, "email": "support@example.org", "code": browser.code()})
    answer = browser.post("/accounts/invite", {**fields, "email": "new@example.org"})
    assert LINK.findall(answer.get_data(as_text=True))
    answer = browser.post("/accounts/invite", {**fields, "email": "other@example.org"})
    assert "Ce code n’est pas le bon" in answer.get_data(as_text=True), "the next invitation asks again"


def test_the_super_user_invites_anybody_anywhere(web: WebHouse) -> None:
    browser = web.browser("super")
    browser.get("/accounts/invite")
    for role, space in (("admin", web.house.elsewhere.space_id), ("super", "")):
        fields = {"email": f"{role}2@example.org", "role": role, "space": space, "language": "fr"}
        answer = browser.post("/accounts/invite", {**fields, "code": browser.code()})
        assert LINK.findall(answer.get_data(as_text=True)), answer.get_data(as_text=True)
    found = {one.invitation.role: one for one in invitations.unanswered(web.house.db, EVERYTHING, web.clock())}
    assert found[Role.ADMIN].space_name == "far" and found[Role.SUPER].space_name is None


def test_contracts_that_are_called_alike_are_told_apart(web: WebHouse) -> None:
    names = [
        ContractName("c1", "Port", "a@x.org", "near"),
        ContractName("c2", "Port", "b@x.org", "far"),
        ContractName("c3", "Port", "b@x.org", "far"),
        ContractName("c4", "Gare", "c@x.org", "far"),
    ]
    assert contract_labels(names, with_space=True) == {
        "Port – near": "c1", "Port – far (c2)": "c2", "Port – far (c3)": "c3", "Gare – far": "c4",
    }  # fmt: skip
    assert contract_labels(names, with_space=False) == {
        "Port (a@x.org)": "c1", "Port (c2)": "c2", "Port (c3)": "c3", "Gare": "c4",
    }  # fmt: skip
    contracts.add(
        web.house.db, space_id=web.house.ours.space_id, client_id="next", email="other@example.org", now=web.clock()
    )
    browser = web.browser("admin")
    browser.get("/accounts/invite")
    fields = {"email": "new@example.org", "role": "customer", "language": "fr", "contract": "NEXT"}
    page = browser.post("/accounts/invite", fields).get_data(as_text=True)
    assert "Plusieurs contrats portent ce nom" in page and 'value="NEXT"' in page
    page = browser.post("/accounts/invite", {**fields, "contract": "Ours", "code": browser.code()})
    assert LINK.findall(page.get_data(as_text=True))
    [one] = invitations.unanswered(web.house.db, EVERYTHING, web.clock())
    assert one.client_id == "ours"


def test_invitations_are_sent_again_and_withdrawn(web: WebHouse) -> None:
    house = web.house
    old = invitations.invite(
        house.db, email="new@example.org", role=Role.SUPPORT, space_id=house.ours.space_id,
        by=house.accounts["admin"], now=web.clock(),
    )  # fmt: skip
    browser = web.browser("admin")
    path = f"/accounts/invitations/{old.invitation.id}"
    assert path in text_of(browser)
    assert "Ce code n’est pas le bon" in browser.post(f"{path}/resend", {"code": "1"}).get_data(as_text=True)
    answer = browser.post(f"{path}/resend", {"code": browser.code()})
    [link] = set(LINK.findall(answer.get_data(as_text=True)))
    assert invitations.find(house.db, link.rpartition("/")[2], web.clock()).email == "new@example.org"
    assert browser.get(f"{path}/resend").status_code == 404, "the former one is gone"
    [again] = invitations.unanswered(house.db, EVERYTHING, web.clock())
    answer = browser.post(f"/accounts/invitations/{again.invitation.id}/withdraw")
    assert answer.headers["Location"] == "/accounts" and "est retirée" in text_of(browser)
    assert invitations.unanswered(house.db, EVERYTHING, web.clock()) == []
    assert kinds(web).count("account.invite") == 1 and kinds(web).count("account.invite-cancel") == 1


def test_an_invitation_to_a_role_above_is_not_an_admins(web: WebHouse) -> None:
    above = invitations.invite(
        web.house.db, email="chief@example.org", role=Role.ADMIN, space_id=web.house.ours.space_id,
        by=web.house.accounts["super"], now=web.clock(),
    ).invitation  # fmt: skip
    browser = web.browser("admin")
    assert "chief@example.org" in text_of(browser) and above.id not in text_of(browser)
    for act in ("resend", "withdraw"):
        answer = browser.post(f"/accounts/invitations/{above.id}/{act}", {"code": browser.code()})
        assert answer.status_code == 403
    assert len(invitations.unanswered(web.house.db, EVERYTHING, web.clock())) == 1


def edited(web: WebHouse, who: str, target: str, **change: str) -> tuple[int, str]:
    """Status and page of changing an account, everything else as it was."""
    browser, account = web.browser(who), web.house.accounts[target]
    browser.get(f"/accounts/{account.id}")
    fields = {
        "email": account.email,
        "role": str(account.role),
        "space": account.space_id or "",
        "contract": "ours" if account.contract_id else "",
        "language": account.language,
        "code": browser.code(),
    }
    answer = browser.post(f"/accounts/{account.id}", {**fields, **change})
    return answer.status_code, answer.get_data(as_text=True)


def test_an_accounts_address_role_and_language_change_with_a_code(web: WebHouse) -> None:
    house = web.house
    live = sessions.open(house.db, house.accounts["support"].id, address="a", user_agent="b", now=web.clock())
    status, page = edited(web, "admin", "support", code="000000", email="other@example.org")
    assert (status, "Ce code n’est pas le bon" in page, 'value="other@example.org"' in page) == (200, True, True)
    status, _ = edited(
        web, "admin", "support", email="Other@example.org", role="customer", contract=" next ", language="de"
    )
    assert status == 303
    after = accounts.find(house.db, house.accounts["support"].id)
    assert (after.email, after.role, after.space_id, after.contract_id, after.language) == (
        "other@example.org", Role.CUSTOMER, None, house.neighbour.id, "de",
    )  # fmt: skip
    assert sessions.find(house.db, live.token, web.clock()) is None
    mail = outbox.pending(house.db)[-1]
    assert (mail.recipient, mail.kind, mail.fields["email"]) == (
        "support@example.org", outbox.EMAIL_CHANGED, "other@example.org",
    )  # fmt: skip
    [act] = [act for act in audit.search(house.db, EVERYTHING).acts if act.kind == "account.edit"]
    assert act.before and '"email": "support@example.org"' in act.before and '"role": "support"' in act.before
    assert act.after and '"email": "other@example.org"' in act.after and act.email == "admin@example.org"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"email": "customer@example.org"}, "Un compte existe déjà pour cette adresse"),
        ({"email": "x"}, "pas une adresse e-mail"),
        ({"role": "admin"}, "choi"),
        ({"role": "customer"}, "Choisissez le contrat"),
        ({"role": "customer", "contract": "ELSEWHERE"}, "Choisissez le contrat"),
        ({"space": "ELSEWHERE"}, "Choisissez l’espace"),
    ],
)
def test_what_may_not_be_is_said_beside_its_field(web: WebHouse, change: dict[str, str], sentence: str) -> None:
    elsewhere = {"contract": "away", "space": web.house.elsewhere.space_id}
    change = {name: elsewhere[name] if value == "ELSEWHERE" else value for name, value in change.items()}
    status, page = edited(web, "admin", "support", **change)
    assert status == 200 and sentence in page
    assert accounts.find(web.house.db, web.house.accounts["support"].id) == web.house.accounts["support"]


def test_accounts_beside_and_above_are_shown_and_not_changed(web: WebHouse) -> None:
    peer = accounts.add(
        web.house.db, email="peer@example.org", role=Role.ADMIN, password=PASSWORD, now=web.clock(),
        space_id=web.house.ours.space_id,
    ).account  # fmt: skip
    browser = web.browser("admin")
    page = text_of(browser, f"/accounts/{peer.id}")
    assert "peer@example.org" in page and "seul un super utilisateur" in page and "Enregistrer" not in page
    assert browser.post(f"/accounts/{peer.id}", {"email": "x@example.org"}).status_code == 403
    for act in ("disable", "enable"):
        assert browser.get(f"/accounts/{peer.id}/{act}").status_code == 403
        assert browser.post(f"/accounts/{peer.id}/{act}", {"code": browser.code()}).status_code == 403
    own = web.house.accounts["admin"].id
    assert browser.get(f"/accounts/{own}").headers["Location"] == "/profile"
    assert browser.post(f"/accounts/{own}/disable", {"code": browser.code()}).status_code == 403
    for foreign in (far_admin(web).id, web.house.accounts["super"].id, "nobody"):
        for path in ("", "/disable"):
            assert browser.get(f"/accounts/{foreign}{path}").status_code == 404


def test_the_last_super_user_remains(web: WebHouse) -> None:
    second = accounts.add(web.house.db, email="two@example.org", role=Role.SUPER, password=PASSWORD, now=web.clock())
    browser = web.logged_in("two@example.org", second.totp.secret)
    accounts.set_state(web.house.db, second.account, AccountState.ACTIVE)
    path = f"/accounts/{web.house.accounts['super'].id}"
    fields = {"email": "super@example.org", "role": "support", "space": web.house.ours.space_id, "language": "fr"}
    assert browser.post(path, {**fields, "code": browser.code()}).status_code == 303, "one remains"
    assert accounts.find(web.house.db, "super@example.org").role is Role.SUPPORT


def test_disabling_ends_sessions_and_enabling_brings_back(web: WebHouse) -> None:
    browser, path = web.browser("admin"), f"/accounts/{web.house.accounts['customer'].id}"
    customer = web.browser("customer")
    assert f"{path}/disable" in text_of(browser, path)
    browser.get(f"{path}/disable")
    assert "Ce code n’est pas le bon" in browser.post(f"{path}/disable", {}).get_data(as_text=True)
    assert customer.get("/").status_code == 200
    assert browser.post(f"{path}/disable", {"code": browser.code()}).headers["Location"] == path
    assert customer.get("/").status_code == 303
    assert "Désactivé" in text_of(browser, path)
    assert browser.post(f"{path}/enable", {}).status_code == 200, "coming back asks for a code too"
    assert browser.post(f"{path}/enable", {"code": browser.code()}).status_code == 303
    assert accounts.find(web.house.db, "customer@example.org").state is AccountState.ACTIVE
    assert {"account.disable", "account.enable"} <= set(kinds(web))


def test_a_lost_telephone_is_decided_on_with_a_code(web: WebHouse) -> None:
    house = web.house
    asked = lost_devices.request(house.db, house.accounts["customer"], address="203.0.113.9", now=web.clock())
    browser, path = web.browser("admin"), f"/accounts/requests/{asked.id}"
    assert path in text_of(browser) and "203.0.113.9" in text_of(browser, path)
    answer = browser.post(path, {"decision": "approve", "code": "000000"})
    assert "Ce code n’est pas le bon" in answer.get_data(as_text=True)
    assert browser.post(path, {"decision": "approve", "code": browser.code()}).headers["Location"] == "/accounts"
    assert outbox.pending(house.db)[-1].kind == outbox.DEVICE_APPROVED
    assert browser.get(path).status_code == 404 and path not in text_of(browser)
    again = lost_devices.request(house.db, house.accounts["customer"], address="203.0.113.9", now=web.clock())
    assert browser.post(f"/accounts/requests/{again.id}", {"decision": "refuse"}).status_code == 303
    assert outbox.pending(house.db)[-1].kind == outbox.DEVICE_REFUSED
    assert {"device.approve", "device.refuse"} <= set(kinds(web))


def test_requests_from_beside_above_and_elsewhere_are_not_there(web: WebHouse) -> None:
    browser = web.browser("admin")
    for account in (web.house.accounts["admin"], web.house.accounts["super"], far_admin(web)):
        asked = lost_devices.request(web.house.db, account, address="a", now=web.clock())
        for decision in ("approve", "refuse"):
            answer = browser.post(f"/accounts/requests/{asked.id}", {"decision": decision, "code": browser.code()})
            assert answer.status_code == 404
