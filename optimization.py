"""The training step of BERT: Adam with decoupled weight decay, a warm-up and a linear decay.

Adam: Kingma and Ba 2014, algorithm 1, without its bias correction. Decoupled decay: Loshchilov and
Hutter 2017, algorithm 2. Schedule and constants: Devlin et al. 2018, appendix A.2. Options has the
sources of everything else.
"""

import math
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Optional, Protocol, Union

import tensorflow.compat.v1 as tf

# Collection that holds the learning rate, a float32 scalar, of a graph that trains on CPU or GPU.
LEARNING_RATE = "learning_rate"
# Collection that holds the loss scale, a float32 scalar, of a graph that has one.
LOSS_SCALE = "loss_scale"

# Steps without an overflow after which the loss scale is doubled (Micikevicius et al. 2018).
LOSS_SCALE_STEPS = 2000


class Options(NamedTuple):
  """Options of the update of a training step; the defaults are BERT's.

  Attributes:
    clip_norm: the global norm that gradients are clipped to.
    schedule: the learning rate after the warm-up, a key of SCHEDULES.
    layerwise_decay: factor of the learning rate per layer below the pooler and the heads. Layer l
      of L, from 0, has layerwise_decay**(L - l) of their rate; the embeddings have
      layerwise_decay**(L + 1). For fine-tuning: Clark et al. 2020 (ELECTRA), appendix B, after
      Howard and Ruder 2018, section 3.2.
    freeze_layers: number of the encoder's layers that are frozen, the lowest first.
    freeze_embeddings: freezes the embedding tables, which the masked language model shares, and
      their LayerNorm.
    loss_scale: first factor of the loss, by which gradients are divided; 0 for none. It keeps
      gradients in float16 from vanishing. A step whose gradients overflow is skipped and halves it.
      LOSS_SCALE_STEPS steps without an overflow double it (Micikevicius et al. 2018, section 3.2).
  """

  clip_norm: float = 1.0
  schedule: str = "linear"
  layerwise_decay: float = 1.0
  freeze_layers: int = 0
  freeze_embeddings: bool = False
  loss_scale: float = 0.0


DEFAULTS = Options()


class Step(NamedTuple):
  """A training step.

  Attributes:
    train_op: operation that updates all trainable variables but the frozen ones, and adds 1 to the
      global step.
    loss: float32 scalar, this replica's share of the mean loss over all replicas.
    shown: name -> float32 scalar, the means over all replicas of Objective.shown.
  """

  train_op: tf.Operation
  loss: tf.Tensor
  shown: dict[str, tf.Tensor]


# ---- The loss -----------------------------------------------------------------------------------


class Mean(NamedTuple):
  """A mean over the scored items of a batch, or of a part of it.

  Attributes:
    value: float32 scalar.
    count: float32 scalar, above 0: the divisor of the mean. It depends on the data alone, not on
      the model.
  """

  value: tf.Tensor
  count: Union[float, tf.Tensor]  # type: ignore[assignment] # hides tuple.count

  def share(self, whole_count: Union[float, tf.Tensor]) -> tf.Tensor:
    """Computes the part's contribution, float32 scalar, to the mean over `whole_count` items."""
    return self.value * (self.count / whole_count)


def mean_of_examples(value: tf.Tensor, examples: tf.Tensor) -> Mean:
  """Makes the Mean of a value over the B examples of a tensor [B, ...]."""
  batch_size = examples.shape.as_list()[0]
  if batch_size is None:
    batch_size = tf.shape(examples)[0]
  return Mean(value, tf.cast(batch_size, tf.float32))


class Objective(NamedTuple):
  """The loss of a training, and the values shown beside it.

  A loss is a sum of means over the scored items of a batch: examples, masked words, tagged words.

  Attributes:
    loss: the terms; the loss is the sum of their values.
    shown: name -> value that is shown beside the loss.
    sees_padding: True if the loss depends on the length that sequences are padded to.
  """

  loss: list[Mean]
  shown: Optional[dict[str, Mean]] = None
  sees_padding: bool = False

  def loss_value(self) -> tf.Tensor:
    """Adds up the loss, float32 scalar."""
    return sum(mean.value for mean in self.loss)

  def means(self) -> list[Mean]:
    """Lists each Mean of the loss, then those that are shown."""
    return [*self.loss, *(self.shown or {}).values()]


