"""Task-Adapter and Task-Adapter++ against the public code's numbers, the frozen encoder, and their promises."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from zlib import crc32

import open_clip
import pytest
import torch
from einops import rearrange
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from fsar.backbones import Backbone
from fsar.backbones.base import load_strictly
from fsar.backbones.clip import ClipBackbone, tiny_tokenize
from fsar.bank.fill import fill_bank
from fsar.datasets import VideoDataset
from fsar.methods import build_method, effective_options, task_adapter_pp
from fsar.methods.base import Episode
from fsar.methods.protonet import ProtoNet
from fsar.methods.task_adapter import TaskAdapter
from fsar.methods.task_adapter_pp import (
    STAGES,
    OrderAdaptedBlock,
    TaskAdapterPlusPlus,
    neighbours,
    over_tokens,
    stage_scores,
    stage_windows,
)
from tests.conftest import GOLDEN, SUB_ACTIONS

close = {"atol": 1e-4, "rtol": 1e-4}
WAY, SHOT, QUERY = 3, 2, 4
LABELS = ["waving", "clapping", "running"]
TEXT_CONFIG = {"context_length": 77, "vocab_size": 16, "width": 16, "heads": 4, "layers": 3}
VISUAL_ADAPTERS = {"t_adapter": "temporal", "s_adapter": "spatial", "task_adapter": "task", "MLP_adapter": "joint"}


def plus_plus(backbone: Backbone, **options) -> TaskAdapterPlusPlus:
    """With sub-actions of the labels here, if any are read."""
    options = effective_options("task-adapter-pp", {"sub_actions": SUB_ACTIONS} | options, keep=options)
    return build_method("task-adapter-pp", backbone, **options)


@pytest.fixture(scope="module")
def clips() -> Tensor:
    return torch.randn(WAY * SHOT + QUERY, 8, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def shaken(method: TaskAdapter) -> TaskAdapter:
    """Give every parameter of the method's own a value, as training would; the same under the same name."""
    for name, parameter in method.named_parameters():
        if not name.startswith("backbone."):
            generator = torch.Generator().manual_seed(crc32(name.encode()))
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return method


@torch.no_grad()
def encoded(method: TaskAdapter, clips: Tensor) -> Episode:
    support = clips[: WAY * SHOT].unflatten(0, (1, WAY, SHOT))
    text = method.encode_text(LABELS)[None] if method.traits.reads_text else None
    return method.encode_episode(support, clips[None, WAY * SHOT :], text)


@torch.no_grad()
def logits(method: TaskAdapter, clips: Tensor) -> Tensor:
    return method.match(encoded(method, clips)).logits


def own(method: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in method.named_parameters() if not name.startswith("backbone.")}


# --------------------------------------------------------------------------- numbers of the public code


@pytest.fixture(scope="module")
def visual_golden() -> dict[str, Tensor]:
    return load_file(GOLDEN / "taskadapter_visual.safetensors")


@pytest.fixture(scope="module")
def golden_encoder(visual_golden: dict[str, Tensor]) -> TaskAdapter:
    vision = {"image_size": 16, "patch_size": 8, "width": 32, "layers": 3, "head_width": 8}
    clip = open_clip.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=TEXT_CONFIG, quick_gelu=True)
    weights = {k.removeprefix("visual."): v for k, v in visual_golden.items() if k.startswith("visual.")}
    frozen = {k: v for k, v in weights.items() if "adapter" not in k and k != "temporal_embedding"}
    load_strictly(clip.visual, frozen, "golden")
    method = TaskAdapter(ClipBackbone("golden", clip, tiny_tokenize), TaskAdapter.Config(layers=2)).eval()
    added = {"temporal": weights["temporal_embedding"][0]}
    for key, value in weights.items():
        if "adapter" in key:
            _, _, index, adapter, layer, kind = key.split(".")
            name = f"{int(index) - 1}.{VISUAL_ADAPTERS[adapter]}"
            added[f"blocks.{name}.{ {'D_fc1': 'down', 'D_fc2': 'up'}[layer] }.{kind}"] = value
    assert added.keys() == own(method).keys()
    method.load_state_dict(added, strict=False)
    return method


