"""Decoy documents: what they look like. Small office files with plausible names, different on every machine.

Whoever encrypts a disk meets them among the others and cannot tell: each opens in its program and says something dull.
Pure but for the chance that is handed in; knows neither where they go nor what becomes of them (`agent.canaries`).
"""

from __future__ import annotations

import html
import io
import random
import zipfile
from dataclasses import dataclass
from typing import Final

SUBJECTS: Final = (
    *("Attestation assurance", "Avenant bail", "Bordereau remises", "Budget prévisionnel", "Contrat maintenance"),
    *("Convention stage", "Courrier expert-comptable", "Devis agencement", "Echéancier emprunt", "Factures groupement"),
    *("Inventaire annuel", "Liste fournisseurs", "Notes de réunion", "Planning congés", "Procès-verbal assemblée"),
    *("Relevé honoraires", "Suivi impayés", "Tableau amortissements", "Virements salaires", "Zones de livraison"),
)
"""From A to Z: a program that goes through a folder by name, either way, meets one soon."""
_TEXT: Final = (
    "le montant de cette période reste à confirmer avant la fin du mois par le cabinet suivant accord des deux parties "
    "les pièces jointes sont classées par date et par fournisseur sauf mention contraire un exemplaire signé est "
    "conservé au dossier toute modification fait l'objet d'un courrier"
)
_PACKAGE: Final = "http://schemas.openxmlformats.org/package/2006"
_OFFICE: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_MAIN: Final = "application/vnd.openxmlformats-officedocument"
_HEAD: Final = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'


@dataclass(frozen=True, slots=True)
class Decoy:
    """One document: its file name and its bytes."""

    name: str
    content: bytes


def make(chance: random.Random, taken: frozenset[str], year: int) -> list[Decoy]:
    """A letter, a table and a list with names that no file of the folder has: an early one, a middle one and a late."""
    third = len(SUBJECTS) // 3
    parts = (SUBJECTS[:third], SUBJECTS[third:-third], SUBJECTS[-third:])
    makers = [(".docx", _letter), (".xlsx", _table), (".csv", _list)]
    chance.shuffle(makers)
    made = []
    for subjects, (suffix, maker) in zip(parts, makers, strict=True):
        names = [f"{subject} {at}{suffix}" for subject in subjects for at in range(year - 6, year)]
        chance.shuffle(names)
        name = next(name for name in names if name not in taken)
        made.append(Decoy(name, maker(chance)))
    return made


def _sentence(chance: random.Random) -> str:
    return " ".join(chance.choices(_TEXT.split(), k=chance.randint(9, 18))).capitalize() + "."


def _rows(chance: random.Random) -> list[tuple[str, int, int]]:
    return [
        (f"F{chance.randint(10_000, 99_999)}", chance.randint(1, 28), chance.randint(1200, 980_000))
        for _ in range(chance.randint(60, 140))
    ]


def _list(chance: random.Random) -> bytes:
    lines = [f"{number};{day:02}/{chance.randint(1, 12):02};{cents // 100},{cents % 100:02}"
             for number, day, cents in _rows(chance)]  # fmt: skip
    return ("\r\n".join(["Référence;Date;Montant", *lines]) + "\r\n").encode("cp1252")


def _letter(chance: random.Random) -> bytes:
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    paragraphs = "".join(
        f"<w:p><w:r><w:t>{html.escape(' '.join(_sentence(chance) for _ in range(4)))}</w:t></w:r></w:p>"
        for _ in range(chance.randint(12, 30))
    )
    body = f'{_HEAD}<w:document xmlns:w="{space}"><w:body>{paragraphs}</w:body></w:document>'
    return _archive(chance, "word/document.xml", f"{_MAIN}.wordprocessingml.document.main+xml", {}, body)


def _table(chance: random.Random) -> bytes:
    space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    rows = "".join(
        f'<row r="{at}"><c r="A{at}" t="inlineStr"><is><t>{number}</t></is></c><c r="B{at}"><v>{day}</v></c>'
        f'<c r="C{at}"><v>{cents / 100:.2f}</v></c></row>'
        for at, (number, day, cents) in enumerate(_rows(chance), 1)
    )
    sheet = f'{_HEAD}<worksheet xmlns="{space}"><sheetData>{rows}</sheetData></worksheet>'
    book = (
        f'{_HEAD}<workbook xmlns="{space}" xmlns:r="{_OFFICE}"><sheets><sheet name="Feuil1" sheetId="1" r:id="rId1"/>'
        "</sheets></workbook>"
    )
    relations = f'<Relationship Id="rId1" Type="{_OFFICE}/worksheet" Target="worksheets/sheet1.xml"/>'
    others = {
        "xl/worksheets/sheet1.xml": (f"{_MAIN}.spreadsheetml.worksheet+xml", sheet),
        "xl/_rels/workbook.xml.rels": ("", _relations(relations)),
    }
    return _archive(chance, "xl/workbook.xml", f"{_MAIN}.spreadsheetml.sheet.main+xml", others, book)


def _relations(inner: str) -> str:
    return f'{_HEAD}<Relationships xmlns="{_PACKAGE}/relationships">{inner}</Relationships>'


def _archive(
    chance: random.Random, main: str, main_type: str, others: dict[str, tuple[str, str]], body: str
) -> bytes:
    """An office document of these parts, by ECMA-376, part 2: content types, relations, then the parts."""
    types = "".join(
        f'<Override PartName="/{name}" ContentType="{kind}"/>'
        for name, kind in [(main, main_type), *((name, kind) for name, (kind, _) in others.items() if kind)]
    )
    listed = (
        f'{_HEAD}<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/>{types}</Types>'
    )
    root = _relations(f'<Relationship Id="rId1" Type="{_OFFICE}/officeDocument" Target="{main}"/>')
    parts = {"[Content_Types].xml": listed, "_rels/.rels": root, main: body}
    parts |= {name: text for name, (_, text) in others.items()}
    made = io.BytesIO()
    at = (chance.randint(2019, 2024), chance.randint(1, 12), chance.randint(1, 28), 9, 30, 0)
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            info = zipfile.ZipInfo(name, at)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, text)
    return made.getvalue()