Gradients = list[Optional[tf.Tensor]]  # dense; None for a variable without part in the loss


class Batch(Protocol):
  """The batch of a replica, for train_step."""

  objective: Objective

  def gradients(
    self, to_lower: Callable[[Objective], tf.Tensor], variables: list[tf.Variable]
  ) -> tuple[Gradients, Objective]:
    """Differentiates a loss; see WholeBatch.gradients."""
    ...


class WholeBatch:
  """A batch that is computed at once."""

  def __init__(self, objective: Objective) -> None:
    """Keeps the Objective of the batch."""
    self.objective = objective

  def gradients(
    self, to_lower: Callable[[Objective], tf.Tensor], variables: list[tf.Variable]
  ) -> tuple[Gradients, Objective]:
    """Differentiates a loss.

    Args:
      to_lower: computes the loss, float32 scalar, a sum of shares; see Mean.share.
      variables: those to differentiate by.

    Returns:
      The gradients, and the objective of the batch.
    """
    return dense_gradients(to_lower(self.objective), variables), self.objective


def dense_gradients(loss: tf.Tensor, variables: list[tf.Variable]) -> Gradients:
  """Computes the gradients of a scalar as dense tensors; None for a variable without part in it.

  Slices of an embedding table may name a row twice: only the dense sum has the right norm.
  """
  gradients = tf.gradients(loss, variables)
  return [None if g is None else tf.convert_to_tensor(g) for g in gradients]


# ---- The training step --------------------------------------------------------------------------


def create_optimizer(
  loss: tf.Tensor,
  init_lr: float,
  num_train_steps: int,
  num_warmup_steps: Optional[int],
  use_tpu: bool,
  options: Options = DEFAULTS,
) -> tf.Operation:
  """Builds the operation of one training step.

  Gradients are made dense, summed over all replicas, and then clipped once to a global norm.
  Frozen variables have no gradients, no part in the norm, and no slots.

  Args:
    loss: float32 scalar, the mean over this replica's examples.
    init_lr: the highest learning rate.
    num_train_steps: steps after which the learning rate is 0.
    num_warmup_steps: steps in which the learning rate rises from 0.
    use_tpu: True if the graph is built for the cores of a TPU.
    options: options of the update.

  Returns:
    An operation that updates all trainable variables but the frozen ones, and adds 1 to the global
    step.

  Raises:
    ValueError: the schedule is unknown.
  """
  batch = WholeBatch(Objective([Mean(loss, 1.0)]))
  arguments = (init_lr, num_train_steps, num_warmup_steps, use_tpu, options)
  return train_step(batch, *arguments).train_op


def train_step(
  batch: Batch,
  init_lr: float,
  num_train_steps: int,
  num_warmup_steps: Optional[int],
  use_tpu: bool,
  options: Options = DEFAULTS,
) -> Step:
  """Builds one training step of a batch; see create_optimizer.

  Args:
    batch: this replica's. The means of its loss are taken over all replicas.
    init_lr, num_train_steps, num_warmup_steps, use_tpu, options: see create_optimizer.

  Raises:
    ValueError: the schedule is unknown.
  """
  global_step = tf.train.get_or_create_global_step()
  learning_rate = learning_rate_schedule(
    init_lr, num_train_steps, num_warmup_steps, global_step + 1, options.schedule
  )
  if not use_tpu:  # nothing inside a TPU's computation can be fetched
    tf.add_to_collection(LEARNING_RATE, learning_rate)
  trainable = tf.trainable_variables()
  num_layers = max((_depth(variable.name) or 0 for variable in trainable), default=0)
  variables = [variable for variable in trainable if not is_frozen(variable.name, options)]
  scale = LossScale(options.loss_scale) if options.loss_scale else None
  gradients, loss, shown = _over_replicas(batch, variables, use_tpu, scale)
  norm = tf.global_norm(gradients)
  gradients, _ = tf.clip_by_global_norm(gradients, options.clip_norm, norm)
  is_applied = None
  if scale:  # an overflow somewhere has made the norm infinite or NaN
    is_applied = tf.math.is_finite(norm)
    gradients = [g if g is None else tf.where(is_applied, g, tf.zeros_like(g)) for g in gradients]
  # What the classic optimizer lacks is given only if it is needed: programs replace the class.
  more = {} if is_applied is None else {"is_applied": is_applied}
  if options.layerwise_decay != 1.0:
    more["rate_factor"] = lambda name: _layer_factor(name, num_layers, options.layerwise_decay)
  optimizer = AdamWeightDecayOptimizer(
    learning_rate,
    weight_decay_rate=0.01,
    exclude_from_weight_decay=["LayerNorm", "layer_norm", "bias"],
    **more,
  )
  is_summed: dict[str, Any] = {"sum_over_replicas": False} if tf.distribute.has_strategy() else {}
  update = optimizer.apply_gradients(zip(gradients, variables), **is_summed)
  updates = [update, scale.adapt(is_applied)] if scale else [update]
  with tf.control_dependencies(updates):
    made = 1 if is_applied is None else tf.cast(is_applied, tf.int64)
    return Step(tf.group(tf.assign_add(global_step, made)), loss, shown)


