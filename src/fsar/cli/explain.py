"""`fsar explain`: pictures of what a method looks at. Each kind of picture is a verb of its own."""

from argparse import ArgumentParser, Namespace, _SubParsersAction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fsar.cli.options import (
    data_options,
    device_option,
    frame_cache,
    load_checkpoint,
    load_dataset,
    name_option,
    own_option,
    tell,
)

if TYPE_CHECKING:
    from fsar.datasets import VideoDataset
    from fsar.evaluation.episodes import Episodes
    from fsar.explain.picture import Picture
    from fsar.methods import Method
    from fsar.results.result import Stored
    from fsar.video.frame_cache import FrameCache

USUAL_WAY = 5


def add_options(parser: ArgumentParser) -> None:
    """Add the verbs."""
    verbs = parser.add_subparsers(dest="kind", required=True, metavar="picture")
    attention = verbs.add_parser("attention", help=_ATTENTION, description=_ATTENTION, allow_abbrev=False)
    attention.add_argument("videos", nargs="*", type=Path, metavar="VIDEO")
    _model_options(attention)
    _episode_options(attention, usual=None)
    attention.add_argument("--rollout", action="store_true", help="over all blocks, instead of the last one")
    attention.add_argument("--block", type=int, default=-1, help="number of a block, from 0; default: -1, the last")
    words = "show VIDEO as a support video of the class with these words, if the method reads them (MA-FSAR)"
    attention.add_argument("--text", metavar="WORDS", help=words)
    attention.set_defaults(draw=_attention)

    alignment = verbs.add_parser("alignment", help=_ALIGNMENT, description=_ALIGNMENT, allow_abbrev=False)
    _model_options(alignment)
    _episode_options(alignment)
    alignment.add_argument("--query", type=int, default=0, help="number of the query, from 0")
    alignment.set_defaults(draw=_alignment)

    gradcam = verbs.add_parser("gradcam", help=_GRADCAM, description=_GRADCAM, allow_abbrev=False)
    _model_options(gradcam)
    _episode_options(gradcam)
    gradcam.add_argument("--query", type=int, nargs="+", help="numbers of the queries, from 0; default: all")
    gradcam.add_argument("--of-truth", action="store_true", help="of the class that a query shows, not the answer")
    gradcam.set_defaults(draw=_gradcam)

    maps = verbs.add_parser("map", help=_MAP, description=_MAP, allow_abbrev=False)
    _model_options(maps)
    _episode_options(maps, episodes=False)
    maps.add_argument("--per-class", type=int, default=40, metavar="N", help="videos of a class; default: 40")
    maps.add_argument("--projection", choices=["tsne", "umap"], default="tsne", help="default: tsne")
    maps.add_argument(
        "--role", choices=["query", "support"], default="query", help="support: some read their class text"
    )
    maps.add_argument("--seed", type=int, default=0, help="of the projection")
    maps.set_defaults(draw=_map)
    _add_pictures_of_results(verbs)


_ATTENTION = "What the class token of a ViT looks at in each frame: of several models, or in an episode."
_ALIGNMENT = "Which frames of a query count against which frames of each support video, and the scores of the classes."
_CURVES = "Accuracy over ways, shots, an option or trained parameters: from results of `fsar evaluate --out DIR`."
_CLASSES = "Accuracy of each class in two runs over the same episodes, and the paired difference."
_RELIABILITY = "How often a recogniser is right, over the probability that it gives: on labelled videos."
_MAP = "Videos as points, before and after a method, by t-SNE or UMAP, with the silhouette of the features."
_GRADCAM = "Grad-CAM of a class's score over the frames of queries and support: where the answer comes from."


def run(options: Namespace) -> int:
    """Draw the picture, and write it with its numbers."""
    from fsar.explain.picture import require_picture_name, save_picture
    from fsar.files import require_folder

    require_picture_name(options.out)
    require_folder(options.out.parent, "--out")
    picture: Picture = options.draw(options)
    numbers = save_picture(picture, options.out, options.note)
    print(picture.words)
    print(f"wrote {options.out}; its numbers: {numbers}")
    return 0


def _add_pictures_of_results(verbs: "_SubParsersAction[ArgumentParser]") -> None:
    curves = verbs.add_parser("curves", help=_CURVES, description=_CURVES, allow_abbrev=False)
    curves.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="results, or folders that hold them")
    curves.add_argument("--x", default="shot", help="way, shot, parameters, or an option's name; default: shot")
    name_option(curves)
    _out_option(curves)
    curves.set_defaults(draw=_curves)

    classes = verbs.add_parser("classes", help=_CLASSES, description=_CLASSES, allow_abbrev=False)
    classes.add_argument("runs", nargs=2, type=Path, metavar="RUN", help="two results, or folders that hold them")
    classes.add_argument("--way", type=int, help="if the runs have several settings")
    classes.add_argument("--shot", type=int, help="if the runs have several settings")
    _out_option(classes)
    classes.set_defaults(draw=_classes)

    reliability = verbs.add_parser("reliability", help=_RELIABILITY, description=_RELIABILITY, allow_abbrev=False)
    reliability.add_argument("model", type=Path, metavar="MODEL", help="a recogniser: MODEL.fsar")
    reliability.add_argument("videos", metavar="DIR", help="ACTION/VIDEO; other actions in a folder `unknown`")
    _out_option(reliability)
    reliability.set_defaults(draw=_reliability)


