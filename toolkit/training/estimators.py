"""The one room that deals with tf.estimator: where a model runs, what it starts from, and how.

make_estimator             a TPUEstimator for CPU, GPU or TPU
load_init_checkpoint       pre-trained weights into the graph of a model_fn, with a report
make_spec                  the end of each model_fn
train, evaluate, predict   the calls that scripts make
"""

import contextlib
import ctypes
import os
import re
import signal
import sys
from typing import NamedTuple, Optional

from absl import logging
from tqdm import tqdm

import modeling
import optimization
from toolkit.formats import model_directory
from toolkit.records import input_pipeline
from toolkit.support import files, tensorflow_versions
from toolkit.support.tensorflow_versions import tf
from toolkit.training import distribution, hooks, micro_batches

ENCODER_SCOPE = "bert/"
POOLER = "bert/pooler/"
SLOT_SUFFIXES = ("/adam_m", "/adam_v")
# TensorFlow's switch, read once, that gives each session threads of its own, as many as it asks
# for, in place of those that the first session of the process has asked for.
OWN_THREADS = "TF_OVERRIDE_GLOBAL_THREADPOOL"

# Numbers of malloc.h: M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_THRESHOLD (32 MiB is its maximum).
_MALLOC_OPTIONS = {-1: 2**31 - 1, -2: 2**26, -3: 2**25}


class Devices(NamedTuple):
  """Where the model runs; the flags of common_flags.define_device_flags."""

  use_tpu: bool = False
  tpu_name: Optional[str] = None
  tpu_zone: Optional[str] = None
  gcp_project: Optional[str] = None
  master: Optional[str] = None
  num_tpu_cores: int = 8
  iterations_per_loop: int = 1000
  distribution_strategy: Optional[str] = None
  num_gpus: Optional[int] = None

  def cluster(self):
    """distribution.Cluster that a training runs on; files.InputError as distribution.find."""
    return distribution.find(self.distribution_strategy, self.num_gpus, self.use_tpu)

  def check(self, paths, batch_sizes):
    """Makes sure that a TPU is named, can reach its files, and can divide each batch.

    Args:
      paths: dict of flag name -> path or None.
      batch_sizes: dict of flag name -> int.

    Raises:
      files.InputError: no TPU is named, a remote one would need files of this machine, or a batch
        cannot be divided among the cores.
    """
    if not self.use_tpu:
      return
    if not (self.tpu_name or self.master):
      raise files.InputError("--use_tpu needs --tpu_name (`local` for a TPU in this machine)")
    for flag, path in paths.items():
      if path and self.tpu_name != "local" and not files.is_remote(path):
        raise files.InputError(
          f"--{flag}: the TPU {self.tpu_name or self.master} cannot read or write {path} on this "
          f"machine; {_way_to_bucket(path)}, or use --tpu_name=local for a TPU in this machine"
        )
    for flag, size in batch_sizes.items():
      if size % self.num_tpu_cores:
        raise files.InputError(
          f"--{flag}={size} cannot be divided among --num_tpu_cores={self.num_tpu_cores}; give a "
          "multiple of it"
        )

  def resolver(self):
    """The tf.distribute.cluster_resolver.TPUClusterResolver of --tpu_name; None without one.

    Raises:
      files.InputError: the name is not known.
    """
    if not (self.use_tpu and self.tpu_name):
      return None
    make = tf.distribute.cluster_resolver.TPUClusterResolver
    with self._explained_tpu_errors("is not found"):
      return make(self.tpu_name, zone=self.tpu_zone, project=self.gcp_project)

  def find_tpu(self):
    """Connects to the TPU of --tpu_name, if there is one, and counts its cores.

    Raises:
      files.InputError: it cannot be reached, or has another number of cores than --num_tpu_cores.
    """
    resolver = self.resolver()
    if resolver is None:
      return
    logging.info("Connecting to the TPU %s ...", self.tpu_name)
    with self._explained_tpu_errors("cannot be reached"):
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
  def _explained_tpu_errors(self, what):
    try:
      yield
    except Exception as error:  # the resolver's own kinds, and those of the network
      raise files.InputError(
        f"--tpu_name: the TPU {self.tpu_name} {what}: {files.describe(error)}"
      ) from error


