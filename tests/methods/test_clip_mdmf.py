"""CLIP-MDMF: the numbers of its public code, the paper's by hand in double precision, and what its switches do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from fsar.alignment import otam
from fsar.backbones import Backbone, load_backbone
from fsar.backbones.clip import ClipBackbone, tiny_tokenize
from fsar.bank.fill import enhance_bank
from fsar.bank.store import Bank
from fsar.datasets import Video, VideoDataset
from fsar.evaluation.episodes import Episodes, EpisodeSampler
from fsar.evaluation.loop import match_from_bank
from fsar.methods import Prediction, Targets, build_method, parse_method
from fsar.methods.base import Episode
from fsar.methods.clip_mdmf import ClipMdmf, confidences, distillation, over_time, reliable
from fsar.training.episode_loss import EpisodeLoss
from fsar.training.parameters import freeze, group_of, kept_state
from fsar.training.recipes import load_recipe
from tests.conftest import GOLDEN
from tests.methods.test_clip_fsar import CONTEXT, Features

close = {"atol": 1e-4, "rtol": 1e-4}
exact = {"atol": 1e-9, "rtol": 1e-9}
WAY, SHOT, QUERY, FRAMES = 4, 2, 6, 8
VIEWS = ("local", "global")


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN / "clip_mdmf.safetensors")


def head_of(golden: dict[str, Tensor], **options) -> ClipMdmf:
    """The golden head: its weights by meaning. BatchNorm and positions keep their initial values: the code has none."""
    torch.manual_seed(0)
    method = ClipMdmf(Features(golden["text_features_of_split"]), ClipMdmf.Config(hidden=32, **options)).eval()
    state = {}
    for view, theirs in (("local", "context2"), ("global", "context_local"), ("none", "context2")):
        for ours, layer in CONTEXT.items():
            for kind in ("weight", "bias"):
                if f"w.{theirs}.layers.0.{layer}.{kind}" in golden:
                    state[f"views.{view}.transformer.{ours}.{kind}"] = golden[f"w.{theirs}.layers.0.{layer}.{kind}"]
    for i, step in enumerate((0, 3) if method.config.ltce == "conv-relu-bn" else (0, 1)):
        for kind in ("weight", "bias"):
            state[f"views.local.context.steps.{step}.{kind}"] = golden[f"w.context_conv{i + 1}.{kind}"]
    for block in range(3):
        for i in range(2):
            ours, theirs = f"views.global.context.blocks.{block}.convolutions.{i}", f"w.tcn.network.{block}.conv{i + 1}"
            state[f"{ours}.bias"] = golden[f"{theirs}.bias"]
            state[f"{ours}.parametrizations.weight.original0"] = golden[f"{theirs}.weight_g"]
            state[f"{ours}.parametrizations.weight.original1"] = golden[f"{theirs}.weight_v"]
    own = {name for name in method.state_dict() if name.startswith("views.")}
    views = {name.split(".")[1] for name in own}
    state = {name: tensor for name, tensor in state.items() if name.split(".")[1] in views}
    assert state.keys() <= own and all("steps." in n or "positions" in n for n in own - state.keys())
    method.load_state_dict(state, strict=False)
    return method


def official(golden: dict[str, Tensor], **options) -> ClipMdmf:
    return head_of(golden, variant="official", **options)


def frames_of(golden: dict[str, Tensor]) -> Episode:
    """The golden episode before `enhance`; draws that give each query the golden class."""
    labels = golden["support_labels"]
    ways = labels.unique()
    support = torch.stack([golden["support_feats"][labels == way] for way in ways])
    classes = torch.stack([golden["real_support_labels"].long()[labels == way][0] for way in ways])
    draws = torch.full((1, QUERY, WAY), 0.5)
    draws[0, torch.arange(QUERY), golden["pps.sampled_class_index"]] = 1.0
    return Episode(
        {"frames": support[None]},
        {"frames": golden["query_feats"][None]},
        torch.ones(1, WAY, SHOT, dtype=torch.bool),
        golden["text_features_of_split"][classes][None],
        draws,
    )


def random_frames(episodes: int = 2, way: int = 3, shot: int = 2, query: int = 4, frames: int = FRAMES) -> Episode:
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, 16, generator=generator)  # noqa: E731
    return Episode(
        {"frames": draw(episodes, way, shot, frames)},
        {"frames": draw(episodes, query, frames)},
        torch.ones(episodes, way, shot, dtype=torch.bool),
        draw(episodes, way),
        torch.rand(episodes, query, way, generator=generator),
    )


def undecided(texts: Tensor) -> Tensor:
    """A feature as near to each of the texts [label, dim] as to the others."""
    return torch.linalg.pinv(texts) @ texts.norm(dim=-1)


def encoded(method: ClipMdmf, episode: Episode) -> Episode:
    """Go on from the episode's frame features."""
    text = method.text_of_shots(episode.text, episode.shot_mask.shape[-1])
    support, query = method.enhance(episode.support, "support", text), method.enhance(episode.query, "query")
    return replace(episode, support=support, query=query)


def run(method: ClipMdmf, episode: Episode) -> Prediction:
    return method.match(encoded(method, episode))


def queries(episode: Episode, chosen: list[int]) -> Episode:
    """Some of its queries, with their own draws."""
    taken = {name: tensor[:, chosen] for name, tensor in episode.query.items()}
    return replace(episode, query=taken, draws=None if episode.draws is None else episode.draws[:, chosen])


# --------------------------------------------------------------------------- golden