def _out_option(parser: ArgumentParser) -> None:
    words = ".png or .svg; its numbers go beside it"
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=words)
    parser.add_argument("--note", default="", metavar="TEXT", help="your words below the picture in `fsar report`")


# --------------------------------------------------------------------------- options that pictures share


def _model_options(parser: ArgumentParser) -> None:
    own_option(parser)
    add = parser.add_argument
    _out_option(parser)
    add("--method", nargs="+", metavar="NAME[:OPTION=VALUE,...]", help="untrained; default: protonet, CLIP as it is")
    add("--checkpoint", nargs="+", metavar="DIR[:OPTION=VALUE,...]", help="trained: folders that `fsar train` wrote")
    add("--backbone", help="of --method; default: tiny (see `fsar backbones`)")
    add("--frames", type=int, help="frames per video of --method; default: 8")
    add("--sampling", help="of --method: tsn, trx, ...; default: tsn")
    device_option(parser)


def _episode_options(parser: ArgumentParser, episodes: bool = True, usual: str | None = "world") -> None:
    data_options(parser, features=False, usual=usual)
    add = parser.add_argument
    add("--split", default="test", help="train, val, test or all")
    add("--classes", nargs="+", help="only these classes of the split")
    if not episodes:
        return
    add("--way", type=int, help=f"classes of the episode; default: {USUAL_WAY}, or all if there are fewer")
    add("--shot", type=int, default=1, help="examples per class; default: 1")
    add("--seed", type=int, default=0, help="of the episodes")
    add("--episode", type=int, default=0, help="number of the episode, from 0")


class _Model(NamedTuple):
    """A method to look at, its name in the picture, and how its clips are sampled."""

    method: "Method"
    name: str
    cache: "FrameCache"


def _models(options: Namespace, most: int | None = None) -> list[_Model]:
    """Untrained methods by name, then trained ones from their folders."""
    from fsar.backbones import load_backbone
    from fsar.devices import to_device
    from fsar.explain.attention import alone
    from fsar.methods import build_method, effective_options, method_class, parse_method
    from fsar.video.frame_cache import FrameCache

    specs = options.method or ([] if options.checkpoint else ["protonet"])
    if options.backbone and not specs:
        raise ValueError("--backbone has no effect on checkpoints, which have their own; leave it out, or add --method")
    models = []
    for spec in specs:
        name, chosen = parse_method(spec)
        sized = options.frames is not None and hasattr(method_class(name).Config, "frames")
        frames = {"frames": options.frames} if sized else {}
        fitting = effective_options(name, frames | chosen, keep=chosen)
        method = build_method(name, load_backbone(options.backbone or "tiny"), **fitting)
        models.append(_Model(method, f"{spec}, untrained", frame_cache(options)))
    for spec in options.checkpoint or ():
        method, folder = load_checkpoint(spec)
        run = Path(folder).name
        name = method.name if run == method.name else f"{method.name} ({run})"
        models.append(_Model(method, name, FrameCache.of_clip(method.provenance.clip)))
    if most is not None and len(models) > most:
        raise ValueError(f"this picture shows {most} model, and {len(models)} are named; leave some out")
    return [model._replace(method=alone(to_device(model.method, options.device))) for model in models]


def _dataset(options: Namespace) -> "VideoDataset":
    """The videos of the chosen split and classes."""
    dataset = load_dataset(
        options.data or "world",
        options.lists,
        options.class_names,
        options.skip_missing,
        options.benchmark,
        copies=False,
    ).split(options.split)
    return dataset.only(options.classes) if options.classes else dataset


def _episode(options: Namespace, dataset: "VideoDataset") -> "Episodes":
    """The one episode that the options name, with a single query per class."""
    from fsar.evaluation.episodes import EpisodeSampler

    way = options.way
    if way is None:
        way = min(USUAL_WAY, len(dataset.classes))
        if way < USUAL_WAY:
            tell([f"the episode has {way} classes, all that there are here, instead of the usual {USUAL_WAY}"])
    sampler = EpisodeSampler(dataset=dataset, way=way, shot=options.shot, seed=options.seed)
    return sampler.draw(1, start=options.episode)


# --------------------------------------------------------------------------- attention


