"""The one module that uses tf.estimator: devices, initial weights, training, evaluation.

Devices                    the devices that flags select
make_estimator             makes a TPUEstimator for CPU, GPU or TPU
load_init_checkpoint       initializes the graph of a model_fn from a checkpoint, with a report
make_model_fn              makes the model_fn of a function that builds a model
train, evaluate, predict   run the estimator
"""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Optional

import numpy as np
from absl import logging
from tqdm import tqdm

import modeling
import optimization
from toolkit.formats import checkpoint_files, checkpoints
from toolkit.records import input_pipeline
from toolkit.support import command_line, files, logs, processes
from toolkit.support.tensorflow_versions import tf
from toolkit.training import distribution, history, hooks, micro_batches

# Function of (features, labels, mode, params) to a tf.estimator.tpu.TPUEstimatorSpec.
ModelFn = Callable[..., Any]
Estimator = Any  # tf.estimator.tpu.TPUEstimator, whose module is loaded when it is needed

_CREATE_OPTIMIZER = optimization.create_optimizer


class Devices(NamedTuple):
  """Devices that the model runs on; the flags of run_flags.define_device_flags."""

  use_tpu: bool = False
  tpu_name: Optional[str] = None
  tpu_zone: Optional[str] = None
  gcp_project: Optional[str] = None
  master: Optional[str] = None
  num_tpu_cores: int = 8
  iterations_per_loop: int = 1000
  distribution_strategy: Optional[str] = None
  num_gpus: Optional[int] = None

  @classmethod
  def of(cls, settings: command_line.Settings) -> "Devices":
    """Returns the devices that settings select."""
    return cls(**{name: settings[name] for name in cls._fields if name in settings})

  def cluster(self) -> distribution.Cluster:
    """Returns the replicas of a training; errors as in distribution.find."""
    return distribution.find(self.distribution_strategy, self.num_gpus, self.use_tpu)

  def check(self, paths: dict[str, Optional[str]], batch_sizes: dict[str, int]) -> None:
    """Checks that a TPU is named, can reach its files, and can divide each batch.

    Args:
      paths: flag name -> path.
      batch_sizes: flag name -> examples of a batch.

    Raises:
      files.InputError: one of these is not so.
    """
    if not self.use_tpu:
      return
    if not (self.tpu_name or self.master):
      raise files.InputError("--use_tpu needs --tpu_name (`local` for a TPU in this machine)")
    for flag, path in paths.items():
      if path and self.tpu_name != "local" and not files.is_remote(path):
        raise files.InputError(
          f"--{flag}: the TPU {self.tpu_name or self.master} cannot read or write {path} on this "
          f"machine; {_copy_hint(path)}, or use --tpu_name=local for a TPU in this machine"
        )
    for flag, size in batch_sizes.items():
      if size % self.num_tpu_cores:
        raise files.InputError(
          f"--{flag}={size} cannot be divided among --num_tpu_cores={self.num_tpu_cores}; give a "
          "multiple of it"
        )

  def resolver(self) -> Any:
    """Returns the TPUClusterResolver of --tpu_name, or None without one.

    Raises:
      files.InputError: the name is not known.
    """
    if not (self.use_tpu and self.tpu_name):
      return None
    make = tf.distribute.cluster_resolver.TPUClusterResolver
    with self._converted_tpu_errors("is not found"):
      return make(self.tpu_name, zone=self.tpu_zone, project=self.gcp_project)

  def find_tpu(self) -> None:
    """Connects to the TPU of --tpu_name, if there is one, and counts its cores.

    Raises:
      files.InputError: it cannot be reached, or has another number of cores than --num_tpu_cores.
    """
    resolver = self.resolver()
    if resolver is None:
      return
    logs.notice("Connecting to the TPU %s ...", self.tpu_name)
    with self._converted_tpu_errors("cannot be reached"):
      num_cores = resolver.get_tpu_system_metadata().num_cores
    if not num_cores:
      raise files.InputError(
        f"--tpu_name={self.tpu_name}: TensorFlow {tf.__version__} finds no TPU there; a machine "
        "with a TPU needs the package tensorflow-tpu, of the same version, in place of tensorflow"
      )
    if num_cores != self.num_tpu_cores:
      raise files.InputError(
        f"--num_tpu_cores={self.num_tpu_cores}: the TPU {self.tpu_name} has another number; give "
        f"--num_tpu_cores={num_cores}"
      )

  @contextlib.contextmanager
  def _converted_tpu_errors(self, what):
    try:
      yield
    except Exception as error:  # the resolver's own kinds, and those of the network
      raise files.InputError(
        f"--tpu_name: the TPU {self.tpu_name} {what}: {files.describe(error)}"
      ) from error


