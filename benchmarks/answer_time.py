"""Time per call of a loaded model: this toolkit's engines against PyTorch and ONNX Runtime.

  python benchmarks/answer_time.py --bert_config_file=quickstart/bert/bert_config.json \\
    --peer_python=.peers/bin/python --picture=answer_time.png

Each side has a model of that shape (default: BERT-base) with random weights, in a process of its
own, and answers calls of each of --sizes (inputs x tokens) in turns of --calls. Printed are
milliseconds per call from lists of ids to the last layer's vectors as an array, or with --pooled to
what a classifier makes of the one vector per input: the median of each turn's median, and the
lowest and highest.

  toolkit       the predictor on TensorFlow
  exported      the predictor on ONNX Runtime
  int8          the same, exported with --quantize=int8
  bare          ONNX Runtime alone with the same exported file and its default options
  transformers  PyTorch
  onnxruntime   the model of transformers exported to ONNX by PyTorch

All but int8 are in float32. The last two need the packages of benchmarks/requirements-peers.txt in
--peer_python. --amp is for the first: mixed precision, where that is faster.
"""

import argparse
import functools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

import turns

BATCH_TOKENS = 128
BASE = {
  "vocab_size": 30522,
  "type_vocab_size": 2,
  "hidden_size": 768,
  "num_hidden_layers": 12,
  "num_attention_heads": 12,
  "intermediate_size": 3072,
}
SIZES = [(1, 20), (1, 64), (1, 128), (1, 256), (2, 128), (4, 128), (8, 128)]
PACKAGES = {
  "toolkit": [],
  "exported": [],
  "int8": [],
  "bare": [],
  "transformers": ["torch", "transformers"],
  "onnxruntime": ["torch", "transformers", "onnx", "onnxscript", "onnxruntime"],
}


def toolkit_model(config, pooled, amp=False):
  """Returns a function of B lists of S ids to B arrays of their vectors, float32 [S, H] or [H]."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  sys.path.insert(0, turns.ROOT)
  import tensorflow.compat.v1 as tf

  import modeling
  from toolkit.serving import tensorflow_engine
  from toolkit.support import precision, processes

  processes.prepare_process()
  plan = precision.find(amp, use_xla=False, use_tpu=False)
  for line in plan.lines:
    print(line, file=sys.stderr)
  config = modeling.BertConfig.from_dict(config)

  def build(*inputs):
    model = modeling.BertModel(config, False, *inputs)
    return {"vectors": model.get_pooled_output() if pooled else model.get_sequence_output()}

  with tempfile.TemporaryDirectory() as directory:
    prefix = os.path.join(directory, "bert_model.ckpt")
    with tf.Graph().as_default(), tf.Session() as session:
      build(tf.zeros([1, 1], tf.int32))
      session.run(tf.global_variables_initializer())
      tf.train.Saver().save(session, prefix, write_state=False, write_meta_graph=False)
    session_config = plan.session_config(is_training=False)
    loaded = tensorflow_engine.load_predictor(build, prefix, session_config=session_config)

  def answer(ids):
    return [result["vectors"] for result in loaded.run([(row, [0] * len(row)) for row in ids])]

  return answer


def exported_bytes(config, pooled, quantize=False):
  """Returns the contents of an ONNX file of this toolkit, with random weights."""
  sys.path.insert(0, turns.ROOT)
  import numpy as np

  from toolkit.formats import onnx_graph, onnx_quantization
  from toolkit.formats.model_heads import Head

  random = np.random.default_rng(0)
  head = Head("classifier", 2, "softmax") if pooled else Head("encoder")
  usual = {"hidden_act": "gelu", "max_position_embeddings": 512}
  config = {**BASE, **usual, **config}
  weights = {
    name: (0.02 * random.standard_normal(shape)).astype(np.float32)
    for name, shape in onnx_graph.needed(config, head)
  }
  model = onnx_graph.build(weights, config, head)
  return (onnx_quantization.quantize(model) if quantize else model).SerializeToString()


def exported_model(config, pooled, quantize=False):
  """Returns the same function as toolkit_model's by the predictor on ONNX Runtime."""
  model = exported_bytes(config, pooled, quantize)
  from toolkit.serving import onnx_engine, predictor

  loaded = predictor.Predictor(onnx_engine.OnnxEngine(model, "the model"))
  name = "logits" if pooled else "sequence_output"

  def answer(ids):
    return [result[name] for result in loaded.run([(row, [0] * len(row)) for row in ids])]

  return answer