@torch.no_grad()
def test_visual_branch_is_that_of_the_public_code(
    visual_golden: dict[str, Tensor], golden_encoder: TaskAdapter
) -> None:
    """All five videos of the file stand together in the attention over videos."""
    videos = rearrange(visual_golden["input_video_BCTHW"], "clip rgb frame height width -> clip frame rgb height width")
    tokens = golden_encoder.encode(videos, "support")["tokens"]
    torch.testing.assert_close(golden_encoder.adapt(tokens[None])[0], visual_golden["output_BTD"], **close)
    first = visual_golden["output_first_video_alone"]
    torch.testing.assert_close(golden_encoder.adapt(tokens[None, :1])[0], first, **close)
    torch.testing.assert_close(golden_encoder.encode(videos[:1])["frames"], first, **close)
    assert (visual_golden["output_BTD"][:1] - first).abs().max() > 1e-3


@torch.no_grad()
def test_one_block_is_that_of_the_public_code(visual_golden: dict[str, Tensor], golden_encoder: TaskAdapter) -> None:
    tokens = visual_golden["block_in_BT_L_D"].unflatten(0, (5, 8))[None]
    block = golden_encoder.backbone.clip.visual.transformer.resblocks[2]
    out = golden_encoder.blocks[1](block, tokens)
    torch.testing.assert_close(out[0].flatten(0, 1), visual_golden["block2_out"], **close)
    only = golden_encoder.blocks[1](block, tokens, only_class=True)
    torch.testing.assert_close(only[..., 0, :], out[..., 0, :], atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_text_tower_is_that_of_the_public_code() -> None:
    golden = load_file(GOLDEN / "taskadapter_text.safetensors")
    vision = {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "head_width": 8}
    clip = open_clip.CLIP(embed_dim=12, vision_cfg=vision, text_cfg=TEXT_CONFIG, quick_gelu=True)
    names = clip.state_dict().keys() & golden.keys()
    assert len(names) == 2 + 1 + 1 + 3 * 12  # ln_final, projection, places, blocks
    clip.load_state_dict({name: golden[name] for name in names}, strict=False)
    blocks = [OrderAdaptedBlock(16, "back") for _ in range(2)]
    for index, block in enumerate(blocks, 1):
        prefix = f"transformer.resblocks.{index}.sub3_adapter."
        places = {"down": "D_fc1", "up": "D_fc2"}
        block.order.load_state_dict(
            {f"{a}.{k}": golden[f"{prefix}{b}.{k}"] for a, b in places.items() for k in ("weight", "bias")}
        )
    sentences = (golden["token_embeddings_3_77_W"] + golden["positional_embedding"])[None]
    sentences = over_tokens(clip.transformer.resblocks[0], sentences, clip.attn_mask)
    for block, frozen in zip(blocks, clip.transformer.resblocks[1:], strict=True):
        sentences = block(frozen, sentences, clip.attn_mask)
    torch.testing.assert_close(sentences[0], golden["transformer_out_3_77_W"], **close)
    ends = sentences[0, torch.arange(3), golden["eot_positions"]]
    torch.testing.assert_close(clip.ln_final(ends) @ clip.text_projection, golden["text_features_3_E"], **close)


@pytest.fixture(scope="module")
def score_golden() -> dict[str, Tensor]:
    return load_file(GOLDEN / "taskadapter_score.safetensors")


def golden_norm(golden: dict[str, Tensor], kind: str) -> nn.Module:
    if kind == "identity":
        return nn.Identity()
    norm = nn.LayerNorm(24)
    norm.load_state_dict({"weight": golden["ln.weight"], "bias": golden["ln.bias"]})
    return norm


@pytest.mark.parametrize("norm", ["identity", "layernorm"])
@torch.no_grad()
def test_stage_scores_are_those_of_the_public_code(score_golden: dict[str, Tensor], norm: str) -> None:
    query = score_golden["z_query_one_per_class_in_class_order"][None]
    text = score_golden["text_features_class_stage"][None]
    frames, _ = neighbours(query, golden_norm(score_golden, norm), add_earlier=False, scale=512**-0.5)
    if norm == "identity":
        expected = score_golden["identity.aligned_frames_7_Q_D"].transpose(0, 1)
        torch.testing.assert_close(frames[0], expected, **close)
    scores = stage_scores(frames, text, STAGES, of_mean=False).mean(-1)[0]
    torch.testing.assert_close(scores, score_golden[f"{norm}.correct_sem_QUERY_by_CLASS"], **close)


@torch.no_grad()
def test_equations_16_and_17_are_those_of_the_file(score_golden: dict[str, Tensor]) -> None:
    """Over the public code's aligned frames: the file has no numbers of the paper's own equation 15."""
    frames = score_golden["identity.aligned_frames_7_Q_D"].transpose(0, 1)[None]
    scores = stage_scores(frames, score_golden["text_features_class_stage"][None], STAGES, of_mean=True).mean(-1)[0]
    torch.testing.assert_close(scores, score_golden["identity.paper_eq16_17_sem_QUERY_by_CLASS"], **close)


@pytest.mark.parametrize("norm", ["identity", "layernorm"])
@pytest.mark.parametrize(("variant", "prefix"), [("official", "correct"), ("official-leaky", "code")])
@torch.no_grad()
def test_score_and_loss_are_those_of_the_public_code(
    score_golden: dict[str, Tensor],
    small: Backbone,
    monkeypatch: pytest.MonkeyPatch,
    variant: str,
    prefix: str,
    norm: str,
) -> None:
    """The whole of `match`, over features of the file's 24 channels (for which the code scales by 512)."""
    at_512 = partial(neighbours, scale=512**-0.5)
    monkeypatch.setattr(task_adapter_pp, "neighbours", lambda frames, norm, earlier, _: at_512(frames, norm, earlier))
    method = plus_plus(small, variant=variant, inductive=False, layers=0, alignment_norm=norm == "layernorm")
    method.alignment_norm = golden_norm(score_golden, norm)
    query, text = score_golden["z_query_one_per_class_in_class_order"], score_golden["text_features_class_stage"]
    support, mask = score_golden["z_support_classmajor"].unflatten(0, (5, 2)), torch.ones(1, 5, 2, dtype=torch.bool)
    episode = Episode({"frames": support[None]}, {"frames": query[None]}, mask, text[None])
    prediction = method.match(episode)
    torch.testing.assert_close(prediction.named["visual_scores"][0], score_golden["visual_QUERY_by_CLASS"], **close)
    torch.testing.assert_close(prediction.logits[0] / 64, score_golden[f"{norm}.{prefix}_score"], **close)
    loss = cross_entropy(prediction.logits[0], torch.arange(5))
    torch.testing.assert_close(loss, score_golden[f"{norm}.{prefix}_loss"], **close)


# --------------------------------------------------------------------------- oracles


def test_equations_15_to_17_in_float64() -> None:
    """The paper's stage score, written out; there is no golden for it."""
    generator = torch.Generator().manual_seed(3)
    query = torch.randn(4, 8, 12, dtype=torch.float64, generator=generator)
    text = torch.randn(3, 3, 12, dtype=torch.float64, generator=generator)
    aligned = torch.empty(4, 7, 12, dtype=torch.float64)
    for i in range(1, 8):
        for q in range(4):
            weights = torch.stack([query[q, i - 1] @ query[other, i] * 12**-0.5 for other in range(4)]).softmax(0)
            attended = sum(w * query[other, i] for other, w in enumerate(weights))
            aligned[q, i - 1] = attended + query[q, i - 1]
    expected = torch.empty(4, 3, 3, dtype=torch.float64)
    for q in range(4):
        for c in range(3):
            for s, (first, last) in enumerate([(0, 3), (2, 5), (4, 7)]):
                stage = sum(aligned[q, f] for f in range(first, last)) / 3
                expected[q, c, s] = cosine_similarity(stage, text[c, s], dim=0)
    frames, weights = neighbours(query[None], nn.Identity(), add_earlier=True, scale=12**-0.5)
    torch.testing.assert_close(frames[0], aligned)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))
    torch.testing.assert_close(stage_scores(frames, text[None], 3, of_mean=True)[0], expected)


