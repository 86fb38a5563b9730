"""The tracing attack, second author's: not one step after another, but the cheapest explanation of all.

`trace_attack.py` walks along the line and is lost at the first wrong turn. This lets a small network
(`field.py`) say what is where: letters, the ring, and lines with their directions. It asks for each
pair of letters how cheaply a smooth way leads from one to the other along lines that lead its way:
shortest ways over places and directions, so that a way may cross the other line but not turn into
it. Then it takes the order of letters that explains the picture best as a whole: four from the ring
on, and one more line through the rest.

  python bench/captcha/path_attack.py FOLDER [FOLDER ...]   folders of <answer>_<n>.png, rule from-ring
"""
import itertools
import math

import cv2
import field
import numpy as np
import scoring
import torch
from drawing import ALPHABET, HIGH, INWARD, MARK, SIZE, WIDE, unit
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra
from trace_attack import ink

ROWS, COLUMNS, WAYS = HIGH // field.FINE, WIDE // field.FINE, 2 * field.WAYS
STEPS = [(round(2 * math.sin(2 * math.pi * k / WAYS)), round(2 * math.cos(2 * math.pi * k / WAYS))) for k in range(WAYS)]
FREE = .03  # what a pixel of line costs; one of paper costs 1
TURN = 1.2  # what a turn by one direction costs: lines cross steeply, so who turns off at a crossing pays
LIMIT = 25  # the dearest way that is looked for
APART = 22  # how far letters' middles are from each other at least


def edges():
    """From each place and direction one step on, straight or turned by one; and where it leads."""
    row, column, way = np.meshgrid(np.arange(ROWS), np.arange(COLUMNS), np.arange(WAYS), indexing='ij')
    number = lambda row, column, way: (row * COLUMNS + column) * WAYS + way
    sources, targets, middles, lengths, turned = [], [], [], [], []
    for turn in (-1, 0, 1):
        to = (way + turn) % WAYS
        down, across = np.array(STEPS)[to].transpose(3, 0, 1, 2)
        y, x = row + down, column + across
        good = (y >= 0) & (y < ROWS) & (x >= 0) & (x < COLUMNS)
        sources.append(number(row, column, way)[good])
        targets.append(number(y, x, to)[good])
        middles.append(number((row + down / 2).round().astype(int), (column + across / 2).round().astype(int), to)[good])
        lengths.append(np.hypot(down, across)[good])
        turned.append(np.full(good.sum(), TURN * abs(turn)))
    return tuple(np.concatenate(part) for part in (sources, targets, middles, lengths, turned))


EDGES = edges()
NODES = ROWS * COLUMNS * WAYS


def spots(plane, count):
    """Where a coarse plane has its best peaks."""
    left = cv2.GaussianBlur(plane, (0, 0), 1.5)
    y, x = np.mgrid[:plane.shape[0], :plane.shape[1]]
    for _ in range(count):
        row, column = np.unravel_index(left.argmax(), left.shape)
        far = np.hypot(y - row, x - column) * field.COARSE
        here = plane * (far < field.NEAR + 2)
        middle = np.array([(here * x).sum(), (here * y).sum()]) / max(here.sum(), 1e-9) * field.COARSE + field.COARSE / 2
        yield middle
        left = np.where(far < APART, 0, left)


def read(planes, count):
    """So many letters' middles and what they are; none comes twice."""
    high, wide = planes.shape[1:]
    y, x = np.mgrid[:high, :wide] * field.COARSE + field.COARSE / 2
    found = list(spots(planes[field.PLACES], count))
    near = [np.hypot(x - middle[0], y - middle[1]) < field.NEAR for middle in found]
    scores = np.array([np.log(planes[:field.PLACES, here] + 1e-4).mean(1) for here in near])
    return found, ''.join(ALPHABET[i] for i in linear_sum_assignment(-scores)[1])


def met(middle):
    """Where a line meets a letter."""
    return middle + INWARD * unit(SIZE / 2 - middle)


def place(at):
    """A point's column and row among the places."""
    column, row = np.rint(at / field.FINE - .5).astype(int)
    return min(max(0, int(column)), COLUMNS - 1), min(max(0, int(row)), ROWS - 1)


def costs(ways, found):
    """What each place costs in each direction: little on a line that leads there."""
    cost = FREE + (1 - FREE) * np.minimum(1, -np.log(ways + 1e-3) / 4)
    # Who passes where a letter is met stops there: no way leads on through it.
    stops = np.zeros((ROWS, COLUMNS), np.uint8)
    for middle in found:
        cv2.circle(stops, place(met(middle)), 2, 1, -1)
    cost = np.where(stops > 0, 1.5, cost)
    return np.concatenate([cost, cost]).transpose(1, 2, 0).ravel()


def legs(ways, start, found):
    """What it costs to come from the ring (the last row) or a letter to each letter."""
    cost = costs(ways, found)
    sources, targets, middles, lengths, turned = EDGES
    weights = lengths * (cost[targets] + cost[middles]) / 2 + turned
    rows, columns, data = [sources], [targets], [weights]
    places = [met(middle) for middle in found]
    for number, at in enumerate([*places, start]):
        for way in range(WAYS):
            angle = 2 * math.pi * way / WAYS
            off = MARK + 1 if number == len(places) else 0
            column, row = place(at + off * np.array([math.cos(angle), math.sin(angle)]))
            rows.append([NODES + number])
            columns.append([(row * COLUMNS + column) * WAYS + way])
            data.append([1e-6])
    count = NODES + len(places) + 1
    graph = csr_matrix((np.concatenate(data), (np.concatenate(rows), np.concatenate(columns))), (count, count))
    reached = dijkstra(graph, indices=range(NODES, count), limit=LIMIT)[:, :NODES].reshape(-1, ROWS, COLUMNS, WAYS)
    reached = np.minimum(reached.min(3), 1.3 * LIMIT)
    out = np.zeros((len(places) + 1, len(places)))
    for number, at in enumerate(places):
        column, row = place(at)
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


def solve(path, net, count):
    planes, ways = field.look(net, ink(path))
    start, = spots(planes[field.RING], 1)
    found, letters = read(planes, count)
    taken = order(legs(ways, start, found))
    return ''.join(letters[i] for i in taken), letters


def main():
    parser = scoring.parser(__doc__)
    parser.add_argument('--model', default='target/attack/field.pt', help='what field.py learned')
    parser.add_argument('--letters', type=int, default=7, help='how many a picture has: 8 at level 3')
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    net = field.load(args.model, field.Field)
    scoring.score(args, 'paths', lambda file: solve(file, net, args.letters))


if __name__ == '__main__':
    main()
