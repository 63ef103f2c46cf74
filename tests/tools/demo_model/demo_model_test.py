"""The demo model's world and training: what must hold without a GPU and without training anything.

    build/golden-venv/bin/python tests/tools/demo_model/demo_model_test.py
"""
import re
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools" / "demo_model"))

import torch
import yaml

import architecture
import consistent
import sentences
import tokenizer
import train_unet
import train_vae
import world
from cast import ACTIONS, FRAMES, PEOPLE, random_cast
from measure import sameness, spread
from stories import Stories
from training import FlatParameters, pictures_of_stories


class World(unittest.TestCase):
    def test_the_same_rows_give_the_same_pictures_alone_and_among_others(self):
        cast, rows, _ = pictures_of_stories(16, 7)
        together = world.draw(cast, rows, 32)
        self.assertTrue(torch.equal(together, world.draw(cast, rows, 32)))
        alone = torch.cat([world.draw(cast, rows.rows(slice(row, row + 1)), 32) for row in range(16)])
        self.assertLessEqual((together.int() - alone.int()).abs().max().item(), 1)

    def test_panels_of_a_story_differ_in_action_and_place(self):
        _, rows, pair = pictures_of_stories(400, 3)
        for column in (rows.action[:, 0], rows.place):
            self.assertTrue(all(len(set(story.tolist())) == FRAMES for story in column.view(-1, FRAMES)))
        who = rows.who.view(-1, FRAMES, 2)
        self.assertTrue((who[pair][:, 2:] >= 0).all() and (who[pair][:, :2, 1] < 0).all())

    def test_every_figure_stays_in_its_picture_when_it_lies_down(self):
        cast = random_cast(8, torch.Generator().manual_seed(1))
        stories = Stories(8)
        stories.pictures.action[:, 0] = ACTIONS.index("sleeping")
        empty = stories.pictures.rows(slice(None))
        empty.who = torch.full_like(empty.who, -1)
        changed = (world.draw(cast, stories.pictures, 64) != world.draw(cast, empty, 64)).any(1)
        inside = changed[:, 20:, 2:-2].flatten(1).sum(1).float() / changed[:, 20:].flatten(1).sum(1)
        self.assertGreater(inside.min().item(), 0.93)


class Sentences(unittest.TestCase):
    def test_every_word_of_a_prompt_is_listed_but_names(self):
        cast, rows, _ = pictures_of_stories(4000, 11)
        known = set(sentences.known_words())
        strange = [prompt for prompt in sentences.write(cast, rows, 5) if set(re.findall(r"[a-z]+", prompt)) - known]
        self.assertLess(len(strange), 4000 * 3 * sentences.STRANGE_WORD)
        for prompt in strange:
            self.assertTrue(" named " in prompt or " the " in prompt, prompt)

    def test_every_word_of_the_example_stories_is_listed(self):
        known = set(sentences.known_words())
        for path in sorted((ROOT / "deploy" / "examples" / "stories").glob("*.yaml")):
            story = yaml.safe_load(path.read_text())
            panels = [panel for chapter in story["chapters"] for panel in chapter["panels"]]
            told = [panel["text"] if isinstance(panel, dict) else panel.split("#")[0] for panel in panels]
            for text in [*story["characters"].values(), *told]:
                self.assertFalse(set(re.findall(r"[a-z]+", re.sub(r"\[\w+\]", "", text).lower())) - known, f"{path.name}: {text}")

    def test_a_character_is_told_by_the_same_attributes_in_every_panel(self):
        cast, rows, _ = pictures_of_stories(2000, 12)
        words = sentences.Words(cast, 9)
        for row in range(len(rows)):
            words.prompt(rows, row)
        self.assertEqual(words.named, sentences.Words(cast, 9).named)

    def test_every_listed_word_is_one_token_and_exclamation_marks_are_the_padding(self):
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save(folder, [" ".join(sentences.known_words()), ", ."])
            first, second = tokenizer.load(folder)
            for word in sentences.known_words():
                self.assertEqual(len(first.tokenize(word)), 1, word)
            self.assertEqual(second.pad_token_id, 0)
            self.assertEqual(first.pad_token_id, first.eos_token_id)