@torch.no_grad()
def test_selector(golden: dict[str, Tensor]) -> None:
    episode = frames_of(golden)
    method, paper = official(golden), head_of(golden)
    scores = method.prompt_scores(episode.query["frames"], episode.text)[0]
    torch.testing.assert_close(scores / 200, golden["pps.mean_top4"], **close)
    torch.testing.assert_close(scores.softmax(-1), golden["pps.prob_softmax_x200"], **close)
    top = golden["pps.cos_text_frame_QxNxT"].topk(4).values
    torch.testing.assert_close(top, golden["pps.top4_values"], **close)
    torch.testing.assert_close(scores / 200, top.mean(-1), **close)
    named = run(paper, episode).named
    torch.testing.assert_close(named["prompt_probabilities"][0], golden["pps.paper_prob_meanframe_x200"], **close)
    token, named = method._token(episode)
    torch.testing.assert_close(named["prompt_way"][0], golden["pps.sampled_class_index"])
    torch.testing.assert_close(token[0], golden["pps.query_prompt"][:, 0], **close)


@torch.no_grad()
def test_local_context(golden: dict[str, Tensor]) -> None:
    for role in ("support", "query"):
        local = official(golden).views["local"].context(golden[f"{role}_feats"])
        torch.testing.assert_close(local, golden[f"ltce.{role}"], **close)
    paper = head_of(golden).views["local"].context(golden["support_feats"])
    torch.testing.assert_close(paper, golden["ltce_PAPER_relu_bn_identity_stats.support"], **close)


@torch.no_grad()
def test_global_context(golden: dict[str, Tensor]) -> None:
    for method in (official(golden), head_of(golden)):
        context = method.views["global"].context
        for i in range(3):
            for j, convolution in enumerate(context.blocks[i].convolutions):
                torch.testing.assert_close(
                    convolution.weight, golden[f"tcn_effective.block{i}.conv{j + 1}.weight"], **close
                )
        torch.testing.assert_close(
            over_time(context.blocks, golden["query_feats"]), golden["tcn_raw_out.query"], **close
        )
        for role in ("support", "query"):
            torch.testing.assert_close(context(golden[f"{role}_feats"]), golden[f"gtce.{role}"], **close)


@torch.no_grad()
def test_fusion(golden: dict[str, Tensor]) -> None:
    method = official(golden)
    episode = encoded(method, frames_of(golden))
    token, _ = method._token(episode)
    for name in VIEWS:
        query = method.views[name].fuse(token, episode.query[name], episode.query["frames"])
        torch.testing.assert_close(query[0], golden[f"mmfe.{name}.query_with_token"], **close)
        prototypes = episode.support[name].mean(2)
        torch.testing.assert_close(prototypes[0], golden[f"mmfe.{name}.support_proto_with_token"], **close)


@torch.no_grad()
def test_distances_and_logits(golden: dict[str, Tensor]) -> None:
    prediction = run(official(golden), frames_of(golden))
    for name in VIEWS:
        torch.testing.assert_close(prediction.named[f"{name}_distances"][0], golden[f"dist.{name}"], **close)
    torch.testing.assert_close(prediction.logits[0], golden["logits"], **close)
    for options, name in (({"pps": "off"}, "no_pps"), ({"direction": "query-to-support"}, "single_direct")):
        logits = run(official(golden, **options), frames_of(golden)).logits
        torch.testing.assert_close(logits[0], golden[f"logits_{name}"], **close)


@torch.no_grad()
@pytest.mark.parametrize(("confidence", "rule"), [("first-frame", "CODE"), ("token", "PAPER")])
def test_confidences_and_who_is_reliable(golden: dict[str, Tensor], confidence: str, rule: str) -> None:
    method = official(golden, confidence=confidence)
    visual, text = confidences(run(method, frames_of(golden)).named)
    chosen = reliable(visual, text, "text+visual")
    named = {"CODE": "CODE_first_frame", "PAPER": "PAPER_token"}[rule]
    for view in VIEWS:
        torch.testing.assert_close(visual[view][0], golden[f"score.visual_{view}"], **close)
        torch.testing.assert_close(text[view][0], golden[f"score.text_{view}_{named}"], **close)
        assert chosen[view][0].long().equal(golden[f"mask.{view}_reliable_{rule}"])


DISTILLATION = {
    "bid_cond11": {},
    "cond11_up2down": {"teacher": "global"},
    "cond11_down2up": {"teacher": "local"},
    "cond10_bid": {"condition": "text"},
    "cond01_bid": {"condition": "visual"},
    "cond00_bid": {"condition": "none"},
    "PAPER_token": {"confidence": "token"},
}


@torch.no_grad()
@pytest.mark.parametrize("name", DISTILLATION)
def test_distillation(golden: dict[str, Tensor], name: str) -> None:
    method = official(golden, **DISTILLATION[name])
    found = distillation(run(method, frames_of(golden)).named, method.config)
    torch.testing.assert_close(found, golden[f"distill_loss_{name}"], **close)


@torch.no_grad()
def test_losses(golden: dict[str, Tensor]) -> None:
    """The code divides by the 16 episodes of a step; the mean over a step's episodes does so here."""
    targets = Targets(golden["query_labels"][None], torch.zeros(1, WAY, dtype=torch.long))
    for variant in ("official", "paper"):
        method = head_of(golden, variant=variant)
        prediction = run(official(golden), frames_of(golden))
        terms = method.loss(frames_of(golden), prediction, targets)
        if variant == "official":
            torch.testing.assert_close(terms["match"], golden["main_loss_sum_over_queries"], **close)
            torch.testing.assert_close(sum(terms.values()) / 16, golden["total_loss_code"], **close)
        else:
            torch.testing.assert_close(terms["match"], golden["main_loss_sum_over_queries"] / QUERY, **close)
            torch.testing.assert_close(terms["distill"], golden["distill_loss_bid_cond11"], **close)
    half = official(golden, distill_weight=0.5).loss(frames_of(golden), prediction, targets)
    torch.testing.assert_close(half["distill"], 0.5 * golden["distill_loss_bid_cond11"], **close)


