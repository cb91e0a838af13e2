"""CLIP-SPM: the numbers of its public code, the paper's by hand in double precision, and what its switches do."""

import json
from dataclasses import replace
from functools import partial

import open_clip
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from fsar.alignment import otam
from fsar.backbones import Backbone
from fsar.backbones.clip import ClipBackbone, tiny_tokenize
from fsar.methods import Prediction, Targets, build_method, parse_method
from fsar.methods.base import Episode
from fsar.methods.clip_spm import FIRST_FRAME, PROMPT, ClipSpm
from fsar.methods.otam import Otam
from fsar.text.prompts import templates
from fsar.training.episode_loss import EpisodeLoss
from fsar.training.parameters import group_of
from fsar.training.recipes import load_recipe
from tests.conftest import GOLDEN
from tests.methods.test_clip_fsar import CONTEXT, Features

close = {"atol": 1e-4, "rtol": 1e-4}
exact = {"atol": 1e-9, "rtol": 1e-9}
WAY, SHOT, QUERY, FRAMES, DIM = 3, 2, 6, 8, 16
ROLES = ("support", "query")
LAYERS = {
    "motion.convolutions.0": "motion_conv1",
    "motion.convolutions.1": "motion_conv2",
    "fusion.visual_gate.0": "gate_vision.0",
    "fusion.visual_gate.2": "gate_vision.2",
    "fusion.prompt_gate.0": "gate_text.0",
    "fusion.prompt_gate.2": "gate_text.2",
    "generator.0": "token_tr.mlp.net.0",
    "generator.3": "token_tr.mlp.net.3",
    **{f"fusion.transformer.{ours}": f"context2.layers.0.{theirs}" for ours, theirs in CONTEXT.items()},
    **{f"modulation.transformer.{ours}": f"context1.layers.0.{theirs}" for ours, theirs in CONTEXT.items()},
}
"""Our name of each layer -> the reference's."""


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN / "clip_spm.safetensors")


def head_of(golden: dict[str, Tensor], **options) -> ClipSpm:
    """The golden head: its weights by meaning."""
    small = {"hidden": 32, "head_dim": 4}
    method = ClipSpm(Features(golden["text_features_of_split"]), ClipSpm.Config(**small | options)).eval()
    own = {name for name in method.state_dict() if not name.startswith("backbone.")}
    state = {}
    for name in own - {"alpha_mo"}:
        layer, _, kind = name.rpartition(".")
        state[name] = golden[f"w.{LAYERS[layer]}.{kind}"]
    if "alpha_mo" in own:
        state["alpha_mo"] = golden["w.mo_alpha1"]
    method.load_state_dict(state, strict=False)
    return method


def official(golden: dict[str, Tensor], **options) -> ClipSpm:
    """As the public code trains it: 16 episodes make a step."""
    method = head_of(golden, **{"variant": "official", "inductive": False} | options)
    method.begin_training([], episodes_per_step=16)
    return method


def frames_of(golden: dict[str, Tensor]) -> Episode:
    """The golden episode before `enhance`."""
    by_way = in_order(golden)
    classes = golden["real_support_labels"].long()[by_way].view(WAY, SHOT)[:, 0]
    return Episode(
        {"frames": golden["support_feats"][by_way].view(1, WAY, SHOT, FRAMES, DIM)},
        {"frames": golden["query_feats"][None]},
        torch.ones(1, WAY, SHOT, dtype=torch.bool),
        golden["text_features_of_split"][classes][None],
    )


def in_order(golden: dict[str, Tensor]) -> Tensor:
    """The golden support videos, sorted by their class in the episode."""
    return golden["support_labels"].argsort(stable=True)


def targets_of(golden: dict[str, Tensor]) -> Targets:
    return Targets(golden["query_labels"][None], torch.zeros(1, WAY, dtype=torch.long))


def random_frames(episodes: int = 2, way: int = 3, shot: int = 2, query: int = 4, frames: int = 5) -> Episode:
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, DIM, generator=generator)  # noqa: E731
    return Episode(
        {"frames": draw(episodes, way, shot, frames)},
        {"frames": draw(episodes, query, frames)},
        torch.ones(episodes, way, shot, dtype=torch.bool),
        draw(episodes, way),
    )


def with_gaps() -> Episode:
    """Random frames; some shots are missing, and padding stands for them."""
    episode = random_frames()
    for place in ((0, 1, 1), (1, 0, 0)):
        episode.shot_mask[place] = False
        episode.support["frames"][place] = 7.0
    return episode


TARGETS = Targets(torch.tensor([[0, 2, 1, 1], [2, 2, 0, 1]]), torch.zeros(2, 3, dtype=torch.long))


def encoded(method: ClipSpm, episode: Episode) -> Episode:
    """Go on from the episode's frame features."""
    text = method.text_of_shots(episode.text, episode.shot_mask.shape[-1])
    support, query = method.enhance(episode.support, "support", text), method.enhance(episode.query, "query")
    return replace(episode, support=support, query=query)


def run(method: ClipSpm, episode: Episode) -> Prediction:
    return method.match(encoded(method, episode))


def losses(method: ClipSpm, episode: Episode, targets: Targets = TARGETS) -> dict[str, Tensor]:
    whole = encoded(method, episode)
    return method.loss(whole, method.match(whole), targets)


def queries(episode: Episode, chosen: list[int]) -> Episode:
    """Some of its queries."""
    return replace(episode, query={name: tensor[:, chosen] for name, tensor in episode.query.items()})


# --------------------------------------------------------------------------- golden


