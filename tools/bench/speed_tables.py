"""What a report of tools/bench/sdxl_cuda.py says, as tables."""

UNET_TFLOP = 6.76  # a pass of 1024 x 1024 (operations walked on meta tensors)

KINDS = (("own product, gated", ("GatedProduct",)),
         ("own kernels", ("Normalise", "SliceMoments", "LayerNorm", "Geglu", "AddBias", "Unpack", "Pack<", "Upsample",
                          "JoinRows", "GatherRows")),
         ("attention", ("sdpa", "fmha", "flash")), ("convolutions", ("fprop", "convolve", "nhwcAddPadding")),
         ("matrix products", ("nvjet", "gemm", "cutlass", "splitK")), ("torch's kernels", ("at::native",)))


def kind_of(kernel):
    if kernel.startswith("Memset"):
        return "the rest"  # "Memset before NAME" is none of NAME's kind
    return next((kind for kind, words in KINDS if any(word in kernel for word in words)), "the rest")


def where_time_goes(unet):
    """Milliseconds and kernels of one call, by kind."""
    kinds = {name: [0.0, 0] for name, _ in KINDS} | {"the rest": [0.0, 0]}
    for kernel in unet["kernels"]:
        kind = kind_of(kernel["name"])
        kinds[kind][0] += kernel["ms"]
        kinds[kind][1] += kernel["count"]
    busy = sum(ms for ms, _ in kinds.values())
    kinds["between kernels"] = [max(0.0, unet["in_a_row_ms"] - busy), 0]
    return kinds


def tflops(report, unet):
    """Of the operations that a call takes; None at a size whose count is not known."""
    known = {1024: UNET_TFLOP, 768: 3.64}.get(report["size"])
    return known and known * unet["batch"] / unet["in_a_row_ms"] * 1e3


def a_picture(report):
    """Seconds a picture, by what was drawn."""
    return {row["what"]: row["seconds"] / row["count"] for row in report["pictures"]["pictures"]}


def write_cpu(report):
    """Beside diffusers on a processor, from a report of tools/bench/cpu_speed.py."""
    ours, theirs = report["medians"]["storyfarm"], report["medians"]["diffusers"]
    rows = [f"| {part} | {1e3 * ours[part]:.1f} | {1e3 * theirs[part]:.1f} | {ratio:.2f} |"
            for part, ratio in report["ratios"].items()]
    return "\n".join(["| | storyfarm, ms | diffusers, ms | ratio |", "|---|---|---|---|", *rows])


def write(report):
    name = "compiled" if "diffusers compiled" in report else "eager"
    base = report[f"diffusers {name}"]["seconds"]
    parts, pictures = report["parts"], a_picture(report)
    alone, together = pictures["one at a time"], pictures["together"]
    lines = [f"| {report['size']} x {report['size']}, {report['steps']} steps, guidance 5, fp16 | seconds a picture | "
             f"of diffusers {name} |", "|---|---|---|"]
    for who in ("diffusers eager", "diffusers compiled"):
        if who in report:
            lines.append(f"| {who} | {report[who]['seconds']:.3f} | {report[who]['seconds'] / base:.2f} |")
    for what, seconds in pictures.items():
        lines.append(f"| storyfarm, {what} | {seconds:.3f} | {seconds / base:.2f} |")
    lines += ["", "| | of a plain picture |", "|---|---|"]
    for what, plain in (("reading one character", alone), ("reading two characters", alone),
                        ("reading one character, together", together), ("identity frames, no bank kept", together),
                        ("identity frames", together)):
        lines.append(f"| {what} | {pictures[what] / plain:.3f} |")
    four = 4 * (pictures["identity frames"] + pictures["reading one character, together"])
    lines += ["", f"4 identity frames and 4 that read them: {four:.1f} s. Offline, 20 steps: "
              f"{1 / pictures['offline, 20 steps']:.2f} pictures a second. VAE: {parts['vae']['ms']:.1f} ms, "
              f"{parts['vae']['peak_bytes'] / 1e9:.2f} GB."]
    if parts.get("fidelity_db"):
        lines += ["", f"One UNet call against float32 on equal inputs: fp16 {parts['fidelity_db']:.1f} dB, int8 weights "
                  f"{parts['int8_fidelity_db']:.1f} dB."]
    if parts.get("gates"):
        lines += ["", "The feed-forward's first half, gate and all, beside the library's product alone:", "",
                  "| rows, columns in and out | with the gate, ms | TFLOP/s | product alone, ms | TFLOP/s |", "|---|---|---|---|---|"]
        lines += [f"| {g['rows']}, {g['in']}, {g['out']} | {g['gated_ms']:.3f} | {g['gated_tflops']:.0f} | "
                  f"{g['product_ms']:.3f} | {g['product_tflops']:.0f} |" for g in parts["gates"]]
    if parts.get("vae_tiles"):
        lines += ["", "| VAE, 1024 x 1024 | ms | peak GB |", "|---|---|---|",
                  f"| whole | {parts['vae']['ms']:.1f} | {parts['vae']['peak_bytes'] / 1e9:.2f} |"]
        lines += [f"| tiles of {t['tile']} latents | {t['ms']:.0f} | {t['peak_bytes'] / 1e9:.2f} |"
                  for t in parts["vae_tiles"]]
    if parts.get("replays_off"):
        lines += ["", "Recorded calls against the same calls without graphs: "
                  f"{parts['replays_off']['plain']:g} off, with a hook {parts['replays_off']['hooked']:g}."]
    for unet in parts["unet"]:
        rate = tflops(report, unet)
        share = "" if rate is None else (
            f", {rate:.0f} TFLOP/s, {100 * rate / parts['matmul_tflops']:.1f} % of the {parts['matmul_tflops']:.0f} "
            "TFLOP/s of a matrix product of 8192 x 8192 in the same run")
        lines += ["", f"A UNet call of {unet['batch']} passes: {unet['in_a_row_ms']:.2f} ms{share}.", "",
                  "| where it goes | ms | kernels |", "|---|---|---|"]
        lines += [f"| {kind} | {ms:.2f} | {count or ''} |" for kind, (ms, count) in where_time_goes(unet).items()]
    return "\n".join(lines) + "\n"
