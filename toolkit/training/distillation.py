"""Knowledge distillation: a model, the student, is trained on the logits of another, the teacher.

find_teacher     finds the trained model and checks it
write_student    writes some of the teacher's layers as the student's initial weights
add_logits       adds the teacher's logits to the training records; they are computed once, so that
                 the student trains at its own speed

The losses are in toolkit/tasks/soft_targets.py. Students of some of the teacher's layers are those
of Sanh et al. 2019 (DistilBERT), unlabelled text that of Turc et al. 2019.
"""

import hashlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging
from tqdm import tqdm

import modeling
import tokenization
from toolkit.formats import checkpoint_files, checkpoints, model_directory
from toolkit.records import input_pipeline, tf_records
from toolkit.serving.predictor import Row
from toolkit.serving.tensorflow_engine import load_predictor
from toolkit.support import files, logs, processes
from toolkit.tasks.soft_targets import TEACHER_LOGITS

# The directory, within an output directory, of a student's initial weights.
START = "student_start"

# Examples whose logits are computed and written together; a killed pass may lose as many.
_CHUNK = 512
_BATCH_SIZE = 32
_FORMAT = 1  # of the files that keep logits


# ---- The teacher --------------------------------------------------------------------------------

# Makes the logits of a teacher, by its configuration and by input_ids, input_mask and segment_ids,
# int32 [B, S]: float32 [B, W], or [B, S, W] if each word piece has some.
BuildLogits = Callable[[modeling.BertConfig, tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


class Teacher(NamedTuple):
  """A model that a script has trained.

  Attributes:
    directory: its output directory.
    checkpoint: prefix of its best or last checkpoint.
    config: of the model.
    flags: flag name -> value that it was trained with; empty if the directory has none.
    labels: in the order of their ids, or None.
  """

  directory: str
  checkpoint: str
  config: modeling.BertConfig
  flags: dict[str, Any]
  labels: Optional[list[str]]

  def path(self, name: str) -> str:
    """Returns the path of a file in its directory."""
    return os.path.join(self.directory, name)

  def check_labels(self, labels: list[str], is_fixed: bool) -> list[str]:
    """Checks that the teacher has the labels of the student's task.

    Args:
      labels: of the student's task, empty for numbers.
      is_fixed: whether the student has been trained with them, in their order.

    Returns:
      The labels of both: the teacher's, which may be more.

    Raises:
      files.InputError: it has not.
    """
    own = self.labels or []
    if set(labels) - set(own) or bool(labels) != bool(own) or (is_fixed and labels != own):
      shown = [", ".join(map(repr, each)) or "none (numbers)" for each in (own, labels)]
      raise files.InputError(
        f"--teacher_dir: the labels of {self.directory} are {shown[0]}, the student's are "
        f"{shown[1]}; the teacher must have them all"
      )
    return own

  def check_input(self, tokenizer: tokenization.FullTokenizer, max_seq_length: int) -> None:
    """Checks that the teacher has the student's vocabulary, and enough positions for its input.

    Raises:
      files.InputError: it has not.
    """
    with files.input_checks():
      vocabs = [tokenization.load_vocab(self.path(model_directory.VOCAB_FILE)), tokenizer.vocab]
    pieces = [{number: piece for piece, number in vocab.items() if piece} for vocab in vocabs]
    if pieces[0] != pieces[1]:
      where = 1 + min(number for number, _ in pieces[0].items() ^ pieces[1].items())
      raise files.InputError(
        f"--teacher_dir: the vocabulary of {self.directory} is not the student's: they differ from "
        f"line {where} on; teacher and student must read the same word pieces"
      )
    if max_seq_length > self.config.max_position_embeddings:
      raise files.InputError(
        f"--max_seq_length={max_seq_length} is more than the "
        f"{self.config.max_position_embeddings} positions of the model in --teacher_dir"
      )


def find_teacher(directory: str, script: str) -> Teacher:
  """Finds the model that a script, named without .py, has trained in an output directory.

  Raises:
    files.InputError: there is no such model, or it is one of another task.
  """
  saved = model_directory.load_flags(directory, script, "teacher_dir")
  checkpoint = model_directory.trained_checkpoint(directory)
  if checkpoint is None:
    raise files.InputError(
      f"--teacher_dir: {directory} has no checkpoint; give the output directory of a finished "
      f"{script}.py"
    )
  heads = {owner: variable for variable, owner in model_directory.HEADS.items()}
  if heads[script] not in checkpoints.read_saved(checkpoint, "teacher_dir").shapes:
    raise files.InputError(
      f"--teacher_dir: {checkpoint} has no {heads[script]}: {script}.py has not trained "
      "it; give a directory that it has"
    )
  for name in (model_directory.CONFIG_FILE, model_directory.VOCAB_FILE):
    if not files.exists(os.path.join(directory, name)):
      raise files.InputError(f"--teacher_dir: {directory} has no {name}; copy it there")
  config = model_directory.read_config(os.path.join(directory, model_directory.CONFIG_FILE))
  labels = model_directory.read_labels(directory)
  return Teacher(directory, checkpoint, config, saved, labels)


# ---- A student of some of the teacher's layers --------------------------------------------------


def parse_layers(text: Optional[str], teacher: Teacher) -> tuple[int, ...]:
  """Parses the layers in a flag: "0,2,4" -> (0, 2, 4), None -> ().

  Raises:
    files.InputError: they are no rising numbers, or the teacher lacks one.
  """
  if text is None:
    return ()
  if not re.fullmatch(r"\d+(,\d+)*", text.replace(" ", "")):
    raise files.InputError(
      f"--student_layers: found {text!r}, should be numbers from 0 with commas between, like 0,2,4"
    )
  layers = tuple(map(int, text.split(",")))
  if list(layers) != sorted(set(layers)):
    raise files.InputError(f"--student_layers={text}: each must be higher than the one before")
  number = teacher.config.num_hidden_layers
  if layers[-1] >= number:
    raise files.InputError(
      f"--student_layers: there is no layer {layers[-1]} in {teacher.directory}; its {number} "
      f"layers are 0 to {number - 1}"
    )
  return layers


def student_config(config: modeling.BertConfig, layers: Sequence[int]) -> modeling.BertConfig:
  """Returns the configuration of a student that has some layers of the teacher with `config`."""
  return modeling.BertConfig.from_dict({**config.to_dict(), "num_hidden_layers": len(layers)})


def student_weights(weights: dict[str, Any], layers: Sequence[int]) -> dict[str, Any]:
  """Selects the weights of a student, by name: some layers of the teacher, embeddings and heads.

  layers (0, 2): bert/encoder/layer_2/... -> bert/encoder/layer_1/...
  """
  kept = {}
  for name, value in weights.items():
    found = re.fullmatch(r"(bert/encoder/layer_)(\d+)(/.*)", name)
    if not found:
      kept[name] = value
    elif int(found[2]) in layers:
      kept[f"{found[1]}{layers.index(int(found[2]))}{found[3]}"] = value
  return kept


def write_student(output_dir: str, teacher: Teacher, layers: Sequence[int]) -> None:
  """Writes the initial weights of a student of some of the teacher's layers, see start_paths."""
  paths = start_paths(output_dir)
  files.make_directory(os.path.join(output_dir, START), "output_dir")
  reader = checkpoint_files.open_reader(teacher.checkpoint)
  saved = checkpoints.read_saved(teacher.checkpoint, "teacher_dir").names
  saved.log(teacher.checkpoint)
  names = {n: source for n, source in saved.sources.items() if not checkpoints.is_training_state(n)}
  kept = student_weights(names, layers)
  weights = {name: reader.get_tensor(source) for name, source in sorted(kept.items())}
  checkpoints.save_checkpoint(paths["init_checkpoint"], weights)
  config = student_config(teacher.config, layers)
  files.write_text(paths["bert_config_file"], config.to_json_string())


def start_paths(output_dir: str) -> dict[str, str]:
  """Returns the files of write_student: the flags that name such files -> path."""
  directory = os.path.join(output_dir, START)
  return {
    "bert_config_file": os.path.join(directory, model_directory.CONFIG_FILE),
    "init_checkpoint": os.path.join(directory, "bert_model.ckpt"),
  }


# ---- The teacher's logits on the training set ---------------------------------------------------


def add_logits(
  teacher: Teacher,
  build: BuildLogits,
  input_file: str,
  output_file: str,
  features: Sequence[tf_records.Feature],
  cache_dir: str,
) -> list[tf_records.Feature]:
  """Adds the teacher's logits to training records.

  Args:
    teacher: of the student.
    build: makes the logits.
    input_file: a TFRecord file.
    output_file: another one, to be written.
    features: table of the input file.
    cache_dir: directory that keeps logits, see compute_logits.

  Returns:
    The table of the output file: float32 [W] or [S, W] is added as TEACHER_LOGITS; [C * W] for
    records of C texts each, one text after the other.

  Raises:
    files.InputError: see compute_logits; or the file cannot be written.
  """
  rows, width = _read_inputs(input_file, features)
  logits = compute_logits(teacher, build, rows, cache_dir)
  if width > 1:
    logits = [np.concatenate(logits[i : i + width]) for i in range(0, len(logits), width)]
  shape = logits[0].shape
  per_token = len(shape) > 1
  if per_token:
    shape = ({f.name: f for f in features}["input_ids"].shape[0], shape[1])
  feature = tf_records.Feature(TEACHER_LOGITS, np.float32, shape, per_token)

  def packed():
    for values in logits:
      row = np.zeros(shape, np.float32)
      row[: len(values)] = values
      yield {TEACHER_LOGITS: tf_records.pack(row, np.float32)}

  input_pipeline.add_features(input_file, output_file, packed(), [feature])
  return [*features, feature]


def _read_inputs(path, features):
  """Reads the inputs of a TFRecord file; returns them in order, and the number of them per record.

  An input is a pair of input_ids and segment_ids, int32 [length]. One without tokens, such as a
  choice that a question does not have, gets a token of padding.
  """
  table = [feature for feature in features if feature.name in tf_records.INPUTS]
  width = table[0].shape[1] if len(table[0].shape) > 1 else 1
  input_fn = input_pipeline.read_input_fn(path, table, is_training=False, drop_remainder=False)
  rows: list[Row] = []
  with tf.Graph().as_default(), tf.Session() as session:
    batch = tf.data.make_one_shot_iterator(input_fn({"batch_size": _CHUNK})).get_next()
    while True:
      try:
        values = session.run(batch)
      except tf.errors.OutOfRangeError:
        return rows, width
      ids, mask, segments = (_one_row_a_text(values[name]) for name in tf_records.INPUTS)
      lengths = (mask * np.arange(1, mask.shape[1] + 1)).max(axis=1).clip(1)
      rows += [(i[:n].copy(), s[:n].copy()) for i, s, n in zip(ids, segments, lengths)]


def _one_row_a_text(values):
  """Reshapes [B, S] or [B, S, C] to [texts, S], the C texts of a record one after the other."""
  return np.moveaxis(values, 1, -1).reshape(-1, values.shape[1])


def compute_logits(
  teacher: Teacher, build: BuildLogits, rows: Sequence[Row], cache_dir: str
) -> list[np.ndarray]:
  """Runs the teacher over inputs once, in order of length, or reads the results of an earlier run.

  Args:
    teacher, build: see add_logits.
    rows: input_ids and segment_ids, int32 [length] both.
    cache_dir: Each part of the logits is written there when it is computed, in a directory named by
      a fingerprint of teacher and inputs.

  Returns:
    float32 [W] or [length, W] per row.

  Raises:
    files.InputError: the teacher's checkpoint is damaged, or its outputs are NaN; or memory ran
      out.
  """
  directory = os.path.join(cache_dir, f"teacher-logits-{fingerprint(teacher, rows)[:32]}")
  order = sorted(range(len(rows)), key=lambda place: -len(rows[place][0]))
  chunks = [order[first : first + _CHUNK] for first in range(0, len(order), _CHUNK)]
  paths = [os.path.join(directory, f"{number:05}.npz") for number in range(len(chunks))]
  found = [_load_part(path, len(chunk)) for path, chunk in zip(paths, chunks)]
  missing = [number for number, part in enumerate(found) if part is None]
  logs.notice("***** Teacher logits of the training set *****")
  logs.notice("  Teacher = %s", teacher.checkpoint)
  logs.notice("  Num examples = %d", len(rows))
  logs.notice("  %d of %d parts are in %s", len(chunks) - len(missing), len(chunks), directory)
  if missing:
    files.make_directory(directory, "teacher_cache_dir")
    for number, part in _computed(teacher, build, rows, chunks, missing):
      found[number] = part
      _save_part(paths[number], part)
  results = [np.zeros(0)] * len(rows)
  for chunk, part in zip(chunks, found):
    for place, values in zip(chunk, part or ()):
      results[place] = values
  return results


def _computed(teacher, build, rows, chunks, missing):
  """Yields the numbers of the missing chunks of places and the logits of their rows."""

  def build_outputs(*inputs):
    return {TEACHER_LOGITS: build(teacher.config, *inputs)}

  predictor = load_predictor(build_outputs, teacher.checkpoint, _BATCH_SIZE)
  total = sum(len(chunks[number]) for number in missing)
  bar = tqdm(total=total, desc="teacher", unit="ex", disable=not sys.stderr.isatty())
  with bar, processes.converted_memory_errors("--max_seq_length"):
    for number in missing:
      inputs = [rows[place] for place in chunks[number]]
      outputs = [row[TEACHER_LOGITS] for row in predictor.run(inputs, bar.update)]
      if not all(np.isfinite(values).all() for values in outputs):
        raise files.InputError(
          f"--teacher_dir: the outputs of {teacher.checkpoint} are NaN or infinite; train it anew"
        )
      if outputs[0].ndim > 1:
        outputs = [values[: len(ids)] for values, (ids, _) in zip(outputs, inputs)]
      yield number, outputs
      logging.log_if(logging.INFO, "  part %d of %d", bar.disable, number + 1, len(chunks))
  predictor.close()


def fingerprint(teacher: Teacher, rows: Iterable[Row]) -> str:
  """Returns a hex digest of all inputs of the teacher's logits; see compute_logits for rows."""
  digest = hashlib.sha256(b"%d" % _FORMAT)
  digest.update(files.read_bytes(f"{teacher.checkpoint}.index"))  # has a checksum of each variable
  digest.update(teacher.config.to_json_string().encode())
  for ids, segments in rows:
    digest.update(np.concatenate([[len(ids)], ids, segments]).astype("<i4").tobytes())
  return digest.hexdigest()


def _save_part(path, part):
  """Writes a list of arrays of the same rank, atomically."""
  buffer = io.BytesIO()
  np.savez(buffer, lengths=[len(values) for values in part], values=np.concatenate(part))
  files.write_bytes(path, buffer.getvalue())


def _load_part(path, size):
  """Returns the arrays that _save_part has written, or None if the file is damaged or missing."""
  try:
    with np.load(io.BytesIO(files.read_bytes(path)), allow_pickle=False) as saved:
      part = np.split(saved["values"], np.cumsum(saved["lengths"])[:-1])
  except Exception:  # zipfile, zlib and numpy raise many kinds for a damaged file
    return None
  return part if len(part) == size else None