@torch.no_grad()
def test_motion(golden: dict[str, Tensor]) -> None:
    """The paper's sums are the code's half means, times both halves and all seven neighbours."""
    for role in ROLES:
        frames = golden[f"{role}_feats"]
        torch.testing.assert_close(official(golden).motion(frames), golden[f"mfe.{role}"], **close)
        torch.testing.assert_close(head_of(golden).motion(frames), 2 * 7 * golden[f"mfe.{role}"], **close)


@torch.no_grad()
def test_refined_motion(golden: dict[str, Tensor]) -> None:
    method = official(golden)
    fused = method.fusion(golden["mfe.query"], golden["query_feats"])
    torch.testing.assert_close(fused[:, PROMPT], golden["sf(query,motion).prompt"][:, 0], **close)
    torch.testing.assert_close(fused[:, FIRST_FRAME:], golden["sf(query,motion).visual"], **close)
    deep = method.motion(fused[:, FIRST_FRAME:])
    torch.testing.assert_close(deep, golden["hsmr.query_deep_motion"], **close)
    episode = frames_of(golden)
    parts = {"support": episode.support, "query": episode.query}
    distances = {f"{role}_motion": method.motion_distance(parts[role]["frames"]) for role in ROLES}
    found = method._over_videos(distances, frames_of(golden).shot_mask)
    torch.testing.assert_close(found, golden["hsmr.distance"], **close)
    torch.testing.assert_close(method.alpha_mo * found, golden["weighted_motion_distance(dists)"], **close)


@torch.no_grad()
@pytest.mark.parametrize(("prompt_mean", "name"), [("frames-and-channels", ""), ("frames", "_PAPER(mean_over_T_only)")])
def test_prompt_generator(golden: dict[str, Tensor], prompt_mean: str, name: str) -> None:
    method, episode = official(golden, prompt_mean=prompt_mean), frames_of(golden)
    torch.testing.assert_close(episode.text.mean(1), golden["spm.pg_input_text_mean_SUPPORT_ONLY"], **close)
    torch.testing.assert_close(episode.text.mean(1), golden["spm.pg_input_text_mean_CODE"], **close)
    prompt = method.prompt(episode.text, episode.query["frames"])
    torch.testing.assert_close(prompt[0], golden[f"spm.PG_prompt_query{name}"][:, 0], **close)
    if not name:
        prompt = method.prompt(episode.text, episode.support["frames"]).flatten(0, 2)
        torch.testing.assert_close(prompt, golden["spm.PG_prompt_support"][in_order(golden), 0], **close)


@torch.no_grad()
def test_semantic_modulation(golden: dict[str, Tensor]) -> None:
    """Each video with its own text, and with the prompt made for it."""
    method, episode = official(golden), encoded(official(golden), frames_of(golden))
    named, order = method.match(episode).named, in_order(golden)
    own = episode.text.gather(1, golden["query_labels"][None, :, None].expand(1, -1, DIM))
    prompt = method.prompt(episode.text, episode.support["frames"])
    found = {
        ("support", "true_text", "true"): episode.support["fused"].flatten(0, 2),
        ("support", "PG_prompt", "PG"): method.fusion(prompt, episode.support["frames"]).flatten(0, 2),
        ("query", "true_text", "true"): method.fusion(own, episode.query["frames"])[0],
        ("query", "PG_prompt", "PG"): named["query_fused"][0],
    }
    for (role, by, prompt_of), fused in found.items():
        chosen = order if role == "support" else slice(None)
        expected = golden[f"spm.{role}_modulated_by_{by}"][chosen]
        torch.testing.assert_close(fused[:, FIRST_FRAME:], expected, **close)
        torch.testing.assert_close(fused[:, PROMPT], golden[f"spm.prompt_{role}_{prompt_of}"][chosen, 0], **close)
    prototypes = episode.support["fused"][0].mean(1)[:, FIRST_FRAME:]
    torch.testing.assert_close(prototypes, golden["spm.support_prototypes"], **close)


@torch.no_grad()
@pytest.mark.parametrize("consistency_on", ["final", "initial"])
def test_consistency(golden: dict[str, Tensor], consistency_on: str) -> None:
    method = official(golden, consistency="both", consistency_on=consistency_on)
    episode = encoded(method, frames_of(golden))
    found = method.consistency_distances(episode, method.match(episode), targets_of(golden))
    for role in ROLES:
        by_name = {name: method._over_videos({name: value}, episode.shot_mask) for name, value in found.items()}
        expected = golden[f"spm.consistency.prompt_{role}_{consistency_on}"]
        torch.testing.assert_close(by_name[f"{role}_prompts"], expected, **close)
        torch.testing.assert_close(by_name[f"{role}_frames"], golden[f"spm.consistency.concat_{role}"], **close)


@torch.no_grad()
def test_dual_modulation(golden: dict[str, Tensor]) -> None:
    method, episode = official(golden), encoded(official(golden), frames_of(golden))
    fused = method.match(episode).named["query_fused"]
    seen = method.modulation(
        episode.support["fused"][..., FIRST_FRAME:, :], fused[:, None, ..., FIRST_FRAME:, :], episode.shot_mask
    )
    support = seen.support.squeeze(3).flatten(0, 2)
    torch.testing.assert_close(support, golden["padm.support"][in_order(golden)], **close)
    torch.testing.assert_close(seen.query[0, 0], golden["padm.query"], **close)
    torch.testing.assert_close(seen.prototypes[0, 0], golden["padm.prototype_tokens"], **close)
    torch.testing.assert_close(seen.anchor[0, 0], golden["padm.anchor_token"], **close)


