"""Inputs of the model for texts with masks, and the words that it may give."""

import tensorflow.compat.v1 as tf
from tiny_runs import SPECIAL, config_of

import modeling
from toolkit.serving import mask_filler
from toolkit.tasks import pretraining_head


def test_a_text_with_its_segments():
  pieces = ["the", "[MASK]", "[SEP]", "it"]
  assert list(mask_filler.parts_with_masks(pieces, 6)) == [
    (["[CLS]", "the", "[MASK]", "[SEP]", "it", "[SEP]"], [0, 0, 0, 0, 1, 1], [2])
  ]


def test_of_long_text_there_is_a_part_around_each_mask():
  pieces = ["a", "[MASK]", "b", "c", "[SEP]", "d", "e", "[MASK]", "f", "g", "h", "[MASK]"]
  assert list(mask_filler.parts_with_masks(pieces, 7)) == [
    (["[CLS]", "a", "[MASK]", "b", "c", "[SEP]", "[SEP]"], [0] * 7, [2]),
    (["[CLS]", "d", "e", "[MASK]", "f", "g", "[SEP]"], [0, 1, 1, 1, 1, 1, 1], [3]),
    (["[CLS]", "[MASK]", "f", "g", "h", "[MASK]", "[SEP]"], [0, 1, 1, 1, 1, 1, 1], [5]),
  ]


def save_untrained(prefix, config):
  with tf.Graph().as_default(), tf.Session() as session:
    model = modeling.BertModel(config, False, tf.zeros([1, 1], tf.int32))
    hidden = tf.zeros([1, config.hidden_size])
    pretraining_head.masked_lm_logits(config, hidden, model.get_embedding_table())
    session.run(tf.global_variables_initializer())
    return tf.train.Saver().save(session, prefix, write_state=False, write_meta_graph=False)


def test_blank_and_repeated_lines_are_no_words(tmp_path):
  lines = [*SPECIAL, "a", " ", "b", "a", "", "c", "", "\u3000"]
  vocab_file = tmp_path / "vocab.txt"
  vocab_file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
  config = modeling.BertConfig.from_dict({**config_of(lines), "vocab_size": 15})
  checkpoint = save_untrained(str(tmp_path / "model.ckpt"), config)
  filler = mask_filler.MaskFiller(checkpoint, config, str(vocab_file), top_k=20)
  (words,) = filler.fill("a [MASK] b")
  assert sorted(word for word, _ in words) == sorted([*SPECIAL, "a", "b", "c"])
  assert abs(sum(value for _, value in words) - 1) < 1e-5