def _depth(name):
  """Finds a variable's depth: 0 in the embeddings, l + 1 in layer l, None in pooler and heads."""
  place = re.match(r"bert/(embeddings|encoder/layer_(\d+))/", name)
  if place is None:
    return None
  return 0 if place[2] is None else int(place[2]) + 1


def is_frozen(name: str, options: Options) -> bool:
  """Returns True if a variable of this name, such as "bert/pooler/dense/bias", is frozen."""
  depth = _depth(name)
  if depth == 0:
    return options.freeze_embeddings
  return depth is not None and depth <= options.freeze_layers


def _layer_factor(name, num_layers, decay):
  """Computes the factor of the learning rate; with 2 layers and decay d: d^3, d^2, d and 1."""
  depth = _depth(name)
  return 1.0 if depth is None else decay ** (num_layers + 1 - depth)


# ---- The learning rate --------------------------------------------------------------------------


def _linear(step, total, warmup):
  del warmup
  return 1.0 - step / total


def _constant(step, total, warmup):
  del total, warmup
  return tf.ones_like(step)


def _cosine(step, total, warmup):
  return 0.5 * (1.0 + tf.cos(math.pi * (step - warmup) / max(total - warmup, 1.0)))


# Functions of step, float32 scalar, and of the numbers of all steps and of warm-up steps.
SCHEDULES = {"linear": _linear, "constant": _constant, "cosine": _cosine}


def learning_rate_schedule(
  init_lr: float,
  num_train_steps: int,
  num_warmup_steps: Optional[int],
  step: tf.Tensor,
  schedule: str = "linear",
) -> tf.Tensor:
  """Computes the learning rate of a step: a linear warm-up, then the schedule.

  n is the step, N the number of all steps, w the number of warm-up steps:

    warm-up   n / w                                    for n < w
    linear    1 - n / N                                BERT's own, counted from step 0
    constant  1
    cosine    (1 + cos(pi * (n - w) / (N - w))) / 2    Loshchilov and Hutter 2016, equation 5

  For N = 10 and w = 4 the steps 1 to 10 have

    linear    .25 .5 .75 .6 .5  .4  .3  .2  .1  0
    cosine    .25 .5 .75 1  .93 .75 .5 .25  .07 0

  Args:
    init_lr: factor of the values above.
    num_train_steps: the last step; later ones have its rate.
    num_warmup_steps: steps of warm-up; None for none.
    step: int64 scalar, the number of the step, from 1.
    schedule: a key of SCHEDULES.

  Returns:
    float32 scalar.

  Raises:
    ValueError: the schedule is unknown.
  """
  if schedule not in SCHEDULES:
    raise ValueError(f"unknown schedule {schedule!r}; known are {', '.join(SCHEDULES)}")
  step = tf.cast(step, tf.float32)
  total, warmup = float(num_train_steps), float(int(num_warmup_steps or 0))
  rate = init_lr * SCHEDULES[schedule](tf.minimum(step, total), total, warmup)
  if warmup:
    rate = tf.where(step < warmup, init_lr * step / warmup, rate)
  return rate


# ---- Replicas -----------------------------------------------------------------------------------


