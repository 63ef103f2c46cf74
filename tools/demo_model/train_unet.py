"""Trains the UNet and the text encoders, with consistent self-attention active on groups of pictures of one character.

    [torchrun --nproc-per-node N] python tools/demo_model/train_unet.py --out DIR [--minutes 9] [--resume] [--finish]

DIR holds vae.safetensors and gets the tokenizers, unet.safetensors, text_encoder.safetensors and text_encoder_2.safetensors (moving averages, fp16)
and progress.json, every two minutes and at the end. --resume goes on at the step that progress.json names: the weights are the average's, the optimiser's
moments are found again while the rate rises. The rate is constant until the run with --finish, the last one, over which it falls to nothing.
"""
import argparse
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
import torch.distributed as distributed

import architecture
import consistent
import sentences
import tokenizer as text
import world
from cast import FRAMES, PEOPLE, Cast
from checkpoint import TRAINED, load_modules, load_vae, modules, save_half
from consistent import Sight
from train_vae import latents_of
from training import END_SECONDS, FlatParameters, Run, pictures_of_stories

SEED = 303
UNCONDITIONAL = 0.10       # of the groups: half of them zeros, half the empty prompt, as a guided sampler uses either
PLAIN = 0.12               # of the groups see nothing of each other
GATE = 0.8                 # chance that a layer's gate is open for a group
RATES = (0.25, 0.5, 1.0)   # shares of the tokens that are kept
# A reading frame starts from noise of its own, which by chance suggests looks of its own, and the step before it drew a little of them. So
# training, too, gives it pictures with the looks of somebody else, mixed in by up to the whole, and asks for what the identity frames show; identity frames
# get less of this, since they have to agree among themselves.
STRANGER_READING, STRANGER_IDENTITY = 0.6, 0.3   # how many of them
MIX_READING, MIX_IDENTITY = 1.0, 0.5             # how much of the stranger at most
MIN_SNR = 5.0
CHUNK = 4096               # pictures drawn, encoded and described at a time
PROMPTS = 2                # different sentences for each picture
CLOCK_STEPS = 20           # the processes agree on the time left every so many steps


def with_other_looks(cast, seed):
    """The same kinds, each with the looks of another character of the cast: people those of people."""
    generator = torch.Generator().manual_seed(seed)
    donor, people = torch.arange(len(cast)), cast.kind < len(PEOPLE)
    for group in (people, ~people):
        index = group.nonzero()[:, 0]
        donor[index] = index[torch.randperm(len(index), generator=generator)]
    looks = {name: value[donor] for name, value in vars(cast).items() if name not in ("kind", "rgb")}
    return Cast(kind=cast.kind, rgb={name: value[donor] for name, value in cast.rgb.items()}, **looks)


def chunk_of(count, seed, number):
    """The stories of one chunk, and the seed of its words."""
    return pictures_of_stories(count, seed * 100_000 + number), seed * 100_000 + number


def written(count, seed, number, folder):
    """Token ids [count, PROMPTS, 77] of both encoders for one chunk's pictures; runs in a process of its own."""
    (cast, rows, _), words_seed = chunk_of(count, seed, number)
    tokenizers, variants = text.load(folder), []
    for variant in range(PROMPTS):
        words = sentences.Words(cast, words_seed)  # which attributes are told belongs to the character, in both variants
        words.rng.seed(words_seed * PROMPTS + variant)
        variants.append(text.encode(tokenizers, [words.prompt(rows, row) for row in range(count)]))
    return [torch.stack(ids, 1).numpy() for ids in zip(*variants)]


