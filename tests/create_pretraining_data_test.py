"""The script that makes pre-training records, from flags to files."""

import errno
import gzip
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys

import pytest
import tensorflow.compat.v1 as tf

import create_pretraining_data
import tokenization
from toolkit.support import command_line, files
from toolkit.tasks import pretraining, pretraining_run

SCRIPT = pathlib.Path(create_pretraining_data.__file__)
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "ship", "sail", "##ed", "never", "came", "back", "bread", "is", "bake", "##d", "."]
NUM_DOCUMENTS = 23


@pytest.fixture(name="paths")
def _paths(tmp_path):
  """Flags for a vocabulary and a corpus in two files, and a directory for the output."""
  vocab = tmp_path / "vocab.txt"
  vocab.write_text("".join(f"{token}\n" for token in SPECIAL + WORDS))
  rng = random.Random(1)
  words = ["the", "ship", "sailed", "never", "came", "back", "bread", "is", "baked"]
  documents = [
    "".join(" ".join(rng.choices(words, k=rng.randint(2, 9))) + " .\n" for _ in range(7))
    for _ in range(NUM_DOCUMENTS)
  ]
  (tmp_path / "a.txt").write_text("\n".join(documents[:15]))
  (tmp_path / "b.txt.gz").write_bytes(gzip.compress("\n".join(documents[15:]).encode()))
  return {
    "vocab_file": str(vocab),
    "input_file": f"{tmp_path}/a.txt,{tmp_path}/b*.gz",
    "output_file": f"{tmp_path}/out/x",
    "max_seq_length": 24,
    "max_predictions_per_seq": 4,
    "dupe_factor": 2,
  }


def arguments(paths, **changes):
  values = {**paths, **changes}
  return [f"--{name}={value}" for name, value in values.items() if value is not None]


def run(paths, **changes):
  """Runs the script in this process."""
  command_line.parse(create_pretraining_data.flags, arguments(paths, **changes))
  create_pretraining_data.main(None)


def output_files(paths):
  """Dict of name -> bytes of each file in the output directory, hidden ones too."""
  directory = pathlib.Path(paths["output_file"]).parent
  return {path.name: path.read_bytes() for path in directory.iterdir()}


def read_records(path):
  return [
    tf.train.Example.FromString(record)
    for record in tf.python_io.tf_record_iterator(f"file://{path}")
  ]


# ---- Output -------------------------------------------------------------------------------------


def test_a_whole_run(paths, tmp_path):
  """In a process of its own; the records are those of the library with the same seed."""
  code = (
    "import sys, create_pretraining_data as script\n"
    "from toolkit.support import command_line\n"
    "command_line.run(lambda _: (script.main(_), sys.exit(len({'tensorflow'} & set(sys.modules)))),"
    " script.flags)"
  )
  outputs = [str(tmp_path / "out" / name) for name in "xy"]
  command = [sys.executable, "-c", code, *arguments(paths, output_file=",".join(outputs))]
  command.append("--verbosity=0")
  done = subprocess.run(command, capture_output=True, text=True, cwd=SCRIPT.parent, check=False)
  assert done.returncode == 0, done.stderr
  tokenizer = tokenization.FullTokenizer(paths["vocab_file"])
  inputs = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt.gz")]
  instances = create_pretraining_data.create_training_instances(
    inputs, tokenizer, 24, 2, 0.1, 0.15, 4, random.Random(12345)
  )
  expected = [str(tmp_path / name) for name in "xy"]
  create_pretraining_data.write_instance_to_example_files(instances, tokenizer, 24, 4, expected)
  for ours, theirs in zip(outputs, expected):
    assert read_records(ours) == read_records(theirs) != []
    metadata = files.read_json(ours + ".meta.json")
    assert metadata["num_instances"] == len(instances)
    assert metadata["num_documents"] == NUM_DOCUMENTS
    assert metadata["num_random_next"] == sum(i.is_random_next for i in instances)
    assert metadata["vocab_sha256"] == pretraining.vocab_digest(paths["vocab_file"])
  assert len(pretraining.check_metadata(outputs, max_seq_length=24)) == 2
  assert set(output_files(paths)) == {"x", "y", "x.meta.json", "y.meta.json"}
  for line in (
    "*** Reading from input files ***",
    f"  {inputs[1]}",
    "*** Writing to output files ***",
    f"  {outputs[0]}",
    "tokens: [CLS] ",
    "next_sentence_labels: ",
    f"Wrote {len(instances)} total instances",
  ):
    assert line in done.stderr
  assert done.stderr.count("*** Example ***") == 20


