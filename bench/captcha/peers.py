"""Pictures of others, as their own first example makes them, to be attacked beside ours.

  python bench/captcha/peers.py OUT [--count 300]     writes OUT/captcha and OUT/wheezy, files <answer>_<n>.png

The seed's pictures come from code that wheezy.captcha's was made from, so the second stands for them.
"""
import argparse
import os
import random
import string

import captcha.image
from wheezy.captcha import image as wheezy

LETTERS = string.ascii_uppercase + string.digits
LENGTH = 4


def plain():
    """lepture's `captcha`: nothing set."""
    drawn = captcha.image.ImageCaptcha()
    return lambda text: drawn.generate_image(text)


def curved():
    """`wheezy.captcha`: every drawing that its documentation shows, in that order."""
    fonts = [os.path.join(os.path.dirname(captcha.image.__file__), 'data', 'DroidSansMono.ttf')]
    draw = wheezy.captcha(drawings=[
        wheezy.background(),
        wheezy.text(fonts=fonts, drawings=[wheezy.warp(), wheezy.rotate(), wheezy.offset()]),
        wheezy.curve(),
        wheezy.noise(),
        wheezy.smooth(),
    ])
    return lambda text: draw(list(text))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out')
    parser.add_argument('--count', type=int, default=300)
    args = parser.parse_args()
    random.seed(1)
    for name, make in {'captcha': plain, 'wheezy': curved}.items():
        os.makedirs(os.path.join(args.out, name), exist_ok=True)
        draw = make()
        for number in range(args.count):
            text = ''.join(random.choices(LETTERS, k=LENGTH))
            draw(text).save(os.path.join(args.out, name, f'{text}_{number}.png'))


if __name__ == '__main__':
    main()
