"""Attention as it is shown equals that of the forward pass; rollout equals its definition."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fsar import build_method, cli, load_backbone
from fsar.backbones.clip import ClipBackbone
from fsar.datasets import VideoDataset
from fsar.evaluation.episodes import EpisodeSampler
from fsar.explain.attention import Record, attention_of_videos, class_attention, recorded, rollout
from fsar.explain.episode import ShownEpisode, show_episode
from fsar.explain.looks import attention_of_episode, attention_picture, episode_attention_picture
from fsar.explain.picture import save_picture
from fsar.methods.base import Method
from fsar.video.frame_cache import FrameCache

FRAMES = 3
PATCHES = 4


def clips(seed: int = 0) -> Tensor:
    return torch.randn(2, FRAMES, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def mixed(method: Method) -> Method:
    """Give all of the method's own parameters values, since adapters begin at zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if not name.startswith("backbone."):
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return method


def by_hand(layer: nn.MultiheadAttention, query: Tensor, key: Tensor) -> Tensor:
    """Softmax of the scaled products in float64, mean over heads."""
    width = layer.embed_dim // layer.num_heads
    maps, shifts = layer.in_proj_weight.double().chunk(3), layer.in_proj_bias.double().chunk(3)
    q, k = (x.double() @ w.T + b for x, w, b in zip((query, key), maps[:2], shifts[:2], strict=True))
    q, k = (x.unflatten(-1, (layer.num_heads, width)).transpose(1, 2) for x in (q, k))
    return (q @ k.mT / math.sqrt(width)).softmax(-1).mean(1)


@pytest.mark.parametrize("name", ["protonet", "aim", "ma-fsar", "task-adapter"])
def test_recorded_weights_are_those_of_the_forward_pass(small: ClipBackbone, name: str) -> None:
    """An own hook sees what goes into each attention; softmax by hand gives the weights, and the output stays."""
    options = {} if name == "protonet" else {"frames": FRAMES}
    method = mixed(build_method(name, small, **options))
    layers = [block.attn for block in small.clip.visual.transformer.resblocks]
    seen: list[tuple[nn.MultiheadAttention, Tensor, Tensor]] = []
    hooks = [layer.register_forward_pre_hook(lambda m, a: seen.append((m, a[0], a[1]))) for layer in layers]
    with torch.no_grad():
        plain = method.encode(clips(), "query")["frames"]
        seen.clear()
        with recorded(method) as records:
            watched = method.encode(clips(), "query")["frames"]
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(watched, plain)
    assert len(records) == len(seen)
    for record, (layer, query, key) in zip(records, seen, strict=True):
        torch.testing.assert_close(record.weights.double(), by_hand(layer, query, key), atol=1e-6, rtol=1e-5)
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)


def test_kinds_of_attention_are_told_apart(small: ClipBackbone) -> None:
    def kinds(name: str, role: str = "query", text: Tensor | None = None) -> list[tuple[str, int]]:
        method = build_method(name, small, frames=FRAMES)
        with torch.no_grad(), recorded(method) as records:
            method.encode(clips(), role, text)  # type: ignore[arg-type]
        return [(record.over, record.weights.shape[-1]) for record in records]

    tokens = PATCHES + 1
    assert kinds("aim") == [("frames", FRAMES), ("tokens", tokens)] * 6
    assert kinds("ma-fsar") == [("frames", FRAMES), ("tokens", tokens + 1)] * 6
    assert kinds("ma-fsar", "support", torch.zeros(2, 32)) == [("frames", FRAMES), ("tokens", tokens + 2)] * 6
    last = [("frames", FRAMES), ("tokens", tokens), ("videos", 1)] * 2
    assert kinds("task-adapter") == [("tokens", tokens)] * 4 + last