def _way_to_bucket(path):
  """What to do about a path of this machine that a remote TPU is to use, as part of a message."""
  names = path if files.exists(path) else f"{path}.*"  # a checkpoint is given by its prefix
  if files.glob(names):
    return f"copy it (gcloud storage cp -r {names} gs://BUCKET/) and give the gs:// path"
  return "give a gs:// path"


class Interrupted(SystemExit):
  """A signal ended the training, and what it did is saved; ends the process with 128 + signal."""

  def __init__(self, signal_number):
    super().__init__(128 + signal_number)


# ---- Building -----------------------------------------------------------------------------------


def prepare_process():
  """Sets up the process of a script: graph mode, errors alone of TensorFlow, reuse of memory.

  Raises:
    files.InputError: this TensorFlow cannot be used; see tensorflow_versions.check.
  """
  tensorflow_versions.check()
  os.environ.setdefault(OWN_THREADS, "1")
  tf.disable_eager_execution()
  tf.logging.set_verbosity(tf.logging.ERROR)
  _keep_freed_memory()


def _keep_freed_memory():
  """Lets the C library keep the memory that a step frees, for the next step to use again.

  By default each step gives some gigabytes back to the system and asks for them again, zeroed page
  by page: 15 % of a training step. Does nothing without glibc, or where the user tuned malloc.
  """
  if any(name.startswith("MALLOC_") for name in os.environ) or "GLIBC_TUNABLES" in os.environ:
    return
  try:
    mallopt = ctypes.CDLL(None).mallopt
  except (AttributeError, OSError, TypeError):  # not Linux, or another C library
    return
  for option, value in _MALLOC_OPTIONS.items():
    mallopt(option, value)


