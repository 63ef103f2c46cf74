#!/usr/bin/env python3
"""Writes deploy/docs/speed.md and its picture from a report of tools/bench/sdxl_cuda.py and one of tools/bench/cpu_speed.py.

    tools/bench/speed_page.py tools/bench/results/speed-h200.json tools/bench/results/speed-cpu.json
"""
import json
import pathlib
import sys

import speed_tables

ROOT = pathlib.Path(__file__).resolve().parents[2]
COLOURS = {"matrix products": "#3b6ea5", "own product, gated": "#2a8a82", "convolutions": "#5a9bd4", "attention": "#8e6bb5", "own kernels": "#4f9d69",
           "torch's kernels": "#c98b3a", "the rest": "#999999", "between kernels": "#dddddd"}
LEFT, WIDTH, ROW = 260, 560, 34


def bar(x, y, width, colour, title):
    return (f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="22" fill="{colour}"><title>{title}</title></rect>')


def text(x, y, words, anchor="start"):
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}">{words}</text>'


def draw(report):
    """Bars: seconds a picture, and where the time of a UNet call goes."""
    pictures = dict(speed_tables.a_picture(report))
    for who in ("diffusers eager", "diffusers compiled"):
        if who in report:
            pictures = {who: report[who]["seconds"]} | pictures
    pictures.pop("first")
    most = max(pictures.values())
    y, out = 40, [text(10, 24, f"Seconds a picture ({report['device']}, {report['size']} x {report['size']})")]
    for what, seconds in pictures.items():
        colour = "#b0b0b0" if what.startswith("diffusers") else "#3b6ea5"
        out += [text(LEFT - 8, y + 16, what, "end"), bar(LEFT, y, WIDTH * seconds / most, colour, what),
                text(LEFT + WIDTH * seconds / most + 6, y + 16, f"{seconds:.2f}")]
        y += ROW
    y += 30
    out.append(text(10, y, "Where the time of a UNet call goes, ms a pass"))
    y += 16
    units = report["parts"]["unet"]
    longest = max(unit["in_a_row_ms"] / unit["batch"] for unit in units)
    for unit in units:
        x = LEFT
        out.append(text(LEFT - 8, y + 16, f"{unit['batch']} passes", "end"))
        for kind, (ms, _) in speed_tables.where_time_goes(unit).items():
            width = WIDTH * ms / unit["batch"] / longest
            out.append(bar(x, y, width, COLOURS[kind], f"{kind}: {ms / unit['batch']:.2f} ms"))
            x += width
        out.append(text(x + 6, y + 16, f"{unit['in_a_row_ms'] / unit['batch']:.2f}"))
        y += ROW
    x = LEFT
    for kind, colour in COLOURS.items():
        if x > LEFT + WIDTH - 60:
            x, y = LEFT, y + 24
        out += [bar(x, y + 6, 12, colour, kind).replace('height="22"', 'height="12"'), text(x + 18, y + 17, kind)]
        x += 44 + 7 * len(kind)
    height = y + 40
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 60}" height="{height}" '
            f'font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>{"".join(out)}</svg>\n')


def main():
    source, of_cpu = map(pathlib.Path, sys.argv[1:3])
    report, cpu = json.loads(source.read_text()), json.loads(of_cpu.read_text())
    picture = ROOT / "deploy/docs/images" / f"{source.stem}.svg"
    picture.write_text(draw(report))
    (ROOT / "deploy/docs/speed.md").write_text(f"""# How fast it draws

## On a GPU

SDXL's true shape with random weights, beside diffusers {report['diffusers']} in the same run on the same card: one
{report['device']}, torch {report['torch']}. This page is made from
[the report](../../tools/bench/results/{source.name}) of `tools/bench/sdxl_cuda.py` by `tools/bench/speed_page.py`.

![Seconds a picture, and where the time of a UNet call goes](images/{picture.name})

{speed_tables.write(report)}
"Identity frames" are four frames of one character that attend to each other while their identity state is written;
pictures that read it attend to it in every layer whose gate is open. "First" is a renderer's first picture, with the
model loaded from the page cache.

## On a processor

The demo's model beside diffusers {cpu['diffusers']} with the same threads, in turn, from
[the report](../../tools/bench/results/{of_cpu.name}) of `tools/bench/cpu_speed.py`: {cpu['processor']},
{cpu['threads']} of {cpu['cores']} cores, {cpu['size']} x {cpu['size']}, {cpu['steps']} steps, guidance 5, fp32, medians of
{len(cpu['rounds'])} rounds. A storyfarm picture is one that an engine draws, memory held to its plan.

{speed_tables.write_cpu(cpu)}
""")


if __name__ == "__main__":
    main()
