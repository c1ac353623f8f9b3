"""Names of variables as files have them, and as the scripts know them.

A file may have a model's variables in the scope of a program around it, or with the number of an
output:

  module/bert/pooler/dense/kernel:0  -> bert/pooler/dense/kernel     TensorFlow
  module.bert.pooler.dense.weight    -> bert.pooler.dense.weight     HuggingFace
  module.pooler.dense.weight         -> pooler.dense.weight
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from absl import logging

from toolkit.support import files

TENSORFLOW = "/"  # what separates the scopes in a name
HUGGINGFACE = "."

# The first group is the scope around an encoder, "" or with a separator at its end.
_ENCODER = {
  TENSORFLOW: re.compile(r"((?:[^/]+/)*?)bert/(?:embeddings|encoder|pooler)/"),
  HUGGINGFACE: re.compile(
    r"((?:[^.]+\.)*?)(?:(?:distil)?bert\.)?"
    r"(?:embeddings\.(?:\w+_embeddings|LayerNorm)|(?:encoder|transformer)\.layer|pooler\.dense)\."
  ),
}

# The ends of names of slots, averages and sums of gradients, which belong to one variable.
_SLOT = re.compile(
  r"/(?:(?:adam|lamb)_[mv]|adafactor_v[rc]?|accum"
  r"|(?:[A-Z]\w*)?(?:Adam|LAMB|Lamb)(?:W|ax|WeightDecay)?(?:Optimizer)?(?:_\d+)?"
  r"|(?:Momentum|RMSProp|Adagrad|Adadelta|Ftrl|Adafactor)(?:Optimizer)?(?:_\d+)?"
  r"|(?:adamw?|lamb|momentum|rmsprop|adagrad|adadelta|ftrl)(?:_\d+)?"
  r"|ExponentialMovingAverage(?:_\d+)?(?:/biased|/local_step)?)$"
)
# The ends of names of what a training has once.
_COUNTER = re.compile(
  r"(?:^|/)(?:global_step|beta[12]_power(?:_\d+)?|local_step|batch_finite|(?:current_)?loss_scale"
  r"|(?:loss_scale_|num_)?good_steps)$"
)
_OUTPUT_NUMBER = re.compile(r":0$")
_OBJECT = "/.ATTRIBUTES/VARIABLE_VALUE"


class Names(NamedTuple):
  """The names in a file.

  Attributes:
    sources: the scripts' name -> the name in the file.
    scope: what all names of the encoder begin with, "module/" or "module."; "" for nothing.
  """

  sources: dict[str, str]
  scope: str

  def log(self, path: str) -> None:
    """Logs the scope that the names of a file are in, if there is one."""
    number = sum(source.startswith(self.scope) for source in self.sources.values())
    if self.scope:
      logging.info(
        "The names of %d variables in %s begin with %s, which is taken off",
        number,
        path,
        self.scope,
      )


def resolve(names: Iterable[str], separator: str, place: str) -> Names:
  """Finds the scripts' names for those in a file.

  Names that are not in the scope of the encoder stay as they are: a classifier may be beside it.
  Of training state with one name, the first is taken.

  Args:
    names: in the file.
    separator: TENSORFLOW or HUGGINGFACE.
    place: the file, for messages.

  Raises:
    files.InputError: there are several encoders, or two names become one.
  """
  names = list(names)
  scope = _find_scope(names, separator, place)
  sources: dict[str, str] = {}
  for source in names:
    name = source.removeprefix(scope)
    if separator == TENSORFLOW:
      name = _OUTPUT_NUMBER.sub("", name)
    if name in sources and is_training_state(name):
      continue
    if name in sources:
      raise files.InputError(
        f"{place}: has {sources[name]} and {source}, which both stand for {name}; save it without "
        "one of them"
      )
    sources[name] = source
  return Names(sources, scope)


def _find_scope(names, separator, place):
  """Returns the scope that the names of the encoder have in common; "" if some have none."""
  found: dict[str, str] = {}
  for name in sorted(names):
    match = _ENCODER[separator].match(name)
    if match and not is_training_state(name) and not name.endswith(_OBJECT):
      found.setdefault(match[1], match[0][: -len(separator)])
  if "" in found or not found:
    return ""
  if len(found) > 1:
    encoders = " and ".join(sorted(found.values()))
    raise files.InputError(
      f"{place}: has {len(found)} encoders, {encoders}; save the one to use in a file of its own"
    )
  return next(iter(found))


def is_training_state(name: str) -> bool:
  """Returns True for steps, loss scales, and optimizers' slots and averages of variables.

  Only the same training needs these.
  """
  name = _OUTPUT_NUMBER.sub("", name)
  return bool(_COUNTER.search(name) or _SLOT.search(name))


def foreign_format(names: Iterable[str]) -> str:
  """Returns a hint for messages: how names are given that no script knows; "" for other names."""
  if any(name.endswith(_OBJECT) for name in names):
    return (
      "; it was written by tf.train.Checkpoint, whose variables have other names: save the model "
      "by tf.compat.v1.train.Saver"
    )
  return ""