def bare_model(config, pooled):
  """Returns the same function as toolkit_model's by ONNX Runtime alone."""
  model = exported_bytes(config, pooled)
  import numpy as np
  import onnxruntime

  session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
  names = ["input_ids", "input_mask", "segment_ids"]

  def answer(ids):
    ids = np.array(ids, np.int32)
    inputs = (ids, np.ones_like(ids), np.zeros_like(ids))
    return session.run(None, dict(zip(names, inputs)))[0]

  return answer


def torch_model(config, pooled):
  """Returns a BertModel of transformers, with a pooler or without."""
  import transformers

  names = transformers.BertConfig().to_dict()
  config = {name: value for name, value in config.items() if name in names}
  model = transformers.BertModel(transformers.BertConfig(**config), add_pooling_layer=pooled)
  return model.eval()


def torch_inputs(ids):
  """The three inputs of the model for lists of ids, int64 [B, S]."""
  import torch

  ids = torch.tensor(ids)
  return ids, torch.ones_like(ids), torch.zeros_like(ids)


def transformers_model(config, pooled):
  """The same function as toolkit_model's by PyTorch."""
  import torch

  model = torch_model(config, pooled)

  def answer(ids):
    with torch.inference_mode():
      outputs = model(*torch_inputs(ids))
      return (outputs.pooler_output if pooled else outputs.last_hidden_state).numpy()

  return answer