def _copy_hint(path):
  """Returns the part of a message that tells how a remote TPU gets a path of this machine."""
  # A checkpoint is given by its prefix.
  is_prefix = not files.exists(path) and checkpoint_files.exists(path)
  if is_prefix or files.exists(path):
    names = f"{path}.*" if is_prefix else path
    return f"copy it (gcloud storage cp -r {names} gs://BUCKET/) and give the gs:// path"
  return "give a gs:// path"


class Interrupted(SystemExit):
  """A signal ended the training, after a checkpoint; ends the process with 128 + signal."""

  def __init__(self, signal_number: int) -> None:
    super().__init__(128 + signal_number)


# ---- Building -----------------------------------------------------------------------------------


def make_estimator(
  model_fn: ModelFn,
  output_dir: Optional[str],
  devices: Devices,
  *,
  seed: int,
  batch_sizes: dict[str, int],
  keep_checkpoint_max: int = 5,
  cluster: Optional[distribution.Cluster] = None,
  session_config: Optional[tf.ConfigProto] = None,
) -> Estimator:
  """Makes a tf.estimator.tpu.TPUEstimator, which runs on CPU and GPU as well.

  Args:
    model_fn: of the model.
    output_dir: directory of the checkpoints; None for a temporary one.
    devices: to run on.
    seed: of the graph.
    batch_sizes: train_batch_size, eval_batch_size, predict_batch_size, in examples.
    keep_checkpoint_max: number of the last checkpoints that are kept; 0 for all.
    cluster: to train on; default: one replica in this process.
    session_config: None for the estimator's own.

  Raises:
    files.InputError: the TPU is not known.
  """
  tpu = tf.estimator.tpu
  arguments = {
    "cluster": devices.resolver(),
    "master": devices.master,
    "model_dir": output_dir and checkpoint_files.for_tensorflow(output_dir),
    "tf_random_seed": seed,
    "session_config": session_config,
    # CheckpointHook and ProgressHook do this.
    "save_checkpoints_steps": None,
    "save_checkpoints_secs": None,
    "keep_checkpoint_max": keep_checkpoint_max,
    "save_summary_steps": 0,
    "log_step_count_steps": None,
    "tpu_config": tpu.TPUConfig(
      iterations_per_loop=devices.iterations_per_loop,
      num_shards=devices.num_tpu_cores,
      per_host_input_for_training=tpu.InputPipelineConfig.PER_HOST_V2,
    ),
    **(cluster.run_config() if cluster else {}),
  }
  with contextlib.nullcontext() if devices.use_tpu else distribution.without_tf_config():
    config = tpu.RunConfig(**arguments)
  return tpu.TPUEstimator(model_fn=model_fn, config=config, use_tpu=devices.use_tpu, **batch_sizes)


def _log_features(features):
  """Logs the name and shape of each feature of a model_fn."""
  logging.info("*** Features ***")
  for name in sorted(features):
    logging.info("  name = %s, shape = %s", name, features[name].shape)


def log_variables(variables: Iterable[tf.Variable], initialized: set[str]) -> None:
  """Logs the model's trainable variables, and which of them come from a checkpoint."""
  logging.info("**** Trainable Variables ****")
  for variable in variables:
    suffix = ", *INIT_FROM_CKPT*" if variable.name in initialized else ""
    logging.info("  name = %s, shape = %s%s", variable.name, variable.shape, suffix)


# ---- Starting from a checkpoint -----------------------------------------------------------------


