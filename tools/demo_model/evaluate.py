"""Measures a packaged model through the renderer: stories whose prompts name kind, action and place only, drawn by `storyctl render`.

    python tools/demo_model/evaluate.py measures --model FOLDER          the table of the model card: on, off, and drawn pictures
    python tools/demo_model/evaluate.py settings --model FOLDER          the settings side by side, which the defaults were chosen from
    python tools/demo_model/evaluate.py cases --model FOLDER             two chapters, two characters, a panel drawn again

Prints tables; --out keeps pictures and JSON.
"""
import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
import torch
from PIL import Image

import architecture
import classifier as judge
import world
from cast import FRAMES, KINDS
from measure import difference, story_measures
from stories import SEED, Stories, sheet

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 64    # characters that one story file may define


def story_files(stories, settings):
    """Story files of at most LARGEST characters each, as dictionaries."""
    for start in range(0, len(stories), LARGEST):
        part = range(start, min(start + LARGEST, len(stories)))
        panels = [{"text": f"[S{story}], {stories.scene(story * FRAMES + frame)}", "id": f"s{story}f{frame}", "seed": SEED + story * FRAMES + frame}
                  for story in part for frame in range(FRAMES)]
        yield {"title": "Evaluation", "characters": {f"S{story}": stories.description(story) for story in part},
               "chapters": [{"title": "One", "panels": panels}], "settings": {**BASE, **settings}}


BASE = {"width": architecture.SIDE, "height": architecture.SIDE, "steps": 20, "seed": SEED}


