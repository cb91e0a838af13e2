"""Which parameters train, and how; each belongs to exactly one group of `PARAMETER_GROUPS`."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fsar.backbones.base import fingerprint_of
from fsar.methods.base import PARAMETER_GROUPS, Method
from fsar.names import unknown
from fsar.training.recipes import Recipe

_BATCH_NORMS = (nn.modules.batchnorm._NormBase,)
_NORMS = (nn.LayerNorm, nn.GroupNorm, *_BATCH_NORMS)


def group_of(name: str) -> str:
    """Return the group of a method's parameter, by its name.

    Example:
        >>> group_of("backbone.clip.visual.proj"), group_of("backbone.clip.ln_final.weight"), group_of("head.weight")
        ('visual', 'text', 'own')
    """
    groups = [group for group, rule in PARAMETER_GROUPS.items() if re.fullmatch(rule, name)]
    assert len(groups) == 1, f"parameter {name} is under {groups or 'no rule'}"
    return groups[0]


def trained_state(method: nn.Module, groups: tuple[str, ...]) -> dict[str, Tensor]:
    """Return everything that training changes: parameters of the groups, and their buffers (running statistics)."""
    state = method.state_dict()
    return {name: tensor for name, tensor in state.items() if group_of(name) in groups}


def kept_state(method: nn.Module, groups: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the content of a checkpoint: the trained groups and the method's own tensors, without `loss_heads`."""
    return {k: v for k, v in trained_state(method, (*groups, "own")).items() if not k.startswith("loss_heads.")}


def frozen_fingerprint(method: Method, groups: tuple[str, ...]) -> str:
    """Hash everything that a checkpoint does not hold: 16 hexadecimal digits."""
    kept = (*groups, "own")
    return fingerprint_of({name: t for name, t in method.state_dict().items() if group_of(name) not in kept})


def trained_groups(recipe: Recipe, method: Method) -> tuple[str, ...]:
    """Return the groups of parameters with a learning rate in the recipe.

    Raises:
        ValueError: the method has nothing to train; the recipe has no rate, or a rate for a group that does not exist
            or stays frozen; or `freeze_batch_norm: false` for a backbone without BatchNorm.
    """
    if not method.traits.trains:
        raise ValueError(
            f"{method.name} has nothing to train; evaluate it as it is: fsar evaluate --method {method.name}"
        )
    if not recipe.lr:
        example = ", ".join(f"{group}: 1e-5" for group in method.traits.trains)
        raise ValueError(f"the recipe gives no learning rate; {method.name} trains by lr: {{{example}}}")
    require_groups(method, recipe.lr, "lr")
    backbone = method.backbone
    if not recipe.freeze_batch_norm and not any(isinstance(module, _BATCH_NORMS) for module in backbone.modules()):
        raise ValueError(
            f"freeze_batch_norm: false has no effect on {backbone.name}, which has no BatchNorm; set "
            f"freeze_batch_norm=true, or choose another backbone"
        )
    return tuple(recipe.lr)


def require_groups(method: Method, groups: Iterable[str], named_by: str) -> None:
    """Check that a method can train some groups of parameters.

    Args:
        method: on its backbone.
        groups: names of `PARAMETER_GROUPS`.
        named_by: the setting that names the groups, for the message.

    Raises:
        ValueError: a group that does not exist, that stays frozen, or that has no parameters.

    Example:
        >>> from fsar import build_method, load_backbone
        >>> require_groups(build_method("otam", load_backbone("tiny")), ["own"], "lr")
        Traceback (most recent call last):
        ValueError: lr names group 'own', of which otam on tiny has no parameters; it has text, visual
    """
    present = {group_of(name) for name, _ in method.named_parameters()}
    for group in groups:
        if group not in PARAMETER_GROUPS:
            raise ValueError(unknown(group, PARAMETER_GROUPS, f"group of parameters in {named_by}"))
        if group == "text" and not method.traits.trains_text:
            raise ValueError(
                f"{named_by} names group 'text', but {method.name} keeps the text tower frozen; leave it out"
            )
        if group not in present:
            raise ValueError(
                f"{named_by} names group {group!r}, of which {method.name} on {method.backbone.name} has no "
                f"parameters; it has {', '.join(sorted(present))}"
            )


