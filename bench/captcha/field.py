"""A small network that takes our pictures apart: letters, the ring, and lines with their directions.

It learns from `drawing.py` alone, on one core. It answers what is where and nothing about the order:
that is left to `path_attack.py`.

  python bench/captcha/field.py --minutes 30 --out FILE.pt
"""
import argparse
import math
import time

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from drawing import ALPHABET, HIGH, WIDE, draw, lay, letters
from torch import nn
from train import Residual, halved, load

WAYS = 8  # directions of lines, from 0 to half a turn
FINE, COARSE = 2, 4  # how many pixels of a picture make one of a line's plane, and of the letters'
NEAR = 9  # how far from a letter's middle its plane is filled, in pixels
PLACES = len(ALPHABET)  # the plane behind the letters': whether there is one at all
RING = PLACES + 1
BATCH = 24
PATCHED = .6  # share of pictures with patches, after a third of the time


class Field(nn.Module):
    """Down to an eighth of the size and up again, with what was seen on the way."""

    def __init__(self):
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(2, 16, 5, 2, 2, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
                                  nn.Conv2d(16, 16, 3, padding=1))
        self.coarse = nn.Sequential(halved(16, 40), Residual(40))
        self.coarser = nn.Sequential(halved(40, 72), Residual(72))
        self.coarsest = nn.Sequential(halved(72, 96), Residual(96))
        self.merge = nn.ModuleList([nn.Conv2d(96, 72, 1), nn.Conv2d(72, 40, 1), nn.Conv2d(40, 16, 1)])
        self.after = nn.ModuleList([nn.Sequential(Residual(72), Residual(72)), Residual(40),
                                    nn.Sequential(nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))])
        self.letters = nn.Conv2d(72 + 40, RING + 1, 1)
        self.ways = nn.Sequential(nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, WAYS, 3, padding=1))

    def forward(self, x):
        half = self.fine(x)
        quarter = self.coarse(half)
        eighth = self.coarser(quarter)
        grown = lambda plane, like: F.interpolate(plane, like.shape[2:], mode='bilinear', align_corners=False)
        eighth = self.after[0](eighth + self.merge[0](grown(self.coarsest(eighth), eighth)))
        quarter = self.after[1](quarter + self.merge[1](grown(eighth, quarter)))
        half = self.after[2](half + self.merge[2](grown(quarter, half)))
        return self.letters(torch.cat([grown(eighth, quarter), quarter], 1)), self.ways(half)


def inputs(dark):
    """A picture as the network sees it, and with its patches turned back as well as a median can."""
    most = cv2.medianBlur((dark > .5).astype(np.uint8) * 255, 41) > 127
    return np.stack([dark, np.where(most, 1 - dark, dark)]).astype(np.float32)


def wished(chars, layout):
    """What the network shall answer: a number for each coarse place, where the ring is, and lines."""
    high, wide = HIGH // COARSE, WIDE // COARSE
    y, x = np.mgrid[:high, :wide] * COARSE + COARSE / 2
    which = np.full((high, wide), -1)
    for char, (column, row) in zip(chars, layout.middles):
        which[np.hypot(x - column, y - row) < NEAR] = char
    ring = np.hypot(x - layout.ring[0], y - layout.ring[1]) < 6
    ways = np.zeros((WAYS, HIGH // FINE, WIDE // FINE), np.uint8)
    for line in layout.lines:
        points = np.rint(line / FINE * 16 - 8).astype(int)
        angles = np.arctan2(*(line[1:] - line[:-1]).T[::-1]) / math.pi * WAYS
        for start, end, angle in zip(points, points[1:], angles):
            for way in {math.floor(angle) % WAYS, math.ceil(angle) % WAYS}:
                cv2.line(ways[way], tuple(start.tolist()), tuple(end.tolist()), 1, 2, cv2.LINE_8, 4)
    return which, ring, ways


def example(bank, patched, chance):
    chars = chance.permutation(len(ALPHABET))[:7]
    planes = [bank[char][chance.integers(len(bank[char]))] for char in chars]
    layout = lay(np.array([plane.shape[::-1] for plane in planes]) / 2, 4, chance)
    return inputs(draw(planes, layout, chance.random() < patched, chance)), *wished(chars, layout)


def loss(net, batch):
    seen, which, ring, ways = (torch.from_numpy(np.stack(part)) for part in zip(*batch))
    found, led = net(seen.contiguous(memory_format=torch.channels_last))
    lies = which >= 0
    read = F.cross_entropy(found[:, :PLACES].permute(0, 2, 3, 1)[lies], which[lies])
    binary = lambda out, wish: F.binary_cross_entropy_with_logits(out, wish.float())
    places = binary(found[:, PLACES], lies) + 4 * binary(found[:, RING], ring)
    return read + places + 4 * binary(led, ways), read.item()


def look(net, dark):
    """Letters' planes (each letter's share, whether there is one, the ring's) and the lines'."""
    with torch.no_grad():
        found, led = net(torch.from_numpy(inputs(dark))[None])
    share = F.softmax(found[0, :PLACES], 0)
    return torch.cat([share, torch.sigmoid(found[0, PLACES:])]).numpy(), torch.sigmoid(led[0]).numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=30, help='of the core, not of the clock')
    parser.add_argument('--each', type=int, default=40, help='looks of each letter in each font')
    parser.add_argument('--init', help='go on from what was learned before')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--out', default='target/attack/field.pt')
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.manual_seed(args.seed)
    chance = np.random.default_rng(args.seed)
    bank = letters(args.each, chance)
    net = (load(args.init, Field) if args.init else Field()).train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=1e-4)
    begun, steps, recent = time.process_time(), 0, []
    while (spent := (time.process_time() - begun) / 60 / args.minutes) < 1:
        for group in optimiser.param_groups:
            group['lr'] = 3e-3 * min(1, steps / 50) * (.51 + .49 * math.cos(math.pi * spent))
        value, read = loss(net, [example(bank, PATCHED * min(1, 3 * spent), chance) for _ in range(BATCH)])
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        steps += 1
        recent.append((value.item(), read))
        if len(recent) == 20:
            mean, letter = np.mean(recent, 0)
            print(f'{spent * args.minutes:6.1f} min {steps * BATCH:7d} pictures  loss {mean:.3f}  '
                  f'of letters {letter:.3f}', flush=True)
            recent = []
            torch.save(net.state_dict(), args.out)
    torch.save(net.state_dict(), args.out)


if __name__ == '__main__':
    main()
