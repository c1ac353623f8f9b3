"""Training on several GPUs and on several machines, by tf.distribute.

find      the cluster that flags and TF_CONFIG select, checked
Cluster   the replicas of a training in this process
Workers   replicas in several processes, one per machine, which train together

All workers run the same command on the same files. One of them is the chief: it alone writes into
the output directory, evaluates and predicts. The others read checkpoints there and write their own
files into a temporary directory. They end with the training, or when another worker is lost.
"""

import contextlib
import json
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
import tensorflow.compat.v1 as tf

from toolkit.support import files, logs
from toolkit.training import hooks

MIRRORED = "mirrored"
MULTI_WORKER = "multi_worker"

EXAMPLE = (
  'TF_CONFIG=\'{"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
  '"task": {"type": "worker", "index": 0}}\''
)

_SECONDS_BETWEEN_CHECKS = 1.0  # of whether another worker still answers
_MISSES = 3  # checks in a row without an answer, after which a worker is lost
_SECONDS_TO_ANSWER = 10.0
_SECONDS_BETWEEN_REMINDERS = 60.0  # of which workers are waited for
# Apart from the numbers that tf.distribute gives to its own collective operations.
_GROUP_KEY = 1_000_000

_listed = ", ".join


class Finished(SystemExit):
  """Ends a worker that is not the chief, and whose work is done, with status 0."""

  def __init__(self) -> None:
    super().__init__(0)


class Task(NamedTuple):
  """The content of TF_CONFIG.

  Attributes:
    jobs: "worker", and perhaps "chief" -> addresses, "host:port".
    job: the one that this process belongs to.
    index: its place among the job's addresses.
  """

  jobs: dict[str, list[str]]
  job: str
  index: int  # type: ignore[assignment] # hides tuple.index

  def addresses(self) -> list[str]:
    """Returns all addresses, the chief's first."""
    return [address for job in sorted(self.jobs) for address in self.jobs[job]]

  def number(self) -> int:
    """Returns the place of this process in addresses()."""
    return self.index + (len(self.jobs.get("chief", [])) if self.job == "worker" else 0)


def parse_task(text: Optional[str]) -> Task:
  """Reads the value of TF_CONFIG.

  Raises:
    files.InputError: it is missing or wrong.
  """
  if not text:
    raise files.InputError(
      f"--distribution_strategy={MULTI_WORKER} needs the environment variable TF_CONFIG, other for "
      f"each worker: {EXAMPLE}"
    )
  try:
    config = json.loads(text)
  except ValueError as error:
    raise files.InputError(f"TF_CONFIG is no JSON ({error}); it looks like {EXAMPLE}") from error
  jobs = _entry(config, "cluster", dict)
  task = _entry(config, "task", dict)
  _check_jobs(jobs)
  job, index = task.get("type"), task.get("index")
  if job not in jobs:
    raise files.InputError(f"TF_CONFIG: task type is {job!r}, and the cluster has {_listed(jobs)}")
  if type(index) is not int or not 0 <= index < len(jobs[job]):
    raise files.InputError(
      f"TF_CONFIG: task index is {index!r}, and the cluster has {len(jobs[job])} of type {job}, "
      "numbered from 0"
    )
  return Task(jobs, job, index)


def _entry(config, name, kind):
  value = config.get(name) if isinstance(config, dict) else None
  if not isinstance(value, kind) or not value:
    raise files.InputError(f'TF_CONFIG has no "{name}"; it looks like {EXAMPLE}')
  return value


def _check_jobs(jobs):
  """Checks that a cluster has only workers and at most one chief, each with its own address."""
  unknown = sorted(set(jobs) - {"chief", "worker"})
  if unknown:
    raise files.InputError(
      f"TF_CONFIG: found {_listed(unknown)} in the cluster; only worker, and one chief, train "
      "together"
    )
  for job, addresses in jobs.items():
    if not isinstance(addresses, list) or not addresses:
      raise files.InputError(f"TF_CONFIG: {job} must be a list of addresses, host:port")
  if len(jobs.get("chief", [])) > 1:
    raise files.InputError(f"TF_CONFIG: found {len(jobs['chief'])} chiefs; there can be one")
  every = [address for addresses in jobs.values() for address in addresses]
  for address in every:
    if not isinstance(address, str) or not re.fullmatch(r"\S+:\d+", address):
      raise files.InputError(f"TF_CONFIG: found {address!r}, and not an address, host:port")
    if every.count(address) > 1:
      raise files.InputError(f"TF_CONFIG: {address} is in the cluster twice")


