"""TS-FSAR: the public code's numbers and gradients, its fusion, and exact counts."""

from itertools import product

import open_clip
import pytest
import torch
from torch import Tensor

from fsar.alignment import cosine
from fsar.backbones.clip import ClipBackbone
from fsar.layers.ladder import start_from
from fsar.methods import build_method
from fsar.methods.base import Episode, Targets
from fsar.methods.metric import make_metric
from fsar.methods.ts_fsar import TsFsar, describe
from tests.methods.test_gradients import assert_gradients, assert_losses, by_layer, golden_of, in_training
from tests.papers.test_runs import hollow

close = {"atol": 1e-4, "rtol": 1e-4}
WAY, SHOT, QUERY, FRAMES = 3, 2, 3, 8
OFFICIAL = {
    "dim": 8, "heads": 2, "temporal_blocks": (2,), "residual": 1.6, "class_weight": 2.0, "side_weight": 0.1,
    "clip_weight": 0.1, "distillation_temperature": 4.0, "fusion": (0.4, 0.2, 0.4), "templates": "a photo of {}",
}  # fmt: skip
ATTENTION = {"query": "q_linear", "key": "k_linear", "value": "v_linear", "out": "proj"}
LAYERS = {
    "clip_norm": "Adapter.norm1",
    "side_norm": "up_ln",
    "side_up": "up_linear",
    "frame_match.generator": "ts_dcm.generator",
}
LAYERS |= {f"clip_attention.{ours}": f"Adapter.attn.{theirs}" for ours, theirs in ATTENTION.items()}
LAYERS |= {f"ladder.norms.{i}": f"side_LN.{i}" for i in range(4)} | {"loss_heads.class": "Linear"}
LAYERS |= {f"ladder.downs.{i}": f"side_downsample.{i}" for i in range(4)}
for i in range(3):
    block, theirs = f"ladder.blocks.{i}", f"side_transformer.{i}"
    LAYERS |= {f"{block}.attention.{k}": f"{theirs}.attn.{v}" for k, v in ATTENTION.items()}
    LAYERS |= {f"{block}.norm_1": f"{theirs}.norm1", f"{block}.norm_2": f"{theirs}.norm2"}
    LAYERS |= {f"{block}.mlp.0": f"{theirs}.mlp.fc1", f"{block}.mlp.2": f"{theirs}.mlp.fc2"}


def tensors_of(method: TsFsar) -> dict[str, Tensor]:
    """Parameters under the reference's names; its gates are apart."""
    return by_layer(method, LAYERS) | {"gates": method.ladder.gates}