# --------------------------------------------------------------------------- by hand, in double precision


def shaken(method: ClipMdmf) -> ClipMdmf:
    """Everything that the method adds is moved off its initial value, statistics too."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in method.state_dict().items():
        if name.startswith("views.") and tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator).to(tensor)
            tensor.add_(noise if "running_var" in name else 0.2 * (noise - 0.5))
    return method


def by_hand(method: ClipMdmf, episode: Episode, number: int) -> dict[str, Tensor]:
    """The paper's equations 1 to 9 for one episode, a video at a time; `match`'s own OTAM."""
    state = method.state_dict()
    text = episode.text[number]

    def convolve(frames: Tensor, name: str) -> Tensor:
        padded = torch.cat([torch.zeros(1, 16), frames, torch.zeros(1, 16)]).to(frames)
        return torch.stack(
            [
                sum(state[f"{name}.weight"][:, :, k] @ padded[t + k] for k in range(3)) + state[f"{name}.bias"]
                for t in range(len(frames))
            ]
        )

    def local(frames: Tensor) -> Tensor:
        for first in (0, 3):
            name = f"views.local.context.steps.{first}"
            norm = f"views.local.context.steps.{first + 2}"
            frames = convolve(frames, name).clamp(min=0)
            spread = (state[f"{norm}.running_var"] + 1e-5).sqrt()
            frames = (frames - state[f"{norm}.running_mean"]) / spread
            frames = frames * state[f"{norm}.weight"] + state[f"{norm}.bias"]
        return frames

    def globally(frames: Tensor) -> Tensor:
        seen = frames
        for block, dilation in enumerate((1, 2, 4)):
            inside = seen
            for i in range(2):
                name = f"views.global.context.blocks.{block}.convolutions.{i}"
                size = state[f"{name}.parametrizations.weight.original0"]
                direction = state[f"{name}.parametrizations.weight.original1"]
                weight = size * direction / direction.square().sum((1, 2), keepdim=True).sqrt()
                rows = []
                for t in range(len(frames)):
                    row = state[f"{name}.bias"]
                    for k in range(3):
                        before = t - (2 - k) * dilation
                        row = row + (weight[:, :, k] @ inside[before] if before >= 0 else 0)
                    rows.append(row.clamp(min=0))
                inside = torch.stack(rows)
            seen = (inside + seen).clamp(min=0)
        return seen[-1] + frames

    def fuse(view: str, token: Tensor, context: Tensor, frames: Tensor) -> Tensor:
        own = {k.removeprefix(f"views.{view}."): v for k, v in state.items() if k.startswith(f"views.{view}.")}
        place = own["positions"]
        asking, asked = torch.cat([token[None], context]) + place, torch.cat([token[None], frames]) + place

        def norm(rows: Tensor) -> Tensor:
            rows = (rows - rows.mean(-1, keepdim=True)) / (rows.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
            return rows * own["transformer.norm.weight"] + own["transformer.norm.bias"]

        q = norm(asking) @ own["transformer.to_query.weight"].T
        k, v = (norm(asked) @ own[f"transformer.to_{part}.weight"].T for part in ("key", "value"))
        heads = []
        for head in range(8):
            part = slice(2 * head, 2 * head + 2)
            heads.append((q[:, part] @ k[:, part].T / 2**0.5).softmax(-1) @ v[:, part])
        out = torch.cat(heads, -1) @ own["transformer.to_out.0.weight"].T + own["transformer.to_out.0.bias"] + asking
        inner = out @ own["transformer.feed_forward.0.weight"].T + own["transformer.feed_forward.0.bias"]
        inner = inner * (1 + torch.erf(inner / 2**0.5)) / 2
        return out + inner @ own["transformer.feed_forward.3.weight"].T + own["transformer.feed_forward.3.bias"]

    def cos(x: Tensor, y: Tensor) -> Tensor:
        return x @ y / (x.norm() * y.norm() + 0.01)

    found: dict[str, list] = {f"{view}_{what}": [] for view in VIEWS for what in ("distances", "text_similarities")}
    for query, numbers in zip(episode.query["frames"][number], episode.draws[number], strict=True):
        scores = torch.stack([200 * cos(query.mean(0), own) for own in text])
        token = text[(scores - (-numbers.log()).log()).argmax()]
        for view, context in (("local", local), ("global", globally)):
            fused = fuse(view, token, context(query), query)
            distances, similarities = [], []
            for way, videos in enumerate(episode.support["frames"][number]):
                prototype = sum(fuse(view, text[way], context(video), video) for video in videos) / len(videos)
                pairs = torch.stack([torch.stack([1 - cos(a, b) for b in prototype[1:]]) for a in fused[1:]])
                distances.append(otam(pairs, 0.5, "both"))
                similarities.append(cos(fused[0], prototype[0]))
            found[f"{view}_distances"].append(torch.stack(distances))
            found[f"{view}_text_similarities"].append(torch.stack(similarities))
    return {name: torch.stack(rows) for name, rows in found.items()}


def in_double(episode: Episode) -> Episode:
    double = lambda encoding: {name: tensor.double() for name, tensor in encoding.items()}  # noqa: E731
    text, draws = episode.text.double(), episode.draws.double()
    return replace(episode, support=double(episode.support), query=double(episode.query), text=text, draws=draws)


@torch.no_grad()
def test_the_papers_equations_by_hand(golden: dict[str, Tensor]) -> None:
    method = shaken(head_of(golden, alpha1=0.7, alpha2=1.6)).double()
    episode = in_double(random_frames())
    prediction = run(method, episode)
    for number in range(2):
        expected = by_hand(method, episode, number)
        for name, values in expected.items():
            torch.testing.assert_close(prediction.named[name][number], values, **exact)
        distance = 0.7 * expected["global_distances"] + 1.6 * expected["local_distances"]
        torch.testing.assert_close(prediction.logits[number], -distance, **exact)
    assert prediction.named["prompt_way"].unique().numel() > 1


@pytest.mark.parametrize("query_loss", ["mean", "sum"])
@pytest.mark.parametrize("condition", ["text+visual", "visual", "text", "none"])
@pytest.mark.parametrize("teacher", ["both", "local", "global"])
def test_losses_by_hand(golden: dict[str, Tensor], teacher: str, condition: str, query_loss: str) -> None:
    """A query at a time."""
    generator = torch.Generator().manual_seed(2)
    names = [f"{view}_{what}" for view in VIEWS for what in ("distances", "text_similarities")]
    named = {name: 2 * torch.rand(3, 5, 4, generator=generator, dtype=torch.float64) for name in names}
    method = head_of(golden, teacher=teacher, condition=condition, query_loss=query_loss, distill_weight=0.3)
    targets = Targets(torch.randint(4, (3, 5), generator=generator), torch.zeros(3, 4, dtype=torch.long))
    prediction = Prediction(-named["local_distances"] - named["global_distances"], named)
    terms = method.loss(random_frames(), prediction, targets)

    match, distill = [], []
    for e in range(3):
        above, below, plain = {"local": 0.0, "global": 0.0}, {"local": 0.0, "global": 0.0}, []
        for q in range(5):
            match.append(cross_entropy(prediction.logits[e, q], targets.query_way[e, q]))
            p = {view: (-named[f"{view}_distances"][e, q]).softmax(-1) for view in VIEWS}
            v = {view: p[view].max() for view in VIEWS}
            tau = {view: named[f"{view}_text_similarities"][e, q].softmax(-1).max() for view in VIEWS}
            better = {"visual": v["local"] >= v["global"], "text": tau["local"] >= tau["global"]}
            asked = [better[name] for name in condition.split("+") if name in better]
            for view, other in (VIEWS, VIEWS[::-1]):
                if teacher not in (view, "both"):
                    continue
                kl = sum(p[view][c] * (p[view][c] / p[other][c]).log() for c in range(4))
                plain.append(kl)
                if all(bool(one) == (view == "local") for one in asked):
                    above[view] += (v[view] + tau[view]) * kl
                    below[view] += v[view] + tau[view]
        weighted = sum(above[view] / below[view] for view in VIEWS if below[view])
        distill.append(weighted if condition != "none" else sum(plain) / (5 if query_loss == "mean" else 1))
    scale = 5 if query_loss == "sum" else 1
    torch.testing.assert_close(terms["match"], scale * torch.stack(match).mean(), **exact)
    torch.testing.assert_close(terms["distill"], 0.3 * torch.as_tensor(sum(distill) / 3, dtype=torch.float64), **exact)


def test_who_learns(golden: dict[str, Tensor]) -> None:
    """Undetached, gradients reach the teacher, too."""
    named = run(official(golden), frames_of(golden)).named
    for options, moved in (
        ({}, {"local", "global"}),
        ({"teacher": "global"}, {"local", "global"}),
        ({"teacher": "global", "detach": True}, {"local"}),
        ({"teacher": "local", "detach": True}, {"global"}),
    ):
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in named.items() if "prompt" not in name}
        distillation(leaves, official(golden, **options).config).backward()
        for view in VIEWS:
            distances, similarities = (leaves[f"{view}_{what}"].grad for what in ("distances", "text_similarities"))
            assert (distances is not None and bool(distances.any())) == (view in moved)
            assert similarities is None or not (options.get("detach") and similarities.any())


def test_an_empty_set_teaches_nothing(golden: dict[str, Tensor]) -> None:
    sure, unsure = torch.tensor([[[0.0, 9.0, 9.0]] * 4]), torch.tensor([[[0.0, 1.0, 1.0]] * 4])
    named = {"global_distances": sure, "global_text_similarities": -sure, "local_text_similarities": -unsure}
    named["local_distances"] = unsure.requires_grad_()
    for teacher, zero in (("local", True), ("global", False)):
        found = distillation(named, head_of(golden, teacher=teacher).config)
        (slope,) = torch.autograd.grad(65536 * found, unsure)  # scaled, as in half precision
        assert (found == 0) == zero and slope.any() != zero and slope.isfinite().all()


def test_of_equals_the_local_view_is_reliable() -> None:
    same = {view: torch.tensor([[0.5, 0.5]]) for view in VIEWS}
    for condition in ("text+visual", "visual", "text"):
        chosen = reliable(same, same, condition)
        assert chosen["local"].all() and not chosen["global"].any()


# --------------------------------------------------------------------------- the selector


@torch.no_grad()
def test_frequencies_of_draws_are_the_probabilities(golden: dict[str, Tensor]) -> None:
    method = head_of(golden)
    text = torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(3))
    query = text.mean(1)[:, None, None].expand(1, 1, FRAMES, 16)
    text = 0.004 * text + query[:, :, 0]  # so alike that the temperature leaves a choice
    times = 4000
    draws = torch.rand(1, times, 4, generator=torch.Generator().manual_seed(4))
    episode = Episode({}, {"frames": query.expand(1, times, FRAMES, 16)}, torch.ones(1, 4, 1).bool(), text, draws)
    token, named = method._token(episode)
    probabilities = named["prompt_probabilities"][0, 0]
    assert (probabilities > 0.1).sum() >= 2
    counts = torch.bincount(named["prompt_way"][0], minlength=4)
    spread = (times * probabilities * (1 - probabilities)).sqrt()
    assert ((counts - times * probabilities).abs() < 4 * spread + 1).all()
    assert token.equal(text[0][named["prompt_way"]])

    expected, _ = head_of(golden, pps="expected")._token(episode)
    torch.testing.assert_close(expected[0, 0], probabilities @ text[0])
    likeliest, named = head_of(golden, pps="argmax")._token(episode)
    assert likeliest[0].equal(text[0, probabilities.argmax()].expand(times, -1))
    assert not head_of(golden, pps="off")._token(episode)[0].any()
    undrawn, _ = method._token(replace(episode, draws=None))
    assert undrawn.equal(likeliest)


@torch.no_grad()
def test_numbers_next_to_one_can_be_drawn_with(golden: dict[str, Tensor]) -> None:
    episode = random_frames()
    episode.draws[:] = torch.tensor([1.0, 1.0, 1e-17])
    assert run(head_of(golden), episode).logits.isfinite().all()


def test_only_a_method_that_samples_takes_draws(golden: dict[str, Tensor]) -> None:
    assert {pps: head_of(golden, pps=pps).traits.draws for pps in ("sample", "argmax", "expected", "off")} == {
        "sample": True,
        "argmax": False,
        "expected": False,
        "off": False,
    }
    episode = random_frames()
    with torch.no_grad():
        argmax = run(head_of(golden, pps="argmax"), episode).logits
        torch.testing.assert_close(run(head_of(golden), replace(episode, draws=None)).logits, argmax)


class Drawn:
    """A bank of random features and episodes of it."""

    def __init__(self, method: ClipMdmf):
        videos = tuple(Video(f"{c}/{i}", Path(f"{c}/{i}"), str(c)) for c in range(9) for i in range(6))
        self.dataset = VideoDataset("random", videos, {str(c): str(c) for c in range(9)}, {})
        generator = torch.Generator().manual_seed(5)
        noise = torch.randn(len(videos), FRAMES, 16, generator=generator)
        frames = undecided(method.backbone.texts) + 0.5 * (noise - 0.9 * noise.mean(1, keepdim=True))
        start = Bank(tuple(video.id for video in videos), {"frames": frames}, {"frames": frames})
        self.bank = enhance_bank(method, start, videos, self.dataset.texts)
        self.episodes = EpisodeSampler(dataset=self.dataset, way=4, shot=2, query=2).draw(30)

    def logits(self, method: ClipMdmf, episodes: Episodes) -> np.ndarray:
        return match_from_bank(method, self.bank, episodes, self.dataset.texts, progress=False).logits


def test_a_draw_rests_on_episode_query_and_class_alone(
    golden: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not on what is matched together, nor on the order of classes, shots and queries."""
    method = head_of(golden)
    drawn = Drawn(method)
    episodes = drawn.episodes
    logits = drawn.logits(method, episodes)
    assert np.abs(logits - drawn.logits(head_of(golden, pps="argmax"), episodes)).max() > 1e-2
    order = np.array([2, 0, 3, 1])
    turned = replace(
        episodes,
        way_class=episodes.way_class[:, order],
        support=episodes.support[:, order, ::-1],
        query=episodes.query[:, ::-1],
    )
    np.testing.assert_allclose(drawn.logits(method, turned), logits[:, ::-1, order], atol=1e-4)
    np.testing.assert_allclose(drawn.logits(method, episodes[7:9]), logits[7:9], atol=1e-4)
    one_by_one = replace(method.traits, episodes_per_match=1)
    monkeypatch.setattr(ClipMdmf, "traits_of", classmethod(lambda cls, config: one_by_one))
    np.testing.assert_allclose(drawn.logits(method, episodes), logits, atol=1e-4)


