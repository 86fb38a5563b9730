#!/usr/bin/env python3
"""Makes the voices again: ten digits each, from the synthesisers of Debian's packages.

    apt-get install flite espeak-ng sox
    python3 src/speech/voices/make.py            # writes the .ima files beside this script

Each file holds ten times (0 to 9) a number of samples (u16, little-endian), and then the digits
themselves, each as IMA ADPCM of its own: 8000 samples a second, 4 bits a sample, the lower half of
a byte first, predictor and step index 0 at the beginning. A sample is a nibble; a digit with an odd
number of them is filled up with one. README.md beside this script says where the voices come from.
"""

import array
import pathlib
import subprocess
import sys
import tempfile

RATE = 8000
ENGLISH = "zero one two three four five six seven eight nine".split()
# One is read yao, as people in China read numbers aloud: yi and qi are alike on the telephone. Pinyin with tones, since
# Debian's espeak-ng has no dictionary of characters: its voice `cmn` spells most of them in English.
CHINESE = "ling2 yao1 er4 san1 si4 wu3 liu4 qi1 ba1 jiu3".split()
# Name, program, its voice, what else it is told.
VOICES = [
    ("en-kal", "flite", "kal16", ["--setf", "duration_stretch=1.05"]),
    ("en-awb", "flite", "awb", []),
    ("en-rms", "flite", "rms", []),
    ("en-slt", "flite", "slt", []),
    ("zh-m1", "espeak-ng", "cmn-latn-pinyin", ["-s", "125", "-p", "60"]),
    ("zh-m2", "espeak-ng", "cmn-latn-pinyin+m3", ["-s", "125", "-p", "52"]),
    ("zh-f1", "espeak-ng", "cmn-latn-pinyin+f2", ["-s", "135", "-p", "58"]),
    ("zh-f2", "espeak-ng", "cmn-latn-pinyin+f5", ["-s", "135", "-p", "66"]),
]
# What is quieter than this beside the loudest stretch is not speech.
SILENCE = 0.02
# Kept before and after.
MARGIN = int(0.012 * RATE)
# The longest digit that the program takes.
LONGEST = 5200
# All voices are equally loud: the root of the mean square of what is not silence.
LOUDNESS = 5600.0
PEAK = 27000.0

STEPS = [
    7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 19, 21, 23, 25, 28, 31, 34, 37, 41, 45, 50, 55, 60, 66, 73, 80, 88, 97, 107,
    118, 130, 143, 157, 173, 190, 209, 230, 253, 279, 307, 337, 371, 408, 449, 494, 544, 598, 658, 724, 796, 876, 963,
    1060, 1166, 1282, 1411, 1552, 1707, 1878, 2066, 2272, 2499, 2749, 3024, 3327, 3660, 4026, 4428, 4871, 5358, 5894,
    6484, 7132, 7845, 8630, 9493, 10442, 11487, 12635, 13899, 15289, 16818, 18500, 20350, 22385, 24623, 27086, 29794,
    32767,
]
MOVES = [-1, -1, -1, -1, 2, 4, 6, 8]


def spoken(program, voice, more, word, folder):
    """One word as samples at our rate."""
    raw, file = folder / "said.wav", folder / "ours.raw"
    if program == "flite":
        command = ["flite", "-voice", voice, *more, "-t", word, "-o", str(raw)]
    else:
        command = ["espeak-ng", "-v", voice, *more, "-w", str(raw), word]
    subprocess.run(command, check=True, capture_output=True)
    # Below the telephone's band there is no speech, only hum.
    subprocess.run(
        ["sox", "-R", str(raw), "-t", "raw", "-e", "signed", "-b", "16", "-c", "1", "-r", str(RATE), str(file),
         "gain", "-3", "highpass", "80"],
        check=True,
    )
    samples = array.array("h")
    samples.frombytes(file.read_bytes())
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def trimmed(samples):
    """Without the silence around it, faded at the ends, and as loud as all others."""
    frame = 40
    levels = [max(map(abs, samples[at:at + frame])) for at in range(0, len(samples) - frame, frame)]
    loud = [at for at, level in enumerate(levels) if level > SILENCE * max(levels)]
    first = max(0, loud[0] * frame - MARGIN)
    last = min(len(samples), (loud[-1] + 1) * frame + MARGIN)
    kept = [float(sample) for sample in samples[first:last]]
    assert len(kept) <= LONGEST, len(kept)
    for at in range(MARGIN):
        kept[at] *= at / MARGIN
        kept[-1 - at] *= at / MARGIN
    loud = [sample for sample in kept if abs(sample) > SILENCE * max(levels)]
    mean = (sum(sample * sample for sample in loud) / len(loud)) ** 0.5
    gain = min(LOUDNESS / mean, PEAK / max(map(abs, kept)))
    return [round(sample * gain) for sample in kept]


def coded(samples):
    """IMA ADPCM, one nibble a sample."""
    predicted, index, nibbles = 0, 0, []
    for sample in samples:
        step, left, nibble = STEPS[index], sample - predicted, 0
        if left < 0:
            nibble, left = 8, -left
        moved = step >> 3
        for bit in (4, 2, 1):
            if left >= step:
                nibble, left, moved = nibble | bit, left - step, moved + step
            step >>= 1
        predicted = max(-32768, min(32767, predicted - moved if nibble & 8 else predicted + moved))
        index = max(0, min(len(STEPS) - 1, index + MOVES[nibble & 7]))
        nibbles.append(nibble)
    if len(nibbles) % 2:
        nibbles.append(0)
    return bytes(low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2]))


def main():
    here = pathlib.Path(__file__).resolve().parent
    with tempfile.TemporaryDirectory() as folder:
        for name, program, voice, more in VOICES:
            words = ENGLISH if name.startswith("en") else CHINESE
            digits = [trimmed(spoken(program, voice, more, word, pathlib.Path(folder))) for word in words]
            lengths = b"".join(len(digit).to_bytes(2, "little") for digit in digits)
            file = here / f"{name}.ima"
            file.write_bytes(lengths + b"".join(map(coded, digits)))
            print(f"{file.name}: {file.stat().st_size} bytes,", [round(len(digit) / RATE, 2) for digit in digits])


if __name__ == "__main__":
    main()
