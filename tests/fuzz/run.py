"""`python -m tests.fuzz.run --seconds 20 [--target NAME]`: fuzzes each target for so long.

With atheris (the `fuzz` extra) libFuzzer leads by coverage, one process a target; without it a plain loop mutates
the corpus under a fixed seed. The corpus in the repository is read and not changed; what grew is thrown away. An
input that fails is kept in --findings, named, and the run ends with 1: put it into tests/fuzz/corpus/<target>/ as
`found-…` together with the fix, and `make test` replays it for ever.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

SEED = 20_261_123
CORPUS = Path(__file__).parent / "corpus"
INPUT_BYTES = 4096
"""Longest input that mutation makes."""


def inputs(target: str) -> list[bytes]:
    """The corpus of a target."""
    return [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]


def mutated(chance: random.Random, corpus: list[bytes]) -> bytes:
    """One or more small changes to one of the inputs: flips, cuts, copies, splices, numbers at their edges."""
    data = bytearray(chance.choice(corpus))
    for _ in range(1 << chance.randrange(4)):
        at = chance.randrange(len(data) + 1)
        step = chance.randrange(8)
        if step == 0 and data:
            data[at % len(data)] ^= 1 << chance.randrange(8)
        elif step == 1 and data:
            data[at % len(data)] = chance.choice((0, 1, 0x7F, 0x80, 0xC0, 0xC1, 0xFF, chance.randrange(256)))
        elif step == 2:
            del data[at : at + chance.choice((1, 2, 4, 16, 100))]
        elif step == 3:
            data[at:at] = chance.randbytes(chance.choice((1, 2, 4, 16)))
        elif step == 4:
            data[at:at] = data[at : at + chance.randrange(1, 65)]
        elif step == 5:
            edge = chance.choice((0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1))
            width = chance.choice((4, 8))
            data[at : at + width] = (edge % (1 << 8 * width)).to_bytes(width, "big")
        elif step == 6:
            other = chance.choice(corpus)
            data[at:] = other[chance.randrange(len(other) + 1) :]
        else:
            data = data[:at]
    return bytes(data[:INPUT_BYTES])


def plain(name: str, seconds: float, findings: Path) -> bool:
    """The mutation loop; whether it ended without a finding."""
    from tests.fuzz.targets import TARGETS, attempt

    target, chance, corpus = TARGETS[name], random.Random(f"{SEED} {name}"), inputs(name)
    deadline, runs, accepted = time.monotonic() + seconds, 0, 0
    while time.monotonic() < deadline:
        data = mutated(chance, corpus) if runs >= len(corpus) else corpus[runs]
        runs += 1
        try:
            accepted += attempt(target, data)
        except Exception:
            path = findings / f"found-{name}-{hashlib.sha256(data).hexdigest()[:12]}"
            path.write_bytes(data)
            traceback.print_exc()
            print(f"{name}: finding after {runs} inputs: {path}")
            return False
    print(f"{name}: {runs} inputs, {accepted} accepted, no finding")
    return True


def guided(name: str, seconds: float, findings: Path) -> None:
    """libFuzzer over one target; ends this process."""
    import atheris

    with atheris.instrument_imports(include=["transport", "appliance.store", "agent"]):
        from tests.fuzz import targets

    def one(data: bytes) -> None:
        targets.attempt(targets.TARGETS[name], data)

    with tempfile.TemporaryDirectory(prefix="pilulier-corpus-") as grown:
        shutil.copytree(CORPUS / name, grown, dirs_exist_ok=True)
        options = [f"-max_total_time={max(1, round(seconds))}", f"-seed={SEED}", f"-max_len={INPUT_BYTES}"]
        options += [f"-artifact_prefix={findings}/found-{name}-", "-print_final_stats=1", "-timeout=10", grown]
        atheris.Setup([sys.argv[0], *options], one)
        atheris.Fuzz()


def guided_apart(name: str, seconds: float, findings: Path) -> bool:
    """`guided` in a process of its own, since libFuzzer ends it; whether it ended without a finding."""
    argv = [sys.executable, "-m", "tests.fuzz.run", "--guided", "--target", name, "--seconds", str(seconds)]
    ended = subprocess.run(
        [*argv, "--findings", str(findings)], capture_output=True, text=True, timeout=seconds + 120, errors="replace"
    )
    said = ended.stdout + ended.stderr
    runs = re.search(r"stat::number_of_executed_units:\s*(\d+)", said) or re.search(r"Done (\d+) runs", said)
    covered = re.findall(r"\bcov: (\d+)", said)
    figures = f"{runs.group(1) if runs else '?'} inputs, {covered[-1] if covered else '?'} edges"
    if ended.returncode:
        print(said[-6000:])
    print(f"{name}: {figures}, {'FINDING' if ended.returncode else 'no finding'}", flush=True)
    return ended.returncode == 0


def main() -> int:
    """0 when nothing was found."""
    parser = argparse.ArgumentParser(description="Fuzz the formats that come from outside.")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each target (default 20)")
    parser.add_argument("--target", action="append", help="only this one (may be repeated)")
    parser.add_argument("--findings", type=Path, default=Path(tempfile.gettempdir()) / "pilulier-findings")
    parser.add_argument("--plain", action="store_true", help="the mutation loop even where atheris is installed")
    parser.add_argument("--guided", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.target or sorted(path.name for path in CORPUS.iterdir())
    unknown = [name for name in names if not (CORPUS / name).is_dir()]
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}")
    options.findings.mkdir(parents=True, exist_ok=True)
    if options.guided:
        guided(names[0], options.seconds, options.findings)
    leads = not options.plain and importlib.util.find_spec("atheris") is not None
    print("libFuzzer leads (atheris)" if leads else "a plain mutation loop (atheris is not installed)", flush=True)
    run = guided_apart if leads else plain
    ended = [run(name, options.seconds, options.findings) for name in names]
    return 0 if all(ended) else 1


if __name__ == "__main__":
    sys.exit(main())