# --------------------------------------------------------------------------- promises


@pytest.mark.parametrize("variant", ["paper", "official"])
@torch.no_grad()
def test_a_query_alone_equals_in_company_and_order_tells_nothing(golden: dict[str, Tensor], variant: str) -> None:
    method, episode = shaken(head_of(golden, variant=variant)), random_frames()
    together = run(method, episode).logits
    alone = torch.cat([run(method, queries(episode, [i])).logits for i in range(4)], 1)
    torch.testing.assert_close(alone, together, **close)
    order = [2, 0, 3, 1]
    torch.testing.assert_close(run(method, queries(episode, order)).logits, together[:, order], **close)
    assert not method.traits.transductive


@torch.no_grad()
def test_class_order_moves_the_logits_alone(golden: dict[str, Tensor]) -> None:
    method, episode = shaken(head_of(golden)), random_frames()
    order = [2, 0, 1]
    support = {"frames": episode.support["frames"][:, order]}
    moved = replace(episode, support=support, text=episode.text[:, order], draws=episode.draws[..., order])
    before, after = run(method, episode), run(method, moved)
    torch.testing.assert_close(after.logits, before.logits[..., order], **close)
    assert torch.tensor(order)[after.named["prompt_way"]].equal(before.named["prompt_way"])


def test_labels_reach_the_cross_entropy_alone(golden: dict[str, Tensor]) -> None:
    method, episode = head_of(golden), random_frames()
    prediction = run(method, episode)
    way_class = torch.zeros(2, 3, dtype=torch.long)
    terms = [method.loss(episode, prediction, Targets(torch.full((2, 4), way), way_class)) for way in range(3)]
    assert terms[0]["match"] != terms[1]["match"]
    assert terms[0]["distill"] == terms[1]["distill"] == terms[2]["distill"] > 0