# ---- Selection of devices -----------------------------------------------------------------------


def gpus() -> list[str]:
  """Returns the names of this machine's GPUs, such as ["GPU:0", "GPU:1"]."""
  found = tf.config.list_physical_devices("GPU")
  return [f"GPU:{number}" for number in range(len(found))]


def find(
  strategy: Optional[str] = None, num_gpus: Optional[int] = None, use_tpu: bool = False
) -> "Cluster":
  """Returns the Cluster that a training runs on.

  Args:
    strategy: "off", MIRRORED or MULTI_WORKER. None: MIRRORED if num_gpus is above 1, or else off.
    num_gpus: GPUs of this machine to use. None: one without a strategy, or else all.
    use_tpu: whether the training runs on a TPU, without a strategy.

  Raises:
    files.InputError: that is not possible here; TF_CONFIG is wrong or missing.
  """
  if use_tpu:
    if strategy not in (None, "off") or num_gpus is not None:
      given = "--num_gpus" if num_gpus is not None else f"--distribution_strategy={strategy}"
      raise files.InputError(f"--use_tpu: {given} is not for a TPU; leave it out")
    return Cluster()
  found = gpus()
  if (num_gpus or 0) > len(found):
    raise files.InputError(f"--num_gpus={num_gpus}: found {len(found)} on this machine")
  if strategy is None:
    strategy = MIRRORED if (num_gpus or 1) > 1 else "off"
  if strategy == MULTI_WORKER:
    return Workers(parse_task(os.environ.get("TF_CONFIG")), found[:num_gpus])
  if strategy == MIRRORED:
    if not found:
      raise files.InputError(
        f"--distribution_strategy={MIRRORED} is for several GPUs: found 0 on this machine "
        "(TF_CPP_MIN_LOG_LEVEL=0 shows the reason)"
      )
    return Cluster(found[:num_gpus])
  if (num_gpus or 1) > 1:
    raise files.InputError(f"--distribution_strategy=off: --num_gpus={num_gpus} needs {MIRRORED}")
  if len(found) > 1:
    logs.notice("%d GPUs found, 1 is used; --num_gpus=%d trains on all.", len(found), len(found))
  return Cluster()


@contextlib.contextmanager
def without_tf_config() -> Iterator[None]:
  """Hides TF_CONFIG, which tf.estimator.RunConfig would read."""
  value = os.environ.pop("TF_CONFIG", None)
  try:
    yield
  finally:
    if value is not None:
      os.environ["TF_CONFIG"] = value


def is_first_replica() -> bool:
  """Returns whether the graph that is being built is that of the first or only replica."""
  context = tf.distribute.get_replica_context()
  return context is None or tf.get_static_value(context.replica_id_in_sync_group) == 0


# ---- One process --------------------------------------------------------------------------------


class Cluster:
  """The replicas of a training in this process.

  Attributes:
    is_chief: True in the process that writes, evaluates and predicts.
    num_replicas: number of replicas, those of other processes included.
  """

  is_chief = True

  def __init__(self, devices: Sequence[str] = ()) -> None:
    """Makes a cluster of one process.

    Args:
      devices: names such as "GPU:0", one per replica. None: one replica, placed by TensorFlow.
    """
    self._devices = list(devices)
    self.num_replicas = max(1, len(self._devices))

  def describe(self) -> Optional[str]:
    """Returns the devices, such as "2 replicas: GPU:0, GPU:1"; None if TensorFlow selects one."""
    if not self._devices:
      return None
    number = "1 replica" if self.num_replicas == 1 else f"{self.num_replicas} replicas"
    return f"{number}: {_listed(self._devices)}"

  def check_batch_size(self, batch_size: int) -> None:
    """Checks that a batch can be divided among the replicas.

    Raises:
      files.InputError: it can't.
    """
    if batch_size % self.num_replicas:
      raise files.InputError(
        f"--train_batch_size={batch_size} cannot be divided among {self.describe()}; give a "
        f"multiple of {self.num_replicas}"
      )

  def run_config(self) -> dict[str, Any]:
    """Returns the arguments of tf.estimator.tpu.RunConfig for the training."""
    if not self._devices:
      return {}
    names = [f"/device:{name}" for name in self._devices]
    return {"train_distribute": tf.distribute.MirroredStrategy(names)}

  def scratch(self, directory: str) -> str:
    """Returns the directory for files that only this process reads: in the chief the given one."""
    return directory

  def connect(self, facts: object) -> None:
    """Waits until all workers have started, and checks that they do the same.

    Args:
      facts: anything whose repr must be the same in all of them.

    Raises:
      files.InputError: it is not; or this worker's address is taken.
    """

  def from_chief(self, number: int) -> int:
    """Returns the number that the chief gives, in all workers."""
    return number

  def stop_hook(self, signals: list[int]) -> hooks.StopHook:
    """Returns the hook that ends the training when a signal has come; see hooks.StopHook."""
    return hooks.StopHook(signals)

  def leave(self) -> None:
    """Ends the common work; raises Finished in workers other than the chief."""