def make_estimator(
  model_fn,
  output_dir,
  devices,
  seed,
  batch_sizes,
  keep_checkpoint_max=5,
  cluster=None,
  session_config=None,
):
  """Makes the TPUEstimator, which runs on CPU and GPU as well.

  Args:
    model_fn: function of (features, labels, mode, params) to a TPUEstimatorSpec.
    output_dir: str, where checkpoints are; None for a temporary directory.
    devices: Devices.
    seed: int, seed of the graph.
    batch_sizes: dict with train_batch_size, eval_batch_size, predict_batch_size, examples.
    keep_checkpoint_max: int, how many of the last checkpoints are kept; 0 for all.
    cluster: distribution.Cluster to train on; default: one replica in this process.
    session_config: tf.ConfigProto, or None for the estimator's own.

  Returns:
    tf.estimator.tpu.TPUEstimator.

  Raises:
    files.InputError: the TPU is not known.
  """
  tpu = tf.estimator.tpu
  settings = {
    "cluster": devices.resolver(),
    "master": devices.master,
    "model_dir": output_dir,
    "tf_random_seed": seed,
    "session_config": session_config,
    # CheckpointHook and ProgressHook see to these.
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
  if devices.use_tpu:
    config = tpu.RunConfig(**settings)
  else:
    with distribution.without_tf_config():
      config = tpu.RunConfig(**settings)
  return tpu.TPUEstimator(model_fn=model_fn, config=config, use_tpu=devices.use_tpu, **batch_sizes)


def log_features(features):
  """Logs the name and shape of each feature that a model_fn was given."""
  if not distribution.is_first_replica():
    return
  logging.info("*** Features ***")
  for name in sorted(features):
    logging.info("  name = %s, shape = %s", name, features[name].shape)


def log_variables(variables, initialized):
  """Logs the model's trainable variables, and which of them come from a checkpoint."""
  logging.info("**** Trainable Variables ****")
  for variable in variables:
    suffix = ", *INIT_FROM_CKPT*" if variable.name in initialized else ""
    logging.info("  name = %s, shape = %s%s", variable.name, variable.shape, suffix)


# ---- Starting from a checkpoint -----------------------------------------------------------------


class Coverage(NamedTuple):
  """How a checkpoint and a model's variables match.

  Attributes:
    loaded: names found in both, with one shape.
    missing: names that the checkpoint lacks.
    reshaped: list of (name, shape in the model, shape in the checkpoint), heads only.
    unused: names that only the checkpoint has, optimizer slots left out.
  """

  loaded: list[str]
  missing: list[str]
  reshaped: list[tuple[str, list[int], list[int]]]
  unused: list[str]


def resolve_checkpoint(path, flag="init_checkpoint"):
  """The prefix of the checkpoint that a path means.

  Args:
    path: str, a prefix, the name of an .index or .data file, or a directory.
    flag: str, the flag that gave it, for the message.

  Returns:
    str, a prefix.

  Raises:
    files.InputError: there is no checkpoint.
  """
  prefix = re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", path)
  if files.is_directory(path):
    prefix = model_directory.trained_checkpoint(path)
    found = [name[: -len(".index")] for name in files.glob(os.path.join(path, "*.index"))]
    if prefix is None and len(found) != 1:
      what = "several checkpoints, name one of them" if found else "no checkpoint"
      raise files.InputError(
        f"--{flag}: the directory {path} has {what} {' '.join(found)}".rstrip()
      )
    prefix = prefix or found[0]
  if not tf.train.checkpoint_exists(prefix):
    raise files.InputError(f"--{flag}: there is no checkpoint {path} (no file {prefix}.index)")
  return prefix


def checkpoint_shapes(prefix, flag="init_checkpoint"):
  """Dict of variable name -> shape, a list of int, in a checkpoint.

  Raises:
    files.InputError: the file is no checkpoint.
  """
  try:
    return dict(tf.train.list_variables(prefix))
  except (tf.errors.OpError, ValueError) as error:
    raise files.InputError(
      f"--{flag}: {prefix} cannot be read as a checkpoint: {files.describe(error)}"
    ) from error


def compare(model_shapes, saved_shapes, prefix, flag="init_checkpoint") -> Coverage:
  """Compares a model's variables with a checkpoint's.

  Args:
    model_shapes: dict of name -> shape, a list of int.
    saved_shapes: the same for the checkpoint.
    prefix: str, name of the checkpoint, for messages.
    flag: str, the flag that gave it, for messages.

  Raises:
    files.InputError: the checkpoint has none of the encoder's variables, or one of another shape.
  """
  loaded, missing, reshaped = [], [], []
  for name, shape in model_shapes.items():
    if name not in saved_shapes:
      missing.append(name)
    elif list(saved_shapes[name]) == list(shape):
      loaded.append(name)
    elif name.startswith(ENCODER_SCOPE):
      raise files.InputError(_other_shape(name, shape, saved_shapes[name], prefix, flag))
    else:
      reshaped.append((name, list(shape), list(saved_shapes[name])))
  if not any(name.startswith(ENCODER_SCOPE) for name in loaded):
    found = ", ".join(sorted(saved_shapes)[:3])
    raise files.InputError(
      f"--{flag}: {prefix} has none of BERT's variables ({ENCODER_SCOPE}...); it has "
      f"{found or 'none at all'}"
    )
  unused = sorted(
    name
    for name in saved_shapes
    if name not in model_shapes and name != "global_step" and not name.endswith(SLOT_SUFFIXES)
  )
  return Coverage(loaded, missing, reshaped, unused)


def _other_shape(name, shape, saved_shape, prefix, flag):
  """The message about an encoder variable of another shape, with its likely cause."""
  rows_of = {
    "word_embeddings": "vocab_size",
    "position_embeddings": "max_position_embeddings",
    "token_type_embeddings": "type_vocab_size",
  }
  cause = "hidden_size or intermediate_size"
  if name.rsplit("/", 1)[-1] in rows_of and saved_shape[1:] == shape[1:]:
    cause = rows_of[name.rsplit("/", 1)[-1]]
  return (
    f"--{flag}: {name} has shape {list(saved_shape)} in {prefix}, and {list(shape)} by "
    f"--bert_config_file; {cause} differs: they are of different models"
  )


def check_checkpoint(config, checkpoint, flag):
  """Compares an encoder with a checkpoint before any work is done.

  Args:
    config: modeling.BertConfig.
    checkpoint: str, a path as resolve_checkpoint takes it.
    flag: str, the flag that gave it, for messages.

  Raises:
    files.InputError: there is no such checkpoint, or it does not fit.
  """
  prefix = resolve_checkpoint(checkpoint, flag)
  saved_shapes = checkpoint_shapes(prefix, flag)
  with tf.Graph().as_default():
    modeling.BertModel(config, is_training=False, input_ids=tf.zeros([1, 1], tf.int32))
    compare(_shapes(tf.trainable_variables()), saved_shapes, prefix, flag)


def _shapes(variables) -> dict[str, list[int]]:
  return {re.sub(r":\d+$", "", v.name): v.shape.as_list() for v in variables}


def save_checkpoint(prefix, tensors):
  """Writes a checkpoint in TensorFlow's format V2. It appears when it is complete.

  Args:
    prefix: str.
    tensors: dict of variable name -> array.
  """
  with tf.Graph().as_default():
    values = [tf.placeholder(value.dtype, value.shape) for value in tensors.values()]
    save = tf.raw_ops.SaveV2(
      prefix=prefix,
      tensor_names=list(tensors),
      shape_and_slices=[""] * len(tensors),
      tensors=values,
    )
    with tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})) as session:
      session.run(save, dict(zip(values, tensors.values())))