@torch.no_grad()
def test_the_global_context_is_causal(golden: dict[str, Tensor]) -> None:
    context = head_of(golden).views["global"].context
    frames = random_frames().query["frames"][0, :1]
    changed = frames.clone()
    changed[:, 5] += 1
    before, after = over_time(context.blocks, frames), over_time(context.blocks, changed)
    assert before[:, :5].equal(after[:, :5]) and not torch.allclose(before[:, 7], after[:, 7])
    changed = frames.clone()
    changed[:, 0] += 1
    assert not torch.allclose(over_time(context.blocks, changed)[:, 7], before[:, 7])  # dilations reach the first


@torch.no_grad()
def test_a_query_is_fused_once_in_each_view(golden: dict[str, Tensor]) -> None:
    """Not once for every class, which the selector would throw away."""
    method = head_of(golden)
    episode, seen = encoded(method, random_frames()), []
    for view in method.views.values():
        view.transformer.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[:-2]))
    method.match(episode)
    assert seen == [(2, 4), (2, 4)]


def test_a_text_tower_that_trains_gets_gradients_and_new_texts() -> None:
    """Section 4.2: with `lr.text` the loss reaches the text tower, and no cached text outlives a step."""
    method = build_method("clip-mdmf", load_backbone("tiny"), hidden=16)
    labels = ["waving", "clapping"]
    freeze(method, ("own", "visual"))
    frozen = method.text_input(labels)
    assert frozen.equal(method.encode_text(labels)) and method.adapt_text(frozen) is frozen
    freeze(method, ("own", "visual", "text"))
    ids = method.text_input(labels)[None]
    assert not ids.is_floating_point()
    text = method.adapt_text(ids)
    torch.testing.assert_close(text[0], frozen, atol=1e-5, rtol=1e-4)
    text.square().sum().backward()
    towers = {
        name: p for name, p in method.named_parameters() if group_of(name) == "text" and "logit_scale" not in name
    }
    assert towers and all(parameter.grad is not None for parameter in towers.values())
    torch.optim.SGD(towers.values(), lr=1e-2).step()
    torch.testing.assert_close(method.encode_text(labels), method.adapt_text(ids)[0], atol=1e-5, rtol=1e-4)
    assert not method.encode_text(labels).allclose(frozen, atol=1e-5)