def freeze(method: Method, groups: tuple[str, ...]) -> None:
    """Let gradients reach only the parameters of these groups."""
    for name, parameter in method.named_parameters():
        parameter.requires_grad_(group_of(name) in groups)


def make_optimizer(recipe: Recipe, method: Method) -> torch.optim.Optimizer:
    """Build the optimiser over all parameters that need gradients.

    No weight decay has: single numbers (a temperature, a factor), parameters in `method.no_weight_decay` and, with
    `decay_norms: false`, normalisation layers. `decay_spares` decides by the names alone.

    Returns:
        An optimiser; its groups have `lr`, and `base_lr`, the learning rate before the schedule.

    Raises:
        ValueError: `lr_factors` has a beginning that no trained parameter's name has.
    """
    decays, factors = _decaying(recipe, method), _rate_factors(recipe, method)
    buckets: dict[tuple[str, float, bool], list[nn.Parameter]] = {}
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            buckets.setdefault((group_of(name), factors[name], name in decays), []).append(parameter)
    groups: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr": recipe.lr[group] * factor,
            "base_lr": recipe.lr[group] * factor,
            "weight_decay": recipe.weight_decay if decaying else 0.0,
        }
        for (group, factor, decaying), parameters in buckets.items()
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[recipe.optimizer](groups, betas=recipe.betas, eps=recipe.eps)


def _rate_factors(recipe: Recipe, method: Method) -> dict[str, float]:
    """Factor on the rate of every trained parameter, by its name."""
    factors = {name: 1.0 for name, parameter in method.named_parameters() if parameter.requires_grad}
    for beginning, factor in recipe.lr_factors.items():
        named = [name for name in factors if name.startswith(beginning)]
        if not named:
            modules = ", ".join(sorted({name.partition(".")[0] for name in factors}))
            raise ValueError(
                f"lr_factors names {beginning!r}, and no trained parameter of {method.name} begins so; expected the "
                f"beginning of a name in one of: {modules}"
            )
        factors |= {name: factors[name] * factor for name in named}
    return factors


def _decaying(recipe: Recipe, method: Method) -> set[str]:
    """Names of the parameters that weight decay applies to."""
    if recipe.decay_spares is not None:
        words = recipe.decay_spares
        return {name for name, _ in method.named_parameters() if not any(word in name for word in words)}
    norms = {id(p) for m in method.modules() if isinstance(m, _NORMS) for p in m.parameters(recurse=False)}
    spared = method.no_weight_decay()
    return {
        name
        for name, parameter in method.named_parameters()
        if parameter.numel() > 1  # a single number has no size to keep small
        and name not in spared
        and (recipe.decay_norms or id(parameter) not in norms)
    }


class RunningStatistics:
    """Updates BatchNorm statistics once per step, with the mean of the per-episode updates.

    Updates after each episode would depend on the device that runs the episode.
    """

    def __init__(self, method: nn.Module):
        moving = [m for m in method.modules() if isinstance(m, _BATCH_NORMS) and m.training]
        self.buffers = [buffer for module in moving for buffer in module.buffers()]
        self.before = [buffer.clone() for buffer in self.buffers]
        self.sums = [torch.zeros_like(buffer, dtype=torch.float32) for buffer in self.buffers]

    def rewind(self) -> None:
        """Restore the statistics of the start of the step."""
        for buffer, before in zip(self.buffers, self.before, strict=True):
            buffer.copy_(before)

    def collect(self, episodes: int) -> None:
        """Add the statistics after one of this device's `episodes` episodes to the mean."""
        for buffer, total in zip(self.buffers, self.sums, strict=True):
            total += buffer / episodes

    def settle(self, all_reduce: Callable[..., Any]) -> None:
        """Take the mean over all devices, as `all_reduce` computes it."""
        for buffer, total in zip(self.buffers, self.sums, strict=True):
            mean: Tensor = all_reduce(total, reduce_op="mean")
            buffer.copy_(mean if buffer.is_floating_point() else mean.round())  # an integer counts the steps