@torch.no_grad()
def test_distances_and_logits(golden: dict[str, Tensor]) -> None:
    prediction = run(official(golden), frames_of(golden))
    torch.testing.assert_close(prediction.named["spm_distances"][0], golden["spm.otam_distance"], **close)
    torch.testing.assert_close(prediction.named["padm_distances"][0], golden["padm.otam_distance"], **close)
    anchor = golden["padm.otam_prototype_vs_anchor"].expand(QUERY, -1)
    torch.testing.assert_close(prediction.named["anchor_distances"][0], anchor, **close)
    torch.testing.assert_close(prediction.logits[0], golden["logits"], **close)
    single = run(official(golden, direction="query-to-support"), frames_of(golden))
    torch.testing.assert_close(single.logits[0], golden["logits_single_direct"], **close)


@torch.no_grad()
def test_loss(golden: dict[str, Tensor]) -> None:
    """The code adds up the 16 episodes of a step; the mean over a step's episodes does so here."""
    terms = losses(official(golden), frames_of(golden), targets_of(golden))
    assert terms.keys() == {"match", "motion"}
    torch.testing.assert_close(sum(terms.values()) / 16, golden["loss_code"], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(terms["motion"] / 16, 0.001 * golden["hsmr.distance"], atol=1e-6, rtol=1e-6)
    means = losses(official(golden, reduction="mean"), frames_of(golden), targets_of(golden))
    torch.testing.assert_close(means["match"], terms["match"] / QUERY, **close)
    torch.testing.assert_close(means["motion"], 0.001 * golden["hsmr.distance"], atol=1e-6, rtol=1e-6)


# --------------------------------------------------------------------------- by hand, in double precision


class ByHand:
    """The paper's equations for one episode, a row at a time; OTAM alone is the package's."""

    def __init__(self, method: ClipSpm, episode: Episode, number: int):
        self.state, self.config = method.state_dict(), method.config
        self.text = episode.text[number]
        frames, mask = episode.support["frames"][number], episode.shot_mask[number]
        self.support = [
            [v for v, there in zip(own, m, strict=True) if there] for own, m in zip(frames, mask, strict=True)
        ]
        self.query = list(episode.query["frames"][number])
        self.by_text = [[self.sf(self.text[w], v) for v in own] for w, own in enumerate(self.support)]
        self.by_prompt = [self.sf(self.pg(q), q) for q in self.query]

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.state[f"{name}.weight"].T + self.state.get(f"{name}.bias", 0)

    def gated(self, name: str, x: Tensor) -> Tensor:
        inside = self.linear(f"fusion.{name}.0", x)
        inside = torch.where(inside > 0, inside, self.config.gate_slope * inside)
        return x / (1 + (-self.linear(f"fusion.{name}.2", inside)).exp())

    def transformer(self, part: str, rows: list[Tensor]) -> Tensor:
        x, name = torch.stack(rows), f"{part}.transformer"
        normed = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
        normed = normed * self.state[f"{name}.norm.weight"] + self.state[f"{name}.norm.bias"]
        q, k, v = (self.linear(f"{name}.to_{what}", normed) for what in ("query", "key", "value"))
        width, heads = self.config.head_dim, []
        for head in range(8):
            cut = slice(width * head, width * (head + 1))
            heads.append((q[:, cut] @ k[:, cut].T / width**0.5).softmax(-1) @ v[:, cut])
        x = self.linear(f"{name}.to_out.0", torch.cat(heads, -1)) + x
        return x + self.mlp(f"{name}.feed_forward", x)

    def mlp(self, name: str, x: Tensor) -> Tensor:
        inside = self.linear(f"{name}.0", x)
        return self.linear(f"{name}.3", inside * (1 + torch.erf(inside / 2**0.5)) / 2)

    def mfe(self, frames: Tensor) -> Tensor:
        seen = frames
        for i in range(2):
            weight, bias = (self.state[f"motion.convolutions.{i}.{kind}"] for kind in ("weight", "bias"))
            padded = torch.nn.functional.pad(seen, (0, 0, 1, 1))
            rows = [sum(weight[:, :, k] @ padded[t + k] for k in range(3)) for t in range(len(frames))]
            seen = torch.stack(rows) + bias
        return sum((seen[t + 1] - frames[t]) + (seen[t] - frames[t + 1]) for t in range(len(frames) - 1))

    def sf(self, prompt: Tensor, frames: Tensor) -> Tensor:
        added = self.config.alpha * self.gated("prompt_gate", prompt)
        return self.transformer("fusion", [prompt, *[self.gated("visual_gate", frame) + added for frame in frames]])

    def pg(self, frames: Tensor) -> Tensor:
        return self.mlp("generator", self.text.mean(0) * frames.mean(0))

    def motion_distance(self, frames: Tensor) -> Tensor:
        fused = self.sf(self.mfe(frames), frames)
        return (fused[0] - self.mfe(fused[1:])).square().sum().sqrt()

    def otam(self, x: Tensor, y: Tensor) -> Tensor:
        pairs = [[1 - a @ b / (a.norm() * b.norm() + 0.01) for b in y] for a in x]
        return otam(torch.stack([torch.stack(row) for row in pairs]), 0.5, "both")

    def d_spm(self) -> Tensor:
        means = [sum(own) / len(own) for own in self.by_text]
        return torch.stack([torch.stack([self.otam(q[1:], mean[1:]) for mean in means]) for q in self.by_prompt])

    def d_padm(self) -> Tensor:
        own, all_queries = [[v[1:] for v in videos] for videos in self.by_text], [q[1:] for q in self.by_prompt]
        if not self.config.inductive:
            return self.d_padm_among(own, all_queries)
        return torch.cat([self.d_padm_among(own, [query]) for query in all_queries])

    def d_padm_among(self, own: list[list[Tensor]], asking: list[Tensor]) -> Tensor:
        prototypes = [sum([*videos, *asking]) / (len(videos) + len(asking)) for videos in own]
        anchor = sum(prototypes) / len(prototypes)
        flat = [video for videos in own for video in videos]
        looked = [self.transformer("modulation", [x[t] for x in prototypes + flat]) for t in range(len(anchor))]
        asked = [self.transformer("modulation", [x[t] for x in [anchor, *asking]]) for t in range(len(anchor))]
        looked, asked = torch.stack(looked, 1), torch.stack(asked, 1)  # row frame dim
        means = [video.mean(0) for video in looked[len(own) :].split([len(videos) for videos in own])]
        of_anchor = torch.stack([self.otam(asked[0], prototype) for prototype in looked[: len(own)]])
        of_queries = torch.stack([torch.stack([self.otam(q, mean) for mean in means]) for q in asked[1:]])
        return of_queries + of_anchor

    def l_h(self) -> Tensor:
        return sum(self.motion_distance(video) for videos in [*self.support, self.query] for video in videos)

    def l_s(self, ways: Tensor) -> Tensor:
        pairs = [
            (fused, video)
            for fs, vs in zip(self.by_text, self.support, strict=True)
            for fused, video in zip(fs, vs, strict=True)
        ]
        found = [self.d_s(fused, self.sf(self.pg(video), video)) for fused, video in pairs]
        found += [
            self.d_s(self.sf(self.text[w], q), by) for w, q, by in zip(ways, self.query, self.by_prompt, strict=True)
        ]
        return sum(found)

    def d_s(self, by_text: Tensor, by_prompt: Tensor) -> Tensor:
        return (by_text[0] - by_prompt[0]).square().sum().sqrt() + (by_text - by_prompt).square().sum().sqrt()


def in_double(episode: Episode) -> Episode:
    double = lambda encoding: {name: tensor.double() for name, tensor in encoding.items()}  # noqa: E731
    return replace(episode, support=double(episode.support), query=double(episode.query), text=episode.text.double())


def shaken(method: ClipSpm) -> ClipSpm:
    """Everything that the method adds is moved off its value."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in method.state_dict().items():
        if not name.startswith("backbone."):
            tensor.add_(0.2 * (torch.rand(tensor.shape, generator=generator) - 0.5))
    return method


@torch.no_grad()
@pytest.mark.parametrize("inductive", [True, False])
@pytest.mark.parametrize("make", [random_frames, with_gaps])
def test_the_papers_equations_by_hand(golden: dict[str, Tensor], inductive: bool, make) -> None:
    """Missing examples count nowhere."""
    method = shaken(head_of(golden, inductive=inductive, lambda1=0.7, alpha=0.6)).double()
    episode = in_double(make())
    whole = encoded(method, episode)
    prediction = method.match(whole)
    terms, motion, consistency, match = method.loss(whole, prediction, TARGETS), [], [], []
    for number in range(2):
        hand = ByHand(method, episode, number)
        spm, padm = hand.d_spm(), hand.d_padm()
        torch.testing.assert_close(prediction.named["spm_distances"][number], spm, **exact)
        torch.testing.assert_close(prediction.named["padm_distances"][number], padm, **exact)
        torch.testing.assert_close(prediction.logits[number], -(0.7 * padm + 0.5 * spm), **exact)
        motion.append(hand.l_h())
        consistency.append(hand.l_s(TARGETS.query_way[number]))
        match += [
            cross_entropy(-(0.7 * d + 0.5 * s), way)
            for d, s, way in zip(padm, spm, TARGETS.query_way[number], strict=True)
        ]
    torch.testing.assert_close(terms["match"], sum(match) / 8, **exact)
    torch.testing.assert_close(terms["motion"], 0.001 * sum(motion) / 2, **exact)
    torch.testing.assert_close(terms["consistency"], 0.001 * sum(consistency) / 2, **exact)


@torch.no_grad()
@pytest.mark.parametrize("episodes", [1, 4, 16])
def test_sums_weigh_as_a_step_of_the_public_code(golden: dict[str, Tensor], episodes: int) -> None:
    """It adds up CE / E + 0.001 d_h over the E episodes of a step."""
    method = official(golden)
    method.begin_training([], episodes_per_step=episodes)
    terms = losses(method, frames_of(golden), targets_of(golden))
    expected = golden["loss_code"] - 0.001 * golden["hsmr.distance"]  # CE / 16
    torch.testing.assert_close(terms["match"] / episodes, 16 * expected / episodes, **close)
    torch.testing.assert_close(terms["motion"] / episodes, 0.001 * golden["hsmr.distance"], atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_motion_is_worked_out_for_the_loss_alone(golden: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    method, calls = head_of(golden), []
    monkeypatch.setattr(method, "motion_distance", lambda frames: calls.append(1) or frames.mean((-1, -2)))
    run(method, frames_of(golden))
    assert not calls
    losses(method, frames_of(golden), targets_of(golden))
    assert len(calls) == 2


@torch.no_grad()
def test_the_earlier_consistency_by_hand(golden: dict[str, Tensor]) -> None:
    """w_t (initial + final) of queries, 0.5 - w_t of supports; w_c and 1 - w_c of [prompt; frames]."""
    shares = {"consistency": "both", "consistency_on": "both", "consistency_shares": (0.07, 0.54)}
    method, episode = official(golden, **shares), frames_of(golden)
    parts = {}
    for place in ("initial", "final"):
        one = official(golden, consistency="both", consistency_on=place)
        whole = encoded(one, episode)
        parts[place] = one.consistency_distances(whole, one.match(whole), targets_of(golden))
    prompts = {role: sum(parts[place][f"{role}_prompts"].mean() for place in parts) for role in ROLES}
    frames = {role: parts["final"][f"{role}_frames"].mean() for role in ROLES}
    expected = 0.07 * prompts["query"] + 0.43 * prompts["support"] + 0.54 * frames["query"] + 0.46 * frames["support"]
    found = losses(method, episode, targets_of(golden))["consistency"]
    torch.testing.assert_close(found, 16 * 0.001 * expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_squares_are_means_over_the_videos_that_are_there(golden: dict[str, Tensor]) -> None:
    method, episode = official(golden), with_gaps()
    support, query = (method.motion_distance(part["frames"]) for part in (episode.support, episode.query))
    expected = [support[i][episode.shot_mask[i]].mean() + query[i].mean() for i in range(2)]
    expected = 16 * 0.001 * sum(expected) / 2
    torch.testing.assert_close(losses(method, episode)["motion"], expected)


# --------------------------------------------------------------------------- promises

MODES = pytest.mark.parametrize("inductive", [True, False])


@torch.no_grad()
@pytest.mark.parametrize("variant", ["paper", "official"])
def test_only_an_inductive_query_alone_equals_in_company(golden: dict[str, Tensor], variant: str) -> None:
    method, episode = head_of(golden, variant=variant), random_frames()
    together = run(method, episode).logits
    alone = torch.cat([run(method, queries(episode, [i])).logits for i in range(4)], 1)
    torch.testing.assert_close(alone, together, **close)
    other = method.other_mode()
    assert not method.traits.transductive and other.traits.transductive
    assert not torch.allclose(run(other, episode).logits, together, atol=1e-2)
    torch.testing.assert_close(run(other, queries(episode, [0])).logits, together[:, :1], **close)
    back = other.other_mode()
    assert back.config == method.config
    assert all(a is b for a, b in zip(back.parameters(), method.parameters(), strict=True))
    assert head_of(golden, padm=False).other_mode() is None and not head_of(golden, padm=False).traits.transductive


@MODES
@torch.no_grad()
def test_the_order_of_queries_tells_nothing(golden: dict[str, Tensor], inductive: bool) -> None:
    method, episode, order = head_of(golden, inductive=inductive), random_frames(), [2, 0, 3, 1]
    together = run(method, episode).logits
    torch.testing.assert_close(run(method, queries(episode, order)).logits, together[:, order], **close)


@MODES
@torch.no_grad()
def test_class_order_moves_the_logits_alone(golden: dict[str, Tensor], inductive: bool) -> None:
    method, episode, order = head_of(golden, inductive=inductive), with_gaps(), torch.tensor([2, 0, 1])
    support = {"frames": episode.support["frames"][:, order]}
    moved = replace(episode, support=support, text=episode.text[:, order], shot_mask=episode.shot_mask[:, order])
    torch.testing.assert_close(run(method, moved).logits, run(method, episode).logits[..., order], **close)
    targets = replace(TARGETS, query_way=order.argsort()[TARGETS.query_way])
    for name, term in losses(method, moved, targets).items():
        torch.testing.assert_close(term, losses(method, episode)[name], **close)


@MODES
@pytest.mark.parametrize("junk", [0.0, 1e3])
@torch.no_grad()
def test_a_missing_shot_is_as_good_as_absent(golden: dict[str, Tensor], junk: float, inductive: bool) -> None:
    method, episode = head_of(golden, inductive=inductive), random_frames()
    support, mask = episode.support["frames"].clone(), episode.shot_mask.clone()
    support[:, :, 1], mask[:, :, 1] = junk, False
    padded = replace(episode, support={"frames": support}, shot_mask=mask)
    single = replace(episode, support={"frames": support[:, :, :1]}, shot_mask=mask[..., :1])
    torch.testing.assert_close(run(method, padded).logits, run(method, single).logits, **close)
    for name, term in losses(method, padded).items():
        torch.testing.assert_close(term, losses(method, single)[name], **close)


@torch.no_grad()
def test_query_labels_reach_the_loss_alone(golden: dict[str, Tensor]) -> None:
    """A query's encoding reads no text, and `match` no target; equation 12 reads a query's own."""
    method, episode = head_of(golden), random_frames()
    bare, told = (method.enhance(episode.query, "query", text) for text in (None, torch.ones(2, 4, DIM)))
    assert all(torch.equal(bare[name], told[name]) for name in bare) and "fused" not in bare
    whole = encoded(method, episode)
    prediction = method.match(whole)
    before = {name: tensor.clone() for name, tensor in prediction.named.items()}
    ways = [replace(TARGETS, query_way=torch.full((2, 4), way)) for way in range(2)]
    first, second = (method.loss(whole, prediction, targets) for targets in ways)
    assert first["motion"] == second["motion"] and first["match"] != second["match"]
    assert first["consistency"] != second["consistency"]
    support = head_of(golden, consistency="support")
    first, second = (support.loss(whole, prediction, targets) for targets in ways)
    assert first["consistency"] == second["consistency"]
    assert all(torch.equal(before[name], tensor) for name, tensor in prediction.named.items())


@torch.no_grad()
def test_prompts_read_the_texts_of_the_support_alone(golden: dict[str, Tensor]) -> None:
    """The same for every class and number of shots; the mean text changes with the episode's classes."""
    method, episode = head_of(golden), with_gaps()
    expected = run(method, random_frames()).named["query_prompt"]
    assert torch.equal(run(method, episode).named["query_prompt"], expected)
    changed = run(method, replace(episode, text=episode.text.roll(1, 0))).named["query_prompt"]
    assert not torch.allclose(changed, expected, atol=1e-4)


@torch.no_grad()
def test_videos_are_mapped_once(golden: dict[str, Tensor]) -> None:
    """Not once for every query, though every query has prototypes and an anchor of its own."""
    method, seen = head_of(golden), []
    method.modulation.transformer.to_key.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[:-1]))
    run(method, random_frames())
    assert seen == [(2, 5, 6 + 4 + 1)]  # episode frame: support videos, queries, and the norm's bias


