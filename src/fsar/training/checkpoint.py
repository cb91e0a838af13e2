"""Checkpoints: a folder with the trained parameters and the name of their backbone.

    fsar.json            method, options, backbone, how it was trained, results
    model.safetensors    the trained parameters, by name
    README.md            the model card

Frozen parameters are not stored. Their hash is stored, and checked when the folder is read.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors.torch import save_file

from fsar.backbones import Backbone, load_backbone
from fsar.backbones.base import read_safetensors
from fsar.files import atomic_path, write_text_atomic
from fsar.methods import Method, build_method, effective_options, stored_options
from fsar.own import Origin, find_named
from fsar.results.numbers import percent_interval
from fsar.training.parameters import frozen_fingerprint, kept_state
from fsar.training.standing import CHECKPOINT, unfinished_at

FORMAT = 1
HEADER, WEIGHTS, CARD = "fsar.json", "model.safetensors", "README.md"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How a method was trained; part of its checkpoint and of its results."""

    groups: tuple[str, ...]
    """Groups of parameters that were trained."""
    clip: Mapping[str, Any]
    """Frames and sampling of the clips."""
    recipe: Mapping[str, Any]
    """Every setting of the run (`fsar.training.recipes.Recipe`)."""
    dataset: str
    """Name of the training dataset."""
    dataset_fingerprint: str
    """Hash of the training videos: their ids and classes."""
    classes: tuple[str, ...]
    """Training classes."""
    selection: str
    """How the kept state was chosen, and on which classes."""
    episodes: int
    """Number of training episodes at the kept state."""
    results: tuple[Mapping[str, Any], ...] = field(default=())
    """Validation results, for the model card."""
    files: str = ""
    """Hash of the training features if they were made elsewhere; empty for videos."""
    unfinished_at: int | None = None
    """Training episodes that the run had when the checkpoint was loaded, if it was not finished then."""
    trained_parameters: int = 0
    """Number of parameters that trained, with those of layers that only the loss has, which the checkpoint leaves out;
    0 in checkpoints of older versions."""


def provenance_of(stored: Mapping[str, Any]) -> Provenance:
    """Build a provenance from JSON, in which tuples are lists."""
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}
    return Provenance(**fields)


def save_pretrained(method: Method, folder: Path, provenance: Provenance) -> None:
    """Write a trained method to a folder.

    Args:
        method: the trained method.
        folder: made if it does not exist; a checkpoint in it is replaced.
        provenance: how the method was trained; its `groups` are written, besides the method's own parameters.
    """
    groups = provenance.groups
    state = kept_state(method, groups)
    header = {
        "format": FORMAT,
        "method": method.name,
        "options": method.options(),
        "backbone": method.backbone.name,
        "own": method.origins(),
        "frozen": frozen_fingerprint(method, groups),
        "trained": sum(tensor.numel() for tensor in state.values()),
        "provenance": asdict(provenance),
    }
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, temporary)
    _write_header(folder, header)


def load_pretrained(source: str | Path, backbone: Backbone | None = None, **options: Any) -> Method:
    """Read a trained method from a folder, or from the Hugging Face hub as `hf-hub:org/name`.

    Args:
        source: a folder that `save_pretrained` or `fsar train` wrote (a run's folder has its checkpoint inside).
        backbone: the one that it was trained on; by default loaded by name.
        options: options that may change after training, for example `readout="text"`.

    Returns:
        The method in evaluation mode; its `provenance` says how it was trained.

    Raises:
        ValueError: no such folder, another format, another backbone than it was trained on, or code that is not of
            this package in a file that the user has not named (`fsar.own.name_files`).

    Example:
        >>> import tempfile
        >>> from fsar import build_method
        >>> tiny = load_backbone("tiny")
        >>> trained = Provenance(groups=("own",), clip={"frames": 8, "sampling": "tsn"}, recipe={}, dataset="mine",
        ...                      dataset_fingerprint="", classes=("wave", "clap"), selection="none", episodes=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_pretrained(build_method("trx", tiny, out_dim=16), Path(folder), trained)
        ...     method = load_pretrained(folder, tiny)
        >>> method.name, method.config.out_dim, method.provenance.classes
        ('trx', 16, ('wave', 'clap'))
    """
    folder = _folder(source)
    header = _header(folder)
    provenance = provenance_of(header["provenance"])
    parts = header.get("own", {})
    name = find_named(Origin.read(parts["method"]), str(folder)) if "method" in parts else header["method"]
    if backbone is None:
        known = "backbone" not in parts
        backbone = load_backbone(
            header["backbone"] if known else find_named(Origin.read(parts["backbone"]), str(folder))
        )
    elif set(provenance.groups) & {"visual", "text"}:
        backbone = copy.deepcopy(backbone)  # a copy: the caller's stays as it is
    chosen = effective_options(name, stored_options(name, header["options"]) | options, keep=options)
    method = build_method(name, backbone, **chosen)
    fixed = sorted(
        key for key in options if key not in method.traits.readouts and options[key] != header["options"][key]
    )
    if fixed:
        raise ValueError(
            f"{folder} was trained with {fixed[0]}={header['options'][fixed[0]]}; only these options may change "
            f"afterwards: {', '.join(method.traits.readouts) or 'nothing'} of {method.name}"
        )
    state = read_safetensors(folder / WEIGHTS)
    own = kept_state(method, provenance.groups)
    wrong = sorted(own.keys() ^ state.keys()) or sorted(k for k in own if own[k].shape != state[k].shape)
    if wrong:
        raise ValueError(f"{folder}: its weights do not fit {header['method']} on {backbone.name} ({wrong[0]} differs)")
    frozen = frozen_fingerprint(method, provenance.groups)
    if frozen != header["frozen"]:
        raise ValueError(
            f"{folder}: trained on backbone {header['backbone']} (frozen part {header['frozen']}), but {backbone.name} "
            f"here is {frozen}; use the same weights"
        )
    method.load_state_dict(state, strict=False)  # names were compared above; frozen parameters come from the backbone
    episodes = unfinished_at(folder.parent) if folder.name == CHECKPOINT else None
    method.provenance = replace(provenance, unfinished_at=episodes)
    return method