def test_each_share_has_its_place(small: ClipBackbone) -> None:
    """Two frames of two videos, four patches, a time and a text token: row 0 of a block, in the order of the keys."""
    weights = [torch.rand(4, PATCHES + 1, PATCHES + 3, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    over_frames = Record(0, torch.ones(10, 2, 2), torch.zeros(10, 2, 32), "frames")
    tokens = torch.zeros(4, PATCHES + 3, 32)
    records = [
        record
        for block, each in enumerate(weights)
        for record in (replace(over_frames, block=block), Record(block, each, tokens))
    ]
    for block, rows in ((0, weights[0][:, 0]), (-1, weights[2][:, 0]), (None, rollout(weights, PATCHES + 1))):
        found = class_attention(records, small, (2, 2), block)
        for video, frame in ((0, 0), (0, 1), (1, 0), (1, 1)):
            row = rows[2 * video + frame].tolist()
            assert found.patches[video, frame].tolist() == [row[1:3], row[3:5]]  # from left to right, then down
            others = [float(share[video, frame]) for share in found.others.values()]
            assert list(found.others) == ["class token", "time token", "text token"]
            assert others == [row[0], row[5], row[6]]
    with pytest.raises(ValueError, match="blocks 0 to 2"):
        class_attention(records, small, (2, 2), 3)


def test_attention_over_frames_is_that_of_the_class_tokens(small: ClipBackbone) -> None:
    """By hand, from what goes into AIM's last block; a video of an episode is seen as it is alone."""
    method = mixed(build_method("aim", small, frames=FRAMES))
    support, query = clips(0), clips(1)
    shown = ShownEpisode(support[:, None], query, ["a", "b"], [0, 1], [["a/0"], ["b/0"]], ["a/1", "b/1"], None, None)
    seen: list[Tensor] = []
    with method.blocks[-1].register_forward_pre_hook(lambda _, args: seen.append(args[1])):  # type: ignore[index,operator,union-attr]
        found = attention_of_episode(method, shown)
    block = small.clip.visual.transformer.resblocks[-1]
    for role, tokens in zip(("support", "query"), seen, strict=True):  # video frame token channel
        first = block.ln_1(tokens[:, :, 0]).detach()
        torch.testing.assert_close(found.frames[role].double(), by_hand(block.attn, first, first), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.query.patches, attention_of_videos(method, query).patches)
    torch.testing.assert_close(found.support.patches[:, 0], attention_of_videos(method, support, "support").patches)


def test_added_tokens_are_told_apart(small: ClipBackbone) -> None:
    """What a support video has and a query has not is the text token; all shares together sum to one."""
    method = mixed(build_method("ma-fsar", small, frames=FRAMES))
    query = attention_of_videos(method, clips())
    support = attention_of_videos(method, clips(), "support", torch.ones(2, 32))
    assert list(query.others) == ["class token", "time token"]
    assert list(support.others) == ["class token", "time token", "text token"]
    for attention in (query, support, attention_of_videos(method, clips(), "support", torch.ones(2, 32), block=None)):
        total = attention.patches.sum((-1, -2)) + sum(attention.others.values())
        torch.testing.assert_close(total, torch.ones(2, FRAMES))


def test_rollout_is_its_definition() -> None:
    """The product of (A + 1) / 2 over three blocks in float64; keys beyond the tokens keep what reaches them."""
    rng = np.random.default_rng(0)
    tokens, added = 4, 2
    blocks = [torch.from_numpy(rng.random((2, tokens + added, tokens + added))) for _ in range(3)]
    blocks = [block / block.sum(-1, keepdim=True) for block in blocks]
    found = rollout([*blocks[:2], blocks[2][:, :1]], tokens)  # the last block has a single query
    for image in range(2):
        product = np.eye(tokens + added)
        for block in blocks:  # the last block ends on the left
            whole = np.eye(tokens + added)
            whole[:tokens] = (whole[:tokens] + block[image, :tokens].numpy()) / 2
            product = whole @ product
        np.testing.assert_allclose(found[image].numpy(), product[0], atol=1e-15)


def test_timm_attention_is_that_of_the_forward_pass() -> None:
    backbone = load_backbone("timm/vit_tiny_patch16_224/random")
    method = build_method("protonet", backbone)
    images = torch.randn(1, 1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = method.encode(images)["frames"]
        with recorded(method) as records:
            watched = method.encode(images)["frames"]
    torch.testing.assert_close(watched, plain, atol=1e-5, rtol=1e-4)
    layer = backbone.model.blocks[-1].attn
    q, k, _ = layer.qkv(records[-1].tokens).unflatten(-1, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)
    torch.testing.assert_close(records[-1].weights, (q @ k.mT * layer.scale).softmax(-1).mean(1), atol=1e-6, rtol=1e-4)
    assert layer.fused_attn == type(layer)(8).fused_attn
    assert attention_of_videos(method, images).patches.shape == (1, 1, 14, 14)


def test_a_backbone_without_attention_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"timm/resnet18/random' has no attention.*gradcam"):
        attention_of_videos(
            build_method("protonet", load_backbone("timm/resnet18/random")), torch.zeros(1, 1, 3, 64, 64)
        )


def test_episode_of_task_adapter(small: ClipBackbone, little_world: VideoDataset) -> None:
    """Attention over the videos of the task equals what the method itself keeps; support videos end in `match`."""
    videos = little_world.split("test")
    options = {"frames": FRAMES, "keep_attention": True}
    method = mixed(build_method("task-adapter-pp", small, **options))
    episodes = EpisodeSampler(dataset=videos, way=3, shot=1).draw(1)
    shown = show_episode(method, FrameCache(frames=FRAMES), videos, episodes)
    found = attention_of_episode(method, shown)
    with torch.no_grad():
        kept = method.match(method.encode_episode(shown.support[None], shown.query[None], shown.text[None]))
    assert found.videos is not None
    torch.testing.assert_close(found.videos, kept.named["task_attention"][0])
    assert found.support.patches.shape == (3, 1, FRAMES, 2, 2)
    assert found.query.patches.shape == (3, FRAMES, 2, 2)
    torch.testing.assert_close(found.frames["query"].sum(-1), torch.ones(3, FRAMES))
    assert found.frames["support"].shape == (3, FRAMES, FRAMES)


def test_the_matrix_over_videos_has_both_labels_in_the_figure(
    small: ClipBackbone, little_world: VideoDataset, tmp_path: Path
) -> None:
    """Long names below the matrix pushed the label of its horizontal axis out of the figure."""
    videos = little_world.split("test")
    texts = {label: f"{text}, slowly and with both hands" for label, text in videos.texts.items()}
    method, cache = build_method("task-adapter", small, frames=FRAMES), FrameCache(frames=FRAMES)
    episodes = EpisodeSampler(dataset=videos, way=3, shot=1).draw(1)
    picture = episode_attention_picture(method, cache, replace(videos, texts=texts), episodes, -1, "mine")
    (axes,) = [axes for axes in picture.figure.axes if axes.get_xlabel() == "attended support video"]
    picture.figure.draw_without_rendering()
    whole, drawn = picture.figure.bbox, axes.get_tightbbox()
    assert whole.x0 <= drawn.x0 and whole.y0 <= drawn.y0 and drawn.x1 <= whole.x1
    assert axes.get_xticklabels()[2].get_text() == "3" and axes.get_yticklabels()[2].get_text().endswith("(3)")


def test_pictures_are_written_with_words_and_numbers(
    small: ClipBackbone, little_world: VideoDataset, tmp_path: Path
) -> None:
    video, cache = little_world.videos[0].path, FrameCache(frames=FRAMES)
    models = [(name, build_method(name, small, frames=FRAMES), cache) for name in ("aim", "ma-fsar")]
    picture = attention_picture(models, [video])
    numbers = save_picture(picture, tmp_path / "a.png")
    data = np.load(numbers)
    aim, ma_fsar = (f"{name} on {video.stem}" for name in ("aim", "ma-fsar"))
    assert data[aim].shape == (FRAMES, 2, 2)
    np.testing.assert_allclose(data[aim].mean((1, 2)), 1, rtol=1e-5)  # a multiple of the even share
    assert data[f"{ma_fsar}: time token"].shape == (FRAMES,)
    assert "aim on" in picture.words
    videos = little_world.split("test")
    episodes = EpisodeSampler(dataset=videos, way=2, shot=2).draw(1)
    second = episode_attention_picture(models[1][1], cache, videos, episodes, None, "mine")
    save_picture(second, tmp_path / "b.svg")
    svg = (tmp_path / "b.svg").read_text()
    assert "<title>mine: class token" in svg
    numbers = np.load(tmp_path / "b.npz")
    assert "over frames: support" in numbers
    assert all(f"support: {word}, shot 2" in numbers for word in numbers["classes"])
    assert numbers["support videos"].tolist() == [[episodes.video_ids[i] for i in row] for row in episodes.support[0]]


def test_videos_of_one_name_are_told_apart(small: ClipBackbone, little_world: VideoDataset, tmp_path: Path) -> None:
    clips = [tmp_path / folder / "anna.mp4" for folder in ("run", "walk")]
    for clip, video in zip(clips, little_world.videos, strict=False):
        clip.parent.mkdir()
        clip.symlink_to(video.path)
    picture = attention_picture([("otam", build_method("otam", small), FrameCache(frames=2))], clips)
    assert list(picture.data) == [
        *("otam on run/anna.mp4", "otam on run/anna.mp4: class token"),
        *("otam on walk/anna.mp4", "otam on walk/anna.mp4: class token"),
    ]
    rows = [axes.get_ylabel().replace("\n", "") for axes in picture.figure.axes]
    assert {"run/anna.mp4", "walk/anna.mp4"} <= {*rows} and "otam on walk/anna.mp4: " in picture.words


def test_a_text_that_nothing_reads_is_refused(
    small: ClipBackbone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [("mine", build_method("otam", small), FrameCache(frames=2))]
    with pytest.raises(ValueError, match="'a wave', and no model here reads.*mine"):
        attention_picture(models, [Path("none.mp4")], "a wave")
    command = ["explain", "attention", "--data", "world", "--text", "a wave", "--out", str(tmp_path / "a.png")]
    assert cli.main(command) == 2 and "--text is for VIDEO" in capsys.readouterr().err


def test_the_help_names_the_usual_videos(capsys: pytest.CaptureFixture[str]) -> None:
    for kind, named in (("alignment", True), ("attention", False)):
        with pytest.raises(SystemExit):
            cli.main(["explain", kind, "--help"])
        assert ("default: world" in " ".join(capsys.readouterr().out.split())) == named
