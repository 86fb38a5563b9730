"""How pictures look to other eyes: one picture of each pair of colours, a row each, to people who
see without red, green or blue receptors, and in greys; and the contrast that is left.

The simulation is that of Machado, Oliveira and Fernandes (2009), whole loss, from the package daltonlens.

  python bench/captcha/look.py FOLDER OUT.png        a folder of <answer>_<n>.png
"""
import argparse
import glob

import numpy as np
from daltonlens import convert, simulate
from PIL import Image

ENOUGH = 4.5  # WCAG 2.2, success criterion 1.4.3
EYES = {
    'as drawn': lambda pixels: pixels,
    'protanopia': lambda pixels: lost(pixels, simulate.Deficiency.PROTAN),
    'deuteranopia': lambda pixels: lost(pixels, simulate.Deficiency.DEUTAN),
    'tritanopia': lambda pixels: lost(pixels, simulate.Deficiency.TRITAN),
    'greys': lambda pixels: np.asarray(Image.fromarray(pixels).convert('L').convert('RGB')),
}


def lost(pixels, kind):
    return simulate.Simulator_Machado2009().simulate_cvd(pixels, kind, severity=1.0)


def luminance(colour):
    linear = convert.linearRGB_from_sRGB(np.asarray(colour, float) / 255)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(pixels):
    """Between the two colours that most pixels have, as WCAG 2.2 defines it."""
    colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    dark, light = sorted(luminance(colour) for colour in colours[np.argsort(counts)[-2:]])
    return (light + 0.05) / (dark + 0.05)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder')
    parser.add_argument('out')
    args = parser.parse_args()
    papers = {}
    for file in sorted(glob.glob(f'{args.folder}/*.png')):
        picture = np.asarray(Image.open(file).convert('RGB'))
        colours, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
        papers.setdefault(tuple(colours[counts.argmax()]), picture)
    high, wide = next(iter(papers.values())).shape[:2]
    board = Image.new('RGB', (len(EYES) * (wide + 8) + 8, len(papers) * (high + 8) + 8), 'white')
    least = {}
    for row, picture in enumerate(papers.values()):
        for column, (eyes, see) in enumerate(EYES.items()):
            seen = see(picture)
            least[eyes] = min(contrast(seen), least.get(eyes, 21))
            board.paste(Image.fromarray(seen), (8 + column * (wide + 8), 8 + row * (high + 8)))
    board.quantize(256, dither=Image.Dither.NONE).save(args.out, optimize=True)
    for eyes, ratio in least.items():
        print(f'{eyes:14s} least contrast of {len(papers)} pairs of colours {ratio:5.1f} : 1')
    if min(least.values()) < ENOUGH:
        raise SystemExit(f'less than {ENOUGH} : 1')


if __name__ == '__main__':
    main()