def test_text_and_frames_that_are_missing_are_named(golden: dict[str, Tensor]) -> None:
    method = head_of(golden)
    with pytest.raises(ValueError, match="class text of a support video; give encode its text feature"):
        method.enhance(random_frames().support, "support")
    with pytest.raises(ValueError, match="built for 8 frames per video and got 5; set its option `frames` to 5"):
        run(method, random_frames(frames=5))
    assert run(head_of(golden, frames=5), random_frames(frames=5)).logits.isfinite().all()
    assert run(official(golden), random_frames(frames=3)).logits.isfinite().all()  # fewer than four best frames
    with pytest.raises(ValueError, match="'clip-mdmf' reads class names, but backbone 'blind' has no text"):
        build_method("clip-mdmf", Backbone("blind"))


# --------------------------------------------------------------------------- training


def without_dropout(method: ClipMdmf) -> ClipMdmf:
    method.train()
    for module in method.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    return method


def test_batch_statistics_are_of_support_and_query_of_one_episode(golden: dict[str, Tensor]) -> None:
    method, episode = without_dropout(head_of(golden)), random_frames()
    episode.shot_mask[0, 1, 1] = False
    episode.support["frames"][0, 1, 1] = 1e3  # what stands for a missing shot has no say
    assert encoded(method, episode).support.keys() == {"frames"}
    views = method._views_together(encoded(method, episode))
    steps = method.views["local"].context.steps
    for number in range(2):
        present = episode.support["frames"][number][episode.shot_mask[number]]
        frames = torch.cat([present, episode.query["frames"][number]]).transpose(1, 2)
        for first in (0, 3):
            frames = steps[first](frames).relu()
            mean, spread = frames.mean((0, 2), keepdim=True), frames.var((0, 2), keepdim=True, correction=0)
            frames = (frames - mean) / (spread + 1e-5).sqrt()
        torch.testing.assert_close(views.query["local"][number], frames[-4:].transpose(1, 2), **close)
    assert steps[2].num_batches_tracked == 2  # once an episode


