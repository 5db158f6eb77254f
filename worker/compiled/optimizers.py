"""How gradients update weights: the equations of keras.optimizers, version 3, by TensorFlow's fused kernels."""

from collections.abc import Callable
from typing import Any, Protocol

from worker.compiled.tensors import Rates, Tensor, Weight, tf

# The variables that each optimizer keeps for a weight.
SLOTS = {"adam": 2, "adamw": 2, "nadam": 3, "rmsprop": 2, "adagrad": 1, "sgd": 1}
Update = Callable[[Weight, Tensor], Any]


class UpdateRule(Protocol):
    """What of the hyperparameters decides the kernel."""

    @property
    def optimizer(self) -> str: ...
    @property
    def momentum(self) -> bool: ...
    @property
    def weight_decay(self) -> bool: ...


def apply_update(update: Update, weights: list[Weight], gradients: list[Tensor]) -> None:
    """Update each weight by its gradient, once all gradients are computed."""
    with tf.control_dependencies(gradients):
        for weight, gradient in zip(weights, gradients, strict=True):
            update(weight, gradient)


def make_update(rule: UpdateRule, step: Tensor, rates: Rates, momentum_product: Any) -> Update:
    """A function that updates one weight by its gradient."""
    fused = _choose_kernel(rule, step, rates, momentum_product)

    def update(weight: Weight, gradient: Tensor) -> Any:
        if rule.weight_decay:
            weight.value.assign_sub(weight.value * rates.weight_decay * rates.learning_rate)
        return fused(weight.value.handle, [slot.handle for slot in weight.slots], gradient)

    return update


def _choose_kernel(rule: UpdateRule, step: Tensor, rates: Rates, momentum_product: Any) -> Callable[..., Any]:
    """TensorFlow's fused kernel: a function of a weight's handle, its slots' handles and its gradient."""
    raw, rate = tf.raw_ops, rates.learning_rate
    if rule.optimizer == "nadam":
        return _make_nadam(step, rate, momentum_product)
    if rule.optimizer in ("adam", "adamw"):
        powers = {"beta1_power": tf.pow(0.9, step), "beta2_power": tf.pow(0.999, step)}
        fixed = {"lr": rate, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-7}
        return lambda w, s, g: raw.ResourceApplyAdam(var=w, m=s[0], v=s[1], grad=g, **powers, **fixed)
    if rule.optimizer == "rmsprop":
        fixed = {"lr": rate, "rho": 0.9, "momentum": rates.momentum, "epsilon": 1e-7}
        return lambda w, s, g: raw.ResourceApplyRMSProp(var=w, ms=s[0], mom=s[1], grad=g, **fixed)
    if rule.optimizer == "adagrad":
        return lambda w, s, g: raw.ResourceApplyAdagrad(var=w, accum=s[0], lr=rate, grad=g)
    if rule.momentum:
        fixed = {"lr": rate, "momentum": rates.momentum}
        return lambda w, s, g: raw.ResourceApplyKerasMomentum(var=w, accum=s[0], grad=g, **fixed)
    return lambda w, s, g: raw.ResourceApplyGradientDescent(var=w, alpha=rate, delta=g)


def empty_slot(optimizer: str) -> float:
    """What the optimizer's slots hold before the first step."""
    # Keras adds Adagrad's epsilon under the root; the fused kernel has none, so the sum starts with it.
    return 0.1 + 1e-7 if optimizer == "adagrad" else 0.0


def _make_nadam(step: Tensor, rate: Tensor, momentum_product: Any) -> Callable[..., Any]:
    """Nesterov's Adam (Dozat, 2016) as two calls of Adam's kernel: by the momentum, then by the gradient alone."""
    now, after = (0.9 * (1.0 - 0.5 * tf.pow(0.96, step + ahead)) for ahead in (0.0, 1.0))
    product = momentum_product.assign(momentum_product * now)
    root = tf.sqrt(1.0 - tf.pow(0.999, step))
    by_momentum = rate * root * after / (1.0 - product * after)
    by_gradient = rate * root * (1.0 - now) / (1.0 - product)
    fixed = {"beta1_power": 0.0, "beta2_power": 0.0, "epsilon": 1e-7 * root}

    def update(w: Tensor, s: list[Tensor], g: Tensor) -> Any:
        tf.raw_ops.ResourceApplyAdam(var=w, m=s[0], v=s[1], grad=g, lr=by_momentum, beta1=0.9, beta2=0.999, **fixed)
        # With beta1 = 0 and beta2 = 1 the "momentum" is the gradient itself, and the second moment does not change.
        return tf.raw_ops.ResourceApplyAdam(
            var=w, m=s[2], v=s[1], grad=g, lr=by_gradient, beta1=0.0, beta2=1.0, **fixed
        )

    return update