def add_results(source: str | Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Add results of a checkpoint to its header and model card; a result of the same setting is replaced.

    Args:
        source: the checkpoint's folder.
        results: as `dataclasses.asdict(result)` gives them.

    Raises:
        ValueError: not a checkpoint folder on this machine.
    """
    if str(source).startswith("hf-hub:"):
        raise ValueError(f"{source} is on the hub; add results to a folder on this machine, then push it")
    folder = _folder(source)
    header = _header(folder)
    known = list(header["provenance"]["results"])
    for result in results:
        entry = _card_entry(header["options"], result)
        known = [old for old in known if any(old.get(key) != entry[key] for key in _CARD_NAME)] + [entry]
    header["provenance"]["results"] = known
    _write_header(folder, header)


_CARD_NAME = ("dataset", "split", "classes", "videos", "read_out", "protocol", "way", "shot", "query", "episodes")
"""Two results of a card with equal values of these have the same setting."""


def _card_entry(trained_with: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a result for the card: setting, number of classes, options changed after training."""
    options = json.loads(json.dumps(result["options"]))  # tuples are lists in the header
    changed = {key: value for key, value in options.items() if value != trained_with.get(key)}
    read_out = ", ".join(f"{key}={value}" for key, value in changed.items())
    entry = {"classes": len(result["confusion"]["classes"]), "videos": result["dataset_fingerprint"][:12]}
    entry |= {"read_out": read_out}
    return entry | {key: result[key] for key in (*_CARD_NAME, "accuracy", "ci95") if key not in entry}


def _write_header(folder: Path, header: Mapping[str, Any]) -> None:
    write_text_atomic(folder / CARD, model_card(header))
    write_text_atomic(folder / HEADER, json.dumps(header, indent=1))  # last: a folder without it is no checkpoint


def push_to_hub(
    folder: Path, repo_id: str, private: bool = False, *, license: str | None = None, dry_run: bool = False
) -> str:
    """Upload a checkpoint to the Hugging Face hub.

    Args:
        folder: the checkpoint, or a run with one. Its card is written anew, with the repository's name.
        repo_id: `ORG/NAME`; made if there is none.
        private: whether a new repository is private.
        license: of the weights, as the hub calls it (`apache-2.0`, `cc-by-nc-4.0`); by default the card names none.
        dry_run: upload nothing, and return the card.

    Returns:
        The address of the commit; the card of a dry run.

    Raises:
        ValueError: not a checkpoint folder, or the hub refuses (no token, no such account, no network).
    """
    folder = _folder(folder)
    card = model_card(_header(folder), repo_id, license)
    if repo_id.count("/") != 1 or not all(repo_id.split("/")):
        raise ValueError(f"cannot push to {repo_id!r}; expected ORG/NAME")
    if dry_run:
        return card
    write_text_atomic(folder / CARD, card)
    api = HfApi()
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder, allow_patterns=[HEADER, WEIGHTS, CARD]))
    except Exception as error:  # errors of the HTTP client and of the hub have no common class
        raise ValueError(f"the hub refused {repo_id}: {error}. Log in with `hf auth login`") from error


