"""Made-up spaces, people, contracts and machines for screens, tests and benchmarks: the same for the same seed.

Everything but the password's salt follows from the seed and the given time. Rows are written directly, since ids
must not be random here; what is written is what the modules of `control` would have written. Never into a home that
has contracts: demo accounts have a known password.
"""

from __future__ import annotations

import base64
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final, Literal

from appliance import demo_history, demo_settings
from appliance.control import audit, site_copies, themes
from appliance.control.database import Database
from appliance.control.passwords import hash_password
from appliance.demo_history import DemoMachine, Fate
from appliance.errors import ConflictError
from transport.messages_onsite import CopiesReport, CopyTold

PASSWORD: Final = "pilulier-demo"
DAYS: Final = 90
SPACES: Final = 3
CONTRACTS: Final = 60
MACHINES: Final = 150
_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"
_GB: Final = 10**9

_SPACES: Final = (
    ("Officine Sauvegarde", "Officine Sauvegarde", "#14532d", "#166534", "Assistance : 01 84 00 00 10, lundi – samedi"),
    ("MédiSave Lyon", "MédiSave", "#1e3a8a", "#1d4ed8", "Support MédiSave : 04 28 00 00 20, support@medisave.example"),
    ("Rhein-Praxis Backup", "Praxis Backup", "#fbbf24", "#9a3412", "Hotline: +49 221 0000 30, Mo–Fr 8–18 Uhr"),
)
_LANGUAGES: Final = ("fr", "fr", "de")
_TRADES: Final = (
    ("Pharmacie", ("du Marché", "de la Gare", "des Halles", "Saint-Michel", "du Port", "de l'Horloge", "Centrale")),
    ("Cabinet médical", ("Lefèvre", "des Tilleuls", "Moreau & Roux", "du Parc", "Nguyen", "de la Fontaine")),
    ("Cabinet dentaire", ("Girard", "du Sourire", "Benali", "des Arcades", "Petit")),
    ("Laboratoire", ("Bioanalyse", "des Alpes", "Pasteur Nord", "Biolys")),
    ("Mutuelle", ("du Littoral", "des Artisans", "Solidaire")),
)
_TOWNS: Final = ("Lyon", "Brest", "Nantes", "Köln", "Lille", "Pau", "Metz", "Nice", "Tours", "Caen", "Dijon", "Aix")
_MACHINES: Final = ("SERVEUR", "COMPTOIR-1", "COMPTOIR-2", "BUREAU", "COMPTA", "RADIO", "ACCUEIL", "NAS", "PORTABLE")
_PLATFORMS: Final = ("Windows-10-10.0.19045", "Windows-11-10.0.22631", "Windows-7-6.1.7601", "Linux-6.1.0-18-amd64")
_VERSIONS: Final = ("0.1.0", "0.1.0", "0.1.0", "0.0.9")


@dataclass(frozen=True, slots=True)
class DemoAccount:
    """An account that was made, with its TOTP secret (base32); the password is `PASSWORD`."""

    email: str
    role: str
    space: str
    totp_secret: str


@dataclass(frozen=True, slots=True)
class DemoData:
    """What was made."""

    accounts: list[DemoAccount]
    spaces: int
    contracts: int
    machines: int
    snapshots: int
    log_lines: int


def build(db: Database, seed: int, now: float) -> DemoData:
    """Fill a control database with 90 days up to `now`; ConflictError where it holds contracts already."""
    hashed = hash_password(PASSWORD)
    with db.write():
        if db.value("SELECT count(*) AS n FROM contract"):
            raise ConflictError("this home has contracts: demo data go into a home of their own")
        return _Builder(db, Random(seed), now, hashed).everything()