class Renderer:
    def __init__(self, given):
        self.given = given

    def render(self, story, folder, device=None, threads=None):
        """Draws one story into the folder; returns its pictures [M, 3, S, S] uint8 and its metadata."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "story.json").write_text(json.dumps(story))
        command = [self.given.storyctl, "render", str(folder / "story.json"), "--model", str(self.given.model), "--out", str(folder / "out")]
        device = device or self.given.device
        command += ["--device", device] if device else []
        command += ["--threads", str(threads)] if threads else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        metadata = json.loads((folder / "out" / "metadata.json").read_text())
        pixels = [numpy.asarray(Image.open(folder / "out" / panel["file"]).convert("RGB")) for panel in metadata["panels"]]
        return torch.from_numpy(numpy.stack(pixels)).permute(0, 3, 1, 2).contiguous(), metadata


def print_table(rows):
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    print("| | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 1))
    for title, row in rows:
        print(f"| {title} | " + " | ".join("" if row.get(name) is None else f"{row[name]:.3f}" if isinstance(row[name], float) else str(row[name]) for name in names) + " |")


@torch.no_grad()
def vae_decibels(model, pictures):
    from diffusers import AutoencoderKL
    vae = AutoencoderKL.from_pretrained(model / "vae").float().eval()
    error = 0.0
    for chunk in pictures.split(16):
        wanted = chunk.float() / 127.5 - 1
        error += (vae.decode(vae.encode(wanted).latent_dist.mode()).sample.clamp(-1, 1) - wanted).square().mean().item() * len(chunk)
    return 10 * numpy.log10(4 / (error / len(pictures)))


def measures(given, renderer, folder):
    stories, classifier = Stories(given.stories), judge.load(given.classifier)
    real = world.draw(stories.cast, stories.pictures, architecture.SIDE)
    rows = [("drawn by the world", {**story_measures(judge.classify(classifier, real), stories.wanted), "VAE dB": round(float(vae_decibels(given.model, real[:256])), 2)})]
    for name, consistency in (("on", True), ("off", False)):
        drawn, begun = [], time.monotonic()
        for number, story in enumerate(story_files(stories, {**given.set, "consistency": consistency})):
            drawn.append(renderer.render(story, folder / f"{name}-{number}")[0])
        seconds = time.monotonic() - begun
        drawn = torch.cat(drawn)
        rows.append((name, {**story_measures(judge.classify(classifier, drawn), stories.wanted), "s a panel": round(seconds / len(drawn), 2)}))
        sheet(drawn, folder / f"{name}.png", 16)
    print_table(rows)
    (folder / "measures.json").write_text(json.dumps(dict(rows), indent=1) + "\n")


GRID = {"id_length": (1, 2, 3, 4), "token_rate": (0.25, 0.5, 1.0), "gate": ("published", "open"), "noise": ("panel", "shared")}
GATES = {"published": {"before": 0.3, "after": 0.1}, "open": {"before": 0.0, "after": 0.0}}


def settings_of(choice):
    return {"id_length": choice["id_length"], "token_rate": choice["token_rate"], "noise": choice["noise"], "gate": GATES[choice["gate"]]}


def settings(given, renderer, folder):
    stories, classifier = Stories(given.stories), judge.load(given.classifier)
    choices = [dict(zip(GRID, values)) for values in itertools.product(*GRID.values())][:2 if given.few else None]
    devices = given.devices.split(",") if given.devices else [given.device]
    lock = threading.Lock()

    def measure(numbered):
        number, choice = numbered
        device = devices[number % len(devices)]
        drawn = torch.cat([renderer.render(story, folder / f"grid-{number}-{part}", device, given.threads)[0]
                           for part, story in enumerate(story_files(stories, {**given.set, **settings_of(choice)}))])
        result = {**choice, **story_measures(judge.classify(classifier, drawn), stories.wanted)}
        with lock, (folder / "settings.jsonl").open("a") as file:  # as they come: the whole grid takes a while
            file.write(json.dumps(result) + "\n")
        return result

    with ThreadPoolExecutor(given.parallel) as pool:
        results = list(pool.map(measure, enumerate(choices)))
    results.sort(key=lambda row: row["fur spread"] + row["shirt spread"] - row["same hat"] - row["same pattern"])
    print_table([(str(number + 1), row) for number, row in enumerate(results)])
    (folder / "settings.json").write_text(json.dumps(results, indent=1) + "\n")


def agreement(seen, one, other, slot):
    """How well the figure `slot` of the pictures `other` keeps what the only figure of the pictures `one` shows."""
    result = {part: round(difference(seen[f"{part}_0"][one], seen[f"{part}_{slot}"][other]), 3) for part in ("fur", "shirt")}
    for part in ("hat", "pattern"):
        result[f"same {part}"] = round((seen[f"{part}_0"][one].argmax(1) == seen[f"{part}_{slot}"][other].argmax(1)).float().mean().item(), 3)
    return result


def cases(given, renderer, folder):
    """Pairs of characters of unlike kinds: two panels of each in a first chapter, one of each and two of both in a second."""
    count = given.stories // 2
    stories, classifier = Stories(2 * count), judge.load(given.classifier)
    drawn, indices, redrawn = [], [], []
    alone_redrawn = given.set.get("id_length", 1) <= 2  # otherwise the one panel of chapter two is an identity panel, and another one is another character
    for start in range(0, count, LARGEST // 2):
        characters, chapters = {}, [[], []]
        for pair in range(start, min(start + LARGEST // 2, count)):
            first, second = 2 * pair, 2 * pair + 1
            kinds = [int(stories.cast.kind[first]), int(stories.cast.kind[second])]
            if kinds[0] == kinds[1]:
                kinds[1] = (kinds[1] + 1) % len(KINDS)
            for story, kind in zip((first, second), kinds):
                characters[f"S{story}"] = "a " + KINDS[kind]
                for chapter, frames in ((0, (0, 1)), (1, (2,))):
                    chapters[chapter] += [{"text": f"[S{story}], {stories.scene(story * FRAMES + frame)}", "id": f"s{story}f{frame}", "seed": SEED + story * FRAMES + frame} for frame in frames]
            for frame in (3,):
                row = first * FRAMES + frame
                chapters[1] += [{"text": f"[S{first}] and [S{second}], {stories.scene(row)}", "id": f"p{pair}", "seed": SEED + row}]
        story = {"title": "Cases", "characters": characters, "settings": {**BASE, **given.set},
                 "chapters": [{"title": title, "panels": panels} for title, panels in zip(("One", "Two"), chapters)]}
        pictures, metadata = renderer.render(story, folder / f"cases-{start}")
        indices += [panel["id"] for panel in metadata["panels"]]
        drawn.append(pictures)
        for panel in story["chapters"][1]["panels"]:
            if alone_redrawn or panel["id"].startswith("p"):
                panel["seed"] += 100_000  # drawn again: other noise, the same characters
        again, _ = renderer.render(story, folder / f"again-{start}")
        redrawn.append(again)
    drawn, redrawn = torch.cat(drawn), torch.cat(redrawn)
    seen, seen_again = judge.classify(classifier, drawn), judge.classify(classifier, redrawn)
    both = {name: torch.cat([seen[name], seen_again[name]]) for name in seen}

    def rows(form):
        return torch.tensor([indices.index(form(number)) for number in range(count)])

    table = []
    for slot in (0, 1):
        alone = rows(lambda pair, s=slot: f"s{2 * pair + s}f0")
        later, together = rows(lambda pair, s=slot: f"s{2 * pair + s}f2"), rows(lambda pair: f"p{pair}")
        side = ("first", "second")[slot]
        table += [(f"{side} character, next chapter", agreement(seen, alone, later, 0)), (f"{side} character, with the other", agreement(seen, alone, together, slot)),
                  (f"{side} character, with the other, drawn again", agreement(both, alone, together + len(indices), slot))]
        if alone_redrawn:
            table.append((f"{side} character, next chapter, drawn again", agreement(both, alone, later + len(indices), 0)))
    pairs = rows(lambda pair: f"p{pair}")
    print("fur, shirt: difference over that of strangers; same hat, pattern: share of the characters")
    print_table(table)
    print(f"two figures where two are named: {(seen['count'][pairs].argmax(1) == 2).float().mean().item():.3f}")
    sheet(torch.stack([drawn[rows(lambda pair: f's{2 * pair}f0')], drawn[rows(lambda pair: f's{2 * pair + 1}f0')], drawn[pairs], redrawn[pairs]], 1).flatten(0, 1), folder / "cases.png", 16)
    (folder / "cases.json").write_text(json.dumps(dict(table), indent=1) + "\n")


def arguments():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("what", choices=("measures", "settings", "cases"))
    options.add_argument("--model", type=Path, default=ROOT / "deploy/examples/demo-model")
    options.add_argument("--classifier", type=Path, default=ROOT / "tools/demo_model/classifier.safetensors")
    options.add_argument("--storyctl", default=str(ROOT / "build/dev/bin/storyctl"))
    options.add_argument("--stories", type=int, default=64)
    options.add_argument("--set", type=json.loads, default={}, help="settings as JSON, beside the product's defaults")
    options.add_argument("--device", help="as storyctl's")
    options.add_argument("--devices", help="settings: several devices with commas, taken in turn")
    options.add_argument("--few", action="store_true", help="settings: only the first two, to see that all works")
    options.add_argument("--parallel", type=int, default=1, help="settings: stories drawn at the same time")
    options.add_argument("--threads", type=int, help="settings: CPU threads of each of them")
    options.add_argument("--out", type=Path, help="folder for pictures and JSON; a temporary one otherwise")
    return options.parse_args()


def main():
    given = arguments()
    os.environ.setdefault("STORYFARM_SHARE", str(ROOT / "deploy"))
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        {"measures": measures, "settings": settings, "cases": cases}[given.what](given, Renderer(given), folder)


if __name__ == "__main__":
    main()
