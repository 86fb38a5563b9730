"""Our drawing once more, for attackers: much like `src/captcha`, and it says what is where.

Who reads our source writes this in an afternoon: pictures without limit, and with each where its
letters lie and which way its lines lead. Rules that only make a picture easier to read are left
out or loose, so that what learns from these sees harder ones than it will meet.
"""
import glob
import math
import os
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

ALPHABET = 'ACEHKLMNRTUWX39'
FONTS = os.path.join(os.path.dirname(__file__), '..', '..', 'src', 'captcha', 'fonts')
HIGH, WIDE = 156, 216
SIZE = np.array([WIDE, HIGH], float)
CAPITAL, WAVE = 37, 1.2
RADII = np.array([83, 56])
INWARD, TIP, MARK, RING = 7, 14, 7, 6
LINE, CUT = 2.4, 1.0  # half widths of lines, and of what they leave free in letters
FINE = 4  # lines are drawn so many times as large
PATIENCE = 12


def unit(way):
    return way / max(1e-6, np.hypot(*way))


# ---- letters --------------------------------------------------------------------------------------

def fonts(high):
    """All fonts, with an H so high."""
    for file in sorted(glob.glob(os.path.join(FONTS, '*.?tf'))):
        if 'caption' not in file:
            left, top, right, bottom = ImageFont.truetype(file, 200).getbbox('H', anchor='ls')
            yield ImageFont.truetype(file, 200 * high / (bottom - top))


def outline(font, letter):
    """A letter twice as large as in pictures, in the middle of its plane."""
    image = Image.new('L', (224, 224), 0)
    ImageDraw.Draw(image).text((112, 112), letter, 255, font=font, anchor='mm')
    return np.asarray(image)


def bent(plane, scale, chance):
    """Slanted, turned and waved as `letters.rs` does it; cut to its box."""
    size = chance.uniform(.88, 1.08) * scale
    slant, turn = chance.uniform(-.2, .2), 2 * math.atan(chance.uniform(-.17, .17))
    cos, sin = math.cos(turn), math.sin(turn)
    ways = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1, -slant], [0, 1]]) * size
    back = np.linalg.inv(ways)
    middle = np.array([48, 56], np.float32)[:, None, None] + np.float32(chance.random())
    y, x = np.mgrid[:192, :224].astype(np.float32) / 2 - middle
    length, start, side = chance.uniform(34, 60), chance.random(), chance.random()
    u = x - WAVE * np.sin(2 * math.pi * (start + y / length))
    v = y - WAVE * np.sin(2 * math.pi * (side + x / length))
    across, down = (2 * (row[0] * u + row[1] * v) + 112 for row in back)
    pixels = cv2.remap(plane, across.astype(np.float32), down.astype(np.float32), cv2.INTER_LINEAR)
    pixels = cv2.resize(pixels, (112, 96), interpolation=cv2.INTER_AREA)
    rows, columns = np.nonzero(pixels > 60)
    return pixels[rows.min():rows.max() + 1, columns.min():columns.max() + 1]


def letters(each, chance, scale=1.0):
    """So many looks of every letter in every font: for each letter a list of planes."""
    faces = list(fonts(2 * CAPITAL))
    planes = [[outline(font, letter) for font in faces] for letter in ALPHABET]
    return [[bent(plane, scale, chance) for plane in looks for _ in range(each)] for looks in planes]


# ---- where they lie, and lines through them -------------------------------------------------------

def deal(halves, chance):
    """Middles of letters around the ellipse, in any order."""
    count = len(halves)
    angles = np.linspace(0, 2 * math.pi, 1024)
    around = np.stack([np.sin(angles), np.cos(angles)], 1) * RADII
    walked = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(around, axis=0).T))])
    seats = chance.random() + (chance.permutation(count) + chance.uniform(0, count * 4 / 128, count)) / count
    places = np.stack([np.interp(seats % 1 * walked[-1], walked, around[:, i]) for i in (0, 1)], 1)
    places = places * chance.uniform(.9, 1.08, (count, 1)) + SIZE / 2
    return np.clip(places, halves + 3, SIZE - halves - 3)


def spline(knots):
    """A centripetal Catmull-Rom spline through the knots, in pieces of about four pixels."""
    knots = np.array([2 * knots[0] - knots[1], *knots, 2 * knots[-1] - knots[-2]])
    roots = np.sqrt(np.maximum(1e-6, np.hypot(*np.diff(knots, axis=0).T)))
    points = []
    for i in range(len(knots) - 3):
        (a, b, c, d), (ab, bc, cd) = knots[i:i + 4], roots[i:i + 3]
        leave = ((b - a) / ab - (c - a) / (ab + bc) + (c - b) / bc) * bc
        arrive = ((c - b) / bc - (d - b) / (bc + cd) + (d - c) / cd) * bc
        t = np.arange(max(2, int(bc * bc / 4)))[:, None] / max(2, int(bc * bc / 4))
        points.append(b * (2 * t**3 - 3 * t**2 + 1) + leave * (t**3 - 2 * t**2 + t)
                      + c * (3 * t**2 - 2 * t**3) + arrive * (t**3 - t**2))
    return np.concatenate([*points, knots[-2:-1]])


