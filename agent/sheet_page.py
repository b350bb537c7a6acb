"""How a recovery sheet looks: a page for the printer that needs no network and no script, or plain text.

Owns the marks and the style sheet; takes what stands on it from `recovery_sheet` and its words from `sheet_words`.
The only room of segno in the agent. One page of A4 as long as the key was rotated twice at most; then it grows.
"""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final

import segno

from agent.recovery_sheet import META_NAME, Sheet
from agent.sheet_lines import Line
from agent.sheet_words import WORDS, Words
from agent.system.language import Language
from transport.errors import UsageError
from transport.keys import write_key_file

_STYLE: Final = """
@page { size: A4; margin: 11mm 13mm; }
* { box-sizing: border-box; }
body { font: 8.4pt/1.28 "DejaVu Sans", "Segoe UI", Arial, sans-serif; color: #000; background: #fff; margin: 0 auto;
  max-width: 184mm; }
h1 { font-size: 17pt; margin: 0 0 1mm; display: flex; justify-content: space-between; align-items: baseline; gap: 6mm; }
h1 small { font-size: 10pt; font-weight: normal; text-align: right; }
h2 { font-size: 9.6pt; margin: 2.6mm 0 .8mm; border-bottom: .3mm solid #000; padding-bottom: .4mm; }
p { margin: 1mm 0; }
.secret { border: .5mm solid #000; padding: 1.4mm 2.5mm; font-weight: bold; margin: 1.5mm 0 2.5mm; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .5mm 4mm; margin: 0; }
dt { font-weight: bold; }
dd { margin: 0; overflow-wrap: anywhere; }
dd.blank { border-bottom: .2mm dotted #000; min-height: 5mm; }
code, .lines td, .mono { font-family: "DejaVu Sans Mono", Consolas, "Courier New", monospace; }
code { font-size: 7.6pt; }
code span { white-space: nowrap; }
.typed { display: flex; gap: 6mm; align-items: flex-start; }
.typed figure { margin: 3mm 0 0; width: 58mm; flex: none; font-size: 7.6pt; }
.typed svg { width: 52mm; height: 52mm; display: block; margin-left: -2.5mm; }
.typed > div { flex: 1; }
.lines { border-collapse: collapse; font-size: 10.5pt; line-height: 1.22; letter-spacing: .03em; }
.lines th { text-align: left; width: 10mm; font-size: 8.4pt; }
.lines td { padding-right: 3mm; white-space: nowrap; }
table.many { font-size: 8.6pt; line-height: 1.12; }
.lines tr:nth-child(even) { background: #eee; }
.lines td:last-child { font-weight: bold; }
.code { font-size: 6.3pt; overflow-wrap: anywhere; margin: 0; }
ol, ul { margin: 0; padding-left: 5mm; }
li { margin: .5mm 0; }
@media screen { body { padding: 8mm 4mm; } }
@media print { tr, li { break-inside: avoid; } }
"""

_FEW_LINES: Final = 19
"""In large type beside the rest of a page."""
_BLANK: Final = '<dd class="blank"></dd>'


def write_sheet(sheet: Sheet, path: Path, language: Language) -> None:
    """Write the sheet, `.html` or `.txt`, readable by its owner only; UsageError where the name is not possible."""
    makers = {".html": page, ".txt": text}
    if path.suffix.lower() not in makers:
        raise UsageError(f"{path.name} ends in neither .html nor .txt: a sheet is a page to print, or plain text")
    if path.exists():
        raise UsageError(f"{path} exists already: choose another name, keys are not overwritten")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is not a folder: make it, or choose another one")
    write_key_file(path, makers[path.suffix.lower()](sheet, language).encode())


def page(sheet: Sheet, language: Language) -> str:
    """The sheet as one HTML document."""
    words = WORDS[language]
    facts = "".join(
        f"<dt>{_escaped(name)}</dt>{f'<dd>{_escaped(value)}</dd>' if value else _BLANK}"
        for name, value in _facts(sheet, words)
    )
    many = len(sheet.lines) > _FEW_LINES
    return f"""<!DOCTYPE html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="{META_NAME}" content="{_escaped(sheet.compact)}">
<title>{_escaped(f"{words.title} – {sheet.name}")}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{_escaped(words.title)}<small>Pilulier · {_escaped(sheet.name)}</small></h1>
<p class="secret">{_escaped(words.secret)}</p>
<dl>{facts}</dl>
<div class="typed">
<figure>{''.join(map(_picture, sheet.pictures()))}
<figcaption>
<p>{_escaped(words.scan)}</p>
<p>{_escaped(words.typing)}</p>
<p><b>{_marked(words.address_code)}</b></p>
<p class="code mono">{_escaped(sheet.address_code)}</p>
</figcaption>
</figure>
<div>
<h2>{_escaped(words.key_lines)}</h2>
{_table(sheet.key_lines, words.key_lines, many)}
<h2>{_escaped(words.address_lines)}</h2>
{_table(sheet.address_lines, words.address_lines, many)}
</div>
</div>
<h2>{_escaped(words.steps_title)}</h2>
<ol>{_items(_steps(sheet, words))}</ol>
<h2>{_escaped(words.keep_title)}</h2>
<ul>{_items(words.keep)}</ul>
</body>
</html>
"""


