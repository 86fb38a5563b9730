"""The tracing attack: what somebody writes who looks at the picture for an afternoon.

It knows what the picture is made of: a ring, lines three pixels wide, letters with thicker strokes,
thin cuts where a line runs through a letter. It takes letters and lines apart by thickness, finds
the ring, walks along the line as straight as it can, notes the letters on the way, and reads each
with a classifier that it trained on the fonts in this repository. On pictures with patches it first
guesses the patches from what most pixels around are, and turns them back.

  python bench/captcha/trace_attack.py FOLDER [FOLDER ...]   folders of <answer>_<n>.png, rule from-ring
"""
import glob
import math
import os
import sys

import cv2
import numpy as np
import scoring
from PIL import Image, ImageDraw, ImageFont

ALPHABET = 'ACEHKLMNRTUWX39'
FONTS = os.path.join(os.path.dirname(__file__), '..', '..', 'src', 'captcha', 'fonts')
CROP = 28


# ---- reading one letter: nearest neighbours in a space that separates the letters best -----------

def sample(font, letter, chance):
    """A letter as it comes out of a picture: slanted, turned, with what is left of a cut."""
    image = Image.new('L', (96, 96), 0)
    draw = ImageDraw.Draw(image)
    draw.text((48, 48), letter, 255, font=font, anchor='mm')
    turn, slant = chance.uniform(-.36, .36), chance.uniform(-.22, .22)
    cos, sin = math.cos(turn), math.sin(turn)
    ways = np.array([[cos, sin + slant, 0], [-sin, cos, 0]])
    ways[:, 2] = 48 - ways[:, :2] @ [48, 48]
    pixels = cv2.warpAffine(np.asarray(image), ways, (96, 96)) > 127
    pixels = pixels.astype(np.uint8)
    if chance.random() < .8:
        angle = chance.uniform(0, math.pi)
        way = 60 * np.array([math.cos(angle), math.sin(angle)])
        middle = np.array([48, 48]) + chance.normal(0, 3, 2)
        cv2.line(pixels, tuple((middle - way).astype(int)), tuple((middle + way).astype(int)), 0, 2)
        pixels = cv2.morphologyEx(pixels, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    return crop(pixels)


def crop(pixels):
    """The letter alone, as large as its box, blurred a little."""
    rows, columns = np.nonzero(pixels)
    if len(rows) < 20:
        return np.zeros(CROP * CROP, np.float32)
    part = pixels[rows.min():rows.max() + 1, columns.min():columns.max() + 1].astype(np.float32)
    high, wide = part.shape
    scale = (CROP - 4) / max(high, wide)
    part = cv2.resize(part, (max(1, round(wide * scale)), max(1, round(high * scale))), interpolation=cv2.INTER_AREA)
    out = np.zeros((CROP, CROP), np.float32)
    top, left = (CROP - part.shape[0]) // 2, (CROP - part.shape[1]) // 2
    out[top:top + part.shape[0], left:left + part.shape[1]] = part
    return cv2.GaussianBlur(out, (0, 0), 1).ravel()


class Reader:
    def __init__(self, each=60):
        chance = np.random.default_rng(1)
        files = [f for f in sorted(glob.glob(os.path.join(FONTS, '*.?tf'))) if 'caption' not in f]
        fonts = [ImageFont.truetype(f, 54) for f in files]
        pairs = [(i, sample(font, c, chance)) for i, c in enumerate(ALPHABET) for font in fonts for _ in range(each)]
        labels = np.array([i for i, _ in pairs], np.int32)
        data = np.stack([pixels for _, pixels in pairs])
        self.mean = data.mean(0)
        # Whitened by the scatter within letters: what differs between fonts counts less.
        inner = np.concatenate([data[labels == i] - data[labels == i].mean(0) for i in range(len(ALPHABET))])
        _, values, ways = np.linalg.svd(inner[::4], full_matrices=False)
        self.ways = (ways[:120].T / np.sqrt(values[:120] ** 2 + values[0] ** 2 / 100))
        self.space = ((data - self.mean) @ self.ways).astype(np.float32)
        self.labels = labels

    def read(self, pixels):
        at = (crop(pixels) - self.mean) @ self.ways
        near = np.argsort(((self.space - at) ** 2).sum(1))[:7]
        return ALPHABET[np.bincount(self.labels[near]).argmax()]

    def test(self):
        chance = np.random.default_rng(2)
        files = [f for f in sorted(glob.glob(os.path.join(FONTS, '*.?tf'))) if 'caption' not in f]
        fonts = [ImageFont.truetype(f, 54) for f in files]
        right = total = 0
        for c in ALPHABET:
            for font in fonts:
                at = (sample(font, c, chance) - self.mean) @ self.ways
                near = np.argsort(((self.space - at) ** 2).sum(1))[:7]
                right += ALPHABET[np.bincount(self.labels[near]).argmax()] == c
                total += 1
        return right / total


# ---- taking the picture apart -------------------------------------------------------------------

def ink(path):
    """Darkness from 0 to 1, four times as many pixels."""
    gray = np.asarray(Image.open(path).convert('L'), np.float32)[:156]
    return (gray.max() - gray) / max(1, gray.max() - gray.min())


def without_patches(dark, size):
    """Turns patches back: where most pixels around are dark, dark is paper."""
    most = cv2.medianBlur((dark > .5).astype(np.uint8) * 255, size) > 127
    most = cv2.morphologyEx(most.astype(np.uint8), cv2.MORPH_OPEN, disk(9))
    turned = np.where(most > 0, 1 - dark, dark)
    # Along the edges of patches lie thin seams of both colours.
    return turned


def disk(size):
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))