def load_init_checkpoint(
  init_checkpoint: Optional[str], use_tpu: bool
) -> tuple[set[str], Optional[Callable[[], tf.train.Scaffold]]]:
  """Initializes the trainable variables of the current graph from a checkpoint, and logs which.

  Variables that it lacks, and heads of another shape, keep their random initial values.

  Args:
    init_checkpoint: a path as checkpoints.resolve_checkpoint takes it; None for random values.
    use_tpu: True for a graph of a TPU.

  Returns:
    The names (with ":0") that are initialized, and the scaffold_fn that a TPU needs in its
    TPUEstimatorSpec, else None.

  Raises:
    files.InputError: the checkpoint does not fit; see checkpoints.compare.
  """
  if not init_checkpoint:
    return set(), None
  prefix = checkpoints.resolve_checkpoint(init_checkpoint)
  saved = checkpoints.read_saved(prefix)
  variables = tf.trainable_variables()
  coverage = saved.compare(
    checkpoints.variable_shapes(variables), checkpoints.variable_types(variables)
  )
  if distribution.is_first_replica():
    saved.names.log(prefix)
    checkpoints.report(coverage, prefix)
  assignment = {saved.names.sources[name]: name for name in coverage.loaded}
  initialized = {name + ":0" for name in coverage.loaded}
  if not use_tpu:
    checkpoint_files.init_from(prefix, assignment)
    return initialized, None

  def scaffold_fn():
    checkpoint_files.init_from(prefix, assignment)
    return tf.train.Scaffold()

  return initialized, scaffold_fn


class Outputs(NamedTuple):
  """The outputs of a model for a batch.

  Attributes:
    objective: None for a model that predicts only.
    eval_metrics: a function and the tensors that it takes, as in TPUEstimatorSpec; None for a
      model_fn that does not evaluate.
    predictions: name -> tensor [B, ...], to which EXAMPLE_INDEX is added where the features have
      it; None for a model_fn that does not predict.
  """

  objective: Optional[optimization.Objective]
  eval_metrics: Optional[tuple[Callable[..., dict[str, Any]], list[tf.Tensor]]] = None
  predictions: Optional[dict[str, tf.Tensor]] = None


@contextlib.contextmanager
def building(
  mode: str,
  features: Optional[dict[str, tf.Tensor]] = None,
  options: micro_batches.StepOptions = micro_batches.DEFAULTS,
) -> Iterator[None]:
  """Context in which a model_fn builds its model, in its fast forms; logs the features.

  Args:
    mode: a tf.estimator.ModeKeys.
    features: name -> tensor [B, ...], the model_fn's; None for no log.
    options: of the training.
  """
  if features is not None and distribution.is_first_replica():
    _log_features(features)
  recompute = options.recompute and mode == tf.estimator.ModeKeys.TRAIN
  # Re-entering the scope resets its counts of names: a part of a batch has the names of the whole.
  scope = tf.variable_scope(tf.get_variable_scope(), auxiliary_name_scope=False)
  with scope, modeling.fast_forms(recompute=recompute):
    yield


def make_model_fn(
  build: Callable[[dict[str, tf.Tensor], str], Outputs],
  init_checkpoint: Optional[str],
  learning_rate: Optional[float],
  num_train_steps: Optional[int],
  num_warmup_steps: Optional[int],
  use_tpu: bool,
  options: micro_batches.StepOptions = micro_batches.DEFAULTS,
) -> ModelFn:
  """Makes the model_fn of a TPUEstimator of a function that builds its model.

  Args:
    build: function of features, name -> tensor [B, ...], and the mode, a tf.estimator.ModeKeys. It
      is called again for the parts of a batch, and gets the same variables by tf.get_variable.
    init_checkpoint: a path as checkpoints.resolve_checkpoint takes it; None for weights that are
      random, or those of the estimator's directory.
    learning_rate, num_train_steps, num_warmup_steps: see optimization.create_optimizer; None for a
      model_fn that does not train.
    use_tpu: True to run on a TPU.
    options: of a training step.

  Returns:
    Function of (features, labels, mode, params) to a TPUEstimatorSpec. It raises ValueError for a
    mode for which Outputs have nothing, and files.InputError for a checkpoint that does not fit,
    see checkpoints.compare.
  """
  training = (learning_rate, num_train_steps, num_warmup_steps, options)

  def model_fn(features, labels, mode, params):
    del labels, params  # the labels are among the features
    with building(mode, features, options):
      outputs = build(features, mode)
    return _make_spec(
      mode, features, outputs, init_checkpoint, use_tpu, training, lambda part: build(part, mode)
    )

  return model_fn