def _attention(options: Namespace) -> "Picture":
    from fsar.explain.looks import attention_picture, episode_attention_picture

    if options.rollout and options.block != -1:
        raise ValueError("--rollout is over all blocks, so --block has no effect; leave one of them out")
    block = None if options.rollout else options.block
    if options.videos and (options.data or options.benchmark):
        raise ValueError("either videos or an episode of --data can be shown; leave one of them out")
    if options.videos:
        models = [(model.name, model.method, model.cache) for model in _models(options)]
        return attention_picture(models, options.videos, options.text, block)
    if options.data is None and options.benchmark is None:
        raise ValueError("name videos, or an episode of a dataset: --data world --way 2")
    if options.text is not None:
        raise ValueError("--text is for VIDEO; the videos of an episode have their own class texts, so leave it out")
    (model,) = _models(options, most=1)
    dataset = _dataset(options)
    return episode_attention_picture(model.method, model.cache, dataset, _episode(options, dataset), block, model.name)


# --------------------------------------------------------------------------- alignment, Grad-CAM


def _alignment(options: Namespace) -> "Picture":
    from fsar.explain.alignment import alignment_picture

    (model,) = _models(options, most=1)
    dataset = _dataset(options)
    episodes = _episode(options, dataset)
    return alignment_picture(model.method, model.cache, dataset, episodes, options.query, model.name)


def _gradcam(options: Namespace) -> "Picture":
    from fsar.explain.gradcam import grad_cam_picture

    (model,) = _models(options, most=1)
    dataset = _dataset(options)
    episodes = _episode(options, dataset)
    return grad_cam_picture(model.method, model.cache, dataset, episodes, model.name, options.of_truth, options.query)


# --------------------------------------------------------------------------- maps


def _map(options: Namespace) -> "Picture":
    from fsar.datasets import VideoDataset
    from fsar.explain.maps import map_picture, require_map, views_of

    dataset = _dataset(options)
    if not options.classes:
        dataset = dataset.only(dataset.classes[:5])
    kept = [
        v for label in dataset.classes for v in [v for v in dataset.videos if v.label == label][: options.per_class]
    ]
    videos = VideoDataset(dataset.name, tuple(kept), dataset.texts, dataset.splits)
    labels = [dataset.texts[video.label] for video in kept]
    require_map(labels, options.projection)
    (model,) = _models(options, most=1)
    views = views_of(model.method, videos, model.cache, options.role)
    return map_picture(views, labels, [video.id for video in kept], options.projection, options.seed)


# --------------------------------------------------------------------------- results


def _curves(options: Namespace) -> "Picture":
    from fsar.explain.curves import curves_picture
    from fsar.results.naming import named, read_names
    from fsar.results.result import load_results

    stored = load_results(options.paths)
    if not stored:
        raise ValueError(_no_results(*options.paths))
    stored = named(stored, read_names(options.name))
    return curves_picture([one.result for one in stored], options.x)


def _no_results(*paths: Path) -> str:
    return f"there are no results in {', '.join(map(str, paths))}; `fsar evaluate --out DIR` writes some"


def _classes(options: Namespace) -> "Picture":
    from fsar.explain.curves import classes_picture
    from fsar.results.identity import names_apart

    a, b = (_only_result(run, options.way, options.shot) for run in options.runs)
    if a.result == b.result:
        raise ValueError(
            f"{options.runs[0]} and {options.runs[1]} hold the same result ({a.path.name}); expected two different ones"
        )
    return classes_picture(a.result, b.result, names_apart(a, b))


def _only_result(run: Path, way: int | None, shot: int | None) -> "Stored":
    """The one result of a run at a setting; the first seed of several, and the inductive one of both modes."""
    from fsar.results.identity import row_name
    from fsar.results.result import load_results

    stored = load_results([run])
    if not stored:
        raise ValueError(_no_results(run))
    found = [one for one in stored if way in (None, one.result.way) and shot in (None, one.result.shot)]
    if not found:
        there = ", ".join(sorted({f"{one.result.way}-way {one.result.shot}-shot" for one in stored}))
        raise ValueError(f"{run}: no result of --way {way or 'any'} --shot {shot or 'any'}; it has {there}")
    found = [one for one in found if not one.result.transductive] or found
    rows = sorted({f"{row_name(r)} {r.way}-way {r.shot}-shot" for r in (one.result for one in found)})
    if len(rows) > 1:
        listed = " | ".join(rows)
        raise ValueError(f"{run} has several results ({listed}); choose by --way and --shot, or name a file")
    return found[0]


def _reliability(options: Namespace) -> "Picture":
    from fsar.explain.curves import reliability_picture
    from fsar.recognizer import Recognizer

    score = Recognizer.load(options.model).score(options.videos, progress=True)
    title = f"Reliability of {options.model.name} on {Path(options.videos).name}"
    return reliability_picture(score.reliability, title, score.calibration_error)
