"""The tailored attacker: a small network that learns from pictures of our own generator.

Who has this repository has as many labelled pictures as they like, so this is the honest question.
It streams pictures, shows none twice, and prints how many of 2,000 unseen ones it solves as it goes.
What it learned is an attacker for `attack.py --model`.
"""
import argparse
import io
import json
import math
import os
import subprocess
import tempfile
import time

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

ALPHABET = 'ACEHKLMNRTUWX39'
HEIGHT, WIDTH = 78, 108  # half of the picture's own size
UNSEEN = 2_000
CHUNK = 4_000
RULES = ['from-ring', 'to-ring', 'from-square', 'skip-first']


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm_first, self.norm_second = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)

    def forward(self, x):
        inner = self.first(F.relu(self.norm_first(x)))
        return F.relu(x + self.norm_second(self.second(inner)))


def halved(before, after):
    return nn.Sequential(
        nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()
    )


class Net(nn.Module):
    """Convolutions see the letters, a transformer relates places, four queries ask for the answer."""

    def __init__(self, width=128):
        super().__init__()
        self.see = nn.Sequential(
            halved(1, 32), Residual(32), halved(32, 64), Residual(64), Residual(64), halved(64, width), Residual(width)
        )
        with torch.no_grad():
            seen = self.see(torch.zeros(1, 1, HEIGHT, WIDTH))
        self.place = nn.Parameter(torch.randn(1, seen.shape[2] * seen.shape[3], width) * 0.02)
        self.ask = nn.Parameter(torch.randn(1, 4, width) * 0.5)
        options = dict(dim_feedforward=2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.relate = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, 4, **options), 2, enable_nested_tensor=False
        )
        self.answer = nn.TransformerDecoder(nn.TransformerDecoderLayer(width, 4, **options), 2)
        self.out = nn.Linear(width, len(ALPHABET))

    def forward(self, x):
        seen = self.relate(self.see(x).flatten(2).transpose(1, 2) + self.place)
        return self.out(self.answer(self.ask.expand(x.shape[0], -1, -1), seen))


def pixels(image):
    """A picture as the network sees it: small, dark on light or not, from -1 to 1."""
    gray = np.asarray(image.convert('L').resize((WIDTH, HEIGHT), Image.BILINEAR), np.float32)
    low, high = gray.min(), gray.max()
    return 1 - 2 * (gray - low) / max(1, high - low)


def pictures(sheet, level, rule, first, count):
    """Labels and pictures from the generator."""
    with tempfile.NamedTemporaryFile() as file:
        order = [sheet, 'stream', '--level', str(level), '--rule', rule, '--first', str(first), '--count', str(count)]
        subprocess.run([*order, '--out', file.name], check=True)
        data = file.read()
    labels, images, at = [], [], 0
    while at < len(data):
        labels.append([ALPHABET.index(chr(c)) for c in data[at:at + 4]])
        length = int.from_bytes(data[at + 4:at + 8], 'little')
        images.append(pixels(Image.open(io.BytesIO(data[at + 8:at + 8 + length]))))
        at += 8 + length
    images = torch.from_numpy(np.stack(images)[:, None]).contiguous(memory_format=torch.channels_last)
    return torch.tensor(labels), images


def load(path, kind=Net):
    net = kind()
    net.load_state_dict(torch.load(path, map_location='cpu', weights_only=True))
    return net.eval()


def read(net, image):
    with torch.no_grad():
        best = net(torch.from_numpy(pixels(image)[None, None])).argmax(-1)[0]
    return ''.join(ALPHABET[i] for i in best)


def fast():
    """Half precision where the processor has it; where it has not, it would take ten times as long."""
    with open('/proc/cpuinfo') as file:
        return torch.autocast('cpu', torch.bfloat16, enabled='amx_bf16' in file.read())


def rates(net, labels, images):
    """How many whole answers and how many characters are right, in percent."""
    net.eval()
    right = []
    with torch.no_grad():
        for at in range(0, len(images), 200):
            with fast():
                guess = net(images[at:at + 200]).argmax(-1)
            right.append(guess == labels[at:at + 200])
    net.train()
    right = torch.cat(right).float()
    return 100 * right.prod(1).mean().item(), 100 * right.mean().item(), (100 * right.mean(0)).tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--sheet', default='target/release/examples/captcha_sheet')
    parser.add_argument('--level', type=int, default=1)
    parser.add_argument('--rule', default='from-ring')
    parser.add_argument('--minutes', type=float, default=30)
    parser.add_argument('--init', help='go on from what was learned before')
    parser.add_argument('--out', default='target/attack/trained.pt')
    parser.add_argument('--curve', help='a file for the learning curve, a JSON object a line')
    parser.add_argument('--batch', type=int, default=64)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    unseen = pictures(args.sheet, args.level, args.rule, 900_000_000, UNSEEN)
    net = (load(args.init) if args.init else Net()).train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=1e-4)
    # Time is the core's own, so a busy machine changes nothing; what tests take is not counted.
    seen, steps, report_at, tested, budget = 0, 0, 4_000, 0.0, args.minutes * 60
    begun = time.process_time()

    def spent():
        return time.process_time() - begun - tested

    def report(loss):
        nonlocal tested
        minutes, since = spent() / 60, time.process_time()
        exact, characters, each = rates(net, *unseen)
        line = dict(level=args.level, rule=args.rule, seen=seen, minutes=round(minutes, 2), loss=round(loss, 4),
                    exact=round(exact, 2), characters=round(characters, 2), each=[round(rate, 1) for rate in each])
        print(json.dumps(line), flush=True)
        if args.curve:
            with open(args.curve, 'a') as file:
                file.write(json.dumps(line) + '\n')
        torch.save(net.state_dict(), args.out)
        tested += time.process_time() - since

    while spent() < budget:
        labels, images = pictures(args.sheet, args.level, args.rule, 1_000_000 + seen, CHUNK)
        for at in range(0, CHUNK - args.batch + 1, args.batch):
            # Up over the first steps, then down to almost nothing when the time is over.
            pace = min(1, steps / 200) * (0.505 + 0.495 * math.cos(math.pi * min(1, spent() / budget)))
            for group in optimiser.param_groups:
                group['lr'] = 1e-3 * pace
            with fast():
                out = net(images[at:at + args.batch])
            loss = F.cross_entropy(out.float().flatten(0, 1), labels[at:at + args.batch].flatten())
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            steps += 1
        seen += CHUNK
        if seen >= report_at and spent() < budget:
            report(loss.item())
            report_at = seen + max(4_000, seen // 4)
    report(loss.item())
    for rule in RULES:
        exact, characters, _ = rates(net, *pictures(args.sheet, args.level, rule, 800_000_000, 1_000))
        print(f'  the same network on 1000 of {rule:12s} exact {exact:5.1f} %  characters {characters:5.1f} %', flush=True)


if __name__ == '__main__':
    main()