def _make_spec(mode, features, outputs, init_checkpoint, use_tpu, training, build):
  """Makes the TPUEstimatorSpec of a model_fn whose model is built."""
  keys = tf.estimator.ModeKeys
  parts = {
    keys.TRAIN: training,
    keys.EVAL: outputs.eval_metrics,
    keys.PREDICT: outputs.predictions,
  }
  if parts.get(mode) is None:
    known = ", ".join(key for key, part in parts.items() if part is not None)
    raise ValueError(f"this model_fn has the modes {known}, not {mode}")
  initialized, scaffold_fn = load_init_checkpoint(init_checkpoint, use_tpu)
  if distribution.is_first_replica():
    log_variables(tf.trainable_variables(), initialized)
  if mode == keys.TRAIN:
    loss, train_op = _train_step(outputs.objective, build, features, training, use_tpu)
    outcome = {"loss": loss, "train_op": train_op}
  elif mode == keys.EVAL:
    outcome = {"loss": outputs.objective.loss_value(), "eval_metrics": outputs.eval_metrics}
  else:
    places = {key: features[key] for key in (input_pipeline.EXAMPLE_INDEX,) if key in features}
    outcome = {"predictions": {**outputs.predictions, **places}}
  return tf.estimator.tpu.TPUEstimatorSpec(mode=mode, scaffold_fn=scaffold_fn, **outcome)


def _train_step(objective, build, features, training, use_tpu):
  """Returns the loss, float32 scalar, and the train_op; collects the values that are shown."""
  learning_rate, num_train_steps, num_warmup_steps, options = training
  schedule = (learning_rate, num_train_steps, num_warmup_steps, use_tpu)
  if optimization.create_optimizer is not _CREATE_OPTIMIZER:  # a program has replaced it
    loss = objective.loss_value()
    return loss, optimization.create_optimizer(loss, *schedule)
  batch: optimization.Batch = optimization.WholeBatch(objective)
  if options.num_parts > 1:
    batch = micro_batches.BatchInParts(
      objective,
      lambda part: build(part).objective,
      features,
      options.num_parts,
      options.recompute,
    )
  step = optimization.train_step(batch, *schedule, options.update)
  if use_tpu:  # where the estimator reports the loss of one core, and nothing else can be fetched
    return optimization.replica_sum([step.loss], use_tpu)[0], step.train_op
  for name, value in step.shown.items():
    tf.add_to_collection(hooks.PROGRESS, (name, value))
  return step.loss, step.train_op  # the estimator adds up the replicas' losses


# ---- Training -----------------------------------------------------------------------------------


_SIGHUP = getattr(signal, "SIGHUP", None)  # not on Windows
_STOPPING = (signal.SIGINT, signal.SIGTERM, *([_SIGHUP] if _SIGHUP else []))


@contextlib.contextmanager
def _caught_signals():
  """Gives a list to which Ctrl-C, SIGTERM and SIGHUP are appended; a second one acts as outside.

  A SIGHUP that is ignored, as under nohup, stays so.
  """
  caught: list[int] = []
  previous: dict[int, Any] = {}

  def handle(number, _):
    caught.append(number)
    logging.warning("%s: saving a checkpoint ...", signal.Signals(number).name)
    for each, handler in previous.items():
      signal.signal(each, handler)

  with contextlib.suppress(ValueError):  # signals can be caught in the main thread only
    for number in _STOPPING:
      if number != _SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
        previous[number] = signal.signal(number, handle)
  try:
    yield caught
  finally:
    for number, handler in previous.items():
      signal.signal(number, handler)