@pytest.mark.parametrize("inductive", [True, False])
def test_modulation_is_the_transformer_on_every_row(golden: dict[str, Tensor], inductive: bool) -> None:
    """The same values and gradients; and in training every dropout has its place."""
    modulation = head_of(golden).modulation.double()
    support, query = (torch.randn(2, *shape, DIM, dtype=torch.float64) for shape in ((3, 2, 5), (4, 5)))
    query = query.unflatten(1, (-1, 1) if inductive else (1, -1))
    mask = torch.ones(2, 3, 2, dtype=torch.bool)

    def plain() -> list[Tensor]:
        groups = query.shape[1]
        own = support.flatten(1, 2)[:, None].expand(-1, groups, -1, -1, -1)
        prototypes = (support.sum(2)[:, None] + query.sum(2, keepdim=True)) / (2 + query.shape[2])
        anchored = torch.cat([prototypes.mean(2, keepdim=True), query], 2)
        looked, asked = (
            modulation.transformer(rows.transpose(2, 3)).transpose(2, 3)
            for rows in (torch.cat([prototypes, own], 2), anchored)
        )
        return [
            looked[:, :, 3:].unflatten(2, (3, 2)).permute(0, 2, 3, 1, 4, 5),
            asked[:, :, 1:],
            looked[:, :, :3],
            asked[:, :, :1],
        ]

    def ours() -> list[Tensor]:
        seen = modulation(support, query, mask)
        return [seen.support, seen.query, seen.prototypes, seen.anchor]

    def slopes(made: list[Tensor]) -> list[Tensor]:
        return torch.autograd.grad(sum(part.square().sum() for part in made), list(modulation.parameters()))

    torch.testing.assert_close(ours(), plain())
    torch.testing.assert_close(slopes(ours()), slopes(plain()))
    modulation.train()
    for off in range(3):  # all three at once would leave nothing to tell apart
        dropouts = [module for module in modulation.modules() if isinstance(module, torch.nn.Dropout)]
        for number, dropout in enumerate(dropouts):
            dropout.p = float(number == off)
        torch.testing.assert_close(ours(), plain())


