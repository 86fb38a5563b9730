"""What the tracing attacks have in common: they are asked picture by picture, and counted."""
import argparse
import glob
import os
import re
import time

from attack import wilson


def files_of(folder, limit):
    """Pictures named <answer>_<n>.png, by their numbers."""
    files = glob.glob(os.path.join(folder, '*.png'))
    return sorted(files, key=lambda file: int(re.search(r'_(\d+)\.', file)[1]))[:limit]


def rate(count, total):
    low, high = wilson(count, total)
    return f'{count}/{total} = {100 * count / max(1, total):.1f} % [{100 * low:.1f}, {100 * high:.1f}]'


def parser(description):
    """The options that all of them have."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument('folders', nargs='+')
    options.add_argument('--limit', type=int, default=300)
    options.add_argument('--show', type=int, default=0, help='print so many answers and guesses')
    return options


def score(args, name, solve):
    """Prints what `solve` gets right; it is given a file and returns its guess and all letters that it read."""
    for folder in args.folders:
        files = files_of(folder, args.limit)
        begun, right, first, read, whole, seen = time.process_time(), 0, 0, 0, 0, 0
        for number, file in enumerate(files):
            answer = os.path.basename(file).split('_')[0]
            guess, letters = solve(file)
            right += guess == answer
            first += guess[:1] == answer[:1]
            read += sum(letter in letters for letter in answer)
            whole += set(answer) <= set(letters)
            seen += len(letters)
            if number < args.show:
                print(answer, guess, ''.join(letters), flush=True)
        count = len(files)
        each = 1e3 * (time.process_time() - begun) / count
        print(f'{folder}: {name} solves {rate(right, count)}; letters read {rate(read, 4 * count)}; '
              f'the order right where all four are read {rate(right, whole)}; '
              f'first letter {100 * first / count:.0f} %, {seen / count:.1f} letters seen, {each:.0f} ms each', flush=True)