def test_training_is_finite_and_reaches_everything(golden: dict[str, Tensor]) -> None:
    for variant in ("paper", "official"):
        method, episode = head_of(golden, variant=variant).train(), random_frames(episodes=1)
        targets = Targets(torch.tensor([[0, 1, 2, 1]]), torch.zeros(1, 3, dtype=torch.long))
        sum(method.loss(episode, run(method, episode), targets).values()).backward()
        own = [p for name, p in method.named_parameters() if group_of(name) == "own"]
        assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in own)


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_training_from_the_bank_is_training_on_clips(tiny: Backbone, variant: str) -> None:
    method = build_method("clip-mdmf", tiny, hidden=16, variant=variant).train()
    method.backbone.eval()
    clips = torch.randn(9, FRAMES, 3, 64, 64, generator=torch.Generator().manual_seed(6))
    support, query = clips[:6].unflatten(0, (1, 3, 2)), clips[None, 6:]
    text = method.encode_text(["waving", "clapping", "running"])[None]
    rest = (text, torch.tensor([[0, 1, 2]]), torch.zeros(1, 3, dtype=torch.long), torch.rand(1, 3, 3))
    with torch.no_grad():
        banked = [method.encoder().encode(videos) for videos in (support, query)]
        losses = []
        for inputs in ((support, query), banked):
            torch.manual_seed(0)
            losses.append(EpisodeLoss(method)(*inputs, *rest)[0])
    assert losses[0].keys() == {"match", "distill"}
    for name, term in losses[0].items():
        torch.testing.assert_close(term, losses[1][name], **close)


def test_running_statistics_are_kept(golden: dict[str, Tensor]) -> None:
    method = head_of(golden).train()
    run(method, random_frames(episodes=1))
    kept = kept_state(method, ("own",))
    assert kept["views.local.context.steps.2.running_mean"].abs().sum() > 0
    again = head_of(golden)
    again.load_state_dict(kept, strict=False)
    with torch.no_grad():
        expected = run(method.eval(), random_frames()).logits
        torch.testing.assert_close(run(again, random_frames()).logits, expected)
        assert not torch.allclose(run(head_of(golden), random_frames()).logits, expected, atol=1e-3)


# --------------------------------------------------------------------------- switches

TABLE_3 = {
    "GTC": {"views": "global", "pps": "off"},
    "GTC, PPS": {"views": "global"},
    "LTC": {"views": "local", "pps": "off"},
    "LTC, PPS": {"views": "local"},
    "NTC": {"views": "none", "pps": "off"},
    "NTC, PPS": {"views": "none"},
}
TABLE_4 = {
    "distillation": {"pps": "off"},
    "distillation, PPS": {},
    "neither": {"pps": "off", "distill_weight": 0.0},
    "PPS": {"distill_weight": 0.0},
}
TABLE_5 = {
    f"{condition}, {teacher}": {"condition": condition, "teacher": teacher}
    for teacher in ("both", "global", "local")
    for condition in ("text+visual", "text", "visual", "none")
}
OTHERS = {
    "official": {"variant": "official"},
    "argmax": {"pps": "argmax"},
    "expected": {"pps": "expected"},
    "best frames": {"pps_score": "best-frames"},
    "no places": {"positions": False},
    "two convolutions": {"ltce": "conv"},
    "one direction": {"direction": "query-to-support"},
    "the other": {"direction": "support-to-query"},
    "alphas": {"alpha1": 0.5, "alpha2": 2.0},
    "lambda": {"distill_weight": 0.5},
    "detached": {"detach": True},
    "first frame": {"confidence": "first-frame"},
    "sum": {"query_loss": "sum"},
}
TARGETS = Targets(torch.arange(24).remainder(3).reshape(2, 12), torch.zeros(2, 3, dtype=torch.long))


def measured(golden: dict[str, Tensor], options: dict) -> tuple[Tensor, Tensor]:
    """Logits, and the terms of the loss with their gradients; distillation of views that are by turns reliable."""
    method = shaken(head_of(golden, **options))
    episode = random_frames(query=12)
    noise = episode.query["frames"]
    middle = torch.stack([undecided(texts) for texts in episode.text])[:, None, None]
    episode.query["frames"] = middle + 0.5 * (noise - 0.9 * noise.mean(2, keepdim=True))
    prediction = run(method, episode)
    terms = list(method.loss(episode, prediction, TARGETS).values())
    if method.distills:
        generator = torch.Generator().manual_seed(2)
        scale = {name: 2 * torch.rand(t.shape, generator=generator) for name, t in prediction.named.items()}
        mixed = {name: tensor * scale[name] for name, tensor in prediction.named.items()}
        terms.append(distillation(mixed, method.config))
    sum(terms).backward()
    slopes = [p.grad.flatten() for p in method.parameters() if p.grad is not None]
    return prediction.logits.detach(), torch.cat([torch.stack(terms).detach(), *slopes])


@pytest.mark.parametrize("table", [TABLE_3, TABLE_4, TABLE_5, OTHERS | {"default": {}}])
def test_every_row_of_the_tables_is_a_switch(golden: dict[str, Tensor], table: dict[str, dict]) -> None:
    """Finite logits and losses; no two rows of a table train the same."""
    found = {name: measured(golden, options) for name, options in table.items()}
    for logits, trained in found.values():
        assert logits.shape == (2, 12, 3) and logits.isfinite().all() and trained.isfinite().all()
    rows = list(found.values())
    for i, (logits, trained) in enumerate(rows):
        for other_logits, other in rows[:i]:
            alike = trained.shape == other.shape and torch.allclose(trained, other, atol=1e-6, rtol=1e-4)
            assert not (alike and torch.allclose(logits, other_logits, atol=1e-4))


def test_a_single_view_is_its_own_distance(golden: dict[str, Tensor]) -> None:
    both = run(official(golden), frames_of(golden)).named
    for view in VIEWS:
        single = official(golden, views=view)
        prediction = run(single, frames_of(golden))
        torch.testing.assert_close(prediction.logits, -both[f"{view}_distances"])
        assert set(single.views) == {view} and not single.distills
        targets = Targets(golden["query_labels"][None], torch.zeros(1, WAY, dtype=torch.long))
        assert single.loss(frames_of(golden), prediction, targets).keys() == {"match"}
    assert torch.equal(run(official(golden, alpha1=0.0), frames_of(golden)).logits, -both["local_distances"])


