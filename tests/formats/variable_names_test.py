"""Names in a scope around the model, and names of what only a training needs."""

import pytest

from toolkit.formats import variable_names
from toolkit.formats.variable_names import HUGGINGFACE, TENSORFLOW
from toolkit.support import files


@pytest.mark.parametrize(
  ("separator", "scope", "names"),
  [
    (TENSORFLOW, "module/", ["bert/embeddings/word_embeddings", "cls/predictions/output_bias"]),
    (TENSORFLOW, "a/model/", ["bert/encoder/layer_0/output/dense/bias", "output_weights"]),
    (TENSORFLOW, "bert/", ["bert/pooler/dense/bias", "output_weights"]),
    (TENSORFLOW, "", ["bert/pooler/dense/bias", "head/bert_pooler/dense/bias"]),
    (TENSORFLOW, "", ["electra/embeddings/word_embeddings", "x"]),
    (HUGGINGFACE, "module.", ["bert.embeddings.word_embeddings.weight", "classifier.bias"]),
    (HUGGINGFACE, "module.", ["embeddings.LayerNorm.weight", "pooler.dense.weight"]),
    (HUGGINGFACE, "module.model.", ["bert.encoder.layer.0.output.dense.bias", "qa_outputs.bias"]),
    (HUGGINGFACE, "model.", ["distilbert.transformer.layer.0.ffn.lin1.bias"]),
    (HUGGINGFACE, "model.", ["transformer.layer.0.ffn.lin1.bias"]),
    (HUGGINGFACE, "bert.", ["bert.pooler.dense.bias"]),
    (HUGGINGFACE, "", ["bert.pooler.dense.bias", "pooler.dense.weight", "cls.predictions.bias"]),
    (HUGGINGFACE, "", ["cls.predictions.transform.dense.weight"]),
  ],
)
def test_the_scope_around_a_model(separator, scope, names, log):
  found = variable_names.resolve([scope + name for name in names], separator, "file")
  assert found.scope == scope
  assert found.sources == {name: scope + name for name in names}
  found.log("my/file")
  wanted = f"The names of {len(names)} variables in my/file begin with {scope}, which is taken off"
  assert log.messages == ([wanted] if scope else [])


def test_names_beside_the_scope_stay(log):
  names = ["module/bert/pooler/dense/bias", "output_bias", "optimizer/module/bert/x/adam_m"]
  found = variable_names.resolve([*names, "global_step"], TENSORFLOW, "file")
  assert list(found.sources) == ["bert/pooler/dense/bias", *names[1:], "global_step"]
  found.log("my/file")
  assert log.messages[0].startswith("The names of 1 variables in my/file begin with module/")


def test_an_encoder_without_a_scope_is_the_model():
  names = ["bert/pooler/dense/bias", "teacher/bert/pooler/dense/bias"]
  assert variable_names.resolve(names, TENSORFLOW, "f").sources == {name: name for name in names}


def test_training_state_has_no_say():
  names = ["m/bert/pooler/dense/bias", "optimizer/m/bert/pooler/dense/bias/Adam_1"]
  assert variable_names.resolve(names, TENSORFLOW, "f").scope == "m/"
  names = ["m/bert/pooler/dense/bias", "m/global_step", "global_step"]
  assert variable_names.resolve(names, TENSORFLOW, "f").sources["bert/pooler/dense/bias"]


@pytest.mark.parametrize(
  ("separator", "names", "match"),
  [
    (
      TENSORFLOW,
      ["teacher/bert/pooler/dense/bias", "student/bert/encoder/layer_0/output/dense/bias"],
      "^--f: x: has 2 encoders, student/bert/encoder and teacher/bert/pooler; save the one",
    ),
    (
      HUGGINGFACE,
      ["query.bert.pooler.dense.bias", "passage.bert.pooler.dense.bias"],
      r"2 encoders, passage\.bert\.pooler\.dense and query\.bert\.pooler\.dense; save",
    ),
    (
      TENSORFLOW,
      ["m/bert/pooler/dense/bias", "output_bias", "m/output_bias"],
      "^--f: x: has output_bias and m/output_bias, which both stand for output_bias; save",
    ),
    (TENSORFLOW, ["bert/x", "bert/x:0"], "has bert/x and bert/x:0, which both stand for bert/x"),
  ],
)
def test_names_that_could_be_two_things(separator, names, match):
  with pytest.raises(files.InputError, match=match):
    variable_names.resolve(names, separator, "--f: x")


def test_numbers_of_outputs():
  found = variable_names.resolve(["m/bert/pooler/dense/bias:0", "b:1"], TENSORFLOW, "file")
  assert found.sources == {"bert/pooler/dense/bias": "m/bert/pooler/dense/bias:0", "b:1": "b:1"}


@pytest.mark.parametrize(
  "name",
  [
    *("global_step", "global_step:0", "model/global_step", "beta1_power", "train/beta2_power_1"),
    *("loss_scale", "current_loss_scale", "loss_scale_good_steps", "local_step", "batch_finite"),
    *("x/adam_m", "x/adam_v", "x/adam_v:0", "x/lamb_m", "x/lamb_v", "x/adafactor_vr"),
    *("x/Adam", "x/Adam_1", "x/AdamW", "x/AdamWeightDecayOptimizer_1", "x/DistributedAdam"),
    *("x/LAMB", "x/LAMB_1", "x/LambOptimizer", "x/LAMBOptimizer_1", "x/LazyAdam_1", "x/adam_1"),
    *("x/Momentum", "x/RMSProp_1", "x/Adagrad", "x/accum"),
    *("x/ExponentialMovingAverage", "x/ExponentialMovingAverage_1"),
    *("x/ExponentialMovingAverage/biased", "x/ExponentialMovingAverage/local_step"),
  ],
)
def test_what_only_a_training_needs(name):
  assert variable_names.is_training_state(name)


@pytest.mark.parametrize(
  "name",
  [
    *("bert/encoder/layer_0/attention/self/query/kernel", "output_weights", "output_bias"),
    *("bert/embeddings/LayerNorm/gamma", "bert/embeddings/LayerNorm/beta", "cls/ner/output_bias"),
    *("Adam", "adam_m", "x/madam_m", "x/Adam/kernel", "x/ExponentialMovingAverage/kernel"),
    *("my_global_step", "x/LambdaLayer", "x/accumulator", "bert/embeddings/Adamantine"),
  ],
)
def test_what_belongs_to_a_model(name):
  assert not variable_names.is_training_state(name)


def test_objects_of_checkpoints_keep_their_names():
  name = "model/bert/encoder/layer/0/bias/.ATTRIBUTES/VARIABLE_VALUE"
  assert variable_names.resolve([name], TENSORFLOW, "file").sources == {name: name}
  assert "written by tf.train.Checkpoint" in variable_names.foreign_format(["x", name])
  assert variable_names.foreign_format(["x"]) == ""
