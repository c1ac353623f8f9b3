"""Fine-tunes transformers' AutoModelForMultipleChoice on questions with choices, and scores it.

  .peers/bin/python benchmarks/choice_peer.py --model_dir=MODEL --data_dir=DATA --work_dir=peer-1

--model_dir is a HuggingFace model; --data_dir has the train.jsonl, dev.jsonl and test.jsonl of
run_multiple_choice.py. --work_dir gets results.json, and a state after each epoch, from which a
run that was stopped goes on. The recipe is the toolkit's: batches of --batch_size questions, by
length; a linear schedule with a tenth of warm-up; weight decay 0.01 but for biases and LayerNorm;
gradients cut to a norm of 1.
"""

import argparse
import json
import os
import random
import time

import torch
import transformers

WINDOW = 64  # batches within which questions are sorted by length, as in the toolkit


def read(args, name, tokenizer):
  """Reads a set: a list of pairs, the encodings of the choices of a question and its answer."""
  rows = []
  with open(os.path.join(args.data_dir, f"{name}.jsonl"), encoding="utf-8") as f:
    for row in map(json.loads, f):
      pairs = [(row["context"], f"{row['question']} {choice}") for choice in row["choices"]]
      encoded = [
        tokenizer(*pair, truncation="longest_first", max_length=args.max_seq_length)
        for pair in pairs
      ]
      rows.append((encoded, row["answer"]))
  return rows


def collate(rows, tokenizer):
  """Pads the choices of some questions: dict of name -> int64 [B, C, S], and the answers [B]."""
  flat = [choice for encoded, _ in rows for choice in encoded]
  padded = tokenizer.pad(flat, return_tensors="pt")
  inputs = {name: values.view(len(rows), -1, values.shape[-1]) for name, values in padded.items()}
  return inputs, torch.tensor([answer for _, answer in rows])


def length(row):
  """Returns the length of a question's longest choice, in word pieces."""
  return max(len(choice["input_ids"]) for choice in row[0])


def epoch_batches(rows, batch_size, seed):
  """Returns the batches of an epoch: shuffled, sorted by length within windows, shuffled again."""
  draw = random.Random(seed)
  shuffled = draw.sample(rows, len(rows))
  size, batches = WINDOW * batch_size, []
  for first in range(0, len(rows), size):
    window = sorted(shuffled[first : first + size], key=length)
    batches += [window[i : i + batch_size] for i in range(0, len(window), batch_size)]
  full = [batch for batch in batches if len(batch) == batch_size]
  return draw.sample(full, len(full))


def accuracy(model, rows, tokenizer):
  """Returns the share of the questions that are answered rightly."""
  model.eval()
  right = 0
  rows = sorted(rows, key=length)
  with torch.no_grad():
    for first in range(0, len(rows), 16):
      inputs, answers = collate(rows[first : first + 16], tokenizer)
      right += (model(**inputs).logits.argmax(dim=1) == answers).sum().item()
  model.train()
  return right / len(rows)


def make_optimizer(args, model, num_steps):
  """Makes AdamW and its schedule, a tenth of warm-up and down to 0, for num_steps steps."""
  plain = [p for n, p in model.named_parameters() if n.endswith("bias") or "LayerNorm" in n]
  others = {id(p) for p in plain}
  decayed = [p for p in model.parameters() if id(p) not in others]
  groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
  optimizer = torch.optim.AdamW(groups, lr=args.learning_rate, eps=1e-6)
  warmup = num_steps // 10
  return optimizer, transformers.get_linear_schedule_with_warmup(optimizer, warmup, num_steps)


def parse_arguments():
  """The command line as argparse.Namespace; ends the process if it is wrong."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  for name in ("model_dir", "data_dir", "work_dir"):
    parser.add_argument(f"--{name}", required=True)
  parser.add_argument("--max_seq_length", type=int, default=256)
  parser.add_argument("--batch_size", type=int, default=16)
  parser.add_argument("--learning_rate", type=float, default=5e-5)
  parser.add_argument("--num_epochs", type=int, default=3)
  parser.add_argument("--seed", type=int, default=1)
  return parser.parse_args()


def main():
  """Trains what is left to train, and writes results.json."""
  args = parse_arguments()
  os.makedirs(args.work_dir, exist_ok=True)
  state_file = os.path.join(args.work_dir, "state.pt")
  transformers.set_seed(args.seed)
  tokenizer = transformers.AutoTokenizer.from_pretrained(args.model_dir)
  model = transformers.AutoModelForMultipleChoice.from_pretrained(args.model_dir).train()
  rows = read(args, "train", tokenizer)
  per_epoch = len(epoch_batches(rows, args.batch_size, 0))
  optimizer, schedule = make_optimizer(args, model, per_epoch * args.num_epochs)
  first, seconds = 0, 0.0
  if os.path.exists(state_file):
    state = torch.load(state_file, weights_only=False)
    first, seconds = state["epoch"], state["seconds"]
    for part, name in ((model, "model"), (optimizer, "optimizer"), (schedule, "schedule")):
      part.load_state_dict(state[name])
  for epoch in range(first, args.num_epochs):
    torch.manual_seed(args.seed * 1000 + epoch)
    start = time.monotonic()
    for number, batch in enumerate(epoch_batches(rows, args.batch_size, args.seed * 1000 + epoch)):
      inputs, answers = collate(batch, tokenizer)
      loss = model(**inputs, labels=answers).loss
      loss.backward()
      torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
      optimizer.step()
      schedule.step()
      optimizer.zero_grad()
      if number % 20 == 0:
        spent = time.monotonic() - start
        print(f"epoch {epoch} step {number}/{per_epoch} loss {loss:.4f} {spent:.0f} s", flush=True)
    seconds += time.monotonic() - start
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    states = {name: part.state_dict() for name, part in parts.items()}
    torch.save({**states, "epoch": epoch + 1, "seconds": seconds}, f"{state_file}.new")
    os.replace(f"{state_file}.new", state_file)
  found = {
    name: accuracy(model, read(args, name, tokenizer), tokenizer) for name in ("dev", "test")
  }
  found.update(seconds=seconds, settings=vars(args))
  with open(os.path.join(args.work_dir, "results.json"), "w", encoding="utf-8") as f:
    json.dump(found, f, indent=2)
  print(json.dumps(found))


if __name__ == "__main__":
  main()
