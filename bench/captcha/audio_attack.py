#!/usr/bin/env python3
"""What programs make of our audio clips: files `<digits>_<number>.wav`, as `audio_clips files` writes them.

    audio_attack.py CLIPS --language en [--train OTHER_CLIPS]

Three attackers, from the laziest to the one that knows us best:

* `pocketsphinx` (PyPI, English only): a general recogniser, told that there are nothing but digits.
* `templates`: cuts a clip into its five loud stretches and compares each with the digits that lie in our repository
  (src/speech/voices/*.ima), read at five speeds: spectra, dynamic time warping, the nearest one.
* `trained`: the same stretches, given to a small network that saw nothing but clips of our own generator.

A solve is all five digits, at the first try. Needs numpy, and pocketsphinx for the first.
"""

import argparse
import importlib.util
import math
import pathlib
import time
import wave

import numpy as np

RATE, HOP, WINDOW, BANDS, FRAMES, LENGTH = 8000, 80, 200, 20, 16, 5
VOICES = pathlib.Path(__file__).resolve().parents[2] / "src/speech/voices"
WORDS = "zero one two three four five six seven eight nine".split()


def clips(folder, limit):
    """Answers and samples of the files of a folder."""
    for file in sorted(pathlib.Path(folder).glob("*.wav"))[:limit]:
        with wave.open(str(file)) as sound:
            raw = np.frombuffer(sound.readframes(sound.getnframes()), dtype=np.uint8)
        yield file.stem.split("_")[0], (raw.astype(np.float64) - 128) / 128


def filters():
    """Triangles over the bins of a spectrum, evenly spread as ears hear."""
    mel = lambda hertz: 2595 * math.log10(1 + hertz / 700)
    edges = [700 * (10 ** (at / 2595) - 1) for at in np.linspace(mel(100), mel(3900), BANDS + 2)]
    bins = np.fft.rfftfreq(256, 1 / RATE)
    rise = [(bins - low) / (mid - low) for low, mid in zip(edges, edges[1:])]
    return np.array([np.clip(np.minimum(rise[at], 1 - rise[at + 1]), 0, None) for at in range(BANDS)])


FILTERS = filters()


def spectra(samples):
    """Loudness in each band, every ten milliseconds."""
    if len(samples) < WINDOW:
        samples = np.pad(samples, (0, WINDOW - len(samples)))
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP] * np.hanning(WINDOW)
    return np.log(np.abs(np.fft.rfft(frames, 256)) ** 2 @ FILTERS.T + 1e-4)


def stretches(samples):
    """The five loud stretches: the quietest threshold that leaves five, at least 90 ms apart."""
    count = len(samples) // HOP
    level = np.sqrt((samples[: count * HOP].reshape(count, HOP) ** 2).mean(axis=1))
    level = np.convolve(level, np.ones(3) / 3, "same")
    best = None
    for share in np.linspace(0.04, 0.6, 57):
        loud = np.flatnonzero(level > share * level.max())
        groups = [group for group in np.split(loud, np.flatnonzero(np.diff(loud) > 9) + 1) if len(group) > 5]
        if len(groups) == LENGTH:
            return [samples[max(0, g[0] - 2) * HOP : (g[-1] + 3) * HOP] for g in groups]
        best = groups if best is None or abs(len(groups) - LENGTH) < abs(len(best) - LENGTH) else best
    groups = sorted(sorted(best, key=len)[-LENGTH:], key=lambda group: group[0])
    return [samples[max(0, g[0] - 2) * HOP : (g[-1] + 3) * HOP] for g in groups]


def decoded(code, count, steps, moves):
    predicted, index, samples = 0, 0, []
    for nibble in [half for byte in code for half in (byte & 15, byte >> 4)][:count]:
        step = steps[index]
        moved = step >> 3
        for bit, part in ((1, step >> 2), (2, step >> 1), (4, step)):
            moved += part if nibble & bit else 0
        predicted = max(-32768, min(32767, predicted - moved if nibble & 8 else predicted + moved))
        index = max(0, min(len(steps) - 1, index + moves[nibble & 7]))
        samples.append(predicted / 32768)
    return np.array(samples)