def train(
  estimator: Estimator,
  make_input_fn: Callable[[int], input_pipeline.InputFn],
  num_steps: int,
  *,
  batch_size: int,
  save_steps: int,
  save_seconds: Optional[float],
  log_steps: int,
  watch: Optional[history.Watch] = None,
  in_segments: bool = False,
  cluster: Optional[distribution.Cluster] = None,
  output_dir: Optional[str] = None,
) -> list[hooks.Trained]:
  """Trains up to a step, from the last checkpoint in the estimator's directory if there is one.

  Args:
    estimator: from make_estimator.
    make_input_fn: makes the input_fn of the training set that goes on from a step.
    num_steps: the step to end at.
    batch_size: examples per step.
    save_steps: steps between checkpoints.
    save_seconds: seconds between checkpoints.
    log_steps: steps between lines of progress.
    watch: evaluates meanwhile and may end the training early.
    in_segments: True if each evaluation ends one session of the training and another one follows. A
      TPU needs that: its memory holds one program.
    cluster: of the estimator; default: one replica in this process. Only the chief saves; in other
      workers the watch must be None.
    output_dir: the estimator's directory as the user names it; default: its own name.

  Returns:
    Steps and times per segment.

  Raises:
    Interrupted: Ctrl-C, SIGTERM or SIGHUP came; a checkpoint was saved.
    files.InputError: the loss became NaN, memory ran out, or a checkpoint cannot be written.
  """
  cluster = cluster or distribution.Cluster()
  output_dir = output_dir or estimator.model_dir
  step = checkpoints.saved_step(output_dir)
  is_over = watch and watch.observe(step, checkpoint_files.latest(output_dir))
  if cluster.from_chief(int(bool(is_over))):
    return []
  made = []
  ends = watch.stops_after(step) if watch and in_segments else [num_steps]
  remedy = "--train_batch_size or --max_seq_length, or give --num_accumulation_steps"
  with _caught_signals() as signals, processes.converted_memory_errors(remedy):
    for end in ends if step < num_steps else []:
      shown_in = output_dir if cluster.is_chief else None
      progress = hooks.ProgressHook(shown_in, num_steps, batch_size, log_steps, cluster.describe())
      inner_watch = None if in_segments else watch
      saver = hooks.CheckpointHook(output_dir, save_steps, save_seconds, inner_watch, progress)
      savers = [saver] if cluster.is_chief else []
      all_hooks = [progress, *savers, cluster.stop_hook(signals)]
      with contextlib.closing(progress):
        estimator.train(make_input_fn(step), hooks=all_hooks, max_steps=end)
      made.append(progress.trained())
      step = checkpoints.saved_step(output_dir)
      if signals or (watch and watch.observe(step, checkpoint_files.latest(output_dir))):
        break
  _log_end(signals, watch if step < num_steps else None, step)
  if signals:
    raise Interrupted(signals[0])
  return made


def _log_end(signals, watch, step):
  """Logs that signals, or a watch that is exhausted, have ended a training after a step."""
  if signals:
    name = signal.Signals(signals[0]).name
    logging.warning(
      "Stopped by %s at step %d, which is saved; the same command continues from there.", name, step
    )
  elif watch and watch.history.is_exhausted():
    best = watch.history.best()["step"]
    logs.notice("Stopping early at step %d: no better evaluation since step %d.", step, best)


# ---- Evaluation and prediction ------------------------------------------------------------------


def _bar(total, description, unit):
  """Makes a progress bar, which leaves nothing behind; none without a terminal."""
  disable = not sys.stderr.isatty()
  return tqdm(
    total=total, desc=description, unit=unit, disable=disable, leave=False, dynamic_ncols=True
  )


def evaluate(
  estimator: Estimator,
  input_fn: input_pipeline.InputFn,
  num_batches: int,
  description: str,
  checkpoint: Optional[str] = None,
) -> dict[str, Any]:
  """Runs the model over batches and returns its metrics.

  Args:
    estimator: from make_estimator.
    input_fn: of batches in order.
    num_batches: number of batches that count.
    description: text of the progress bar.
    checkpoint: prefix of the checkpoint to use; default: the last one, or else the initial weights.

  Returns:
    Metric -> number, `loss` and `global_step` among them.

  Raises:
    files.InputError: memory ran out.
  """
  bar = _bar(num_batches, description, "batch")
  with bar, processes.converted_memory_errors("--eval_batch_size or --max_seq_length"):
    return estimator.evaluate(
      input_fn,
      steps=num_batches,
      hooks=[hooks.BarHook(bar)],
      checkpoint_path=checkpoint and checkpoint_files.for_tensorflow(checkpoint),
    )


def predict(
  estimator: Estimator,
  input_fn: input_pipeline.InputFn,
  num_examples: int,
  description: str,
  checkpoint: Optional[str] = None,
) -> Iterator[dict[str, np.ndarray]]:
  """Runs the model over examples once.

  Args:
    estimator: from make_estimator.
    input_fn: of examples in order, or sorted with input_pipeline.EXAMPLE_INDEX.
    num_examples: number of results; later ones are padding.
    description, checkpoint: see evaluate.

  Yields:
    Name -> array per example, in the order of the input.

  Raises:
    files.InputError: memory ran out.
  """
  bar = _bar(num_examples, description, "ex")
  remedy = "--predict_batch_size, --eval_batch_size or --max_seq_length"
  with bar, processes.converted_memory_errors(remedy):
    path = checkpoint and checkpoint_files.for_tensorflow(checkpoint)
    rows = estimator.predict(input_fn, checkpoint_path=path, yield_single_examples=True)
    for place, row in enumerate(input_pipeline.in_input_order(rows)):
      if place < num_examples:
        bar.update()
        if place % 1000 == 0:
          logging.info("Processing example: %d", place)
        yield row