def onnxruntime_model(config, pooled):
  """The same function as toolkit_model's by ONNX Runtime."""
  import numpy as np
  import onnxruntime
  import torch

  names = ["input_ids", "attention_mask", "token_type_ids"]
  any_size = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
  with tempfile.TemporaryDirectory() as directory:
    path = os.path.join(directory, "model.onnx")
    torch.onnx.export(
      torch_model(config, pooled),
      torch_inputs([[1, 2, 3], [4, 5, 6]]),
      path,
      input_names=names,
      dynamic_shapes=dict.fromkeys(names, any_size),
      dynamo=True,
      verbose=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

  def answer(ids):
    ids = np.array(ids)
    inputs = (ids, np.ones_like(ids), np.zeros_like(ids))
    return session.run(None, dict(zip(names, inputs)))[-1]  # the pooled one is last

  return answer


MODELS = {
  "toolkit": toolkit_model,
  "exported": exported_model,
  "int8": functools.partial(exported_model, quantize=True),
  "bare": bare_model,
  "transformers": transformers_model,
  "onnxruntime": onnxruntime_model,
}


def serve(model, vocab_size):
  """Takes [inputs, tokens, calls] as JSON per line, and prints the milliseconds of a call."""
  print("ready", flush=True)
  for line in sys.stdin:
    num_inputs, num_tokens, num_calls = json.loads(line)
    choose = random.Random(0).choices
    ids = [choose(range(vocab_size), k=num_tokens) for _ in range(num_inputs)]
    model(ids)
    times = []
    for _ in range(num_calls):
      start = time.perf_counter()
      model(ids)
      times.append((time.perf_counter() - start) * 1e3)
    print(statistics.median(times), flush=True)


class Side:
  """A side in a process of its own, started and ready once constructed."""

  def __init__(self, python, name, arguments):
    command = [python, os.path.abspath(__file__), "--side", name, *arguments]
    self._process = subprocess.Popen(
      command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    while (line := self._process.stdout.readline()) != "ready\n":  # exporters print lines, too
      if not line:
        sys.exit(f"{name} has failed")

  def milliseconds(self, num_inputs, num_tokens, num_calls):
    """The median of the calls of a turn."""
    print(json.dumps([num_inputs, num_tokens, num_calls]), file=self._process.stdin, flush=True)
    return float(self._process.stdout.readline())

  def close(self):
    self._process.stdin.close()
    self._process.wait()


def missing_packages(python, packages):
  """Those of the packages that a Python does not have."""
  code = "import importlib.util as u, sys; print(*(p for p in sys.argv[1:] if not u.find_spec(p)))"
  return subprocess.check_output([python, "-c", code, *packages], text=True).split()


def start_sides(peer_python, arguments):
  """Dict of name -> Side of those that can run; prints why others cannot."""
  sides = {}
  for name, packages in PACKAGES.items():
    python = peer_python if packages else sys.executable
    if python is None:
      print(f"{name:13} skipped: give --peer_python")
    elif missing := missing_packages(python, packages):
      print(f"{name:13} skipped: {python} has no {', '.join(missing)}")
    else:
      sides[name] = Side(python, name, arguments)
  return sides


def measure(sides, sizes, num_calls, num_turns):
  """Prints and returns a dict of size -> dict of side's name -> milliseconds of each turn."""
  results = {}
  for size in sizes:
    calls = {name: functools.partial(s.milliseconds, *size, num_calls) for name, s in sides.items()}
    taken = turns.take(calls, num_turns + 1)
    results[size] = {name: times[1:] for name, times in taken.items()}  # the first one warms up
    for name, times in results[size].items():
      print(f"{name_of(size):8} {name:13} {turns.spread(times, 2)} ms", flush=True)
  return results


def name_of(size):
  """(8, 128) -> "8x128"."""
  return "x".join(map(str, size))


def sizes_of(text):
  """The type of --sizes: "1x20,8x128" -> [(1, 20), (8, 128)]."""
  sizes = [tuple(map(int, size.split("x"))) for size in text.split(",")]
  if any(len(size) != 2 or min(size) < 1 for size in sizes):
    raise ValueError
  return sizes


def draw(results):
  """Makes the picture of `measure`'s results; returns a matplotlib Figure."""
  from matplotlib import figure  # not needed without a picture

  picture = figure.Figure(figsize=(12, 4.5), layout="constrained")
  panels = [("one input", "tokens", 0, 1), (f"inputs of {BATCH_TOKENS} tokens", "inputs", 1, 0)]
  for axes, (title, x, fixed, free) in zip(picture.subplots(1, 2), panels):
    sizes = sorted(size for size in results if size[fixed] == (1, BATCH_TOKENS)[fixed])
    for name in results[sizes[0]] if sizes else ():
      points = [(size[free], statistics.median(results[size][name])) for size in sizes]
      axes.plot(*zip(*points), marker="o", ms=4, label=name)
    axes.set(title=title, xlabel=x, ylabel="milliseconds a call", xlim=(0, None), ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
  return picture


def print_ratios(results):
  """Prints the ratios of the toolkit's speeds to each other and to the others', for each size."""
  for size, taken in results.items():
    speeds = {f"{name} {name_of(size)}": [1 / ms for ms in taken[name]] for name in taken}
    toolkit, *others = speeds
    peers = [name for name in others if name.split()[0] not in ("exported", "int8", "bare")]
    exported, int8, bare = (f"{name} {name_of(size)}" for name in ("exported", "int8", "bare"))
    pairs = [(exported, bare), (exported, toolkit), (int8, toolkit)]
    turns.print_ratios(speeds, [*pairs, *((toolkit, peer) for peer in peers)])


def main():
  """Prints the time of each side and size, and the toolkit's ratios; draws them with --picture."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--bert_config_file", type=turns.existing_file, help="default: BERT-base")
  sizes = ",".join(map(name_of, SIZES))
  parser.add_argument("--sizes", type=sizes_of, default=sizes, help=f"default: {sizes}")
  parser.add_argument("--calls", type=int, default=10)
  parser.add_argument("--turns", type=int, default=5)
  parser.add_argument("--picture", help="file to draw them in, over tokens and over inputs")
  parser.add_argument("--peer_python", help="a Python with the packages of the others")
  parser.add_argument("--pooled", action="store_true", help="one vector for each input")
  parser.add_argument("--amp", action="store_true", help="the toolkit in mixed precision")
  parser.add_argument("--side", choices=MODELS, help="run one side only, see serve")
  args = parser.parse_args()
  if args.side:
    config = BASE
    if args.bert_config_file:
      with open(args.bert_config_file, encoding="utf-8") as f:
        config = json.load(f)
    given = {"amp": True} if args.amp and args.side == "toolkit" else {}
    serve(MODELS[args.side](config, args.pooled, **given), config["vocab_size"])
    return
  given = [f"--bert_config_file={args.bert_config_file}"] if args.bert_config_file else []
  given += [f"--{name}" for name in ("pooled", "amp") if getattr(args, name)]
  sides = start_sides(args.peer_python, given)
  results = measure(sides, args.sizes, args.calls, args.turns)
  for side in sides.values():
    side.close()
  print_ratios(results)
  if args.picture:
    draw(results).savefig(args.picture, dpi=80)


if __name__ == "__main__":
  main()
