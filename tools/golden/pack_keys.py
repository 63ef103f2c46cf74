#!/usr/bin/env python3
"""The pack keys that tests/pipeline/plan/pack_test.cc expects, made from the layout in pipeline/plan/pack.h alone."""
import hashlib
import struct


def number(value):
    return struct.pack("<Q", value)


def real(value):
    return struct.pack("<d", value)


def key(fields):
    text = b"storyfarm pack 1\0"
    for name, value in fields:
        text += name.encode() + b"\0" + number(len(value)) + value
    return hashlib.sha256(text).hexdigest()


def story(freeu, switch, frames):
    fields = [("method", number(1)), ("gate_seed", number(1)), ("model", b"m" * 32), ("character", bytes(range(16))),
              ("steps", number(50)), ("guidance_scale", real(5.0)), ("scheduler", b"ddim"), ("scheduler_config", b"")]
    fields += [(name, real(value)) for name, value in freeu]
    fields += [("gate.before", real(0.3)), ("gate.after", real(0.1)), switch, ("noise", b"panel"), ("seed", number(7)),
               ("token_rate", real(0.5)), ("width", number(1024)), ("height", number(768)), ("dtype", b"auto"),
               ("reproducible", number(0))]
    for hidden, name, prompt, negative, seed in frames:
        fields += [("frame.hidden", number(hidden)), ("frame.id", name), ("frame.prompt", prompt)]
        fields += [("frame.negative_prompt", negative)] if negative is not None else []
        fields += [("frame.seed", number(seed))]
    return key(fields)


if __name__ == "__main__":
    print("panels", story([("s1", 0.6), ("s2", 0.4), ("b1", 1.1), ("b2", 1.2)], ("gate.switch_fraction", real(0.4)),
                          [(0, b"p-1", b"a girl walks", None, 7), (0, b"p-2", b"a girl sits", None, 99)]))
    print("hidden", story([], ("gate.switch_step", number(20)),
                          [(1, b"identity/" + bytes(range(16)).hex().encode() + b"/0", b"a girl", b"blurry", 7)]))
