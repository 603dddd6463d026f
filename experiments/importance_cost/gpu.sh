#!/bin/sh
# Everything that needs a GPU, in one command from the root of the repository: tests, then costs
# of importance, its memory, and the penalty. About ten minutes.
set -e
export PYTHONPATH=.
python -m pytest -q -p no:cacheprovider tests/gpu tests/structure/analysis/test_environments.py
python experiments/importance_cost/measure.py --device cuda --ours --repeats 5
python experiments/importance_cost/measure.py --device cuda --memory
python experiments/penalty_cost/measure.py --device cuda