def test_text_and_frames_that_are_missing_are_named(golden: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="class text of a support video; give encode its text feature"):
        head_of(golden).enhance(random_frames().support, "support")
    with pytest.raises(ValueError, match="clip-spm needs motion.*got 1 per video.*: clip-spm:hsmr=false"):
        losses(head_of(golden), random_frames(frames=1))
    assert run(head_of(golden), random_frames(frames=1)).logits.isfinite().all()
    assert losses(head_of(golden, hsmr=False), random_frames(frames=1))["match"].isfinite()
    with pytest.raises(ValueError, match="'clip-spm' reads class names, but backbone 'blind' has no text"):
        build_method("clip-spm", Backbone("blind"))


# --------------------------------------------------------------------------- training


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_training_reaches_everything_it_adds(golden: dict[str, Tensor], variant: str) -> None:
    method, episode = head_of(golden, variant=variant).train(), random_frames()
    for encoding in (episode.support, episode.query):
        encoding["frames"].requires_grad_()
    sum(losses(method, episode).values()).backward()
    own = {name: p for name, p in method.named_parameters() if group_of(name) == "own"}
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in own.values())
    assert all(part["frames"].grad.abs().sum() > 0 for part in (episode.support, episode.query))
    assert ("alpha_mo" in own) == (variant == "official")


