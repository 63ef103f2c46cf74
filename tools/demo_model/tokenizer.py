"""CLIP's byte-level byte-pair encoding, learnt from the world's own sentences, in CLIP's file layout.

Learning ends when every word of the sentences is one token. Anything else is spelt from smaller ones, letters in the end.
"""
import json
import re
from collections import Counter
from pathlib import Path

from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77
# What each of SDXL's two tokenizers fills short prompts with.
PADDING = {"tokenizer": END, "tokenizer_2": "!"}


def byte_letters():
    """CLIP's printable letter for each byte, in the order of its vocabulary ("!" is 0)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {byte: chr(byte) for byte in printable}
    letters.update({byte: chr(256 + n) for n, byte in enumerate(b for b in range(256) if b not in letters)})
    return letters


def merged(word, pair):
    result, i = [], 0
    while i < len(word):
        joined = word[i:i + 2] == pair
        result.append(word[i] + word[i + 1] if joined else word[i])
        i += 2 if joined else 1
    return tuple(result)


def learn_merges(sentences):
    letters = byte_letters()
    counts = Counter(word for sentence in sentences for word in re.findall(r"[a-z]+|[0-9]|[^\sa-z0-9]+", sentence.lower()))
    words = {}
    for word, count in counts.items():
        spelt = [letters[byte] for byte in word.encode()]
        words[tuple(spelt[:-1] + [spelt[-1] + "</w>"])] = count
    merges = []
    while True:
        pairs = Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {merged(word, best): count for word, count in words.items()}


def save(folder, sentences):
    """Writes folder/tokenizer and folder/tokenizer_2."""
    merges = learn_merges(sentences)
    letters = list(byte_letters().values())
    tokens = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in merges] + [START, END]
    vocabulary = {}
    for token in tokens:
        vocabulary.setdefault(token, len(vocabulary))
    for name, padding in PADDING.items():
        target = Path(folder) / name
        target.mkdir(parents=True, exist_ok=True)
        special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": padding}
        (target / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
        (target / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
        (target / "special_tokens_map.json").write_text(json.dumps(special))
        (target / "tokenizer_config.json").write_text(json.dumps({
            **special, "add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": LENGTH, "tokenizer_class": "CLIPTokenizer"}))


def load(folder):
    """(tokenizer 1, tokenizer 2)."""
    return tuple(CLIPTokenizer.from_pretrained(str(Path(folder) / name)) for name in PADDING)


def encode(tokenizers, sentences):
    """Token ids of both encoders, [len, 77] int16 each."""
    return tuple(tokenizer(sentences, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt").input_ids.short() for tokenizer in tokenizers)