@pytest.mark.parametrize(
    ("frames", "windows"),
    [
        (7, [(0, 3), (2, 5), (4, 7)]),
        (8, [(0, 3), (2, 6), (5, 8)]),
        (6, [(0, 2), (2, 4), (4, 6)]),
        (3, [(0, 1), (1, 2), (2, 3)]),
    ],
)
def test_stage_windows(frames: int, windows: list[tuple[int, int]]) -> None:
    weights = stage_windows(frames, STAGES)
    pooled = nn.functional.adaptive_avg_pool1d(torch.eye(frames)[None], STAGES)[0].T
    torch.testing.assert_close(weights, pooled)
    assert [(int(w.nonzero()[0]), int(w.nonzero()[-1]) + 1) for w in weights] == windows


@torch.no_grad()
def test_a_query_alone_is_the_sum_of_its_neighbours(small: Backbone, clips: Tensor) -> None:
    query = small.features(clips[:2])[None]
    paper, _ = plus_plus(small)._align(query)
    torch.testing.assert_close(paper, query[:, :, 1:] + query[:, :, :-1])
    official, _ = plus_plus(small, variant="official")._align(query)
    torch.testing.assert_close(official, 2 * query[:, :, 1:])


# --------------------------------------------------------------------------- the frozen encoder