def test_equal_vectors_have_a_gradient(golden: dict[str, Tensor]) -> None:
    """A root of zero has none."""
    x = torch.zeros(2, DIM, requires_grad=True)
    head_of(golden)._condis(x, torch.zeros(2, DIM)).sum().backward()
    assert x.grad.isfinite().all()


def test_training_from_the_bank_is_training_on_clips(tiny: Backbone) -> None:
    method = build_method("clip-spm", tiny, hidden=16, head_dim=4).train()
    method.backbone.eval()
    clips = torch.randn(9, 4, 3, 64, 64, generator=torch.Generator().manual_seed(6))
    support, query = clips[:6].unflatten(0, (1, 3, 2)), clips[None, 6:]
    text = method.encode_text(["waving", "clapping", "running"])[None]
    rest = (text, torch.tensor([[0, 1, 2]]), torch.zeros(1, 3, dtype=torch.long))
    with torch.no_grad():
        banked = [method.encoder().encode(videos) for videos in (support, query)]
        found = []
        for inputs in ((support, query), banked):
            torch.manual_seed(0)
            found.append(EpisodeLoss(method)(*inputs, *rest)[0])
    assert found[0].keys() == {"match", "motion", "consistency"}
    for name, term in found[0].items():
        torch.testing.assert_close(term, found[1][name], **close)


# --------------------------------------------------------------------------- switches

TABLE_3 = {
    "none": {"hsmr": False, "spm": False, "padm": False},
    "HSMR": {"spm": False, "padm": False},
    "SPM": {"hsmr": False, "padm": False},
    "PADM": {"hsmr": False, "spm": False},
    "HSMR, SPM": {"padm": False},
    "HSMR, PADM": {"spm": False},
    "SPM, PADM": {"hsmr": False},
    "all": {},
}
TABLE_4 = {fusion: {"fusion": fusion} for fusion in ("concat", "sum-concat", "gate-sum-concat")}
TABLE_5 = {consistency: {"consistency": consistency} for consistency in ("off", "support", "query", "both")}
OTHERS = {
    "default": {},
    "official": {"variant": "official"},
    "transductive": {"inductive": False},
    "half mean": {"motion": "half-mean"},
    "alpha": {"alpha": 0.2},
    "slope": {"gate_slope": 0.05},
    "one number": {"prompt_mean": "frames-and-channels"},
    "initial": {"consistency_on": "initial"},
    "initial and final": {"consistency_on": "both"},
    "shares": {"consistency_shares": (0.07, 0.54)},
    "squares": {"condis": "square"},
    "sums": {"reduction": "sum"},
    "one direction": {"direction": "query-to-support"},
    "the other": {"direction": "support-to-query"},
    "lambda1": {"lambda1": 0.5},
    "lambda2": {"lambda2": 1.0},
    "lambda3": {"lambda3": 0.01},
    "lambda4": {"lambda4": 0.01},
}