class Training(unittest.TestCase):
    def test_a_reading_frame_attends_to_itself_and_to_the_kept_tokens_of_identity_frames(self):
        visible = torch.zeros(1, FRAMES, FRAMES, dtype=torch.bool)
        visible[0, 2:, :2] = True
        kept = torch.rand(1, FRAMES, 4) < 0.5
        sight = consistent.Sight(visible, torch.tensor([[True], [False]]), {4: kept})
        mask = sight.mask(0, 4).view(FRAMES, FRAMES, 4)
        self.assertTrue(mask[torch.arange(FRAMES), torch.arange(FRAMES)].all())
        self.assertTrue(torch.equal(mask[2, :2], kept[0, :2]) and torch.equal(mask[3, :2], kept[0, :2]))
        self.assertFalse(mask[2, 3].any() or mask[0, 1:].any())
        self.assertEqual(sight.mask(1, 4).sum().item(), FRAMES * 4)  # a closed gate leaves each its own

    def test_consistent_attention_over_a_masked_batch_is_attention_over_the_joined_tokens(self):
        torch.manual_seed(0)
        unet = architecture.unet(4).eval()
        processors = consistent.install(unet)
        attention = unet.up_blocks[0].attentions[0].transformer_blocks[0].attn1
        hidden, width = torch.randn(FRAMES, 64, 96), 96
        visible = torch.zeros(1, FRAMES, FRAMES, dtype=torch.bool)
        visible[0, 3, 0] = True
        kept = torch.rand(1, FRAMES, 64) < 0.5
        processors[0].sight = consistent.Sight(visible, torch.ones(len(processors), 1, dtype=torch.bool), {64: kept})
        with torch.no_grad():
            out = attention(hidden)
            joined = torch.cat([hidden[0][kept[0, 0]], hidden[3]])
            q, k, v = (f(x).view(-1, 3, 32).transpose(0, 1) for f, x in ((attention.to_q, hidden[3]), (attention.to_k, joined), (attention.to_v, joined)))
            wanted = attention.to_out[0]((torch.softmax(q @ k.transpose(1, 2) / 32 ** 0.5, -1) @ v).transpose(0, 1).reshape(64, width))
        self.assertLess((out[3] - wanted).abs().max().item(), 1e-5)

    def test_only_frames_that_see_somebody_get_a_strangers_looks(self):
        torch.manual_seed(1)
        visible = train_unet.who_sees_whom(torch.zeros(512, dtype=torch.bool))
        part = train_unet.strange_part(visible, torch.full((512 * FRAMES,), 900)).view(512, FRAMES)
        self.assertFalse((part[~visible.any(2)] > 0).any())
        mutual = (visible & visible.transpose(1, 2)).any(2)
        self.assertLessEqual(part[mutual].max().item(), train_unet.MIX_IDENTITY)
        self.assertGreater(part[visible.any(2) & ~mutual].max().item(), train_unet.MIX_IDENTITY)

    def test_other_looks_keep_the_kind_and_make_people_of_people(self):
        cast, _, _ = pictures_of_stories(800, 5)
        other = train_unet.with_other_looks(cast, 6)
        self.assertTrue(torch.equal(cast.kind, other.kind))
        people = cast.kind < len(PEOPLE)
        self.assertFalse(torch.equal(cast.shirt, other.shirt))
        hair = set(cast.fur[people].tolist())
        self.assertTrue(set(other.fur[people].tolist()) <= hair)

    def test_normalising_the_vae_changes_its_latents_and_not_its_pictures(self):
        torch.manual_seed(2)
        vae = architecture.vae(4).eval()
        pictures = torch.rand(4, 3, 32, 32) * 2 - 1
        with torch.no_grad():
            before = vae.encode(pictures).latent_dist.mode()
            made = vae.decode(before).sample
            train_vae.normalise(vae, before)
            after = vae.encode(pictures).latent_dist.mode()
            self.assertLess((vae.decode(after).sample - made).abs().max().item(), 1e-4)
        scaled = after * architecture.SCALING
        self.assertLess(scaled.mean((0, 2, 3)).abs().max().item(), 1e-4)
        self.assertLess((scaled.std((0, 2, 3)) - 1).abs().max().item(), 1e-4)

    def test_flat_parameters_are_the_modules_own(self):
        module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4, 2))
        wanted = module(torch.ones(1, 3, 3, 3))
        flat = FlatParameters([module])
        self.assertTrue(torch.allclose(module(torch.ones(1, 3, 3, 3)), wanted))
        module(torch.ones(1, 3, 3, 3)).sum().backward()
        self.assertGreater(flat.gradients.abs().sum().item(), 0)
        flat.values.zero_()
        self.assertEqual(module(torch.ones(1, 3, 3, 3)).abs().sum().item(), 0)


class Measures(unittest.TestCase):
    def test_spread_and_sameness_of_stories_that_agree_and_of_stories_that_do_not(self):
        colours = torch.rand(50, 1, 3).expand(50, FRAMES, 3).reshape(-1, 3)
        self.assertAlmostEqual(spread(colours)[0], 0, places=5)
        classes = torch.arange(4).repeat(50)
        self.assertEqual(sameness(classes, 4), (0.0, 0.25))
        self.assertEqual(sameness(torch.arange(4).repeat_interleave(FRAMES), 4), (1.0, 0.25))


if __name__ == "__main__":
    unittest.main()