def test_shards_do_not_depend_on_the_number_of_workers(paths):
  sharded = {**paths, "shard_documents": 4, "num_output_files": 3}
  run(sharded, num_workers=1)
  alone = output_files(paths)
  assert set(alone) == {"x.meta.json", *(f"x-0000{i}-of-00003" for i in range(3))}
  run(sharded, num_workers=2)
  assert output_files(paths) == alone
  counts = [entry["records"] for entry in json.loads(alone["x.meta.json"])["files"].values()]
  assert max(counts) - min(counts) <= 1
  for i, count in enumerate(counts):
    assert len(read_records(f"{paths['output_file']}-0000{i}-of-00003")) == count
  run(sharded, random_seed=5)
  assert output_files(paths)["x-00000-of-00003"] != alone["x-00000-of-00003"]


def test_a_file_named_twice_is_read_twice(paths):
  names = paths["input_file"]
  run(paths, input_file=f"{names},{names}")
  metadata = files.read_json(paths["output_file"] + ".meta.json")
  assert metadata["num_documents"] == 2 * NUM_DOCUMENTS


def test_library_features():
  ints = create_pretraining_data.create_int_feature([1, 2])
  floats = create_pretraining_data.create_float_feature([0.5])
  assert list(ints.int64_list.value) == [1, 2] and list(floats.float_list.value) == [0.5]


def test_remote_output(paths, tmp_path):
  run(paths)
  local = output_files(paths)["x"]
  run(paths, output_file=f"file://{tmp_path}/far/x")
  assert (tmp_path / "far" / "x").read_bytes() == local
  assert {path.name for path in (tmp_path / "far").iterdir()} == {"x", "x.meta.json"}


# ---- Interruptions ------------------------------------------------------------------------------


class Killed(BaseException):
  """Raised in place of all operations after the process was killed."""


class Killer:
  """Lets a number of file operations happen, and none after them."""

  def __init__(self, patch, num_operations):
    self.left = num_operations
    for module, name in (
      (os, "replace"),
      (os, "remove"),
      (os, "truncate"),
      (shutil, "copyfileobj"),
    ):
      patch.setattr(module, name, self.guarded(getattr(module, name)))
    # A killed process removes none of its files.
    patch.setattr(pretraining_run.RunFiles, "__exit__", lambda *_: None)

  def guarded(self, operation):
    def guarded(*args):
      if self.left <= 0:
        if operation.__name__ == "copyfileobj":  # half of it
          args[1].write(args[0].read(1000))
        raise Killed
      self.left -= 1
      return operation(*args)

    return guarded


@pytest.mark.parametrize("shard_documents", [0, 6])
def test_killed_anywhere_the_same_command_ends_in_the_same_files(
  paths, monkeypatch, log, shard_documents
):
  sharded = {**paths, "shard_documents": shard_documents, "num_output_files": 2}
  run(sharded)
  expected = output_files(paths)
  num_resumed = 0
  for num_operations in range(1000):
    shutil.rmtree(os.path.dirname(paths["output_file"]))
    with monkeypatch.context() as patch:
      Killer(patch, num_operations)
      try:
        run(sharded)
        break
      except Killed:
        pass
    # A file with its final name is complete.
    for name, data in output_files(paths).items():
      assert name.startswith(".") or data == expected[name]
    log.clear()
    run(sharded)
    assert output_files(paths) == expected
    num_resumed += "Going on after" in log.text
  assert num_operations > 5 and num_resumed > 2


def interrupt_after(paths, monkeypatch, num_shards, error=Killed):
  """Runs until some shards are done."""
  make_shard = pretraining.make_shard

  def make_or_stop(job, on_document):
    if job.number == num_shards:
      raise error
    return make_shard(job, on_document)

  with monkeypatch.context() as patch:
    patch.setattr(pretraining, "make_shard", make_or_stop)
    with pytest.raises(error):
      run(paths)