def load_init_checkpoint(init_checkpoint, use_tpu):
  """Initialises the trainable variables of the current graph from a checkpoint, and says how.

  Variables that it lacks, and heads of another shape, keep their random start.

  Args:
    init_checkpoint: str, a path as resolve_checkpoint takes it, or None.
    use_tpu: bool.

  Returns:
    A pair: the set of names (with ":0") that are initialised, and a scaffold_fn for a
    TPUEstimatorSpec, which a TPU needs, or None.

  Raises:
    files.InputError: the checkpoint does not fit; see compare.
  """
  if not init_checkpoint:
    return set(), None
  prefix = resolve_checkpoint(init_checkpoint)
  coverage = compare(_shapes(tf.trainable_variables()), checkpoint_shapes(prefix), prefix)
  if distribution.is_first_replica():
    _report(coverage, prefix)
  assignment = {name: name for name in coverage.loaded}
  initialized = {name + ":0" for name in coverage.loaded}
  if not use_tpu:
    tf.train.init_from_checkpoint(prefix, assignment)
    return initialized, None

  def scaffold_fn():
    tf.train.init_from_checkpoint(prefix, assignment)
    return tf.train.Scaffold()

  return initialized, scaffold_fn


class Outputs(NamedTuple):
  """What a model gives for a batch.

  Attributes:
    objective: optimization.Objective; None for a model that predicts only.
    eval_metrics: pair of a function and the list of tensors that it takes, as TPUEstimatorSpec has
      it; None for a model_fn that does not evaluate.
    predictions: dict of name -> tensor [B, ...], to which EXAMPLE_INDEX is added where the features
      have it; None for a model_fn that does not predict.
  """

  objective: Optional[optimization.Objective]
  eval_metrics: Optional[tuple] = None
  predictions: Optional[dict] = None


def make_spec(
  mode, features, build, init_checkpoint, use_tpu, training=None, options=micro_batches.DEFAULTS
):
  """The whole of a model_fn but its model.

  Args:
    mode: a tf.estimator.ModeKeys.
    features: dict of name -> tensor [B, ...], the model_fn's.
    build: function of such a dict to Outputs. It makes the same variables each time, by
      tf.get_variable.
    init_checkpoint: str or None, see load_init_checkpoint.
    use_tpu: bool.
    training: tuple of learning_rate, num_train_steps and num_warmup_steps, as
      optimization.create_optimizer takes them; None for a model_fn that does not train.
    options: micro_batches.StepOptions of the training.

  Returns:
    tf.estimator.tpu.TPUEstimatorSpec.

  Raises:
    ValueError: the model_fn has not this mode.
    files.InputError: the checkpoint does not fit; see compare.
  """
  keys = tf.estimator.ModeKeys
  is_training = mode == keys.TRAIN
  log_features(features)
  # Scopes within a scope are counted anew: another `build` will find the names of this one.
  scope = tf.variable_scope(tf.get_variable_scope(), auxiliary_name_scope=False)
  with scope, modeling.fast_forms(recompute=is_training and options.recompute):
    outputs = build(features)
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
  if is_training:
    loss, train_op = _train_step(outputs.objective, build, features, training, use_tpu, options)
    outcome = {"loss": loss, "train_op": train_op}
  elif mode == keys.EVAL:
    outcome = {"loss": outputs.objective.loss_value(), "eval_metrics": outputs.eval_metrics}
  else:
    places = {key: features[key] for key in (input_pipeline.EXAMPLE_INDEX,) if key in features}
    outcome = {"predictions": {**outputs.predictions, **places}}
  return tf.estimator.tpu.TPUEstimatorSpec(mode=mode, scaffold_fn=scaffold_fn, **outcome)