def replica_sum(tensors: list[tf.Tensor], use_tpu: bool = False) -> list[tf.Tensor]:
  """Sums each tensor over all replicas; each replica has the sums."""
  if use_tpu:
    return [tf.tpu.cross_replica_sum(t) for t in tensors]
  context = tf.distribute.get_replica_context()
  if context is None or context.num_replicas_in_sync == 1 or not tensors:
    return tensors

  def reduce(strategy, tensors):
    # context.all_reduce has a gradient, which fails to find replicated variables.
    pairs = [(tensor, tensor) for tensor in tensors]
    return strategy.extended.batch_reduce_to(tf.distribute.ReduceOp.SUM, pairs)

  return context.merge_call(reduce, args=(tensors,))


# ---- Gradients and Adam -------------------------------------------------------------------------


def _over_replicas(batch, variables, use_tpu, scale):
  """Differentiates the mean loss over all replicas.

  Returns:
    The gradients, and the loss and shown of Step.
  """
  means = batch.objective.means()
  counts = replica_sum([tf.convert_to_tensor(mean.count) for mean in means], use_tpu)

  def loss_share(objective):  # the one place that scales losses
    return sum(mean.share(count) for mean, count in zip(objective.loss, counts))

  def to_lower(objective):
    share = loss_share(objective)
    return share if scale is None else share * scale.value

  gradients, objective = batch.gradients(to_lower, variables)
  summed = replica_sum([g for g in gradients if g is not None], use_tpu)
  if scale is not None:
    summed = [gradient / scale.value for gradient in summed]
  unused = iter(summed)
  gradients = [None if g is None else next(unused) for g in gradients]
  shown, num_terms = objective.shown or {}, len(objective.loss)
  shares = [mean.share(count) for mean, count in zip(shown.values(), counts[num_terms:])]
  return gradients, loss_share(objective), dict(zip(shown, replica_sum(shares, use_tpu)))


class LossScale:
  """A factor of the loss for gradients in float16; see Options.

  Its variables are left out of checkpoints, so that each precision can resume from any checkpoint.
  A resumed run searches its scale anew.
  """

  def __init__(self, start: float) -> None:
    """Makes a scale that begins with `start`."""
    self._value = self._variable("loss_scale", start)
    self._good_steps = self._variable("loss_scale_good_steps", 0.0)
    self.value = self._value.read_value()  # float32 scalar, that of this step
    tf.add_to_collection(LOSS_SCALE, self.value)

  @staticmethod
  def _variable(name, start):
    return tf.get_variable(
      name,
      initializer=tf.constant(start, tf.float32),
      trainable=False,
      collections=[tf.GraphKeys.LOCAL_VARIABLES],
      aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )

  def adapt(self, is_finite: tf.Tensor) -> tf.Operation:
    """Builds the operation after a step; bool scalar, True if its gradients were finite."""
    good_steps = tf.where(is_finite, self._good_steps.read_value() + 1.0, 0.0)
    grows = good_steps >= LOSS_SCALE_STEPS
    good_scale = tf.where(grows, 2.0 * self.value, self.value)
    scale = tf.where(is_finite, good_scale, tf.maximum(self.value / 2.0, 1.0))
    return tf.group(
      tf.assign(self._value, scale),
      tf.assign(self._good_steps, tf.where(grows, 0.0, good_steps)),
    )


