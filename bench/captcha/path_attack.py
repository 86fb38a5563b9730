"""The tracing attack, second author's: not one step after another, but the cheapest explanation of all.

`trace_attack.py` walks along the line and is lost at the first wrong turn. This takes its letters
and its evidence of lines, and asks for each pair of letters how cheaply a smooth way leads from one
to the other along that evidence: shortest ways over places and directions, so that a way may cross
the other line but not turn into it. Then it takes the order of letters that explains the picture
best as a whole: four from the ring on, and one more line through the rest.

  python bench/captcha/path_attack.py FOLDER [FOLDER ...]   folders of <answer>_<n>.png, rule from-ring
"""
import argparse
import glob
import itertools
import math
import os
import re
import time

import cv2
import numpy as np
import trace_attack
from attack import wilson
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra
from trace_attack import ZOOM, Reader, apart, blobs, disk, ink, ring, without_patches

HALF = 2  # places are two pixels apart
ROWS, COLUMNS, WAYS = 78, 108, 16
STEPS = [(round(2 * math.sin(2 * math.pi * k / WAYS)), round(2 * math.cos(2 * math.pi * k / WAYS))) for k in range(WAYS)]
FREE = .12  # what a pixel of line costs; one of paper costs 1
TURN = .35  # what a turn by one direction costs
LIMIT = 70  # the dearest way that is looked for
ENDS = 9  # letters at most
INWARD = 6  # how far from a letter's middle its line passes, towards the picture's middle


def met(middle):
    """Where a line meets a letter."""
    inward = np.array([COLUMNS, ROWS]) * HALF / 2 - middle
    return middle + INWARD * inward / max(1, np.hypot(*inward))


def edges():
    """From each place and direction one step on, straight or turned by one; and where it leads."""
    row, column, way = np.meshgrid(np.arange(ROWS), np.arange(COLUMNS), np.arange(WAYS), indexing='ij')
    sources, targets, middles, lengths, turned = [], [], [], [], []
    for turn in (-1, 0, 1):
        to = (way + turn) % WAYS
        down, across = np.array(STEPS)[to].transpose(3, 0, 1, 2)
        y, x = row + down, column + across
        good = (y >= 0) & (y < ROWS) & (x >= 0) & (x < COLUMNS)
        sources.append(((row * COLUMNS + column) * WAYS + way)[good])
        targets.append(((y * COLUMNS + x) * WAYS + to)[good])
        middles.append(((row + down / 2).round().astype(int) * COLUMNS + (column + across / 2).round().astype(int))[good])
        lengths.append(np.hypot(down, across)[good])
        turned.append(np.full(good.sum(), TURN * abs(turn)))
    return tuple(np.concatenate(part) for part in (sources, targets, middles, lengths, turned))


EDGES = edges()
NODES = ROWS * COLUMNS * WAYS


def costs(dark, found):
    """What each place costs: little on thin ink on paper and on thin paper in letters."""
    letters, _, thin, cuts = apart(dark)
    inside = cv2.dilate(letters, disk(3)).astype(np.float32)
    line = cv2.GaussianBlur(thin.astype(np.float32), (0, 0), 1.5) * (1 - inside)
    cut = cv2.GaussianBlur(cuts.astype(np.float32), (0, 0), 1.2) * 1.6
    small = lambda plane: cv2.resize(plane, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA)
    seen = np.clip(np.maximum(small(line) * 1.4, small(cut * inside) * 1.4), 0, 1)
    # In a letter the line is harder to see, so less is asked of it.
    dear = 1 - .5 * small(inside)
    cost = FREE + (1 - FREE) * (1 - seen) * dear
    # Who passes the middle of a letter stops there: no way leads on through it.
    for middle, _, _ in found:
        column, row = (met(middle) / HALF).round().astype(int)
        cv2.circle(cost, (int(column), int(row)), 3, 2.5, -1)
    return cost