def _train_step(objective, build, features, training, use_tpu, options):
  """The loss, float32 scalar, and the operation that makes a step; what is shown is collected."""
  batch = optimization.WholeBatch(objective)
  if options.num_parts > 1:
    batch = micro_batches.BatchInParts(
      objective,
      lambda part: build(part).objective,
      features,
      options.num_parts,
      options.recompute,
    )
  step = optimization.train_step(batch, *training, use_tpu, options.update)
  if use_tpu:  # where the estimator reports the loss of one core, and nothing else can be fetched
    return optimization.replica_sum([step.loss], use_tpu)[0], step.train_op
  for name, value in step.shown.items():
    tf.add_to_collection(hooks.PROGRESS, (name, value))
  return step.loss, step.train_op  # the estimator adds up the replicas' losses


def _report(coverage, prefix):
  logging.info(
    "Loaded %d variables from %s; %d are new%s; %d in it are not used%s.",
    len(coverage.loaded),
    prefix,
    len(coverage.missing) + len(coverage.reshaped),
    _listed(coverage.missing),
    len(coverage.unused),
    _listed(coverage.unused),
  )
  for name, shape, saved_shape in coverage.reshaped:
    logging.warning(
      "%s is initialised anew: its shape is %s here and %s in %s", name, shape, saved_shape, prefix
    )
  # Without a pooler come encoders of question answering and tagging, which do not use it.
  encoder = [
    name for name in coverage.missing if name.startswith(ENCODER_SCOPE) and POOLER not in name
  ]
  if encoder:
    logging.warning(
      "%d variables of the encoder are NOT in %s and start at random%s. Is --bert_config_file the "
      "one that belongs to it?",
      len(encoder),
      prefix,
      _listed(encoder),
    )


def _listed(names):
  """[] -> "", [a] -> " (a)", [a, b, c, d, e] -> " (a, b, c, ...)"."""
  shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
  return f" ({shown})" if names else ""


# ---- Training -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _caught_signals():
  """A list to which Ctrl-C and SIGTERM are appended; a second one acts as it did before."""
  caught, previous = [], {}

  def handle(number, _):
    caught.append(number)
    logging.warning("%s: saving a checkpoint ...", signal.Signals(number).name)
    for each, handler in previous.items():
      signal.signal(each, handler)

  try:
    for number in (signal.SIGINT, signal.SIGTERM):
      previous[number] = signal.signal(number, handle)
  except ValueError:  # not in the main thread, where alone signals can be caught
    pass
  try:
    yield caught
  finally:
    for number, handler in previous.items():
      signal.signal(number, handler)


def saved_step(output_dir):
  """The step of the last checkpoint in a directory, 0 when there is none."""
  checkpoint = tf.train.latest_checkpoint(output_dir)
  return 0 if checkpoint is None else checkpoint_step(checkpoint)


def checkpoint_step(checkpoint):
  """The global step that a checkpoint, given by its prefix, was saved at; 0 if it does not say."""
  reader = tf.train.load_checkpoint(checkpoint)
  return int(reader.get_tensor("global_step")) if reader.has_tensor("global_step") else 0