@pytest.mark.parametrize("num_shards", [0, 2])
def test_what_an_interrupted_run_leaves(paths, monkeypatch, num_shards, log):
  sharded = {**paths, "shard_documents": 6}
  interrupt_after(sharded, monkeypatch, num_shards)
  left = {".x.partial", ".x.progress.json"} if num_shards else set()
  assert set(output_files(paths)) == left
  run(sharded)
  assert ("Going on after 2 finished shards" in log.text) == bool(num_shards)
  assert set(output_files(paths)) == {"x", "x.meta.json"}


@pytest.mark.parametrize(
  ("change", "name"),
  [
    ({"random_seed": 2}, "random_seed"),
    ({"shard_documents": 5}, "shard_documents"),
    ({"output_file": "{out},{out}2"}, "output_file"),
    ({"input_file": "{a}"}, "input_file"),
  ],
)
def test_state_of_another_run_is_named_and_not_used(paths, monkeypatch, log, change, name):
  sharded = {**paths, "shard_documents": 6}
  change = {
    key: value.format(out=paths["output_file"], a=paths["input_file"].split(",")[0])
    if isinstance(value, str)
    else value
    for key, value in change.items()
  }
  run(sharded, **change)
  expected = output_files(paths)
  interrupt_after(sharded, monkeypatch, 2)
  run(sharded, **change)
  assert output_files(paths) == expected
  assert f".x.progress.json is of a run with other {name}: starting anew" in log.text


def test_state_of_another_corpus_or_vocabulary(paths, monkeypatch, log, tmp_path):
  sharded = {**paths, "shard_documents": 6}
  interrupt_after(sharded, monkeypatch, 2)
  with open(tmp_path / "a.txt", "a") as f:
    f.write("bread .\n")
  with open(paths["vocab_file"], "a") as f:
    f.write("oven\n")
  run(sharded)
  assert "is of a run with other vocab_file, input_file: starting anew" in log.text


@pytest.mark.parametrize("state", ["{", "[]", "{}", None])
def test_broken_state(paths, monkeypatch, log, state):
  sharded = {**paths, "shard_documents": 6}
  run(sharded)
  expected = output_files(paths)
  interrupt_after(sharded, monkeypatch, 2)
  directory = pathlib.Path(paths["output_file"]).parent
  if state is None:
    os.truncate(directory / ".x.partial", 10)
  else:
    (directory / ".x.progress.json").write_text(state)
  run(sharded)
  assert output_files(paths) == expected
  assert ".x.progress.json cannot be used: starting anew" in log.text


class EndsTheWorker:
  """Ends the process that unpickles it."""

  def __reduce__(self):
    return os._exit, (9,)


def test_a_worker_that_dies(paths):
  settings = pretraining.Settings(paths["vocab_file"], shard_documents=2)
  job = pretraining.ShardJob(0, [EndsTheWorker()], settings, "", ["x"])
  with pytest.raises(files.InputError, match=r"lower --num_workers or --shard_documents$"):
    list(pretraining.make_shards([job], 2))


def test_mistakes_found_by_workers(paths, tmp_path):
  settings = pretraining.Settings(paths["vocab_file"], shard_documents=2)
  job = pretraining.ShardJob(0, [["ship"]] * 2, settings, "", [str(tmp_path / "none" / "x")])
  with pytest.raises(files.InputError, match="none/x: cannot be written: No such file"):
    list(pretraining.make_shards([job], 2))


# ---- A full disk --------------------------------------------------------------------------------