def templates(language):
    """What lies in our repository, read at five speeds."""
    spec = importlib.util.spec_from_file_location("make", VOICES / "make.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    found = []
    for file in sorted(VOICES.glob(f"{language}-*.ima")):
        data = file.read_bytes()
        at = 20
        for digit in range(10):
            count = int.from_bytes(data[2 * digit : 2 * digit + 2], "little")
            size = (count + 1) // 2
            samples = decoded(data[at : at + size], count, make.STEPS, make.MOVES)
            at += size
            for speed in (0.92, 0.96, 1.0, 1.05, 1.10):
                read = np.interp(np.arange(0, count - 1, speed), np.arange(count), samples)
                found.append((digit, even(spectra(read), 24)))
    return found


def even(frames, count):
    """As many frames as that, without what is the same in all of them."""
    places = np.linspace(0, len(frames) - 1, count)
    low = np.floor(places).astype(int)
    share = (places - low)[:, None]
    frames = frames[low] * (1 - share) + frames[np.minimum(low + 1, len(frames) - 1)] * share
    return frames - frames.mean()


def apart(one, other):
    """Dynamic time warping over two rows of as many frames, at most five apart."""
    cost = np.sqrt(((one[:, None] - other[None]) ** 2).sum(axis=2))
    total = np.full((len(one) + 1, len(other) + 1), np.inf)
    total[0, 0] = 0
    for i in range(1, len(one) + 1):
        for j in range(max(1, i - 5), min(len(other), i + 5) + 1):
            total[i, j] = cost[i - 1, j - 1] + min(total[i - 1, j], total[i, j - 1], total[i - 1, j - 1])
    return total[-1, -1]


def by_templates(language):
    known = templates(language)
    rows = np.array([frames for _, frames in known])

    def read(samples):
        digits = ""
        for stretch in stretches(samples):
            heard = even(spectra(stretch), 24)
            near = np.argsort(((rows - heard) ** 2).sum(axis=(1, 2)))[:12]
            digits += str(min((apart(heard, rows[at]), known[at][0]) for at in near)[1])
        return digits

    return read


def feature(stretch):
    return np.append(even(spectra(stretch), FRAMES).ravel() / 3, len(stretch) / 2000)


def by_training(folder, limit):
    """One hidden layer, from clips whose answers are known."""
    features, labels, begun = [], [], time.process_time()
    for answer, samples in clips(folder, limit):
        found = stretches(samples)
        if len(found) == LENGTH:
            features += [feature(stretch) for stretch in found]
            labels += [int(digit) for digit in answer]
    x, y = np.array(features), np.eye(10)[labels]
    chance = np.random.default_rng(1)
    w1 = chance.normal(0, x.shape[1] ** -0.5, (x.shape[1], 128))
    w2 = chance.normal(0, 128**-0.5, (128, 10))
    b1, b2 = np.zeros(128), np.zeros(10)
    speed = [np.zeros_like(part) for part in (w1, b1, w2, b2)]
    for epoch in range(40):
        order = chance.permutation(len(x))
        for batch in np.array_split(order, max(1, len(x) // 64)):
            heard = x[batch] + chance.normal(0, 0.05, x[batch].shape)
            hidden = np.maximum(0, heard @ w1 + b1)
            out = hidden @ w2 + b2
            likely = np.exp(out - out.max(axis=1, keepdims=True))
            likely /= likely.sum(axis=1, keepdims=True)
            wrong = (likely - y[batch]) / len(batch)
            back = (wrong @ w2.T) * (hidden > 0)
            slopes = (heard.T @ back, back.sum(axis=0), hidden.T @ wrong, wrong.sum(axis=0))
            rate = 0.1 * 0.93**epoch
            for part, moving, slope in zip((w1, b1, w2, b2), speed, slopes):
                moving *= 0.9
                moving += slope
                part -= rate * moving
    print(f"trained on {len(x)} digits in {time.process_time() - begun:.0f} s of processor time")

    def read(samples):
        found = stretches(samples)
        x = np.array([feature(stretch) for stretch in found])
        return "".join(map(str, (np.maximum(0, x @ w1 + b1) @ w2 + b2).argmax(axis=1)))

    return read


def by_pocketsphinx():
    """The recogniser that PyPI's package brings along, listening for digits alone."""
    import pocketsphinx

    grammar = "#JSGF V1.0; grammar d; public <d> = (" + " | ".join(WORDS) + ")+ ;"
    file = pathlib.Path("target/attack/digits.gram")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(grammar)
    decoder = pocketsphinx.Decoder(jsgf=str(file), samprate=16000, loglevel="FATAL")

    def read(samples):
        twice = np.interp(np.arange(2 * len(samples)) / 2, np.arange(len(samples)), samples)
        decoder.start_utt()
        decoder.process_raw((twice * 30000).astype(np.int16).tobytes(), full_utt=True)
        decoder.end_utt()
        heard = decoder.hyp().hypstr.split() if decoder.hyp() else []
        return "".join(str(WORDS.index(word)) for word in heard if word in WORDS)

    return read


def wilson(hits, count):
    share, z = hits / count, 1.96
    middle = share + z * z / (2 * count)
    wide = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return [(middle + sign * wide) / (1 + z * z / count) * 100 for sign in (-1, 1)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips")
    parser.add_argument("--language", choices=["en", "zh"], required=True)
    parser.add_argument("--train", help="a folder of other clips, for the attacker that learns")
    parser.add_argument("--limit", type=int, default=300)
    wish = parser.parse_args()
    attackers = {"templates": by_templates(wish.language)}
    if wish.train:
        attackers["trained"] = by_training(wish.train, 100_000)
    if wish.language == "en":
        try:
            attackers["pocketsphinx"] = by_pocketsphinx()
        except ImportError:
            print("pocketsphinx is not installed: pip install pocketsphinx")
    given = list(clips(wish.clips, wish.limit))
    for name, read in attackers.items():
        begun, solved, right, lengths = time.process_time(), 0, 0, 0
        for answer, samples in given:
            heard = read(samples)
            solved += heard == answer
            lengths += len(heard) == len(answer)
            right += sum(one == other for one, other in zip(heard, answer))
        spent = (time.process_time() - begun) / len(given) * 1000
        low, high = wilson(solved, len(given))
        print(
            f"{wish.language} {name}: {solved}/{len(given)} = {100 * solved / len(given):.1f} % "
            f"[{low:.1f}, {high:.1f}], digits right in place {100 * right / LENGTH / len(given):.1f} %, "
            f"five heard {100 * lengths / len(given):.0f} %, {spent:.0f} ms a clip"
        )


if __name__ == "__main__":
    main()
