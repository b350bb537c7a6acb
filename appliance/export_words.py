"""LISEZ-MOI.md of an export: how the contract's backups are opened elsewhere. French, as the law's reader is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from appliance.sizes import format_size


def read_me(
    client: str, now: float, machines: Sequence[tuple[str, str, int]], identity: str, *, with_keys: bool
) -> str:
    """The procedure. `machines` are (id in hex, name, bytes)."""
    day = datetime.fromtimestamp(now, UTC).strftime("%d/%m/%Y à %H:%M UTC")
    rows = "\n".join(f"| {name} | `machines/{number}` | {format_size(size)} |" for number, name, size in machines)
    first = machines[0][0] if machines else "IDENTIFIANT"
    kept = (
        "Le dossier `wrapped-keys/` contient les clés de machine **enveloppées**, telles que l’appliance les détenait. "
        "Une clé confiée ne s’ouvre qu’avec la clé de séquestre de l’appliance d’origine, une clé privée qu’avec la "
        "phrase secrète du client : elles ne remplacent pas la fiche de récupération."
        if with_keys
        else "Aucune clé ne figure dans cet export, même enveloppée : il est illisible sans la fiche de récupération "
        "ou la clé exportée de chaque machine, que le client détient."
    )
    return f"""# Export de réversibilité — {client}

Établi le {day}. Cet export contient toutes les sauvegardes du contrat, scellées de bout en bout, telles que l’appliance
Pilulier les conservait : rien n’a été déchiffré pour l’établir.

| machine | dossier | taille |
|---|---|---|
{rows}

{kept}

## 1. Vérifier que l’export est complet

    sha256sum -c MANIFEST.sha256

`MANIFEST.sig` est la signature de ce manifeste par l’identité de l’appliance (Ed25519) :

    {identity}

Cette identité figure sur les fiches de récupération. Pour vérifier tout à la fois, signature comprise :

    python3 reader/pilulier-reader.pyz verify . --identity {identity}

## 2. Restaurer une machine, sans serveur ni réseau

Il faut Python 3.11 ou plus récent et trois bibliothèques, nommées dans `reader/requirements.txt` :

    python3 -m pip install -r reader/requirements.txt

Puis, avec la fiche de récupération (tapée dans un fichier, lue dans son code QR, ou le fichier lui-même) ou la clé
exportée (`pilulier-agent key export`) :

    chmod 600 fiche.txt
    python3 reader/pilulier-reader.pyz restore machines/{first} --key fiche.txt --target restauration

Sans autre précision, la dernière sauvegarde est restaurée en entier : un fichier `/a/b` arrive dans `restauration/a/b`.
`--snapshot N` ou `--at 2026-11-22` choisit une sauvegarde plus ancienne ; `--path /a/b`, répété au besoin, limite la
restauration à ces chemins. Chaque fichier est contrôlé par son empreinte scellée avant de recevoir son nom.

    python3 reader/pilulier-reader.pyz snapshots machines/{first} --key fiche.txt

énumère les sauvegardes, et le code de la dernière, à comparer avec celui de la fiche ou du dernier courriel quotidien.

## 3. Reprendre le contrat chez un autre hébergeur

Le format est ouvert et documenté (`reader/FORMAT.md`). Un agent Pilulier lit aussi ces dossiers, par
`pilulier-agent read-repository`. Le nouvel hébergeur enrôle chaque machine sur son appliance ; l’historique reste
lisible ici, aussi longtemps que cet export est conservé.

## Contenu

| fichier | rôle |
|---|---|
| `contract.json` | le contrat et ses machines |
| `machines/*/packs/`, `machines/*/catalog.sqlite` | les dépôts : enregistrements scellés, et leur index |
| `reader/` | le lecteur autonome, ses dépendances, le format |
| `MANIFEST.sha256`, `MANIFEST.sig` | empreinte SHA-256 de chaque fichier, et signature |
"""
