#!/usr/bin/env python3
"""What a silent outage of a provider costs, with adaptive choice and without: runs the simulation
in tests/it/outage.rs, prints its table, and draws docs/outage.svg. Standard library only."""

import pathlib
import subprocess

REPO = pathlib.Path(__file__).resolve().parent.parent
COLOURS = {"in order": "#b03030", "adaptive": "#2060a0"}
WIDTH, HEIGHT, LEFT, TOP, GAP = 360, 120, 44, 34, 56


def run():
    command = ["cargo", "test", "--locked", "--test", "it", "outage", "--", "--nocapture", "--test-threads=1"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    lines = done.stdout.splitlines()
    table = [line for line in lines if line.startswith("|")]
    series = [line.split(";")[1:] for line in lines if line.startswith("series;")]
    return table, [(name, choice, [float(value) for value in values]) for name, choice, *values in series]


def panel(top, name, lines):
    def x(at, count):
        return LEFT + WIDTH * at / count

    def y(share):
        return top + HEIGHT * (1 - share / 100)

    # The outage is the second of three hours.
    parts = [
        f'<rect x="{LEFT + WIDTH / 3:.1f}" y="{top}" width="{WIDTH / 3:.1f}" height="{HEIGHT}" fill="#eeeeee"/>',
        f'<text x="{LEFT}" y="{top - 8}">{name}</text>',
        f'<path d="M{LEFT} {top}V{top + HEIGHT}H{LEFT + WIDTH}" fill="none" stroke="#888888"/>',
    ]
    for share in (0, 50, 100):
        parts.append(f'<text x="{LEFT - 6}" y="{y(share) + 4:.1f}" text-anchor="end">{share} %</text>')
    for hour in range(4):
        parts.append(f'<text x="{x(hour, 3):.1f}" y="{top + HEIGHT + 15}" text-anchor="middle">{hour} h</text>')
    for choice, values in lines:
        points = " ".join(f"{x(at + 0.5, len(values)):.1f},{y(value):.1f}" for at, value in enumerate(values))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[choice]}" stroke-width="1.5"/>')
    return parts


def draw(series):
    names = list(dict.fromkeys(name for name, _, _ in series))
    height = TOP + len(names) * (HEIGHT + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 20} {height}" '
        'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for at, (choice, colour) in enumerate(COLOURS.items()):
        parts.append(f'<text x="{LEFT + at * 70}" y="12" fill="{colour}">{choice}</text>')
    parts.append(f'<text x="{LEFT + 150}" y="12">codes not entered, by five minutes; grey: the outage</text>')
    for at, name in enumerate(names):
        lines = [(choice, values) for other, choice, values in series if other == name]
        parts += panel(TOP + 10 + at * (HEIGHT + GAP), name, lines)
    parts.append("</svg>")
    (REPO / "docs" / "outage.svg").write_text("\n".join(parts) + "\n")


def main():
    table, series = run()
    print("\n".join(table))
    draw(series)


if __name__ == "__main__":
    main()
