"""The optimiser: schedule, weight-decay mask, gradient clip, parameters held fast."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import optax
from optax import contrib

from ktn_jax.errors import UserError
from ktn_jax.names import compile_patterns
from ktn_jax.structs import Params

OPTIMIZERS = ("adamw", "sgd", "muon")
SCHEDULES = ("step", "cosine")
SLOW = ("backbone", "prior")  # what config.optim.backbone_lr holds for


def build_schedule(optim: Mapping[str, Any], steps: int) -> optax.Schedule:
    """Linear warm-up, then steps down (the paper's) or a cosine to zero.

    optim: config.optim.   steps: length of the run.
    """
    warmup = min(optim["warmup_steps"], steps)
    lr = optim["lr"]
    rise = optax.linear_schedule(lr * optim["warmup_start"], lr, max(warmup, 1))
    if optim["schedule"] == "cosine":
        fall = optax.cosine_decay_schedule(lr, max(steps - warmup, 1))
    elif optim["schedule"] == "step":
        drops = {max(int(steps * at) - warmup, 1): 0.1 for at in optim["drops"]}
        fall = optax.piecewise_constant_schedule(lr, drops)
    else:
        raise UserError(
            f"optim.schedule={optim['schedule']!r} is not one of {SCHEDULES}; "
            "set --config.optim.schedule=step"
        )
    return optax.join_schedules([rise, fall], [warmup])


def build_optimizer(optim: Mapping[str, Any], steps: int) -> optax.GradientTransformation:
    """config.optim -> optax chain."""
    schedule = build_schedule(optim, steps)
    decay = optax.add_decayed_weights(optim["weight_decay"], mask=_decays)
    if optim["name"] == "adamw":
        rule = optax.chain(optax.scale_by_adam(b2=0.99), decay)
    elif optim["name"] == "sgd":
        rule = optax.chain(decay, optax.trace(decay=optim["momentum"]))
    elif optim["name"] == "muon":
        rule = optax.chain(_muon(), decay)
    else:
        raise UserError(
            f"optim.name={optim['name']!r} is not one of {OPTIMIZERS}; "
            "set --config.optim.name=sgd"
        )
    clip = optax.clip_by_global_norm(optim["clip"]) if optim["clip"] else optax.identity()
    chain = optax.chain(clip, rule, optax.scale_by_learning_rate(schedule))
    if optim["backbone_lr"] != 1:
        chain = optax.chain(chain, _slow_backbones(optim["backbone_lr"]))
    if not optim["hold"]:
        return chain

    def labels(params: Params) -> Params:
        held = held_names(params, optim["hold"])
        return jax.tree_util.tree_map_with_path(
            lambda path, _: "held" if _name(path) in held else "trained", params
        )

    return optax.partition({"trained": chain, "held": optax.set_to_zero()}, labels)


def _slow_backbones(share: float) -> optax.GradientTransformation:
    """Shorter steps for pretrained features than for what learns from nothing."""

    def one(path: tuple, update: jax.Array) -> jax.Array:
        return update * share if path[0].key in SLOW else update

    return optax.stateless(
        lambda updates, _: jax.tree_util.tree_map_with_path(one, updates)
    )


def held_names(params: Params, hold: Sequence[str]) -> frozenset[str]:
    """Names, as in head/part_kernel, of the parameters that config.optim.hold keeps.

    Raises UserError for an expression that is none or that matches nothing.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    names = [_name(path) for path, _ in leaves]
    patterns = compile_patterns(hold, names, field="optim.hold", example="backbone/.*")
    return frozenset(n for n in names if any(p.fullmatch(n) for p in patterns))


def hold_still(params: Params, hold: Sequence[str]) -> Params:
    """The parameters, those held without gradient: what lies below them costs nothing."""
    if not hold:
        return params
    held = held_names(params, hold)
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jax.lax.stop_gradient(leaf) if _name(path) in held else leaf,
        params,
    )


def _name(path: tuple) -> str:
    return "/".join(key.key for key in path)


def _muon() -> optax.GradientTransformation:
    """Muon (Jordan 2024): a kernel's momentum, orthogonalised; Adam for all the rest.

    Kernels count as matrices inputs x outputs. consistent_rms makes its steps as long as
    Adam's, so that one learning rate serves both (Liu et al. 2025).
    """

    def matrices(params: Params) -> Params:
        def one(path: tuple, leaf: jax.Array) -> contrib.MuonDimensionNumbers | None:
            if not _is_kernel(path, leaf):
                return None
            return contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1)

        return jax.tree_util.tree_map_with_path(one, params)

    return contrib.muon(
        -1.0,  # the chain's own schedule follows, and turns the sign once more
        consistent_rms=0.2,
        adam_b2=0.99,
        muon_weight_dimension_numbers=matrices,
    )


def _decays(params: Params) -> Params:
    """Kernels decay; biases, norms, the graph and gains do not (paper's schedule)."""
    return jax.tree_util.tree_map_with_path(_is_kernel, params)


def _is_kernel(path: tuple, leaf: jax.Array) -> bool:
    return leaf.ndim >= 2 and not path[-1].key.startswith("graph_")