def legs(dark, start, found):
    """What it costs to come from the ring (the last row) or a letter to each letter."""
    cost = costs(dark, found).ravel()
    sources, targets, middles, lengths, turned = EDGES
    weights = lengths * (cost[targets // WAYS] + cost[middles]) / 2 + turned
    rows, columns, data = [sources], [targets], [weights]
    places = [met(middle) for middle, _, _ in found]
    for number, place in enumerate([*places, start]):
        for way in range(WAYS):
            angle = 2 * math.pi * way / WAYS
            at = place + (8.5 * np.array([math.cos(angle), math.sin(angle)]) if number == len(places) else 0)
            column, row = (at / HALF).round().astype(int)
            if 0 <= row < ROWS and 0 <= column < COLUMNS:
                rows.append([NODES + number])
                columns.append([(row * COLUMNS + column) * WAYS + way])
                data.append([1e-6])
    count = NODES + len(places) + 1
    graph = csr_matrix((np.concatenate(data), (np.concatenate(rows), np.concatenate(columns))), (count, count))
    reached = dijkstra(graph, indices=range(NODES, count), limit=LIMIT)[:, :NODES].reshape(-1, ROWS, COLUMNS, WAYS)
    reached = np.minimum(reached.min(3), 1.3 * LIMIT)
    out = np.zeros((len(places) + 1, len(places)))
    for number, place in enumerate(places):
        column, row = (place / HALF).round().astype(int)
        out[:, number] = reached[:, max(0, row - 1):row + 2, max(0, column - 1):column + 2].min((1, 2))
    return out


def order(cost):
    """The four letters of the ring's line and the rest on another, at the lowest price together."""
    count = cost.shape[1]
    chain = lambda way: sum(cost[a, b] for a, b in itertools.pairwise(way))
    rest = {}
    best, taken = math.inf, ()
    for way in itertools.permutations(range(count), 4):
        price = cost[count, way[0]] + chain(way)
        if price >= best:
            continue
        left = tuple(sorted(set(range(count)) - set(way)))
        if left not in rest:
            rest[left] = min(map(chain, itertools.permutations(left)))
        if price + rest[left] < best:
            best, taken = price + rest[left], way
    return taken


def solve(path, reader, patches):
    dark = ink(path)
    if patches:
        dark = without_patches(dark, patches)
    start = ring(dark)
    cv2.circle(dark, (int(start[0]), int(start[1])), 7, 0.0, -1)
    found = blobs(apart(dark)[0], dark)
    # Letters are the largest; more than these are pieces of patches.
    found = sorted(found, key=lambda blob: -int(blob[2].sum(dtype=int)))[:ENDS]
    if len(found) < 4:
        return '', len(found)
    taken = order(legs(dark, start, found))
    return ''.join(reader.read(found[i][2]) for i in taken), len(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folders', nargs='+')
    parser.add_argument('--limit', type=int, default=300)
    parser.add_argument('--patches', type=int, default=0, help='guess patches with a median of this size (odd)')
    parser.add_argument('--thick', type=int, default=9, help='what is thicker than this, in half pixels, is a letter')
    parser.add_argument('--show', type=int, default=0)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    trace_attack.THICK = args.thick
    reader = Reader()
    for folder in args.folders:
        files = sorted(glob.glob(os.path.join(folder, '*.png')), key=lambda f: int(re.search(r'_(\d+)\.', f)[1]))
        files = files[:args.limit]
        begun, right, first, letters, same = time.process_time(), 0, 0, 0, 0
        for number, file in enumerate(files):
            answer = os.path.basename(file).split('_')[0]
            guess, seen = solve(file, reader, args.patches)
            right += guess == answer
            first += guess[:1] == answer[:1]
            same += sorted(guess) == sorted(answer)
            letters += seen
            if number < args.show:
                print(answer, guess, seen, flush=True)
        count = len(files)
        low, high = wilson(right, count)
        each = 1e3 * (time.process_time() - begun) / count
        print(f'{folder}: paths solve {right}/{count}, {100 * right / count:.1f} % [{100 * low:.1f}, {100 * high:.1f}], '
              f'first letter {100 * first / count:.0f} %, the right four {100 * same / count:.0f} %, '
              f'{letters / count:.1f} letters seen, {each:.0f} ms each')


if __name__ == '__main__':
    main()