@torch.no_grad()
def test_no_temporal_context_is_self_attention(golden: dict[str, Tensor]) -> None:
    method, episode = official(golden, views="none"), frames_of(golden)
    enhanced = encoded(method, episode)
    assert enhanced.query.keys() == {"frames"} and enhanced.support.keys() == {"none"}
    rows = torch.cat([episode.text[:, :, None, None].expand(-1, -1, SHOT, -1, -1), episode.support["frames"]], -2)
    torch.testing.assert_close(enhanced.support["none"], method.views["none"].transformer(rows))


def test_variants_fill_in_what_is_not_chosen(golden: dict[str, Tensor]) -> None:
    chosen = official(golden, ltce="conv-relu-bn")
    assert chosen.config.query_loss == "sum" and chosen.config.positions is False
    assert chosen.config.changed() == {"variant": "official", "ltce": "conv-relu-bn", "hidden": 32}
    paper = ClipMdmf.Config()
    assert (paper.pps_score, paper.ltce, paper.positions) == ("time-mean", "conv-relu-bn", True)
    assert (paper.confidence, paper.query_loss, paper.pps, paper.teacher) == ("token", "mean", "sample", "both")
    assert ClipMdmf.traits_of(paper).trains == ("own", "visual")


def test_an_unquoted_off_is_off(tiny: Backbone) -> None:
    _, options = parse_method("clip-mdmf:pps=off,hidden=16")
    assert build_method("clip-mdmf", tiny, **options).options()["pps"] == "off"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha1": -1.0}, "alpha1 -1.0.*expected none below 0"),
        ({"alpha1": 0.0, "alpha2": 0.0}, "one of the alphas above"),
        ({"distill_weight": -0.1}, "distill_weight -0.1"),
        ({"frames": 0}, "frames 0; expected at least 1"),
        ({"views": "local", "alpha2": 2.0}, "alpha2: 2.0, which has no effect with views: local; leave one"),
        ({"views": "global", "detach": True}, "detach: true, which has no effect with views: global"),
        ({"views": "global", "ltce": "conv"}, "ltce: conv, which has no effect with views: global"),
        ({"views": "none", "distill_weight": 0.0}, "distill_weight: 0.0, which has no effect with views: none"),
        ({"distill_weight": 0.0, "teacher": "local"}, "teacher: local, which has no effect with distill_weight: 0"),
        ({"pps": "off", "pps_score": "best-frames"}, "pps_score: best-frames, which has no effect with pps: off"),
        ({"variant": "official", "frames": 16}, "frames: 16, which has no effect with positions: false"),
        ({"pps": "samples"}, "pps is samples; did you mean 'sample'"),
        ({"directions": "both"}, "did you mean 'direction'"),
    ],
)
def test_wrong_options_are_named(tiny: Backbone, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_method("clip-mdmf", tiny, **options)


# --------------------------------------------------------------------------- counts


@pytest.mark.parametrize(("name", "dim", "official"), [("RN50", 1024, 80_286_560), ("ViT-B-16", 512, 98_790_912)])
def test_counts(name: str, dim: int, official: int) -> None:
    """The visual tower and what is added; the paper adds BatchNorm and the embeddings of place."""
    with torch.device("meta"):
        backbone = ClipBackbone(name, open_clip.CLIP(**open_clip.get_model_config(name)), tiny_tokenize)
        for variant, more in (("official", 0), ("paper", 4 * dim + 2 * 9 * dim)):
            method = ClipMdmf(backbone, ClipMdmf.Config(variant=variant))
            trained = [p.numel() for n, p in method.named_parameters() if group_of(n) in method.traits.trains]
            assert sum(trained) == official + more


def test_what_it_is_made_of() -> None:
    """Dropouts of the code, embeddings of place of N(0, 0.02), weights of PyTorch's own initialisation."""
    method = ClipMdmf(Features(torch.zeros(1, 512)), ClipMdmf.Config())
    for view in method.views.values():
        assert view.positions.shape == (9, 512) and 0.018 < view.positions.std() < 0.022
        dropouts = [module.p for module in view.transformer.modules() if isinstance(module, torch.nn.Dropout)]
        assert dropouts == [0.2, 0.05, 0.05] and view.transformer.heads == 8
    blocks = method.views["global"].context.blocks
    assert [block.dropout.p for block in blocks] == [0.1] * 3 and [block.past for block in blocks] == [2, 4, 8]
    assert not any(isinstance(module, torch.nn.Dropout) for module in method.views["local"].context.modules())
    bound = (512 * 3) ** -0.5
    assert 0.95 * bound < blocks[0].convolutions[0].weight.abs().max() <= bound * (1 + 1e-6)


@pytest.mark.parametrize("benchmark", ["hmdb51", "ucf101", "kinetics100", "ssv2-small", "ssv2-full"])
def test_the_papers_settings(benchmark: str) -> None:
    recipe = load_recipe(f"clip-mdmf/{benchmark}")
    episodes = {"hmdb51": 20_000, "ucf101": 20_000, "ssv2-small": 45_000}
    assert recipe.episodes == episodes.get(benchmark, 75_000)
    assert (recipe.optimizer, recipe.schedule, recipe.weight_decay) == ("adam", "constant", 0)
    assert recipe.lr == {"own": 1e-5, "visual": 1e-5} and recipe.options == {}
    assert (recipe.query, recipe.episodes_per_step, recipe.crop, recipe.jitter) == (5, 16, True, False)