def model_card(header: Mapping[str, Any], repo_id: str | None = None, license: str | None = None) -> str:
    """Write the README of a checkpoint: content, training, use and accuracy.

    Args:
        header: of the checkpoint, as `fsar.json` holds it.
        repo_id: `ORG/NAME` on the hub; None for a folder on this machine.
        license: of the weights, as the hub calls it.
    """
    provenance = header["provenance"]
    changed = ", ".join(f"{k}={v}" for k, v in provenance["recipe"].get("options", {}).items()) or "defaults"
    rows = "".join(
        f"| {_where(r)} | {r['way']}-way {r['shot']}-shot | "
        f"{percent_interval(r['accuracy'], r['ci95'])} | {r['episodes']} |\n"
        for r in provenance["results"]
    )
    facts = {"library_name": "fsar", "pipeline_tag": "video-classification",
             "tags": ["few-shot-learning", "action-recognition", header["method"]]}  # fmt: skip
    facts |= {"license": license} if license else {}
    facts |= {"base_model": base} if (base := base_model(header["backbone"])) else {}
    if "@" in provenance["dataset"]:  # a benchmark; the name of one's own folder does not belong on a public card
        facts["datasets"] = [provenance["dataset"].partition("@")[0]]
    own = "".join(f"\n- needs `{origin.rpartition(' ')[0]}` of its author" for origin in header.get("own", {}).values())
    where = f"hf-hub:{repo_id}" if repo_id else "FOLDER"
    return f"""---
{yaml.safe_dump(facts, sort_keys=False, default_flow_style=None).strip()}
---
# {header["method"]} on {header["backbone"]}

Few-shot action recognition: names the action in a video from a few labelled examples.

- method `{header["method"]}` ({changed}), backbone `{header["backbone"]}`, {header["trained"]:,} trained numbers
- trained on {len(provenance["classes"])} classes of {provenance["dataset"]}
  ({provenance["dataset_fingerprint"][:12]}), {provenance["episodes"]:,} episodes
- selection: {provenance["selection"]}{own}

| data | episodes | accuracy in %, ± 95 % interval | how many |
|---|---|---|---|
{rows}
```python
from fsar import load_pretrained

method = load_pretrained("{where}")
```

On the command line: `fsar evaluate --checkpoint {where} --data DIR`.
"""


def base_model(backbone: str) -> str | None:
    """Name the repository on the hub that a backbone's weights come from; None if it is not known.

    Args:
        backbone: as given to `load_backbone`.

    Example:
        >>> base_model("ViT-B-16/openai"), base_model("timm/resnet50.tv_in1k"), base_model("tiny")
        ('openai/clip-vit-base-patch16', 'timm/resnet50.tv_in1k', None)
    """
    if backbone.startswith("hf-hub:"):
        return backbone.removeprefix("hf-hub:")
    if backbone.startswith("timm/") and backbone.count("/") == 1 and "@" not in backbone:
        return backbone
    return _OPENAI.get(backbone)


_OPENAI = {
    "ViT-B-32/openai": "openai/clip-vit-base-patch32",
    "ViT-B-16/openai": "openai/clip-vit-base-patch16",
    "ViT-L-14/openai": "openai/clip-vit-large-patch14",
    "ViT-L-14-336/openai": "openai/clip-vit-large-patch14-336",
}


def _folder(source: str | Path) -> Path:
    if isinstance(source, str) and source.startswith("hf-hub:"):
        try:
            return Path(snapshot_download(source.removeprefix("hf-hub:"), allow_patterns=[HEADER, WEIGHTS]))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            raise ValueError(f"could not get {source}: {error}") from error
    folder = Path(source)
    return folder / CHECKPOINT if (folder / CHECKPOINT / HEADER).is_file() else folder


def _header(folder: Path) -> dict[str, Any]:
    file = folder / HEADER
    if folder.is_file():
        raise ValueError(f"{folder}: a file, no checkpoint; a recogniser answers by `fsar recognize --model {folder}`")
    if not file.is_file():
        there = f"no {HEADER} here" if folder.is_dir() else "no such folder"
        raise ValueError(f"{folder}: {there}; give a folder that `fsar train` or save_pretrained wrote")
    try:
        header = dict(json.loads(file.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{file}: not a checkpoint's header ({error})") from error
    if header.get("format") != FORMAT:
        raise ValueError(
            f"{file}: format {header.get('format')}, this version reads {FORMAT}; use the fsar that wrote it"
        )
    return header


def _where(result: Mapping[str, Any]) -> str:
    """Name the data of a card's line, and the options changed after training."""
    classes = f" ({result['classes']} classes)" if "classes" in result else ""
    notes = [result["read_out"]] if result.get("read_out") else []
    if result.get("query", 1) > 1:
        notes.append(f"{result['query']} queries per class")
    if result.get("protocol", "clean") != "clean":
        notes.append(result["protocol"])
    return ", ".join([f"{result['dataset']} {result['split']}{classes}", *notes])