def joined(golden: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors of the reference that begin with `prefix`, with the gates in one."""
    found = {name.removeprefix(prefix): value for name, value in golden.items() if name.startswith(prefix)}
    return found | {"gates": torch.cat([found.pop(f"side_gate_params.{i}") for i in range(3)])}


def small(**options) -> TsFsar:
    """Over a CLIP of 12 channels, 3 blocks and 9 patches, whose texts nobody reads."""
    vision = {"image_size": 3, "patch_size": 1, "width": 12, "layers": 3, "head_width": 6}
    text = {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = open_clip.CLIP(embed_dim=8, vision_cfg=vision, text_cfg=text, quick_gelu=True)
        tokenize = lambda texts: torch.zeros(len(texts), 4, dtype=torch.long)  # noqa: E731
        return TsFsar(ClipBackbone("golden", clip, tokenize), TsFsar.Config(**OFFICIAL | options)).eval()


def official(golden: dict[str, Tensor]) -> TsFsar:
    method = small()
    method.begin_training(["a training class"] * 5)
    method.training_text = golden["class_text_embeddings"]
    weights = joined(golden, "w.")
    with torch.no_grad():
        for name, parameter in tensors_of(method).items():
            parameter.copy_(weights[name].reshape(parameter.shape))
    return in_training(method)


def episode_of(method: TsFsar, golden: dict[str, Tensor]) -> tuple[Episode, Tensor]:
    """The golden episode, whose videos are CLIP's hidden states; and the classes of its ways."""
    hidden = golden["clip_hidden_after_each_layer"].unflatten(1, (-1, FRAMES)).unbind(0)
    encoding = describe(method.ladder(hidden))
    encoding = {**encoding, "clip": golden["clip_class_embedding_projected"].unflatten(0, (-1, FRAMES))}
    order = golden["support_labels"].argsort(stable=True)
    way_class = golden["real_labels_support_then_query"][order].view(WAY, SHOT)[:, 0]
    support = {name: part[order].unflatten(0, (1, WAY, SHOT)) for name, part in encoding.items()}
    query = {name: part[None, WAY * SHOT :] for name, part in encoding.items()}
    text = golden["class_text_embeddings"][way_class][None]
    return Episode(support, query, torch.ones(1, WAY, SHOT, dtype=torch.bool), text), way_class


def test_scores_losses_and_gradients_are_those_of_the_public_code() -> None:
    golden = golden_of("ts_fsar", ())
    method = official(golden)
    episode, way_class = episode_of(method, golden)
    found = episode.query["relations"][0].flatten(0, 1)
    torch.testing.assert_close(found, golden["alpha_representation"][WAY * SHOT * FRAMES :], **close)
    prediction = method.match(episode)
    torch.testing.assert_close(prediction.named["score"][0], golden["score"], **close)
    torch.testing.assert_close(prediction.logits.exp()[0], golden["i.test_fused_scores"], **close)
    terms = method.loss(episode, prediction, Targets(golden["query_labels"][None], way_class[None]))
    weights = {"match": ("match", 1), "class": ("representation_class", 2), "side": ("side_text", 0.1)}
    weights |= {"clip": ("clip_text", 0.1), "distill": ("kl", 0.1)}
    assert_losses({f"i.loss.{theirs}": terms[name] / weight for name, (theirs, weight) in weights.items()}, golden)
    total = sum(terms.values())
    assert_losses({"loss.total": total}, golden)
    assert_gradients(total, tensors_of(method), joined(golden, "grad."))


@torch.no_grad()
def test_match_alone_and_a_class_without_shots() -> None:
    golden = golden_of("ts_fsar", ())
    method, alone = official(golden), small(fusion=(1.0, 0.0, 0.0))
    alone.load_state_dict(method.state_dict(), strict=False)
    episode, _ = episode_of(method, golden)
    score = method.match(episode).named["score"]
    torch.testing.assert_close(alone.match(episode).logits, score.log_softmax(-1))
    episode.shot_mask[0, 1] = False
    logits = method.match(episode).logits
    assert (logits[..., 1] == -torch.inf).all() and logits[..., [0, 2]].isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("metric", ["distance-correlation", "cosine"])
@pytest.mark.parametrize("pair_weights", [True, False])
def test_the_match_without_distances_and_without_weights_by_hand(metric: str, pair_weights: bool) -> None:
    golden = golden_of("ts_fsar", ())
    method, part = official(golden), small(metric=metric, pair_weights=pair_weights)
    part.load_state_dict(method.state_dict(), strict=False)
    episode, _ = episode_of(method, golden)
    query, support = episode.query, episode.support
    compared = "tokens" if metric == "cosine" else "relations"
    classes = support[compared].mean(2)[:, None, :, None]  # episode 1 way 1 frame
    correlation = cosine(query[compared][:, :, None, :, None], classes, 0.01)  # ... query_frame class_frame
    task = support["tokens"].mean((1, 2, 3))[:, None] + query["tokens"].mean(2)
    generator = method.frame_match.generator
    weights = generator(task).view(1, QUERY, 1, FRAMES, FRAMES) if pair_weights else torch.ones(())
    torch.testing.assert_close(part.match(episode).named["score"], (correlation * weights).sum((-2, -1)))


@torch.no_grad()
def test_another_power_of_the_distances_makes_other_descriptions() -> None:
    method, other = small(), small(alpha=0.8)
    clips = torch.randn(2, FRAMES, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    found, usual = other.encode(clips), method.encode(clips)
    assert not found["relations"].allclose(usual["relations"]) and found["tokens"].equal(usual["tokens"])
    assert method.encoder().key() != other.encoder().key()
    frame = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(1))  # a class token and 3 patches
    weighed = cosine(frame[:, :1], frame[:, 1:])[..., None] * frame[:, 1:]
    delta = (torch.cdist(weighed.mT, weighed.mT).square() / 6 + 1e-5) ** 0.8
    centred = delta - delta.mean(-1, keepdim=True) - delta.mean(-2, keepdim=True) + delta.mean()
    rows, columns = torch.triu_indices(8, 8)
    torch.testing.assert_close(describe(frame, 0.8)["relations"], centred[:, rows, columns])


def test_videos_have_the_frames_that_pairs_were_weighed_for() -> None:
    with pytest.raises(ValueError, match="built for 8 frames per video and got 4; set its option `frames`"):
        small().encode(torch.zeros(1, 4, 3, 3, 3))
    assert small(pair_weights=False).encode(torch.zeros(1, 4, 3, 3, 3))["tokens"].shape[1] == 4


def test_frames_are_squeezed_on_request() -> None:
    assert [small().traits.framing, small(framing="square-256").traits.framing] == ["short-side", "square-256"]


def test_wrong_options_are_named() -> None:
    with pytest.raises(ValueError, match="ts-fsar: heads is 3 and dim 8; expected heads that divide dim"):
        small(heads=3)
    with pytest.raises(ValueError, match=r"TsFsar.Config: temporal_blocks is \[0\]; expected at least 1"):
        small(temporal_blocks=(0,))
    with pytest.raises(ValueError, match=r"TsFsar.Config: alpha is 0.0; expected more than 0"):
        small(alpha=0.0)
    with pytest.raises(ValueError, match="got frames: 4, which has no effect with pair_weights: false"):
        small(pair_weights=False, frames=4)
    with pytest.raises(ValueError, match="got alpha: 0.2, which has no effect with metric: cosine, class_weight: 0"):
        small(metric="cosine", class_weight=0.0, clip_weight=0.0, alpha=0.2)
    small(metric="cosine", alpha=0.2)  # the classifier of descriptions and what it learns read distances
    with pytest.raises(ValueError, match=r"fusion is \[0.0, 1.0, 0.0\]; expected more than 0 at first"):
        small(fusion=(0.0, 1.0, 0.0))


@pytest.mark.parametrize(("classes", "own"), [(31, 14_272_396), (64, 15_357_964), (70, 15_555_340)])
def test_parameters(classes: int, own: int) -> None:
    with torch.device("meta"):
        method = build_method("ts-fsar", hollow("ViT-B-16/openai"))
        method.loss_heads["class"] = torch.nn.Linear(256 * 257 // 2, classes, bias=False)
    found = [p for name, p in method.named_parameters() if not name.startswith("backbone.")]
    assert sum(parameter.numel() for parameter in found) == own


@torch.no_grad()
def test_training_starts_from_the_directions_of_clips_weights() -> None:
    """Principal components by a singular value decomposition, apart from signs."""
    method, blind = small(), small(init="random")
    assert not torch.allclose(blind.ladder.blocks[1].attention.key.weight, method.ladder.blocks[1].attention.key.weight)
    theirs = method.backbone.clip.visual.transformer.resblocks[1]
    block, dim = method.ladder.blocks[1], 8

    def scores(rows: Tensor) -> Tensor:
        left, size, _ = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
        return (left * size)[:, :dim].abs()

    close = {"atol": 1e-4, "rtol": 1e-3}
    key, deeper = theirs.attn.in_proj_weight.chunk(3)[1], theirs.mlp.c_proj.weight
    torch.testing.assert_close(block.attention.key.weight.abs(), scores(key)[:dim], **close)
    torch.testing.assert_close(block.mlp[0].weight.abs(), scores(theirs.mlp.c_fc.weight)[: 4 * dim], **close)
    torch.testing.assert_close(block.mlp[2].weight.abs(), scores(deeper.mT).mT[:, : 4 * dim], **close)
    assert torch.equal(block.norm_1.weight, torch.ones(dim))


def test_parameters_larger_than_clips_stay() -> None:
    parameter = torch.nn.Parameter(torch.arange(6.0).view(3, 2))
    start_from(parameter, torch.ones(3, 1))
    assert torch.equal(parameter, torch.arange(6.0).view(3, 2))


@torch.no_grad()
def test_distance_correlation_of_frame_features_by_hand() -> None:
    """Loops over frames instead of products of tensors; a missing shot does not count."""
    generator = torch.Generator().manual_seed(0)
    query, support = torch.randn(1, 2, 3, 5, generator=generator), torch.randn(1, 2, 2, 3, 5, generator=generator)
    mask = torch.tensor([[[True, True], [True, False]]])
    metric = make_metric("distance-correlation", 5, frames=3)
    found = metric(query, support, mask)[0]

    def distances(frame: Tensor) -> Tensor:
        delta = ((frame[:, None] - frame).square() / 2 + 1e-5) ** 0.4
        centred = delta - delta.mean(0) - delta.mean(1)[:, None] + delta.mean()
        return torch.stack([centred[i, j] for i in range(5) for j in range(i, 5)])

    shots = [[support[0, 0, 0], support[0, 0, 1]], [support[0, 1, 0]]]
    task = torch.stack([video.mean(0) for videos in shots for video in videos]).mean(0)
    for number, video in enumerate(query[0]):
        weights = (metric.match.generator.weight @ (task + video.mean(0))).view(3, 3)
        for way, videos in enumerate(shots):
            score = torch.tensor(0.0)
            for i, j in product(range(3), range(3)):
                x, y = distances(video[i]), torch.stack([distances(one[j]) for one in videos]).mean(0)
                score += weights[i, j] * (x @ y) / (x.norm() * y.norm() + 0.01)
            torch.testing.assert_close(found[number, way], score)
    with pytest.raises(ValueError, match="built for 3 frames per video and got 2; set its option"):
        metric(query[:, :, :2], support[..., :2, :], mask)