def _slug(text: str) -> str:
    """Letters and digits of a name, for addresses."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return "-".join("".join(letter if letter.isalnum() else " " for letter in plain).split())


class _Builder:
    """One run: the database, the dice, the time."""

    def __init__(self, db: Database, dice: Random, now: float, password_hash: str) -> None:
        self.db, self.dice, self.now, self.password_hash = db, dice, now, password_hash
        self.accounts: list[DemoAccount] = []
        self.spaces: list[str] = []
        self.contracts: list[tuple[str, str, str]] = []
        self.machines: list[DemoMachine] = []

    def id(self, prefix: str) -> str:
        """As `database.new_id`, but thrown."""
        return prefix + "".join(self.dice.choice(_ALPHABET) for _ in range(10))

    def everything(self) -> DemoData:
        """All of it, in an order that never changes: each throw depends on those before."""
        self._spaces()
        self._contracts()
        self._accounts()
        self._machines()
        snapshots, lines = demo_history.write(self.db, self.dice, self.machines, self.now, DAYS)
        self._waiting_deletions()
        self._copies()
        self._acts()
        demo_settings.write(self.db, self.dice.randrange(2**32), self.machines, self.now, self.accounts[1].email)
        return DemoData(self.accounts, len(self.spaces), len(self.contracts), len(self.machines), snapshots, lines)

    def _spaces(self) -> None:
        began = self.now - 400 * 86400
        # The space that `init` made, where it is still empty, becomes the first of the demo.
        self.db.execute("DELETE FROM space WHERE name = 'default' AND id NOT IN (SELECT space_id FROM account "
                        "WHERE space_id IS NOT NULL)")  # fmt: skip
        for number, (name, product, colour, accent, support) in enumerate(_SPACES):
            space_id = self.id("s")
            self.spaces.append(space_id)
            self.db.insert("space", {"id": space_id, "name": name, "created_at": began + number})
            themes.save(
                self.db, space_id, product_name=product, colour=colour, accent=accent, support_line=support, now=began
            )

    def _contracts(self) -> None:
        today = datetime.fromtimestamp(self.now, UTC).date()
        for number in range(CONTRACTS):
            space = self.spaces[(0, 0, 0, 1, 1, 2)[number % 6]]
            trade, names = _TRADES[(0, 0, 0, 1, 0, 2, 0, 1, 3, 4)[number % 10]]
            client = f"{trade} {names[number % len(names)]} {_TOWNS[(number * 5) % len(_TOWNS)]}"
            contract_id = self.id("c")
            start = today - timedelta(days=self.dice.randint(100, 380))
            end = None if number % 4 == 0 else start + timedelta(days=730)
            if number in (7, 31):
                end = today - timedelta(days=self.dice.randint(2, 20))
            if number in (12, 25, 44):
                end = today + timedelta(days=self.dice.randint(3, 25))
            # Two cards as they have been seen in the field: far over what is allocated, and well within.
            allocated = {0: 50, 1: 5}.get(number, self.dice.choice((10, 20, 50, 50, 100, 200)))
            self.contracts.append((contract_id, client, space))
            self.db.insert(
                "contract",
                {
                    "id": contract_id,
                    "space_id": space,
                    "client_id": client,
                    "email": f"contact@{_slug(client)}.example",
                    "allocated_bytes": allocated * _GB,
                    "machine_quota": 99 if number == 1 else self.dice.choice((3, 5, 5, 10)),
                    "created_at": datetime(start.year, start.month, start.day, 9, tzinfo=UTC).timestamp(),
                    "start_date": start.isoformat(),
                    "end_date": end.isoformat() if end else None,
                    "escrow": "private" if number % 7 == 3 else "confided",
                    "state": "paused" if number in (18, 40) else "active",
                    "notify": ("all", "warnings", "failures")[number % 3],
                },
            )

    def _accounts(self) -> None:
        self._account("super@pilulier.example", "super", None, None, "fr", "")
        for space_id, (name, *_), language in zip(self.spaces, _SPACES, _LANGUAGES, strict=True):
            slug = _slug(name)
            self._account(f"admin@{slug}.example", "admin", space_id, None, language, name)
            self._account(f"support@{slug}.example", "support", space_id, None, language, name)
            for contract_id, client, _ in [c for c in self.contracts if c[2] == space_id][:3]:
                self._account(f"titulaire@{_slug(client)}.example", "customer", None, contract_id, language, name)

    def _account(
        self, email: str, role: str, space_id: str | None, contract_id: str | None, language: str, space: str
    ) -> None:
        secret = base64.b32encode(self.dice.randbytes(20)).decode()
        self.accounts.append(DemoAccount(email, role, space, secret))
        self.db.insert(
            "account",
            {
                "id": self.id("a"),
                "email": email,
                "role": role,
                "space_id": space_id,
                "contract_id": contract_id,
                "password_hash": self.password_hash,
                "totp_secret": secret,
                "created_at": self.now - self.dice.randint(95, 380) * 86400,
                "language": language,
            },
        )

    def _machines(self) -> None:
        """Every contract but a few has one; two or three on average, and some have many."""
        homes = [contract for number, contract in enumerate(self.contracts) if number not in (33, 57)]
        shares = [1] * len(homes)
        for _ in range(MACHINES - len(homes)):
            shares[min(self.dice.randrange(len(homes)), self.dice.randrange(len(homes)))] += 1
        number = 0
        for (contract_id, client, _), share in zip(homes, shares, strict=True):
            for place in range(share):
                name = _MACHINES[place] if place < len(_MACHINES) else f"POSTE-{place + 1}"
                self.machines.append(self._machine(number, contract_id, client, name, place))
                number += 1

    def _machine(self, number: int, contract_id: str, client: str, name: str, place: int) -> DemoMachine:
        dice = self.dice
        fate = {3: Fate.LATE, 9: Fate.FAILED, 14: Fate.WARNING, 20: Fate.NEVER}.get(number % 24, Fate.OK)
        if number % 53 == 37:
            fate = Fate.REVOKED
        if number == 61:
            fate = Fate.SUSPICIOUS
        source = int(min(180.0, dice.lognormvariate(1.6 if place == 0 else 0.4, 0.9)) * _GB)
        if contract_id == self.contracts[0][0] and place == 0:
            source = int(394.6 * _GB)
        if contract_id == self.contracts[1][0]:
            source = min(source, int(0.95 * _GB))
        machine = DemoMachine(
            id=dice.randbytes(16),
            name=name,
            fate=fate,
            created_at=self.now - (dice.randint(1, 60) if fate is Fate.NEVER else dice.randint(15, 320)) * 86400,
            source_bytes=source,
            files=max(200, source // dice.randint(90_000, 260_000)),
            hour=dice.choice((12.5, 18.5, 19.0, 20.0, 21.5, 22.75)),
            twice=place == 0 and number % 5 == 0,
            agent_version=dice.choice(_VERSIONS),
            platform=dice.choice(_PLATFORMS),
        )
        self.db.insert(
            "machine",
            {
                "id": machine.id,
                "name": name,
                "contract_id": contract_id,
                "curve_key": dice.randbytes(32),
                "signing_key": dice.randbytes(32),
                "vault": dice.randbytes(16),
                "installation": dice.randbytes(16),
                "state": "revoked" if fate is Fate.REVOKED else "active",
                "created_at": machine.created_at,
                "agent_version": machine.agent_version,
                "platform": machine.platform,
            },
        )
        return machine

    def _copies(self) -> None:
        """Some machines have a copy on site; one's disk has been in a drawer for twelve days."""
        for number, machine in enumerate(self.machines):
            if machine.fate is not Fate.OK or number % 7 != 2:
                continue
            away = number == 2
            written_at = self.now - (12 * 86400 if away else 8 * 3600)
            state: Literal["not there", "written"] = "not there" if away else "written"
            told = CopyTold(machine.id, "NAS de l’officine", 1, state, int(written_at * 1000), 410 * _GB)
            site_copies.keep(self.db, machine.id, CopiesReport([told], 7), self.now)

    def _waiting_deletions(self) -> None:
        for number, days in ((50, 2), (21, 5)):
            contract_id, client, space_id = self.contracts[number]
            asked = self.now - days * 86400
            self.db.update("contract", contract_id, {"state": "paused", "delete_requested_at": asked})
            self.db.insert(
                "deletion",
                {
                    "id": self.id("d"),
                    "kind": "contract",
                    "object_id": contract_id,
                    "object_name": client,
                    "space_id": space_id,
                    "contract_id": contract_id,
                    "requested_by": self._admin_of(space_id).email,
                    "requested_at": asked,
                    "due_at": asked + 7 * 86400,
                },
            )

    def _admin_of(self, space_id: str) -> DemoAccount:
        names = dict(zip(self.spaces, (space[0] for space in _SPACES), strict=True))
        return next(one for one in self.accounts if one.role == "admin" and one.space == names[space_id])

    def _acts(self) -> None:
        """A few months of the audit log."""
        ids = {row["email"]: row["id"] for row in self.db.rows("SELECT id, email FROM account")}
        times = sorted(self.now - self.dice.random() * DAYS * 86400 for _ in range(240))
        for number, at in enumerate(times):
            contract_id, client, space_id = self.contracts[self.dice.randrange(CONTRACTS)]
            admin = self._admin_of(space_id)
            address = f"192.0.2.{self.dice.randint(2, 250)}"
            actor = audit.Actor(ids[admin.email], admin.email, admin.role, address)
            if number % 3 == 0:
                audit.write(
                    self.db,
                    actor,
                    "login",
                    object_kind="account",
                    object_id=actor.account_id,
                    object_name=admin.email,
                    space_id=space_id,
                    now=at,
                )
                continue
            kind, before, after = self.dice.choice(
                (
                    ("contract.edit", {"allocated_bytes": 20 * _GB}, {"allocated_bytes": 50 * _GB}),
                    ("contract.edit", {"machine_quota": 3}, {"machine_quota": 5}),
                    ("contract.pause", {"state": "active"}, {"state": "paused"}),
                    ("contract.resume", {"state": "paused"}, {"state": "active"}),
                    ("contract.code", None, None),
                )
            )
            audit.write(
                self.db,
                actor,
                kind,
                object_kind="contract",
                object_id=contract_id,
                object_name=client,
                space_id=space_id,
                contract_id=contract_id,
                before=before,
                after=after,
                now=at,
            )