@torch.no_grad()
def test_a_new_one_with_zero_task_adapter_is_the_frozen_encoder(small: Backbone, clips: Tensor) -> None:
    """AIM's adapters add nothing at first, except that S-MSA's adds its input: which is the frozen block's own."""
    frozen = small.features(clips)
    support, query = frozen[: WAY * SHOT].unflatten(0, (1, WAY, SHOT)), frozen[None, WAY * SHOT :]
    for options in ({}, {"layers": 6}, {"where": "bottom"}, {"aim": False}, {"inductive": False}):
        method = build_method("task-adapter", small, zero_init_task=True, **options)
        episode = encoded(method, clips)
        torch.testing.assert_close(method._frames_of(episode.query, None, None), query, **close)
        torch.testing.assert_close(method._frames_of(episode.support, episode.shot_mask, None), support, **close)
    assert not torch.allclose(build_method("task-adapter", small).encode(clips)["frames"], frozen, atol=1e-3)


@torch.no_grad()
def test_no_layers_is_protonet_times_zero_shot(small: Backbone, clips: Tensor) -> None:
    method = build_method("task-adapter", small, layers=0)
    episode = encoded(method, clips)
    cosines = ProtoNet(small, ProtoNet.Config(similarity="frame-wise", cos_eps=0.0)).match(episode).logits
    texts = cosine_similarity(episode.query["frames"].mean(-2)[:, :, None], episode.text[:, None], dim=-1)
    torch.testing.assert_close(method.match(episode).logits, 64 * cosines * texts, **close)


@torch.no_grad()
def test_the_text_tower_without_order_is_clips_own(small: Backbone) -> None:
    method = plus_plus(small)
    prompts = [prompt for own in method.prompts(LABELS) for prompt in own]
    assert prompts[0] == "A video of action about waving: A hand rises with an open palm."
    expected = small.text_features(prompts).unflatten(0, (3, 3))
    torch.testing.assert_close(method.encode_text(LABELS), expected, **close)
    assert not torch.allclose(shaken(method).encode_text(LABELS), expected, atol=1e-2)
    mean = plus_plus(small, text="average", text_layers=0).encode_text(LABELS)
    torch.testing.assert_close(mean, expected.mean(1, keepdim=True), **close)
    concat = plus_plus(small, text="concat", text_layers=0).prompts(["waving"])
    assert concat == [
        [
            "A video of action about waving: A hand rises with an open palm. The raised hand swings from side to side. "
            "The hand sinks again."
        ]
    ]


@torch.no_grad()
def test_task_adapter_is_a_configuration_of_the_other(small: Backbone, clips: Tensor) -> None:
    """Table 6, without sub-actions: the label's text, no alignment, no order."""
    reduced = plus_plus(small, text="label", alignment="none", text_layers=0)
    torch.testing.assert_close(logits(reduced, clips), logits(build_method("task-adapter", small), clips), **close)