def train(
  estimator,
  make_input_fn,
  num_steps,
  batch_size,
  save_steps,
  save_seconds,
  log_steps,
  watch=None,
  in_segments=False,
  cluster=None,
):
  """Trains up to a step, from the last checkpoint in the estimator's directory if there is one.

  Args:
    estimator: from make_estimator.
    make_input_fn: function of a step to the input_fn of the training set that goes on from there.
    num_steps: int, the step to end at.
    batch_size: int, examples a step.
    save_steps: int, steps between checkpoints.
    save_seconds: float or None, seconds between checkpoints.
    log_steps: int, steps between lines of progress.
    watch: history.Watch that evaluates meanwhile and may end the training early, or None.
    in_segments: bool, whether the training is left and begun again for each evaluation, as a TPU
      needs it, whose memory holds one program.
    cluster: distribution.Cluster of the estimator; default: one replica in this process. In workers
      but the chief nothing is saved, and the watch must be None.

  Returns:
    List of hooks.Trained, one a segment.

  Raises:
    Interrupted: Ctrl-C or SIGTERM came; a checkpoint was saved.
    files.InputError: the loss became NaN, or memory ran out.
  """
  cluster = cluster or distribution.Cluster()
  output_dir = estimator.model_dir
  step = saved_step(output_dir)
  is_over = watch and watch.observe(step, tf.train.latest_checkpoint(output_dir))
  if cluster.from_chief(int(bool(is_over))):
    return []
  made = []
  ends = watch.stops_after(step) if watch and in_segments else [num_steps]
  remedy = "--train_batch_size or --max_seq_length, or give --num_accumulation_steps"
  with _caught_signals() as signals, explained_memory_errors(remedy):
    for end in ends if step < num_steps else []:
      shown_in = output_dir if cluster.is_chief else None
      progress = hooks.ProgressHook(shown_in, num_steps, batch_size, log_steps, cluster.describe())
      inner_watch = None if in_segments else watch
      saver = hooks.CheckpointHook(output_dir, save_steps, save_seconds, inner_watch, progress)
      savers = [saver] if cluster.is_chief else []
      all_hooks = [progress, *savers, cluster.stop_hook(signals)]
      estimator.train(make_input_fn(step), hooks=all_hooks, max_steps=end)
      made.append(progress.trained())
      step = saved_step(output_dir)
      if signals or (watch and watch.observe(step, tf.train.latest_checkpoint(output_dir))):
        break
  if signals:
    logging.warning(
      "Stopped by %s at step %d, which is saved; the same command goes on from there.",
      signal.Signals(signals[0]).name,
      saved_step(output_dir),
    )
    raise Interrupted(signals[0])
  return made


@contextlib.contextmanager
def explained_memory_errors(remedy):
  """Turns running out of memory into a files.InputError that names the flags to lower."""
  try:
    yield
  except (MemoryError, tf.errors.ResourceExhaustedError) as error:
    raise files.InputError(f"out of memory; lower {remedy}") from error


# ---- Evaluation and prediction ------------------------------------------------------------------


def evaluate(estimator, input_fn, num_batches, description, checkpoint=None):
  """Runs the model over batches and returns its metrics.

  Args:
    estimator: from make_estimator.
    input_fn: of batches in order.
    num_batches: int, how many of them count.
    description: str, what the progress bar says.
    checkpoint: str, prefix of the checkpoint to use; default: the last one, or else what the model
      starts from.

  Returns:
    Dict of metric -> number, `loss` and `global_step` among them.

  Raises:
    files.InputError: memory ran out.
  """
  bar = tqdm(total=num_batches, desc=description, unit="batch", disable=not sys.stderr.isatty())
  with bar, explained_memory_errors("--eval_batch_size or --max_seq_length"):
    return estimator.evaluate(
      input_fn, steps=num_batches, hooks=[hooks.BarHook(bar)], checkpoint_path=checkpoint
    )


def predict(estimator, input_fn, num_examples, description, checkpoint=None):
  """Runs the model over examples once.

  Args:
    estimator: from make_estimator.
    input_fn: of examples in order, or sorted with input_pipeline.EXAMPLE_INDEX.
    num_examples: int, how many results are wanted; what comes after them is padding.
    description: str, what the progress bar says.
    checkpoint: str, prefix of the checkpoint to use; default: the last one.

  Yields:
    Dict of name -> array an example, in the order of the input.

  Raises:
    files.InputError: memory ran out.
  """
  bar = tqdm(total=num_examples, desc=description, unit="ex", disable=not sys.stderr.isatty())
  with bar, explained_memory_errors("--predict_batch_size, --eval_batch_size or --max_seq_length"):
    rows = estimator.predict(input_fn, checkpoint_path=checkpoint, yield_single_examples=True)
    for place, row in enumerate(input_pipeline.in_input_order(rows)):
      if place < num_examples:
        bar.update()
        yield row