def text(sheet: Sheet, language: Language) -> str:
    """The sheet as plain text, 100 columns at most but for what is pasted."""
    words = WORDS[language]
    facts = [f"{name}{words.colon}{value}" for name, value in _facts(sheet, words)]
    blocks = [
        [f"{words.title} – {sheet.name}".upper()],
        _wrapped(words.secret),
        [line for fact in facts for line in _wrapped(fact)],
        [words.key_lines, *map(_typed, sheet.key_lines)],
        [words.address_lines, *map(_typed, sheet.address_lines)],
        _wrapped(words.typing),
        [words.address_code.replace("`", ""), sheet.address_code],
        [words.steps_title, *_numbered(_steps(sheet, words))],
        [words.keep_title, *(line for item in words.keep for line in _wrapped(f"- {item}"))],
    ]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _steps(sheet: Sheet, words: Words) -> list[str]:
    head = "" if sheet.head is None else f" --head {sheet.head.code}"
    return [step.replace("{head}", head) for step in words.steps]


def _facts(sheet: Sheet, words: Words) -> list[tuple[str, str]]:
    def date(moment_ms: int) -> str:
        return datetime.fromtimestamp(moment_ms / 1000).astimezone().strftime(words.date)

    kept = {"local": words.kept_local, "confided": words.kept_confided, "private": words.kept_private}
    head = sheet.head
    return [
        (words.machine, sheet.name),
        (words.contract, sheet.contract),
        (words.help, ""),
        (words.appliance, ", ".join(sheet.endpoints)),
        (words.identity, sheet.identity.hex()),
        (words.stored, f"{sheet.repository.hex()} · {sheet.vault.hex()}"),
        (words.kept, kept[sheet.kept]),
        (words.keys, words.epochs.format(count=sheet.epochs)),
        (
            words.last,
            words.never
            if head is None
            else words.last_value.format(number=head.number, date=date(head.ended_ms), code=head.code),
        ),
        (words.made, date(sheet.made_ms)),
    ]


def _picture(content: str) -> str:
    """A QR code that 15 % of stains and folds do not hurt."""
    drawn = segno.make(content, error="m", micro=False)
    return str(drawn.svg_inline(border=4, dark="#000", light="#fff", omitsize=True, svgclass=None, lineclass=None))


def _table(lines: Iterable[Line], label: str, many: bool) -> str:
    rows = "".join(
        f'<tr><th scope="row">{line.label}</th><td>{"</td><td>".join(line.groups)}</td></tr>'
        for line in lines
    )
    kind = "lines many" if many else "lines"
    return f'<table class="{kind}" aria-label="{_escaped(label)}">{rows}</table>'


def _items(sentences: Iterable[str]) -> str:
    return "".join(f"<li>{_marked(sentence)}</li>" for sentence in sentences)


def _marked(sentence: str) -> str:
    return re.sub("`([^`]*)`", _command, _escaped(sentence))


def _command(found: re.Match[str]) -> str:
    """A command whose words do not break at their dashes."""
    return "<code>" + " ".join(f"<span>{word}</span>" for word in found[1].split()) + "</code>"


def _typed(line: Line) -> str:
    return f"{line.label:<4} {'  '.join(line.groups)}"


def _numbered(steps: Iterable[str]) -> list[str]:
    lines = []
    for number, step in enumerate(steps, start=1):
        lines += _wrapped(f"{number}. {step}")
    return lines


def _wrapped(sentence: str) -> list[str]:
    """A sentence in lines; a command keeps a line of its own, so that it can be copied."""
    lines: list[str] = []
    for at, part in enumerate(re.split("`([^`]*)`", sentence)):
        part = part.strip()
        if at % 2:
            lines.append(f"       {part}")
        elif len(part) > 1:
            lines += textwrap.wrap(part, 96, subsequent_indent="   ", initial_indent="   " if at else "")
    return lines


def _escaped(text: str) -> str:
    return html.escape(text, quote=True)