# ---- Several processes --------------------------------------------------------------------------


class Workers(Cluster):
  """A Cluster of processes that train together; this is one of them."""

  def __init__(self, task: Task, devices: Sequence[str] = ()) -> None:
    """Reads the place in the cluster; connect() makes contact with the others.

    Args:
      task: this process's.
      devices: names of the GPUs to use, as many in each worker; none for the CPU.
    """
    super().__init__(devices)
    self._task = task
    self._addresses = task.addresses()
    self._number = task.number()
    self.is_chief = self._number == 0
    self._others = [n for n in range(len(self._addresses)) if n != self._number]
    self.num_replicas *= len(self._addresses)
    self._scratch: Optional[tempfile.TemporaryDirectory[str]] = None
    self._server: tf.train.Server = None
    self._left = threading.Event()

  def describe(self) -> str:
    local = _listed(self._devices) or "the CPU"
    return (
      f"{self.num_replicas} replicas: {len(self._addresses)} workers with {local} each, of which "
      f"this is number {self._number}{', the chief' if self.is_chief else ''}"
    )

  def _make_strategy(self):
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
      tf.train.ClusterSpec(self._task.jobs),
      task_type=self._task.job,
      task_id=self._task.index,
      num_accelerators={"GPU": len(self._devices)},
      rpc_layer="grpc",
    )
    return tf.distribute.experimental.MultiWorkerMirroredStrategy(cluster_resolver=resolver)

  def run_config(self) -> dict[str, Any]:
    return {"train_distribute": self._strategy, "master": self._server.target}

  def scratch(self, directory: str) -> str:
    if self.is_chief:
      return directory
    if self._scratch is None:
      self._scratch = tempfile.TemporaryDirectory(prefix="worker")
    return self._scratch.name

  def connect(self, facts: object) -> None:
    self._strategy = self._make_strategy()
    self._config = self._strategy.update_config_proto(tf.ConfigProto())
    try:
      self._server = tf.train.Server(
        self._task.jobs, self._task.job, self._task.index, "grpc", self._config
      )
    except tf.errors.OpError as error:
      raise files.InputError(
        f"TF_CONFIG: cannot listen at {self._addresses[self._number]}: {files.describe(error)}"
      ) from error
    logs.notice("This is worker %d of %d.", self._number, len(self._addresses))
    self._wait_for(self._others)
    watched = self._others if self.is_chief else [0]
    threading.Thread(target=self._watch, args=(watched,), daemon=True).start()
    fingerprint = zlib.crc32(repr(facts).encode())
    if self._sum([fingerprint])[0] != fingerprint * len(self._addresses):
      raise files.InputError(
        "the workers differ in flags or data; give all of them the same command and files"
      )

  def from_chief(self, number: int) -> int:
    return self._sum([number if self.is_chief else 0])[0]

  def stop_hook(self, signals: list[int]) -> hooks.StopHook:
    return _StopTogetherHook(signals, self)

  def leave(self) -> None:
    self.stop_watching()
    if not self.is_chief:
      logs.notice("This worker is done; the chief continues alone.")
      raise Finished

  # ---- The others ----

  def _name(self, number):
    return f"worker {number} at {self._addresses[number]}"

  def _wait_for(self, numbers):
    """Waits until workers, given by their numbers, listen at their addresses."""
    waited, missing = 0.0, numbers
    while True:
      missing = [number for number in missing if not _answers(self._addresses[number])]
      if not missing:
        return
      if waited % _SECONDS_BETWEEN_REMINDERS == 0:
        logs.notice("Waiting for %s ...", _listed(map(self._name, missing)))
      waited += _SECONDS_BETWEEN_CHECKS
      self._left.wait(_SECONDS_BETWEEN_CHECKS)

  def stop_watching(self) -> None:
    """Lets other workers end from now on: the common training is over."""
    self._left.set()

  def _watch(self, numbers):
    """Ends this process when a worker is lost: a collective operation would wait forever.

    In graph mode TensorFlow does not detect that reliably. Neither its coordination service nor the
    health check of MultiWorkerMirroredStrategy runs. A time limit for collective operations would
    have to be longer than an evaluation.
    """
    misses = dict.fromkeys(numbers, 0)
    while not self._left.wait(_SECONDS_BETWEEN_CHECKS):
      for number in numbers:
        misses[number] = 0 if _answers(self._addresses[number]) else misses[number] + 1
        if misses[number] == _MISSES and not self._left.is_set():
          self._exit_without(number)

  def _exit_without(self, number):
    script = os.path.basename(sys.argv[0])
    print(f"{script}: error: {self._lost([number])}", file=sys.stderr, flush=True)
    if self._scratch is not None:
      self._scratch.cleanup()
    os._exit(1)  # no exception reaches the main thread, which waits in a collective operation

  def lost(self) -> files.InputError:
    """Returns the error about lost workers, for a loss that TensorFlow has detected."""
    for _ in range(_MISSES):
      missing = [number for number in self._others if not _answers(self._addresses[number])]
      if missing:
        break
      self._left.wait(_SECONDS_BETWEEN_CHECKS)  # a process that ends may answer for a moment yet
    return files.InputError(self._lost(missing))

  def _lost(self, numbers):
    who = _listed(map(self._name, numbers)) or "another worker"
    return (
      f"{who} has ended or cannot be reached: its own output may have the reason. Start all "
      "workers again; training continues from the last checkpoint"
    )

  # ---- Sums over the workers ----

  def sum_operation(self, values: tf.Tensor, instance: int) -> tf.Tensor:
    """Adds the sum of a tensor over the workers to a graph that all of them run.

    Args:
      values: tensor of the same shape and type in all of them.
      instance: the same in all of them, and another for each such operation of the training.
    """
    with tf.device(f"/job:{self._task.job}/task:{self._task.index}/device:CPU:0"):
      return tf.raw_ops.CollectiveReduce(
        input=values,
        group_size=len(self._addresses),
        group_key=_GROUP_KEY,
        instance_key=_GROUP_KEY + instance,
        merge_op="Add",
        final_op="Id",
        subdiv_offsets=[0],
      )

  def run_sum(
    self, session: tf.Session, total: tf.Tensor, feeds: Optional[dict[tf.Tensor, Any]] = None
  ) -> list[int]:
    """Runs a sum_operation of integers; files.InputError when a worker is lost."""
    try:
      return session.run(total, feeds).tolist()
    except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
      raise self.lost() from error

  def _sum(self, numbers):
    """Returns the sums of a list of ints over the workers, element by element."""
    with tf.Graph().as_default():
      total = self.sum_operation(tf.constant(numbers, tf.int64), instance=0)
      with tf.Session(self._server.target, config=self._config) as session:
        return self.run_sum(session, total)


