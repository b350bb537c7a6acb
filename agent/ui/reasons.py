"""Why a path was not backed up or not restored, in the reader's words.

The sentences are those of the agent's own modules, English and for whoever knows the command line; known ones have a
translation here, by how they begin. An unknown one is shown as it is: a detail in English is worth more than none.
"""

from __future__ import annotations

from typing import Final

from flask_babel import lazy_gettext as _l

_BEGINNINGS: Final = (
    ("what stands there is newer", _l("le fichier en place est plus récent que la sauvegarde : il a été gardé")),
    ("a folder stands under this name", _l("un dossier porte déjà ce nom : il a été laissé")),
    ("another name of this backup landed", _l("ce disque ne distingue pas deux noms de la sauvegarde")),
    ("a device, socket or pipe", _l("un fichier spécial porte déjà ce nom : il a été laissé")),
    ("this path is not in the snapshot", _l("absent de cette sauvegarde")),
    ("its content is not what was backed up", _l("son contenu ne correspond pas à la sauvegarde : non écrit")),
    ("a part of it is missing", _l("une partie manque sur le serveur")),
    ("its folder was not restored", _l("son dossier n’a pas pu être restauré")),
    ("it is a hard link to a file that was not restored", _l("lié à un fichier qui n’a pas été restauré")),
    ("the name ", _l("ce nom n’est pas permis sur ce disque")),
    ("permission denied", _l("accès refusé")),
    ("does not exist", _l("introuvable")),
    ("no such file or directory", _l("introuvable")),
    ("changed while", _l("modifié pendant la lecture")),
    ("it changed", _l("modifié pendant la lecture")),
    ("input/output error", _l("le disque ne répond pas bien : faites-le vérifier")),
    ("no space left", _l("le disque est plein")),
)


def in_words(reason: str) -> str:
    """The reader's words for a reason."""
    lowered = reason.lower()
    for beginning, sentence in _BEGINNINGS:
        if lowered.startswith(beginning):
            return str(sentence)
    return reason