# --------------------------------------------------------------------------- what it promises


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("task-adapter", {"layers": 6, "where": "bottom"}, "where: bottom, which has no effect"),
        ("task-adapter-pp", {"text_layers": 3, "text_where": "bottom"}, "text_where: bottom, which has no effect"),
    ],
)
def test_the_first_blocks_are_not_the_first_if_all_adapt(
    small: Backbone, name: str, options: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_method(name, small, **options)


@pytest.mark.parametrize("name", ["task-adapter", "task-adapter-pp"])
@pytest.mark.parametrize("inductive", [True, False])
def test_queries_see_each_other_only_where_declared(small: Backbone, clips: Tensor, name: str, inductive: bool) -> None:
    make = plus_plus if name == "task-adapter-pp" else lambda b, **o: build_method(name, b, **o)
    method = shaken(make(small, inductive=inductive))
    assert method.traits.transductive != inductive
    episode = encoded(method, clips)
    with torch.no_grad():
        together = method.match(episode).logits
        alone = [
            method.match(replace(episode, query={k: v[:, i : i + 1] for k, v in episode.query.items()})).logits
            for i in range(QUERY)
        ]
    assert torch.allclose(together, torch.cat(alone, 1), atol=1e-3) == inductive


@pytest.mark.parametrize("inductive", [True, False])
@pytest.mark.parametrize("variant", ["paper", "official"])
@torch.no_grad()
def test_no_label_reaches_a_score(small: Backbone, clips: Tensor, variant: str, inductive: bool) -> None:
    """The queries' order, which an evaluation may sort by class, moves rows and changes none."""
    method = shaken(plus_plus(small, variant=variant, inductive=inductive))
    episode = encoded(method, clips[:-1])  # one query per class
    order = torch.tensor([2, 0, 1])
    shuffled = replace(episode, query={name: tensor[:, order] for name, tensor in episode.query.items()})
    expected = method.match(episode).logits[:, order]
    torch.testing.assert_close(method.match(shuffled).logits, expected, **close)


@torch.no_grad()
def test_the_leaky_variant_leaks(small: Backbone, clips: Tensor) -> None:
    """What the audit is for: the scores of a query depend on its position."""
    method = shaken(plus_plus(small, variant="official-leaky"))
    episode = encoded(method, clips[:-1])
    order = torch.tensor([2, 0, 1])
    shuffled = replace(episode, query={name: tensor[:, order] for name, tensor in episode.query.items()})
    assert not torch.allclose(method.match(shuffled).logits, method.match(episode).logits[:, order], atol=1e-3)
    with pytest.raises(ValueError, match="one query per class; got 4 queries for 3 classes"):
        method.match(encoded(method, clips))


@torch.no_grad()
def test_other_mode_shares_everything_but_the_mode(small: Backbone, clips: Tensor) -> None:
    method = shaken(plus_plus(small))
    other = method.other_mode()
    assert other.traits.transductive and not method.traits.transductive
    assert all(a is b for a, b in zip(method.parameters(), other.parameters(), strict=True))
    torch.testing.assert_close(logits(other.other_mode(), clips), logits(method, clips))
    assert not torch.allclose(logits(other, clips), logits(method, clips), atol=1e-3)
    assert build_method("task-adapter", small, layers=0).other_mode() is None
    assert build_method("task-adapter", small, task=False).other_mode() is None


@torch.no_grad()
def test_one_score_of_a_joint_model_can_be_read_out(small: Backbone, clips: Tensor) -> None:
    """Table 5; a model that has only one reads the same."""
    both, visual, text = (shaken(plus_plus(small, readout=readout)) for readout in ("both", "visual", "text"))
    episode = encoded(both, clips)
    named = both.match(episode).named
    torch.testing.assert_close(visual.match(episode).logits, 64 * named["visual_scores"], **close)
    torch.testing.assert_close(text.match(episode).logits, 64 * named["text_scores"], **close)
    torch.testing.assert_close(both.match(episode).logits, 64 * named["visual_scores"] * named["text_scores"], **close)
    alone = build_method("task-adapter", small, modality="text")
    torch.testing.assert_close(
        logits(alone, clips), logits(build_method("task-adapter", small, readout="text"), clips), **close
    )


@torch.no_grad()
def test_attention_and_stages_can_be_looked_at(small: Backbone, clips: Tensor) -> None:
    plain, looking = (shaken(plus_plus(small, inductive=False, keep_attention=keep)) for keep in (False, True))
    named = looking.match(encoded(looking, clips)).named
    assert named["task_attention"].shape == (1, 2, 8, WAY * SHOT, WAY * SHOT)
    torch.testing.assert_close(named["task_attention"].sum(-1), torch.ones(named["task_attention"].shape[:-1]))
    assert named["alignment_attention"].shape == (1, 7, QUERY, QUERY)
    assert named["stage_scores"].shape == (1, QUERY, WAY, STAGES)
    torch.testing.assert_close(named["text_scores"], named["stage_scores"].mean(-1))
    torch.testing.assert_close(logits(looking, clips), logits(plain, clips), **close)
    assert "task_attention" not in plain.match(encoded(plain, clips)).named


@torch.no_grad()
def test_half_tokens_change_little(small: Backbone, clips: Tensor) -> None:
    full, half = (shaken(build_method("task-adapter", small, half_tokens=half)) for half in (False, True))
    episode = encoded(half, clips)
    assert episode.support["tokens"].dtype == torch.float16
    torch.testing.assert_close(half.match(episode).logits, logits(full, clips), atol=0.1, rtol=0)
    assert half.encoder().key() != full.encoder().key()


@torch.no_grad()
def test_the_prefix_of_a_text_is_remembered_only_while_it_is_frozen(small: Backbone) -> None:
    from copy import deepcopy

    method = plus_plus(deepcopy(small)).requires_grad_(False)
    before = method.encode_text(LABELS)
    assert len(method._known) == len(LABELS)
    torch.testing.assert_close(method.encode_text(LABELS), before)
    method.requires_grad_(True)
    method.backbone.clip.token_embedding.weight.mul_(2)
    assert not torch.allclose(method.encode_text(LABELS), before, atol=1e-3)


def test_gradients_reach_the_adapters_and_stop_at_the_frozen_blocks(small: Backbone, clips: Tensor) -> None:
    for place, crosses in (("input", True), ("first_adapted_block", False)):
        method = plus_plus(small, temporal_embedding_at=place)
        for name, parameter in method.named_parameters():
            parameter.requires_grad_(not name.startswith("backbone."))
        assert method.encoder().encode(clips[:2], "support")["tokens"].requires_grad == crosses
        assert (not method.encoder().is_frozen) == crosses
        support = clips[: WAY * SHOT].unflatten(0, (1, WAY, SHOT))
        episode = method.encode_episode(support, clips[None, WAY * SHOT :], method.encode_text(LABELS)[None])
        method.match(episode).logits.square().sum().backward()
        assert all(p.grad is not None for p in own(method).values())
        method.requires_grad_(True).zero_grad()


# --------------------------------------------------------------------------- switches


ROWS = {
    "frozen": {"layers": 0},
    "AIM, all blocks": {"layers": 6, "task": False},
    "AIM, top": {"task": False},
    "task, all blocks": {"layers": 6},
    "task without AIM": {"aim": False},
    "bottom": {"where": "bottom"},
    "task in front": {"task_at": "front"},
    "task between": {"task_at": "between"},
    "OTAM": {"metric": "otam"},
    "Bi-MHM": {"metric": "bi-mhm"},
    "TRX": {"metric": "trx"},
    "visual": {"modality": "visual"},
    "text": {"modality": "text"},
    "time means": {"similarity": "time-mean"},
    "index later": {"temporal_embedding_at": "first_adapted_block"},
}
ROWS_PP = ROWS | {
    "sub-actions": {"alignment": "none", "text_layers": 0},
    "alignment alone": {"text": "label", "text_layers": 0},
    "no order": {"text_layers": 0},
    "no alignment": {"alignment": "none"},
    "average": {"text": "average", "text_layers": 0},
    "concat": {"text": "concat", "text_layers": 0},
    "two layers": {"alignment_layers": 2},
    "three layers": {"alignment_layers": 3},
    "conv1d": {"alignment": "conv1d"},
    "order in front": {"order_at": "front"},
    "text bottom": {"text_where": "bottom"},
    "text all": {"text_layers": 3},
    "norm": {"alignment_norm": True},
    "official": {"variant": "official"},
}


@pytest.mark.parametrize("inductive", [True, False])
@pytest.mark.parametrize("row", ROWS_PP)
@torch.no_grad()
def test_every_row_of_the_tables_is_a_switch(small: Backbone, clips: Tensor, row: str, inductive: bool) -> None:
    """Each gives finite logits of its own, in both modes, and says its options again."""
    base = shaken(plus_plus(small, inductive=inductive))
    options = effective_options("task-adapter-pp", {"inductive": inductive} | ROWS_PP[row], keep=ROWS_PP[row])
    changed = shaken(plus_plus(small, **options))
    found = logits(changed, clips)
    assert torch.isfinite(found).all() and found.shape == (1, QUERY, WAY)
    assert not torch.allclose(found, logits(base, clips), atol=1e-3)
    assert ROWS_PP[row].items() <= {k: v for k, v in changed.config.changed().items() if k != "sub_actions"}.items()
    if row in ROWS:
        options = effective_options("task-adapter", {"inductive": inductive} | ROWS[row], keep=ROWS[row])
        found = logits(shaken(build_method("task-adapter", small, **options)), clips)
        assert torch.isfinite(found).all()


def test_variants_fill_in_what_is_not_chosen(small: Backbone) -> None:
    chosen = plus_plus(small, variant="official", residual="earlier")
    assert chosen.config.stage_score == "mean-of-cosines" and chosen.config.residual == "earlier"
    assert chosen.config.changed() == {"variant": "official", "residual": "earlier", "sub_actions": SUB_ACTIONS}
    assert build_method("task-adapter-pp", small, **chosen.options()).options() == chosen.options()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 7}, "layers 7.*expected 0 to 6"),
        ({"text_layers": 4}, "text_layers 4.*expected 0 to 3"),
        ({"aim": False, "task": False}, "nothing adapts; set layers: 0"),
        ({"text": "concat"}, "one prompt per class has no order to adapt to: set text_layers: 0"),
        ({"alignment": "none", "alignment_layers": 2}, "alignment_layers: 2, which has no effect with alignment: none"),
        ({"alignment": "none", "residual": "later"}, "residual: later, which has no effect with alignment: none"),
        ({"modality": "visual", "alignment": "conv1d"}, "alignment: conv1d, which has no effect with modality: visual"),
        ({"metric": "otam", "similarity": "time-mean"}, "leave one of them out"),
        ({"task": False, "task_at": "front"}, "task_at: front, which has no effect with task: false"),
        ({"layers": 0, "task_at": "front"}, "task_at: front, which has no effect with layers: 0"),
        ({"text_layers": 0, "order_at": "front"}, "order_at: front, which has no effect with text_layers: 0"),
        ({"aim": False, "temporal_embedding_at": "first_adapted_block"}, "has no effect with aim: false"),
        ({"scale": 0.0}, "scale 0.0; expected a factor above 0"),
        ({"modality": "visual", "text_layers": 9}, "text_layers: 9, which has no effect with modality: visual"),
        ({"modality": "visual", "readout": "text"}, "readout 'text' with modality 'visual'"),
        ({"variant": "offical"}, "variant"),
    ],
)
def test_options_without_effect_are_refused(small: Backbone, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plus_plus(small, **options)


@torch.no_grad()
def test_the_mean_of_three_ordered_sentences_is_a_class_text(small: Backbone) -> None:
    """Order adapters may stand before the mean."""
    method = shaken(plus_plus(small, text="average"))
    stages = shaken(plus_plus(small)).encode_text(LABELS)
    torch.testing.assert_close(method.encode_text(LABELS), stages.mean(1, keepdim=True))


@pytest.mark.parametrize("name", ["task-adapter", "task-adapter-pp"])
@torch.no_grad()
def test_the_visual_score_alone_asks_for_no_text(small: Backbone, clips: Tensor, name: str) -> None:
    both = shaken(build_method(name, small, **({"sub_actions": SUB_ACTIONS} if name.endswith("pp") else {})))
    alone = shaken(build_method(name, small, readout="visual"))
    alone.check_texts(["a class without sub-actions"])
    episode = encoded(alone, clips)
    assert not alone.traits.reads_text and episode.text is None and own(alone).keys() == own(both).keys()
    expected = both.match(encoded(both, clips)).named["visual_scores"]
    torch.testing.assert_close(alone.match(episode).named["visual_scores"], expected)


@torch.no_grad()
def test_otam_compares_with_prototypes(small: Backbone, clips: Tensor) -> None:
    """Equation 10 comes before the metric; distances become probabilities."""
    method = build_method("task-adapter", small, layers=0, metric="otam", modality="visual")
    episode = encoded(method, clips)
    prototypes = episode.support["frames"].mean(2, keepdim=True)
    mask = torch.ones(1, WAY, 1, dtype=torch.bool)
    expected = build_method("otam", small, per="prototype").match(
        replace(episode, support={"frames": prototypes}, shot_mask=mask)
    )
    torch.testing.assert_close(method.match(episode).logits, 64 * expected.logits.softmax(-1), **close)


@pytest.mark.parametrize("place", ["input", "first_adapted_block"])
@pytest.mark.parametrize("frames", [1, 4])
def test_another_number_of_frames_is_named(small: Backbone, clips: Tensor, place: str, frames: int) -> None:
    method = build_method("task-adapter", small, temporal_embedding_at=place)
    with pytest.raises(ValueError, match=f"built for 8 frames per video and got {frames}"):
        method.encode(clips[:2, :frames])
    again = build_method("task-adapter", small, temporal_embedding_at=place, frames=frames)
    assert again.encode(clips[:2, :frames])["frames"].shape == (2, frames, small.dim)


def test_both_modes_share_a_folder(small: Backbone, world: VideoDataset, tmp_path: Path) -> None:
    """`--bank`: each mode finds its own encodings there, and neither the other's."""
    method = build_method("task-adapter", small, layers=1)
    videos = world.split("test").videos[:2]
    for mode in (method, method.other_mode(), method):
        bank = fill_bank(mode, videos, folder=tmp_path, progress=False)
        assert ("frames" in bank.query) == (not mode.traits.transductive) and "tokens" in bank.support


def test_unknown_classes_and_missing_towers_are_named(small: Backbone) -> None:
    with pytest.raises(ValueError, match="no sub-actions for 1 of 1 classes \\('juggling a cat'\\).*fsar describe"):
        build_method("task-adapter-pp", small).check_texts(["juggling a cat"])
    with pytest.raises(ValueError, match="no text encoder; use"):
        build_method("task-adapter", Backbone("blind"))


# --------------------------------------------------------------------------- counts


@pytest.fixture(scope="module")
def vit_b16() -> ClipBackbone:
    with torch.device("meta"):
        return ClipBackbone("ViT-B-16", open_clip.CLIP(**open_clip.get_model_config("ViT-B-16")), tiny_tokenize)


def count(parameters: dict[str, Tensor], prefix: str) -> int:
    return sum(p.numel() for name, p in parameters.items() if name.startswith(prefix))


@pytest.mark.parametrize(("layers", "adapters"), [(2, 2_366_976), (6, 7_100_928), (12, 14_201_856)])
def test_visual_counts(vit_b16: ClipBackbone, layers: int, adapters: int) -> None:
    """The paper's 2.4 and 7.2 M (7.1 by the sum; its Table 8 swaps decimals), and 14.2 M for all blocks."""
    with torch.device("meta"):
        parameters = own(TaskAdapter(vit_b16, TaskAdapter.Config(layers=layers)))
    assert count(parameters, "blocks.") == adapters == layers * 4 * 295_872
    assert count(parameters, "temporal") == 6_144 and count(parameters, "") == adapters + 6_144


@pytest.mark.parametrize(("layers", "adapters"), [(2, 263_424), (6, 790_272), (8, 1_053_696), (12, 1_580_544)])
def test_text_counts(vit_b16: ClipBackbone, layers: int, adapters: int) -> None:
    with torch.device("meta"):
        parameters = own(TaskAdapterPlusPlus(vit_b16, TaskAdapterPlusPlus.Config(text_layers=layers)))
    assert count(parameters, "text_blocks.") == adapters == layers * 131_712
    assert count(parameters, "") == adapters + 2_366_976 + 6_144


def test_full_fine_tuning_is_all_of_clip(vit_b16: ClipBackbone) -> None:
    """149.6 M: both towers and the logit scale, nothing of the method's own."""
    with torch.device("meta"):
        method = TaskAdapterPlusPlus(vit_b16, TaskAdapterPlusPlus.Config(layers=0, text_layers=0))
    assert not own(method) and count(dict(method.named_parameters()), "") == 149_620_737
