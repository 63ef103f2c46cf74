#!/usr/bin/env python3
"""Writes pipeline/model/unicode_tables.inc: what CLIP's tokenizer needs to know of Unicode.

Asks the `tokenizers` library itself, code point by code point, so that ours splits, lower-cases and composes exactly as
it does, whatever Unicode version it was built with.

    python tools/golden/unicode_tables.py > pipeline/model/unicode_tables.inc
"""
import sys

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

LAST = 0x10FFFF
HANGUL = range(0xAC00, 0xD7A4)  # (de)composed by arithmetic, Unicode 3.12
POINTS = [c for c in range(LAST + 1) if not 0xD800 <= c <= 0xDFFF]

nfd, nfc, lower = normalizers.NFD(), normalizers.NFC(), normalizers.Lowercase()


def matching(pattern):
    """Code points that match a character class."""
    split = pre_tokenizers.Split(Regex(f"[{pattern}]"), behavior="removed", invert=True)
    found = []
    for start in range(0, len(POINTS), 4096):
        for piece, _ in split.pre_tokenize_str("".join(map(chr, POINTS[start : start + 4096]))):
            found.extend(map(ord, piece))
    return found


def ranges(points):
    result = []
    for point in points:
        if result and result[-1][1] == point - 1:
            result[-1][1] = point
        else:
            result.append([point, point])
    return result


def combining_classes():
    """Canonical combining class of every mark, up to order: NFD sorts marks by class, so comparing pairs ranks them."""
    marks = []  # U+0334 has class 1, the lowest
    for c in POINTS:
        if c in HANGUL:
            continue
        parts = nfd.normalize_str(chr(c))
        if len(parts) > 1:
            continue
        text = "a" + parts + "\u0334"
        above_one = nfd.normalize_str(text) == "a\u0334" + parts and parts != "\u0334"
        # Class 1: it moves before U+0345 (class 240), a starter would not.
        exactly_one = not above_one and nfd.normalize_str("a\u0345" + parts) == "a" + parts + "\u0345"
        if above_one or exactly_one:
            marks.append(parts)
    order = []  # one mark of each class, ascending
    rank = {}
    for mark in marks:
        low, high = 0, len(order)
        while low < high:
            middle = (low + high) // 2
            other = order[middle]
            if nfd.normalize_str("a" + other + mark) == "a" + mark + other != "a" + other + mark:
                high = middle  # mark < other
            elif nfd.normalize_str("a" + mark + other) == "a" + other + mark != "a" + mark + other:
                low = middle + 1  # mark > other
            else:
                rank[mark] = other
                break
        else:
            order.insert(low, mark)
            rank[mark] = mark
    position = {mark: i + 1 for i, mark in enumerate(order)}
    return {ord(mark): position[rank[mark]] for mark in marks}


def emit(name, kind, rows, width):
    print(f"\nconstexpr {kind} {name}[] = {{")
    line = "   "
    for row in rows:
        cell = " {" + ", ".join(f"0x{v:X}" for v in row) + "},"
        if len(line) + len(cell) > width:
            print(line)
            line = "   "
        line += cell
    print(line)
    print("};")


def main():
    print("// Made by tools/golden/unicode_tables.py: do not edit.")
    print(f"// Asked of tokenizers {tokenizers.__version__}, code point by code point.")
    for name, pattern in (("kLetters", r"\p{L}"), ("kNumbers", r"\p{N}"), ("kSpaces", r"\s")):
        emit(name, "CodePointRange", ranges(matching(pattern)), 118)

    rows = []
    for c in POINTS:
        mapped = [ord(x) for x in lower.normalize_str(chr(c))]
        if mapped != [c]:
            assert len(mapped) <= 2, hex(c)
            rows.append([c] + mapped + [0] * (2 - len(mapped)))
    emit("kLowerCase", "LowerCaseRow", rows, 118)

    rows, pairs = [], []
    for c in POINTS:
        if c in HANGUL:
            continue
        parts = nfd.normalize_str(chr(c))
        if parts == chr(c):
            continue
        assert len(parts) <= 4, hex(c)
        rows.append([c] + [ord(x) for x in parts] + [0] * (4 - len(parts)))
        if nfc.normalize_str(parts) == chr(c) and len(parts) > 1:
            first = nfc.normalize_str(parts[:-1])
            assert len(first) == 1, hex(c)
            pairs.append([ord(first), ord(parts[-1]), c])
    emit("kDecompositions", "DecompositionRow", rows, 118)
    emit("kCompositions", "CompositionRow", sorted(pairs), 118)

    classes = combining_classes()
    rows = []
    for c in sorted(classes):
        if rows and rows[-1][1] == c - 1 and rows[-1][2] == classes[c]:
            rows[-1][1] = c
        else:
            rows.append([c, c, classes[c]])
    print("\n// The class is a rank, in the order of the canonical combining classes.", end="")
    emit("kCombiningClasses", "CombiningClassRow", rows, 118)


if __name__ == "__main__":
    sys.exit(main())
