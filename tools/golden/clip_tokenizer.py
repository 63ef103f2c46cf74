#!/usr/bin/env python3
"""Makes tests/data/tokenizer: a small CLIP vocabulary and what transformers 5.23's CLIPTokenizer makes of many texts.

  build/golden-venv/bin/python tools/golden/clip_tokenizer.py [--clip-vocabulary GZ]

vocab.json and merges.txt are trained here from a few lines in several scripts, so that merges of letters, digits, symbols
and multi-byte characters occur. golden.json holds cases for several sets of config files; ids are without start, end,
truncation and padding, but for `padded`. With --clip-vocabulary the same texts are also run over OpenAI's own vocabulary
(bpe_simple_vocab_16e6.txt.gz), into the folder named by --out, for a check by hand: it is not part of the tree.
Needs transformers 5.23 (tools/setup --golden). The seed is fixed.
"""

import argparse
import collections
import gzip
import json
import pathlib
import random
import re
import tempfile
import unicodedata

import tokenizers
import transformers
from transformers import CLIPTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests" / "data" / "tokenizer"
MERGES = 700

CORPUS = """
a cartoon picture of a red fox with a green scarf and a blue hat, running through the snowy forest at night
the quick brown fox jumps over the lazy dog; it's what they're saying, we've heard, I'm sure you'll agree she'd go
a portrait of a woman wearing a yellow dress, highly detailed, 4k, 8k, artstation, trending, masterpiece, best quality
comic book style, black and white, ink, bold outlines, (masterpiece:1.2), [ugly], {blurry}, <lora:x:0.8>, 1girl, 2boys
der große Bär läuft über die Brücke, schöne Grüße aus Köln; élève à l'école où l'été naïf; niño pequeño año mañana
Привет мир красная лиса бежит по лесу ночью и смотрит на звёзды
一只红色的狐狸在雪地森林里奔跑 夜晚 星星 中国 中国 月亮 狐狸 狐狸
赤い狐が雪の森を走る キツネ きつね 東京 東京
빨간 여우가 숲을 달린다 여우 여우
एक लाल लोमड़ी जंगल में दौड़ती है
... !!! ??? --- === *** 1234567890 2024 1999 !!! ??? ... 😀😀 🦊🦊🦊 ❤️❤️
"""

FIXED = [
    "", " ", "\n\t  \r\n", "a", "A", "hello world", "  hello   world  ", "Hello, World!", "HELLO\tWORLD\n", "it's", "IT'S",
    "we're they've I'm you'll she'd isn't", "'s 't 're 've 'm 'll 'd", "'street 'tis 'dare", "''s '''t", "rock'n'roll",
    "don’t use ’s", "x'S y'LL", "123", "1 2 3", "3d render, 4k", "1,000,000.00", "½ ¼ ² ³ ① ⅷ ٣ 四", "v1.5-beta_2",
    "!", "!!", "!!!", "a!", "!a", "a!b", "a ! b", "hello!!! world! !", "!<|endoftext|>!", "no! no!! no!!!",
    "<|startoftext|>", "<|endoftext|>", "a<|endoftext|>b", "<|ENDOFTEXT|> <|StartOfText|>", "!!<|startoftext|>!!",
    "a<|STARTOFTEXT|>!!b", "<|endoftext|", "|endoftext|>", "<|startoftext|>!!<|endoftext|>", "<|end of text|>",
    "<Cat> and <dog> and <CAT>", "caf\u00e9", "cafe\u0301", "CAFÉ", "e\u0323\u0302 ệ e\u0302\u0323", "Å Å Å",
    "\u1e9b\u0323", "ﬁ ﬂ ﬀ", "İstanbul ISTANBUL ıI", "ΣΑΣ ΟΔΟΣ σς", "straße STRASSE ẞ", "ǅ ǈ ǲ Ǆ", "ａｂｃ ＡＢＣ １２３", "K Å Ω",
    "Привет, МИР! Ёж ё", "中国", "一只红色的狐狸", "狐狸，在森林里。", "東京 タワー ﾀﾜｰ", "여우가 숲을", "각 \u1100\u1161\u11a8 \uac00\u11a8", "हिन्दी लोमड़ी",
    "العربية ١٢٣", "עִבְרִית", "ไทย ภาษาไทย", "😀", "🦊❤️👨‍👩‍👧‍👦", "👍🏽 ok", "a\u200bb", "a\u200db", "a\u00a0b", "a\u3000b", "a\u2028b\u2029c",
    "a\u0085b", "a\u001cb", "a\u0000b", "a\u007fb", "\ufeffbom", "soft\u00adhyphen", "a\u180eb", "tab\vvt\ffeed", "…—–‘’“”", "°C €5 £6 ¥7",
    "a/b\\c|d", "#hash @at $dollar %percent ^caret &and *star", "snake_case kebab-case CamelCase", "a,b;c:d.e?f!g", "((a:1.2)), [b], {c}",
    "\u0301", "\u0301\u0301a", "a\u0300\u0301\u0302\u0303\u0304", "\u0915\u093c \u0958", "\u0344 \u0390", "\u2126\u212b\u212a", "\u0f71\u0f72\u0f74 \u0f73",
    "\ud7a3 \ud7a4", "\uffff\ufffe\ufffd", "\U0001f1e9\U0001f1ea", "\U0010ffff", "\U0001d400\U0001d7ce", "𐐀𐐨 𝒜", "ꙮ", "ﷺ", "\u0130\u0307", "Ǆ",
    "a" * 40, "ab" * 60, "!" * 30, "中" * 40, "9" * 20, "word " * 100, "wording! " * 40, "a photo of a cat, " * 20,
]