def _answers(address):
  """Returns whether a process listens at an address, "host:port"."""
  host, port = address.rsplit(":", 1)
  try:
    socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_ANSWER).close()
  except OSError:
    return False
  return True


class _StopTogetherHook(hooks.StopHook):
  """Ends the training after the same step in all workers when one of them stops.

  It comes after the chief's hooks that save and evaluate: the other workers wait in it for these.
  """

  def __init__(self, signals, cluster):
    super().__init__(signals)
    self._cluster = cluster
    self._has_session = False

  def begin(self):
    self._own = tf.placeholder(tf.int64, [2])
    self._total = self._cluster.sum_operation(self._own, instance=1)

  def after_create_session(self, session, coord):
    if self._has_session:  # TensorFlow lost contact, and would go on alone from the last checkpoint
      raise self._cluster.lost()
    self._has_session = True

  def after_run(self, run_context, run_values):
    signalled, stopped = self._counts(run_context.session, run_context.stop_requested)
    if signalled and not self._signals:  # another worker got it
      self._signals.append(signal.SIGTERM)
    if signalled or stopped:
      run_context.request_stop()

  def end(self, session):
    self._counts(session, False)  # the chief has saved its last checkpoint when this is done
    self._cluster.stop_watching()  # the workers end one after the other

  def _counts(self, session, is_stopping):
    """Returns the numbers of workers that have got a signal, and that stop for another reason."""
    own = np.array([bool(self._signals), is_stopping], np.int64)
    return self._cluster.run_sum(session, self._total, {self._own: own})