class AdamWeightDecayOptimizer(tf.train.Optimizer):
  """Adam without bias correction, with weight decay outside of the gradient's moments.

    m <- beta_1 m + (1 - beta_1) g
    v <- beta_2 v + (1 - beta_2) g^2
    w <- w - learning_rate (m / (sqrt(v) + epsilon) + weight_decay_rate w)

  The moments are the slots `<variable>/adam_m` and `<variable>/adam_v`.
  """

  def __init__(
    self,
    learning_rate: Union[float, tf.Tensor],
    weight_decay_rate: float = 0.0,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-6,
    exclude_from_weight_decay: Optional[list[str]] = None,
    name: str = "AdamWeightDecayOptimizer",
    rate_factor: Optional[Callable[[str], float]] = None,
    is_applied: Optional[tf.Tensor] = None,
  ) -> None:
    """Makes an optimizer.

    Args:
      learning_rate: float32 scalar.
      weight_decay_rate: per step, times the learning rate.
      beta_1: decay of the gradients' running mean.
      beta_2: decay of the squared gradients' running mean.
      epsilon: added to the root of the second moment.
      exclude_from_weight_decay: regular expressions; a variable whose name contains a match is not
        decayed.
      name: scope of the optimizer's operations.
      rate_factor: returns the factor of the learning rate for a variable's name; default: 1 for
        all.
      is_applied: bool scalar. If it is False and the gradients are finite, no variable changes.
    """
    super().__init__(use_locking=False, name=name)
    self.learning_rate = learning_rate
    self.weight_decay_rate = weight_decay_rate
    self.beta_1 = beta_1
    self.beta_2 = beta_2
    self.epsilon = epsilon
    self.exclude_from_weight_decay = exclude_from_weight_decay
    self.rate_factor = rate_factor or (lambda name: 1.0)
    self.is_applied = is_applied

  def apply_gradients(
    self,
    grads_and_vars: Iterable[tuple[Optional[tf.Tensor], tf.Variable]],
    global_step: Optional[tf.Variable] = None,
    name: Optional[str] = None,
    sum_over_replicas: bool = True,
  ) -> tf.Operation:
    """Updates variables.

    Args:
      grads_and_vars: gradients with their variables; those without a gradient are left alone.
      global_step: ignored; it is there because tf.train.Optimizer has it.
      name: that of the operation.
      sum_over_replicas: False if the gradients are already summed over the replicas.
    """
    del global_step
    pairs = [(tf.convert_to_tensor(g), v) for g, v in grads_and_vars if g is not None]
    if not pairs:
      return tf.no_op(name=name)
    if sum_over_replicas or not tf.distribute.has_strategy():
      return super().apply_gradients(pairs, name=name)
    context = tf.distribute.get_replica_context()
    return context.merge_call(self._apply_summed, args=(pairs,), kwargs={"name": name})

  def _apply_summed(self, strategy, pairs, name=None):
    """Updates each replica's copy of the variables with gradients that are equal everywhere."""
    with tf.init_scope():
      self._create_slots([variable for _, variable in pairs])
    self._prepare()
    updates = [
      strategy.extended.update(variable, self._update, args=(gradient,), group=True)
      for gradient, variable in pairs
    ]
    return tf.group(*updates, name=name)

  def _create_slots(self, var_list):
    for variable in var_list:
      for slot in ("adam_m", "adam_v"):
        self._zeros_slot(variable, slot, slot)

  def _resource_apply_dense(self, grad, handle):
    return self._update(handle, grad)

  def _apply_dense(self, grad, var):
    return self._update(var, grad)

  def _update(self, variable, gradient):
    """Decays the weights, then calls TensorFlow's one-pass Adam.

    That kernel computes its bias correction from beta1_power and beta2_power; 0 turns it off.
    """
    name = self._get_variable_name(variable.name)
    rate = tf.cast(self.learning_rate * self.rate_factor(name), variable.dtype.base_dtype)
    rate = self._if_applied(rate, 0.0)
    # The gradient first: it must be computed from the weights before the decay.
    with tf.control_dependencies([gradient]):
      decay = []
      if self._do_use_weight_decay(name):
        decayed = variable.read_value() * (1.0 - rate * self.weight_decay_rate)
        decay = [variable.assign(decayed, read_value=False)]
    kernel = tf.raw_ops.ApplyAdam
    variables = [variable, self.get_slot(variable, "adam_m"), self.get_slot(variable, "adam_v")]
    if hasattr(variable, "handle"):
      kernel, variables = tf.raw_ops.ResourceApplyAdam, [v.handle for v in variables]
    weights, m, v = variables
    with tf.control_dependencies(decay):
      return kernel(
        var=weights,
        m=m,
        v=v,
        beta1_power=0.0,
        beta2_power=0.0,
        lr=rate,
        beta1=self._if_applied(self.beta_1, 1.0),
        beta2=self._if_applied(self.beta_2, 1.0),
        epsilon=self.epsilon,
        grad=gradient,
      )

  def _if_applied(self, value, otherwise):
    return value if self.is_applied is None else tf.where(self.is_applied, value, otherwise)

  def _do_use_weight_decay(self, param_name):
    """Returns True if a variable of this name is decayed."""
    excluded = any(
      re.search(pattern, param_name) for pattern in self.exclude_from_weight_decay or []
    )
    return bool(self.weight_decay_rate) and not excluded

  def _get_variable_name(self, param_name):
    """Removes the output number of a tensor's name: "bert/x:0" -> "bert/x"."""
    return re.sub(r":\d+$", "", param_name)