@pytest.mark.parametrize("shard_documents", [0, 6])
@pytest.mark.parametrize("place", ["records", "state"])
def test_full_disk(paths, monkeypatch, shard_documents, place):
  sharded = {**paths, "shard_documents": shard_documents}
  run(sharded)
  expected = output_files(paths)

  def full(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  with monkeypatch.context() as patch:
    if place == "state":
      patch.setattr(pretraining_run, "_write_json", full)
    elif shard_documents:
      patch.setattr(shutil, "copyfileobj", full)  # appends the second shard
    else:
      patch.setattr(pretraining, "open", full, raising=False)
    with pytest.raises(files.InputError, match="out/x: cannot be written: No space left on device"):
      run(sharded)
  left = output_files(paths)
  assert {name: left[name] for name in expected} == expected  # of the run before
  assert bool(set(left) - set(expected)) == (shard_documents > 0 and place == "records")
  run(sharded)
  assert output_files(paths) == expected


def test_the_vocabulary_of_a_model(paths, tmp_path):
  run(paths)
  expected = output_files(paths)
  model = pathlib.Path(paths["vocab_file"]).parent
  assert (model / "vocab.txt") == pathlib.Path(paths["vocab_file"])
  run(paths, vocab_file=None, model=model)
  assert output_files(paths) == expected
  run(paths, model=tmp_path / "none")  # --vocab_file overrides it
  assert output_files(paths) == expected
  with pytest.raises(files.InputError, match=r"--model: the directory .* has no vocab\.txt; give"):
    run(paths, vocab_file=None, model=tmp_path / "out")


# ---- Mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"vocab_file": None}, "--vocab_file is missing"),
    ({"input_file": ""}, "--input_file is missing"),
    ({"input_file": "{tmp}/a.txt,{tmp}/none*"}, "--input_file: there is no file '{tmp}/none[*]'"),
    ({"input_file": "{tmp}"}, "--input_file: {tmp} is a directory"),
    ({"input_file": "/dev/null"}, "--input_file: /dev/null is a directory, pipe or device"),
    ({"output_file": "{tmp}"}, "--output_file: '{tmp}' is not a name for a file"),
    ({"output_file": "{tmp}/out/"}, "--output_file: '{tmp}/out/' is not a name for a file"),
    ({"output_file": "/dev/full"}, "--output_file: '/dev/full' is not a name for a file"),
    ({"output_file": "{tmp}/a.txt/x"}, "--output_file: cannot write in {tmp}/a.txt: "),
    ({"output_file": "{tmp}/a.txt"}, "--output_file: {tmp}/a.txt is an input file, or given twice"),
    ({"output_file": "{tmp}/x,{tmp}/./x"}, "is an input file, or given twice"),
    ({"output_file": "x,y", "num_output_files": 2}, "--output_file: found 2 names"),
    ({"num_output_files": 0}, "num_output_files"),
    ({"num_workers": 2}, "--num_workers=2 needs shards"),
    ({"num_workers": 0}, "num_workers"),
    ({"max_predictions_per_seq": 25}, "--max_predictions_per_seq=25 is more than"),
    ({"max_seq_length": "long"}, "max_seq_length"),
    ({"no_flag": 1}, "no_flag"),
  ],
)
def test_mistakes_in_flags(paths, tmp_path, change, message):
  change = {k: v.format(tmp=tmp_path) if isinstance(v, str) else v for k, v in change.items()}
  with pytest.raises(files.InputError, match=message.format(tmp=tmp_path)) as caught:
    run(paths, **change)
  assert "\n" not in str(caught.value)
  assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("missing", ["[MASK]", "[CLS]", "[SEP]"])
def test_vocabulary_without_a_special_token(paths, missing):
  tokens = [token for token in SPECIAL + WORDS if token != missing]
  pathlib.Path(paths["vocab_file"]).write_text("\n".join(tokens))
  with pytest.raises(files.InputError, match=f"vocab.txt: has no \\{missing}"):
    run(paths)


def test_a_mistake_is_one_line(paths, tmp_path):
  (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"one\n\ntw\xff\n"))
  command = [sys.executable, str(SCRIPT), *arguments(paths)]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  last = done.stderr.splitlines()[-1]
  assert done.returncode == 1 and "Traceback" not in done.stderr
  assert last == (
    f"create_pretraining_data.py: error: {tmp_path}/b.txt.gz:3: found byte 0xff, which is not "
    "UTF-8; convert the file to UTF-8 text"
  )
  assert not list(tmp_path.glob("out/*"))