ZOOM = 2
# What is thicker than this is a letter, in pixels of the enlarged picture.
THICK = 9


def apart(dark):
    """Letters, and the middle of lines: thin ink on paper, thin paper in letters."""
    big = cv2.resize(dark, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC)
    solid = (big > .5).astype(np.uint8)
    closed = cv2.morphologyEx(solid, cv2.MORPH_CLOSE, disk(5))
    letters = cv2.morphologyEx(closed, cv2.MORPH_OPEN, disk(THICK))
    around = cv2.dilate(letters, disk(7)) & closed
    thin = solid & (1 - cv2.dilate(letters, disk(3)))
    cuts = (1 - solid) & cv2.morphologyEx(solid, cv2.MORPH_CLOSE, disk(7))
    return letters, around, thin, cuts


def ring(dark):
    """Where the picture looks most like a ring."""
    size = 19
    y, x = np.mgrid[:size, :size] - size // 2
    far = np.hypot(x, y)
    wish = np.where(np.abs(far - 5.7) < 1.6, 1.0, np.where(far < 9.5, -1.0, 0.0)).astype(np.float32)
    wish[wish > 0] /= (wish > 0).sum()
    wish[wish < 0] /= (wish < 0).sum()
    score = cv2.filter2D(dark, -1, wish, borderType=cv2.BORDER_CONSTANT)
    row, column = np.unravel_index(score.argmax(), score.shape)
    return np.array([column, row], float)


def blobs(letters, dark):
    """Letters as groups of thick pieces near each other, with their middles and pixels."""
    joined = cv2.morphologyEx(letters, cv2.MORPH_CLOSE, disk(11))
    count, labels, stats, middles = cv2.connectedComponentsWithStats(joined)
    found = []
    solid = (cv2.resize(dark, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC) > .5).astype(np.uint8)
    closed = cv2.morphologyEx(solid, cv2.MORPH_CLOSE, disk(5))
    for i in range(1, count):
        left, top, wide, high, area = stats[i]
        if high < 22 * ZOOM or area < 150 * ZOOM:
            continue
        piece = cv2.dilate((labels == i).astype(np.uint8), disk(5)) & closed
        found.append((np.array([left + wide / 2, top + high / 2]) / ZOOM, np.array([wide, high]) / ZOOM, piece))
    return found


def walk(start, letters, thin, cuts, found, count):
    """Follows the line from the ring, as straight as the evidence allows; the letters it passes."""
    paper = (1 - cv2.dilate(letters, disk(3))).astype(np.float32)
    evidence = cv2.GaussianBlur(thin.astype(np.float32), (0, 0), 1.2) * paper
    evidence += cv2.GaussianBlur(cuts.astype(np.float32), (0, 0), 1.2) * (1 - paper) * 1.2
    high, wide = evidence.shape

    def at(p):
        column, row = int(round(p[0] * ZOOM)), int(round(p[1] * ZOOM))
        return evidence[row, column] if 0 <= row < high and 0 <= column < wide else -1.0

    def ahead(p, angle, steps=7):
        way = np.array([math.cos(angle), math.sin(angle)])
        return sum(at(p + way * step * 1.2) for step in range(1, steps + 1)) / steps

    angles = np.linspace(-math.pi, math.pi, 90, endpoint=False)
    angle = max(angles, key=lambda a: ahead(start + 7.5 * np.array([math.cos(a), math.sin(a)]), a, 9))
    p = start + 8.5 * np.array([math.cos(angle), math.sin(angle)])
    order, faint = [], 0
    for _ in range(500):
        turns = np.linspace(-.7, .7, 21)
        scores = [ahead(p, angle + turn) - .12 * turn * turn for turn in turns]
        best = int(np.argmax(scores))
        faint = faint + 1 if scores[best] < .1 else 0
        if faint > 8:
            break
        angle += turns[best] * .5
        p = p + 1.5 * np.array([math.cos(angle), math.sin(angle)])
        if not (0 <= p[0] < wide / ZOOM and 0 <= p[1] < high / ZOOM):
            break
        for i, (middle, size, _) in enumerate(found):
            if i not in order and (np.abs(p - middle) < size * .28).all():
                order.append(i)
        if len(order) == count:
            break
    return order


def solve(path, reader, patches):
    dark = ink(path)
    if patches:
        dark = without_patches(dark, patches)
    start = ring(dark)
    cv2.circle(dark, (int(start[0]), int(start[1])), 7, 0.0, -1)
    letters, _, thin, cuts = apart(dark)
    found = blobs(letters, dark)
    order = walk(start, letters, thin, cuts, found, 4)
    read = ''.join(reader.read(piece) for _, _, piece in found)
    return ''.join(read[i] for i in order), read


def main():
    parser = scoring.parser(__doc__)
    parser.add_argument('--patches', type=int, default=0, help='guess patches with a median of this size (odd)')
    parser.add_argument('--thick', type=int, default=9, help='what is thicker than this, in half pixels, is a letter')
    args = parser.parse_args()
    global THICK
    THICK = args.thick
    cv2.setNumThreads(1)
    reader = Reader()
    print(f'reads {100 * reader.test():.0f} % of single letters that it drew itself', file=sys.stderr)
    scoring.score(args, 'tracing', lambda file: solve(file, reader, args.patches))


if __name__ == '__main__':
    main()