def random_texts(count):
    """Texts of random characters: mostly of ranges that people write in, some of anywhere."""
    generator = random.Random(20261122)
    ranges = [(0x20, 0x7E)] * 6 + [(0xA0, 0x17F), (0x300, 0x36F), (0x370, 0x4FF), (0x590, 0x6FF), (0x900, 0xDFF), (0x1100, 0x11FF),
              (0x1E00, 0x1FFF), (0x2000, 0x2BFF), (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7FF), (0xF900, 0xFAFF),
              (0xFE00, 0xFFFF), (0x10000, 0x1FFFF), (0x20, 0x10FFFF)]
    pieces = ["'s", "'ll", "!", " ", "  ", "\n", "<|endoftext|>", "<|", "|>", "fox", "THE", "Ing", "1", "\u0301"]
    texts = []
    for _ in range(count):
        text = ""
        for _ in range(generator.randrange(1, 30)):
            if generator.random() < 0.3:
                text += generator.choice(pieces)
                continue
            low, high = generator.choice(ranges)
            c = generator.randrange(low, high + 1)
            if not 0xD800 <= c <= 0xDFFF:
                text += chr(c)
        texts.append(text)
    return texts


def byte_alphabet():
    printable = [*range(33, 127), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {b: chr(b) for b in printable}
    rest = [b for b in range(256) if b not in alphabet]
    alphabet.update({b: chr(256 + i) for i, b in enumerate(rest)})
    return alphabet, [alphabet[b] for b in printable + rest]


def train():
    """Byte-pair encoding over CLIP's pieces; ties go to the pair that sorts first."""
    alphabet, order = byte_alphabet()
    words = collections.Counter()
    for piece in re.findall(r"'(?:s|t|re|ve|m|ll|d)|[^\W\d_]+|\d|[^\s\w]+|_", unicodedata.normalize("NFC", CORPUS).lower()):
        symbols = [alphabet[b] for b in piece.encode()]
        words[tuple(symbols[:-1] + [symbols[-1] + "</w>"])] += 1
    merges = []
    while len(merges) < MERGES:
        pairs = collections.Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        merged = collections.Counter()
        for word, count in words.items():
            out, i = [], 0
            while i < len(word):
                if word[i : i + 2] == best:
                    out.append(word[i] + word[i + 1])
                    i += 2
                else:
                    out.append(word[i])
                    i += 1
            merged[tuple(out)] += count
        words = merged
    tokens = order + [c + "</w>" for c in order]
    for a, b in merges:
        if a + b not in tokens:
            tokens.append(a + b)
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}, merges