def bend(start, end, chance):
    """Where a way between two letters bends: long ones towards the middle."""
    middle, far = (start + end) / 2, np.hypot(*(end - start)) > 80
    pull = chance.uniform(.15, .7) if far else chance.uniform(-.05, .3)
    angle = chance.uniform(0, 2 * math.pi)
    bulge = chance.uniform(0, 18 if far else 8) * np.array([math.cos(angle), math.sin(angle)])
    return middle + pull * (SIZE / 2 - middle) + bulge


def thread(stops, mark, chance):
    """A line through these letters' middles, beginning at the mark or with a tip of its own."""
    meets = [stop + INWARD * unit(SIZE / 2 - stop) for stop in stops]
    knots = [meets[0]]
    for start, end in zip(meets, meets[1:]):
        knots += [bend(start, end, chance), end]
    begin = knots[0] + TIP * unit(knots[0] - knots[1]) if mark is None else mark
    return spline([begin, *knots, knots[-1] + TIP * unit(knots[-1] - knots[-2])])


@dataclass
class Layout:
    """Letters' middles and half sizes, in the order of the lines, four on the first; the ring; the lines."""
    middles: np.ndarray
    halves: np.ndarray
    ring: np.ndarray
    lines: list


def beyond(points, middles, halves):
    """How far each point lies outside of each letter's box."""
    return np.hypot(*np.maximum(np.abs(points[:, None] - middles) - halves, 0).transpose(2, 0, 1))


def touches(line, own, layout):
    """Whether a line touches letters that it does not take, or leaves the picture."""
    others = [i for i in range(len(layout.middles)) if i not in own]
    outside = (line < 3).any() or (line > SIZE - 3).any()
    return outside or beyond(line, layout.middles[others], layout.halves[others]).min() < 2


def lay(halves, taken, chance):
    """Any layout; after some patience one that breaks rules."""
    count = len(halves)
    for attempt in range(PATIENCE):
        middles = deal(halves, chance)
        apart = np.abs(middles[:, None] - middles) - halves[:, None] - halves + 1e3 * np.eye(count)[..., None]
        if (apart.max(2) < 2).any() and attempt < PATIENCE - 2:
            continue
        angle = chance.uniform(0, 2 * math.pi, 40)
        tries = middles[0] + CAPITAL * chance.uniform(.78, 1, (40, 1)) * np.stack([np.cos(angle), np.sin(angle)], 1)
        far = beyond(tries, middles, halves).min(1)
        free = (far > 9) & (tries > 9.5).all(1) & (tries < SIZE - 9.5).all(1)
        ring = tries[free][0] if free.any() else np.clip(tries[far.argmax()], 10, SIZE - 10)
        layout = Layout(middles, halves, ring, [])
        lines = [(range(taken), ring), (range(taken, count), None)]
        layout.lines = [thread(middles[own], mark, chance) for own, mark in lines]
        if not any(touches(line, own, layout) for line, (own, _) in zip(layout.lines, lines)):
            break
    return layout


# ---- the picture ----------------------------------------------------------------------------------

def patches(chance):
    """Four crossing waves, as steep as they are at the edges: from 0 to 1."""
    y, x = np.mgrid[:HIGH, :WIDE].astype(np.float32)
    height = np.zeros((HIGH, WIDE), np.float32)
    for _ in range(4):
        angle, length = chance.uniform(0, 2 * math.pi), 110 * chance.uniform(.8, 1.25)
        height += np.sin(2 * math.pi * (chance.random() + (x * math.cos(angle) + y * math.sin(angle)) / length))
    return np.clip(height * 24 + .5, 0, 1)


def stroke(line, half):
    """How much of each pixel a line covers that is twice so wide."""
    plane = np.zeros((HIGH * FINE, WIDE * FINE), np.uint8)
    points = np.rint(line * FINE * 16).astype(np.int32)
    cv2.polylines(plane, [points[:, None]], False, 255, round(2 * half * FINE), cv2.LINE_8, 4)
    return cv2.resize(plane, (WIDE, HIGH), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def draw(planes, layout, patched, chance):
    """Darkness from 0 to 1, in four tones."""
    ink = np.zeros((HIGH, WIDE), np.float32)
    for plane, middle in zip(planes, layout.middles):
        high, wide = plane.shape
        top = min(max(0, round(middle[1] - high / 2)), HIGH - high)
        left = min(max(0, round(middle[0] - wide / 2)), WIDE - wide)
        part = ink[top:top + high, left:left + wide]
        np.maximum(part, plane.astype(np.float32) / 255, out=part)
    main = layout.lines[0]
    main = main[np.hypot(*(main - layout.ring).T) >= MARK]
    circle = layout.ring + RING * np.stack([f(np.linspace(0, 2 * math.pi, 40)) for f in (np.cos, np.sin)], 1)
    lines, cuts = (np.max([stroke(line, half) for line in (main, layout.lines[1], circle)], 0) for half in (LINE, CUT))
    dark = np.maximum(np.minimum(ink, 1 - cuts), np.minimum(lines, 1 - ink))
    if patched:
        turned = patches(chance)
        dark = np.maximum(np.minimum(dark, 1 - turned), np.minimum(turned, 1 - dark))
    return np.floor(dark * 3 + .5) / 3