class Data:
    """Latents and prompts of many stories: groups of FRAMES pictures in a row."""

    def __init__(self, count, vae, folder, seed, run):
        channels, side = vae.config.latent_channels, architecture.LATENT_SIDE
        sizes = [min(CHUNK, count - start) for start in range(0, count, CHUNK)]
        self.latents = torch.empty(count, channels, side, side, device=run.device, dtype=torch.bfloat16)
        self.strangers = torch.empty_like(self.latents)  # the same pictures with the looks of others
        self.pair = torch.empty(count // FRAMES, device=run.device, dtype=torch.bool)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        processes = max(1, (os.cpu_count() or 1) // run.world - 1)
        with ProcessPoolExecutor(min(processes, len(sizes)), multiprocessing.get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            texts = [pool.submit(written, size, seed, number, folder) for number, size in enumerate(sizes)]
            start = 0
            for number, size in enumerate(sizes):
                (cast, rows, pair), _ = chunk_of(size, seed, number)
                for target, actors in ((self.latents, cast), (self.strangers, with_other_looks(cast, seed * 100_000 + number))):
                    target[start:start + size] = (latents_of(vae, world.draw(actors, rows, architecture.SIDE, run.device), run) * architecture.SCALING).bfloat16()
                self.pair[start // FRAMES:(start + size) // FRAMES] = pair.to(run.device)
                start += size
            ids = zip(*(future.result() for future in texts))
            self.ids = [torch.cat([torch.from_numpy(part) for part in parts]).to(run.device) for parts in ids]
        self.empty = [ids.to(run.device) for ids in text.encode(text.load(folder), [""])]


def who_sees_whom(pair):
    """visible [G, FRAMES, FRAMES]: the first 1 to 4 pictures are identity frames, which see each other; the others see them. In groups of
    two characters the first picture is one's, the second the other's, and the last two see both."""
    groups, device = len(pair), pair.device
    identity_frames = torch.randint(1, FRAMES + 1, (groups,), device=device)
    place = torch.arange(FRAMES, device=device)
    shown = place[None, :] < identity_frames[:, None]
    single = shown[:, None, :].expand(groups, FRAMES, FRAMES)
    double = ((place[:, None] >= 2) & (place[None, :] < 2))[None].expand(groups, FRAMES, FRAMES)
    visible = torch.where(pair[:, None, None], double, single) & ~torch.eye(FRAMES, dtype=torch.bool, device=device)
    return visible & (torch.rand(groups, 1, 1, device=device) >= PLAIN)


def random_sight(pair, layers, rates):
    groups, device = len(pair), pair.device
    rate = rates[torch.randint(len(rates), (groups,), device=device)]
    kept = {side * side: torch.rand(groups, FRAMES, side * side, device=device) < rate[:, None, None] for side in architecture.CONSISTENT_GRIDS}
    return Sight(who_sees_whom(pair), torch.rand(layers, groups, device=device) < GATE, kept)


def strange_part(visible, times):
    """[G * FRAMES]: how much of a stranger's looks each picture's noisy latents hold. None where nobody is seen, for nothing could tell
    then; less of it late, when a sampler has long seen to it."""
    sees = visible.any(2)
    mutual = (visible & visible.transpose(1, 2)).any(2)
    draw, amount = torch.rand(sees.shape, device=visible.device), torch.rand(sees.shape, device=visible.device)
    reading = torch.where(draw < STRANGER_READING, amount * MIX_READING, 0.0)
    identity = torch.where(draw < STRANGER_IDENTITY, amount * MIX_IDENTITY, 0.0)
    part = torch.where(sees, torch.where(mutual, identity, reading), 0.0)
    return part.flatten() * (times / 300).clamp(max=1)


def step_function(unet, encoders, processors, end, time_ids):
    def step(noisy, times, first, second, zeroed, noise, weight, visible, gates, kept_small, kept_large):
        sight = Sight(visible, gates, {kept.shape[-1]: kept for kept in (kept_small, kept_large)})
        for processor in processors:
            processor.sight = sight
        embeds, pooled = architecture.encode_text(encoders, (first, second), end)
        embeds, pooled = embeds.float() * ~zeroed[:, None, None], pooled.float() * ~zeroed[:, None]
        made = unet(noisy, times, embeds, added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids}).sample
        error = (made.float() - noise).square().mean((1, 2, 3))
        return (error * weight).mean(), error.mean().detach()
    return step


class Trainer:
    """One training step on device tensors alone, so that a GPU replays it as a graph: no launches to wait for."""

    def __init__(self, given, run, data, trained, processors, end):
        self.given, self.run, self.data, self.layers = given, run, data, len(processors)
        self.flat = FlatParameters(trained)
        self.step_of = step_function(trained[0], trained[1:], processors, end, architecture.time_ids(given.batch, run.device))
        if run.device.type == "cuda" and not given.no_compile:
            self.step_of = torch.compile(self.step_of)
        self.rate, self.keep = torch.zeros((), device=run.device), torch.zeros((), device=run.device)
        self.loss = torch.zeros((), device=run.device)
        self.parameter = torch.nn.Parameter(self.flat.values)
        self.parameter.grad = self.flat.gradients
        graphed = run.device.type == "cuda"
        self.optimiser = torch.optim.AdamW([self.parameter], lr=self.rate if graphed else given.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=graphed, capturable=graphed)
        self.signal = architecture.ddim().alphas_cumprod.to(run.device)
        self.rates = torch.tensor(RATES, device=run.device)
        self.graphs = None

    def gradients(self):
        data, device, batch = self.data, self.run.device, self.given.batch
        groups = batch // FRAMES
        group = torch.randint(len(data.pair), (groups,), device=device)
        index = (group[:, None] * FRAMES + torch.rand(groups, FRAMES, device=device).argsort(1)).flatten()
        pair = data.pair[group]
        ordered = (group[:, None] * FRAMES + torch.arange(FRAMES, device=device)).flatten()
        index = torch.where(pair.repeat_interleave(FRAMES, output_size=batch), ordered, index)
        times = torch.randint(1000, (groups,), device=device).repeat_interleave(FRAMES, output_size=batch)
        variant = torch.randint(PROMPTS, (batch,), device=device)
        dropped = torch.rand(groups, device=device).repeat_interleave(FRAMES, output_size=batch)
        emptied, zeroed = (dropped < UNCONDITIONAL / 2)[:, None], (dropped >= UNCONDITIONAL / 2) & (dropped < UNCONDITIONAL)
        ids = [torch.where(emptied, empty, tokens[index, variant]) for tokens, empty in zip(data.ids, data.empty)]
        clean = data.latents[index].float()
        noise = torch.randn_like(clean)
        signal = self.signal[times][:, None, None, None]
        ratio = (signal / (1 - signal)).flatten()
        sight = random_sight(pair, self.layers, self.rates)
        mix = strange_part(sight.visible, times)[:, None, None, None] * (data.strangers[index].float() - clean)
        noisy = (signal.sqrt() * (clean + mix) + (1 - signal).sqrt() * noise).contiguous(memory_format=torch.channels_last)
        noise = noise + (signal / (1 - signal)).sqrt() * mix  # with which `clean` is what is left of `noisy`
        with self.run.autocast():
            loss, error = self.step_of(noisy, times, *ids, zeroed, noise, (MIN_SNR / ratio).clamp(max=1), sight.visible, sight.gates,
                                       *(sight.kept[side * side] for side in architecture.CONSISTENT_GRIDS))
        loss.backward()
        self.loss.add_(error)

    def update(self):
        flat = self.flat
        flat.gradients.mul_((1.0 / flat.gradients.norm()).clamp(max=1.0))
        self.optimiser.step()
        flat.gradients.zero_()
        flat.average.add_((flat.values - flat.average) * (1 - self.keep))

    def capture(self):
        """Warms up on a side stream, then records the two halves of a step; the exchange of gradients lies between them."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.gradients()
                self.flat.gradients.zero_()
            self.rate.zero_()
            self.update()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        self.graphs = [torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()]
        for graph, half in zip(self.graphs, (self.gradients, self.update)):
            with torch.cuda.graph(graph):
                half()
        self.loss.zero_()
        self.flat.gradients.zero_()

    def step(self, rate, keep):
        self.rate.fill_(rate)
        self.keep.fill_(keep)
        if self.graphs is None:
            self.optimiser.param_groups[0]["lr"] = rate
        (self.graphs[0].replay if self.graphs else self.gradients)()
        if self.run.world > 1:
            distributed.all_reduce(self.flat.gradients, distributed.ReduceOp.AVG)
        (self.graphs[1].replay if self.graphs else self.update)()


def prepare(given, run):
    """(VAE, tokenizers, the modules to train, the step that they are at)."""
    vae = load_vae(given.out).requires_grad_(False).to(run.device)
    if run.rank == 0 and not (given.out / "tokenizer" / "vocab.json").exists():
        text.save(given.out, [" ".join(sentences.known_words()), ", . - ' ! ? : ; \""])
    if run.world > 1:
        distributed.barrier()
    tokenizers = text.load(given.out)
    torch.manual_seed(SEED)
    done = json.loads((given.out / "progress.json").read_text())["step"] if given.resume else 0
    trained = load_modules(given.out, vae, tokenizers) if given.resume else modules(vae, tokenizers)
    return vae, tokenizers, [module.to(run.device) for module in trained], done


def save(given, trained, flat, step):
    flat.use_average()
    for name, module in zip(TRAINED, trained):
        save_half(given.out / f"{name}.safetensors", module)
    flat.use_average()
    (given.out / "progress.json").write_text(json.dumps({"step": step}) + "\n")


def arguments():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--out", type=Path, required=True, help="folder with vae.safetensors; results go there too")
    options.add_argument("--minutes", type=float, default=9, help="stop after so long (default 9)")
    options.add_argument("--pictures", type=int, default=65536, help="for each process")
    options.add_argument("--batch", type=int, default=256, help="pictures a step, for each process")
    options.add_argument("--rate", type=float, default=1e-3)
    options.add_argument("--resume", action="store_true", help="go on from DIR")
    options.add_argument("--finish", action="store_true", help="this is the last run: the rate falls to nothing over it")
    options.add_argument("--no-compile", action="store_true")
    options.add_argument("--compile-cache", type=Path, help="file of compiled kernels: read if it is there, written otherwise")
    return options.parse_args()


def train(given, run, trained, trainer, first):
    """Steps until the time is over; returns the number of the last."""
    if run.world > 1:
        distributed.barrier()  # some compile for longer than others
    done, logged, saved = first, first, run.passed()
    begun, whole = time.monotonic(), run.left() - END_SECONDS
    left = whole
    while left > 0:
        rate = given.rate * min(1, (done - first + 1) / 400) * (left / whole if given.finish else 1.0)
        trainer.step(rate, min(0.9995, (done - first + 10) / (done - first + 100)) if not first else min(0.9995, 0.99 + 0.0095 * min(1, (done - first) / 400)))
        done += 1
        if done % CLOCK_STEPS == 0:
            left = run.left() - END_SECONDS
        if done % 1000 == 0:
            run.say(f"step {done} error {trainer.loss.item() / (done - logged):.5f} rate {rate:.1e}, {1000 * (time.monotonic() - begun) / (done - first):.1f} ms a step")
            trainer.loss.zero_()
            logged = done
        if run.rank == 0 and done % CLOCK_STEPS == 0 and run.passed() - saved > 120:
            save(given, trained, trainer.flat, done)
            saved = run.passed()
    return done


def main():
    given = arguments()
    run = Run(given.minutes)
    if given.compile_cache and given.compile_cache.exists():
        torch.compiler.load_cache_artifacts(given.compile_cache.read_bytes())
    vae, tokenizers, trained, done = prepare(given, run)
    data = Data(given.pictures, vae, given.out, SEED + run.rank + 2 * done, run)
    run.say(f"{given.pictures} pictures for each of {run.world}, {len(tokenizers[0])} tokens")
    torch.manual_seed(SEED + run.rank + 10 * done)
    processors = consistent.install(trained[0])
    trainer = Trainer(given, run, data, trained, processors, tokenizers[0].eos_token_id)
    if run.device.type == "cuda":
        trainer.capture()
        run.say("captured a step")
        if given.compile_cache and run.rank == 0 and not given.compile_cache.exists():
            artifacts = torch.compiler.save_cache_artifacts()
            if artifacts:
                given.compile_cache.write_bytes(artifacts[0])
    done = train(given, run, trained, trainer, done)
    if run.rank == 0:
        save(given, trained, trainer.flat, done)
    run.say(f"at step {done}")
    run.end()


if __name__ == "__main__":
    main()