@pytest.mark.parametrize("table", [TABLE_3, TABLE_4, TABLE_5, OTHERS])
@torch.no_grad()
def test_every_row_of_the_tables_is_a_switch(golden: dict[str, Tensor], table: dict[str, dict]) -> None:
    """Finite logits and losses; no two rows of a table train the same."""
    found = []
    for name, options in table.items():
        method, episode = head_of(golden, **options), encoded(head_of(golden, **options), random_frames())
        prediction = method.match(episode)
        terms = torch.stack(list(method.loss(episode, prediction, TARGETS).values()))
        assert prediction.logits.shape == (2, 4, 3) and prediction.logits.isfinite().all() and terms.isfinite().all()
        for other, logits, others in found:
            alike = terms.shape == others.shape and torch.allclose(terms, others, atol=1e-6, rtol=1e-5)
            assert not (alike and torch.allclose(prediction.logits, logits, atol=1e-4)), (name, other)
        found.append((name, prediction.logits, terms))


@torch.no_grad()
def test_a_switch_off_leaves_the_rest_as_it_is(golden: dict[str, Tensor]) -> None:
    episode = with_gaps()
    whole = run(head_of(golden), episode)
    baseline = Otam(Backbone("raw"), Otam.Config(per="prototype")).match(episode).logits
    torch.testing.assert_close(run(head_of(golden, **TABLE_3["none"]), episode).logits, baseline)
    torch.testing.assert_close(run(head_of(golden, **TABLE_3["HSMR"]), episode).logits, baseline)
    for row in ("SPM", "HSMR, SPM"):
        torch.testing.assert_close(run(head_of(golden, **TABLE_3[row]), episode).logits, -whole.named["spm_distances"])
    torch.testing.assert_close(run(head_of(golden, hsmr=False), episode).logits, whole.logits)
    raw = run(head_of(golden, spm=False), episode)
    torch.testing.assert_close(raw.named["spm_distances"], -baseline)
    torch.testing.assert_close(raw.logits, 0.5 * baseline - raw.named["padm_distances"])
    for row, terms in {
        "none": {"match"},
        "HSMR": {"match", "motion"},
        "SPM": {"match", "consistency"},
        "PADM": {"match"},
        "all": {"match", "motion", "consistency"},
    }.items():
        assert losses(head_of(golden, **TABLE_3[row]), episode).keys() == terms


def test_without_spm_no_text_is_read() -> None:
    features = Backbone("raw")
    features.dim = DIM
    method = ClipSpm(features, ClipSpm.Config(spm=False, hidden=32, head_dim=4)).eval()
    episode = replace(random_frames(), text=None)
    assert not method.traits.reads_text and not method.traits.support_reads_text and not method.traits.roles_differ
    assert run(method, episode).logits.isfinite().all()


@torch.no_grad()
def test_fusions_by_hand(golden: dict[str, Tensor]) -> None:
    frames, prompt = golden["query_feats"], golden["mfe.query"]
    for fusion, fused in (("concat", frames), ("sum-concat", frames + prompt[:, None])):
        method = head_of(golden, fusion=fusion).fusion
        rows = torch.cat([prompt[:, None], fused], 1)
        torch.testing.assert_close(method(prompt, frames), method.transformer(rows))
        assert not hasattr(method, "visual_gate")


def test_texts_of_templates(tiny: Backbone) -> None:
    """Fig. 5 takes the first R; the paper sums, the code averages; training draws nothing."""
    small, labels = {"hidden": 16, "head_dim": 4}, ["waving", "clapping"]
    build = partial(build_method, "clip-spm", tiny, **small)
    found = {count: build(templates=f"clip-spm:{count}").encode_text(labels) for count in (1, 4, 7, 10, 13, 16)}
    for count, text in found.items():
        texts = [template.replace("{}", "waving") for template in templates("clip-spm")[:count]]
        torch.testing.assert_close(text[0], tiny.text_features(texts).sum(0), **close)
        if count > 1:
            mean = build(templates=f"clip-spm:{count}", ensemble="mean").encode_text(labels)
            torch.testing.assert_close(mean * count, text, **close)
    torch.testing.assert_close(build().encode_text(labels), found[16])
    torch.testing.assert_close(build(templates="a {}").encode_text(["x"])[0], tiny.text_features(["a x"])[0])


def test_variants_fill_in_what_is_not_chosen(golden: dict[str, Tensor]) -> None:
    chosen = head_of(golden, variant="official", motion="sum")
    assert chosen.config.condis == "square" and chosen.config.inductive
    assert chosen.config.changed() == {"variant": "official", "motion": "sum", "hidden": 32, "head_dim": 4}
    paper = ClipSpm.Config()
    assert (paper.ensemble, paper.motion, paper.alpha, paper.prompt_mean) == ("sum", "sum", 1.0, "frames")
    assert (paper.consistency, paper.consistency_on, paper.condis, paper.reduction) == ("both", "final", "norm", "mean")
    assert (paper.lambda1, paper.lambda2, paper.lambda3, paper.lambda4) == (1, 0.5, 0.001, 0.001)
    code = ClipSpm.Config(variant="official")
    assert (code.ensemble, code.motion, code.alpha, code.consistency) == ("mean", "half-mean", 0.2, "off")
    assert ClipSpm.traits_of(paper).trains == ("own", "visual") and not ClipSpm.traits_of(paper).trains_text