def clip_vocabulary(path):
    lines = gzip.open(path, "rt", encoding="utf-8").read().split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    _, order = byte_alphabet()
    tokens = order + [c + "</w>" for c in order] + ["".join(m) for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}, merges


def variants(size):
    """Config files as published SDXL models and their descendants have them."""
    start, end = size - 2, size - 1
    flags = {"lstrip": False, "rstrip": False, "single_word": False}
    token = lambda text, normalized, **more: {"content": text, "normalized": normalized, **flags, **more}
    named = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    objects = {"bos_token": token("<|startoftext|>", True), "eos_token": token("<|endoftext|>", True),
               "unk_token": token("<|endoftext|>", True)}
    typed = {key: {"__type": "AddedToken", **value} for key, value in objects.items()}
    common = {"model_max_length": 77, "do_lower_case": True, "errors": "replace", "add_prefix_space": False,
              "tokenizer_class": "CLIPTokenizer"}
    decoder = {str(start): token("<|startoftext|>", True, special=True), str(end): token("<|endoftext|>", False, special=True)}
    return {
        "bare": {},
        "first": {"tokenizer_config.json": {**common, **named, "pad_token": "<|endoftext|>"},
                  "special_tokens_map.json": {**named, "pad_token": "<|endoftext|>"}},
        "second": {"tokenizer_config.json": {**common, **named, "pad_token": "!"}, "special_tokens_map.json": {**named, "pad_token": "!"}},
        "sdxl_first": {"tokenizer_config.json": {**common, **typed, "pad_token": "<|endoftext|>"},
                       "special_tokens_map.json": {**objects, "pad_token": "<|endoftext|>"}},
        "sdxl_second": {"tokenizer_config.json": {**common, **typed, "pad_token": "!"},
                        "special_tokens_map.json": {**objects, "pad_token": "!"}},
        "decoder": {"tokenizer_config.json": {**common, **named, "pad_token": "!", "added_tokens_decoder": {
            "0": token("!", False, special=True), **decoder,
            str(size): token("<Cat>", True, special=False), str(size + 1): token("<dog>", False, special=False)}},
            "special_tokens_map.json": {**named, "pad_token": "<|endoftext|>"}},
        "added": {"tokenizer_config.json": {**common, **named, "pad_token": "<|endoftext|>"}, "added_tokens.json": {"<Cat>": size}},
    }


def save(folder, vocabulary, merges):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")


def golden(vocabulary, merges, texts):
    result = {"made_by": f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}", "variants": []}
    for name, files in variants(len(vocabulary)).items():
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            save(folder, vocabulary, merges)
            for file, content in files.items():
                (folder / file).write_text(json.dumps(content), encoding="utf-8")
            tokenizer = CLIPTokenizer.from_pretrained(folder)
        chosen = texts if name in ("first", "second", "sdxl_second") else texts[: len(FIXED)]
        cases = []
        for text in chosen:
            ids = tokenizer(text, add_special_tokens=False).input_ids
            padded = tokenizer(text, padding="max_length", truncation=True, max_length=77).input_ids
            cases.append([text, ids, padded if len(ids) > 70 else None])
        result["variants"].append({"name": name, "files": {k: json.dumps(v) for k, v in files.items()}, "pad": tokenizer.pad_token_id,
                                   "cases": cases})
    return result


def write_golden(path, content):
    lines = []
    for variant in content["variants"]:
        cases = ",\n".join(json.dumps(case, separators=(",", ":")) for case in variant.pop("cases"))
        lines.append(json.dumps(variant)[:-1] + ', "cases": [\n' + cases + "]}")
    path.write_text(json.dumps({"made_by": content["made_by"]})[:-1] + ', "variants": [\n' + ",\n".join(lines) + "]}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip-vocabulary", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=OUT)
    arguments = parser.parse_args()
    vocabulary, merges = clip_vocabulary(arguments.clip_vocabulary) if arguments.clip_vocabulary else train()
    save(arguments.out, vocabulary, merges)
    count = 20000 if arguments.clip_vocabulary else 300
    write_golden(arguments.out / "golden.json", golden(vocabulary, merges, FIXED + random_texts(count)))


if __name__ == "__main__":
    main()