def test_text_without_word_pieces(paths, tmp_path):
  (tmp_path / "a.txt").write_text("\u200b\n\u200b\n")
  with pytest.raises(files.InputError, match="the text has no word pieces"):
    run(paths, input_file=str(tmp_path / "a.txt"))
  assert output_files(paths) == {}


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("the ship .\n" * 9, "No next-sentence signal: the corpus is a single document of 9 lines"),
    ("the ship .\n\n" * 9, "No next-sentence signal: each of the 9 documents is a single line"),
    (("ship " * 60 + "\n") * 3 + "\n" + "ship\n", "All next sentences are random"),
  ],
)
def test_next_sentences_that_cannot_be_learnt(paths, tmp_path, log, text, message):
  (tmp_path / "a.txt").write_text(text)
  run(paths, input_file=str(tmp_path / "a.txt"))
  assert message in log.text


@pytest.mark.parametrize("changes", [{}, {"shard_documents": 2, "num_workers": 2}])
def test_text_that_is_lost_in_long_lines(paths, tmp_path, log, changes):
  (tmp_path / "a.txt").write_text("the ship " * 30 + "\n\n" + "never came back .\n" * 5 + "\n")
  (tmp_path / "b.txt").write_text("bread is baked .\n" + "the " * 16 + "\n\nbread .\n")
  run(paths, **changes, input_file=f"{tmp_path}/a.txt,{tmp_path}/b.txt", max_seq_length=16)
  # Of 60 and of 16 pieces 13 have room, of 60 + 5 * 4 + 5 + 16 + 2 in all.
  message = (
    "48.5% of the text is lost (50 of 103 word pieces): 2 of 9 lines are longer than the 13 word "
    "pieces of text that --max_seq_length=16 has space for; give one sentence per line"
  )
  assert [r.levelname for r in log.records if r.getMessage() == message] == ["WARNING"]
  assert read_records(paths["output_file"])


def test_no_text_is_lost(paths, log):
  run(paths)
  assert "is lost" not in log.text


def test_loss_is_counted_on_after_an_interruption(paths, monkeypatch, log):
  paths = {**paths, "shard_documents": 6, "max_seq_length": 8}
  run(paths, output_file=paths["output_file"] + "-whole")
  (whole,) = [message for message in log.messages if "is lost" in message]
  log.clear()
  interrupt_after(paths, monkeypatch, 2)
  run(paths)
  assert [message for message in log.messages if "is lost" in message] == [whole]


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_line_ends_of_other_systems(paths, tmp_path, end):
  text = (tmp_path / "a.txt").read_text()
  outputs = []
  for name, content in (("n", text), ("r", text.replace("\n", end))):
    (tmp_path / name).write_bytes(content.encode())
    output = tmp_path / "out" / name
    run(paths, input_file=tmp_path / name, output_file=output)
    outputs.append(output.read_bytes())
  assert outputs[0] == outputs[1]


def test_vocabulary_of_the_other_casing(paths, log):
  run(paths, do_lower_case=False)
  assert "--do_lower_case=False, but" in log.text and "of lower-cased text" in log.text


# ---- Progress -----------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"shard_documents": 6, "num_workers": 2}])
def test_progress_in_the_log(paths, monkeypatch, log, changes):
  monkeypatch.setattr(pretraining_run, "_SECONDS_BETWEEN_LINES", -1)
  run(paths, **changes)
  total = files.read_json(paths["output_file"] + ".meta.json")["num_instances"]
  lines = [line for line in log.text.splitlines() if " MB/s, " in line]
  assert f"{NUM_DOCUMENTS} of {NUM_DOCUMENTS} documents, {total} instances" in lines[-1]
  assert lines[-1].endswith("00:00 left")


def test_progress_on_a_terminal(paths, monkeypatch, capsys):
  monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
  monkeypatch.setenv("COLUMNS", "200")  # a narrow one would cut the bar off
  run(paths)
  shown = capsys.readouterr().err
  assert "Making instances: 100%" in shown and f"documents={NUM_DOCUMENTS}, instances=" in shown


def test_help():
  done = subprocess.run(
    [sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, check=True
  )
  assert "--shard_documents" in done.stdout and "--truncate_segments_prob" in done.stdout
