#!/usr/bin/env bash
# Off-policy estimates against the Open Bandit Pipeline (obp) on the small Open Bandit Dataset that it ships. obp and what it is
# run with (Python 3.11) go into a venv of their own, target/venv-obp, unless OBP_PYTHON names an interpreter that has it.
source "$(dirname "$0")/../scripts/lib.sh"
cd "$root"

python=${OBP_PYTHON:-target/venv-obp/bin/python}
if [[ ! ${OBP_PYTHON:-} && ! -x $python ]]; then
  python3 -m venv target/venv-obp
  # obp asks for PyTorch and for an older Python; its estimators need neither.
  target/venv-obp/bin/pip install --quiet --no-deps --ignore-requires-python -r benches/evaluate-requirements.txt
fi

cluster=benches/evaluate.$$
trap 'scripts/cluster.sh remove "$cluster"' EXIT
scripts/cluster.sh start "$cluster"
eval "$(scripts/cluster.sh env "$cluster")"
"$python" benches/evaluate.py
