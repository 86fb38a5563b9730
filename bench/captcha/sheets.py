"""Draws the sheets of docs/challenge.md, and writes the answers below them.

All follows from numbers, so that the same source gives the same sheets; `--check` says whether
those in docs/ are of today's drawing, and writes nothing.

  python3 bench/captcha/sheets.py [--check] PROGRAM     the program is the example captcha_sheet
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

COUNT = 40
DOCS = pathlib.Path(__file__).resolve().parents[2] / 'docs'


def drawn(program, level, file):
    """Writes a sheet, and gives its answers, row by row."""
    order = [program, 'sheet', '--level', str(level), '--first', str(level * 1_000), '--count', str(COUNT)]
    return subprocess.run([*order, '--out', file], check=True, capture_output=True, text=True).stdout


def with_answers(text, level, answers):
    """The document, with these answers below that sheet."""
    block = re.compile(rf'(\(challenge-level-{level}\.png\).*?```text\n).*?(```)', re.DOTALL)
    text, count = block.subn(lambda found: found[1] + answers + found[2], text)
    if count != 1:
        sys.exit(f'docs/challenge.md has {count} places for the answers of level {level}')
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('program')
    parser.add_argument('--check', action='store_true')
    args = parser.parse_args()
    document = DOCS / 'challenge.md'
    text = was = document.read_text()
    stale = []
    with tempfile.TemporaryDirectory() as folder:
        for level in (1, 2, 3):
            file = pathlib.Path(folder, f'challenge-level-{level}.png')
            text = with_answers(text, level, drawn(args.program, level, file))
            kept = DOCS / file.name
            if not kept.exists() or kept.read_bytes() != file.read_bytes():
                stale.append(kept.name)
                if not args.check:
                    kept.write_bytes(file.read_bytes())
    if text != was:
        stale.append(document.name)
        if not args.check:
            document.write_text(text)
    if args.check and stale:
        sys.exit(f'not of today\'s drawing: {", ".join(stale)}. Draw them anew: just captcha-sheets')
    print('sheets:', 'written ' + ', '.join(stale) if stale else 'all are of today\'s drawing')


if __name__ == '__main__':
    main()