def test_an_unquoted_off_is_off(tiny: Backbone) -> None:
    _, options = parse_method("clip-spm:consistency=off,hidden=16,head_dim=4")
    assert build_method("clip-spm", tiny, **options).options()["consistency"] == "off"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lambda1": -1.0}, "'lambda1': -1.0.*expected none below 0"),
        ({"lambda1": 0.0, "lambda2": 0.0}, "lambda1 or lambda2 above"),
        ({"gate_visual": 1e-6}, "gate_visual 1e-06.*at least 1/"),
        ({"padm": False, "lambda2": 1.0}, "lambda2: 1.0, which has no effect with padm: false; leave one of them out"),
        ({"padm": False, "inductive": False}, "inductive: false, which has no effect with padm: false"),
        ({"spm": False, "consistency": "query"}, "consistency: query, which has no effect with spm: false"),
        ({"spm": False, "templates": "{}"}, "templates: {}, which has no effect with spm: false"),
        ({"consistency": "off", "lambda4": 0.1}, "lambda4: 0.1, which has no effect with no consistency of prompts"),
        ({"hsmr": False, "motion": "half-mean"}, "motion: half-mean, which has no effect with hsmr: false"),
        ({"fusion": "concat", "alpha": 0.2}, "alpha: 0.2, which has no effect with fusion: concat"),
        ({"hsmr": False, "spm": False, "alpha": 0.2}, "alpha: 0.2, which has no effect with hsmr and spm"),
        ({"spm": False, "ensemble": "mean"}, "ensemble: mean, which has no effect with spm: false"),
        ({"fusion": "concat", "gate_text": 1.0}, "gate_text: 1.0, which has no effect with fusion: concat"),
        ({"consistency": "query", "consistency_shares": (0.1, 0.5)}, "weigh queries against support videos"),
        ({"hsmr": False, "spm": False, "fusion": "concat"}, "fusion: concat, which has no effect with hsmr and spm"),
        ({"hsmr": False, "consistency": "off", "condis": "square"}, "condis: square, which has no effect"),
        ({"templates": "clip-spm:17"}, "asks for '17' templates; clip-spm has 1 to 16"),
        ({"consistency": "all"}, "consistency is all; expected both"),
        ({"lambda_1": 1.0}, "did you mean 'lambda1'"),
    ],
)
def test_wrong_options_are_named(tiny: Backbone, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_method("clip-spm", tiny, **options)


# --------------------------------------------------------------------------- counts and recipes

GATES = {
    "hmdb51": {},
    "ucf101": {"gate_visual": 2.0, "gate_text": 2.0, "gate_slope": 0.054},
    "kinetics100": {"gate_slope": 0.042},
    "ssv2-small": {},
    "ssv2-full": {"gate_text": 0.75, "gate_slope": 0.052},
}
COUNTS = {
    "RN50": {"hmdb51": 78_184_288, "ucf101": 82_380_640, "ssv2-full": 76_610_656},
    "ViT-B-16": {"hmdb51": 103_507_968, "ucf101": 104_557_568, "ssv2-full": 103_114_368},
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name: str) -> None:
    """The visual tower and what is added, without alpha_mo."""
    with torch.device("meta"):
        backbone = ClipBackbone(name, open_clip.CLIP(**open_clip.get_model_config(name)), tiny_tokenize)
        for benchmark, count in COUNTS[name].items():
            for variant, more in (("official", 1), ("paper", 0)):
                method = ClipSpm(backbone, ClipSpm.Config(variant=variant, **GATES[benchmark]))
                trained = [p.numel() for n, p in method.named_parameters() if group_of(n) in method.traits.trains]
                assert sum(trained) == count + more


@pytest.mark.parametrize("benchmark", GATES)
def test_every_row_is_an_override_of_a_recipe(benchmark: str, tiny: Backbone) -> None:
    """The gates that a recipe sets are no hindrance where a row has none."""
    for rows in (TABLE_3, TABLE_4, TABLE_5):
        for row in rows.values():
            changes = [f"options.{key}={json.dumps(value)}" for key, value in row.items()]
            build_method("clip-spm", tiny, **load_recipe(f"clip-spm/{benchmark}", changes).options)


def test_what_it_is_made_of() -> None:
    """Sizes and dropouts of the code; SF and PADM have a transformer each."""
    method = ClipSpm(Features(torch.zeros(1, 512)), ClipSpm.Config())
    for part in (method.fusion, method.modulation):
        dropouts = [module.p for module in part.modules() if isinstance(module, torch.nn.Dropout)]
        assert dropouts == [0.2, 0.05, 0.05] and part.transformer.heads == 8
        assert part.transformer.to_query.weight.shape == (2048, 512)
    assert [module.p for module in method.generator if isinstance(module, torch.nn.Dropout)] == [0.05, 0.05]
    assert method.generator[0].weight.shape == (2048, 512)


@pytest.mark.parametrize("benchmark", GATES)
def test_the_papers_settings(benchmark: str) -> None:
    recipe = load_recipe(f"clip-spm/{benchmark}")
    assert recipe.episodes == (100_000 if "ssv2" in benchmark else 20_000)
    assert (recipe.optimizer, recipe.schedule, recipe.weight_decay) == ("adam", "constant", 5e-5)
    assert (
        recipe.lr == {"own": 1e-5, "visual": 1e-5}
        and recipe.options == {"ensemble": "mean", "inductive": False} | GATES[benchmark]
    )
    assert (recipe.query, recipe.episodes_per_step, recipe.crop, recipe.jitter) == (4, 16, True, False)
    assert (recipe.backbone, recipe.sampling) == ("RN50/openai", "tsn")
