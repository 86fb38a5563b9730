"""One table out of what `attack.py --json` wrote: attackers down, sets of pictures across.

  python bench/captcha/table.py FILE.json [FILE.json ...]

The last row is what all attackers solve together, each picture counted once.
"""
import json
import sys

from attack import wilson


def cell(solved, count):
    low, high = wilson(solved, count)
    return f'{solved}/{count} = {100 * solved / count:.1f} % [{100 * low:.1f}, {100 * high:.1f}]'


def main():
    results = [result for file in sys.argv[1:] for result in json.load(open(file))]
    if not results:
        sys.exit(__doc__)
    sets = list(dict.fromkeys(result['set'] for result in results))
    attackers = list(dict.fromkeys(result['attacker'] for result in results if result['attacker'] != 'ANY'))
    print('| attacker |', ' | '.join(sets), '|')
    print('|---' * (1 + len(sets)) + '|')
    for attacker in [*attackers, 'ANY']:
        row = []
        for name in sets:
            # With preprocessings there is a line for each; the table shows the best of them.
            found = [result for result in results if result['attacker'] == attacker and result['set'] == name]
            best = max(found, key=lambda result: result['solved'], default=None)
            row.append(cell(best['solved'], best['n']) if best else 'not run')
        print('|', 'all together' if attacker == 'ANY' else attacker, '|', ' | '.join(row), '|')


if __name__ == '__main__':
    main()
