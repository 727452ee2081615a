#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: build for it in place, test the ops, measure them, the training step and a
# picture. Nine minutes at most, and eight files in OUT (by default benchmarks/results/<GPU>). Needs torch and pytest; the
# build needs nvcc, setuptools and pybind11; the step and the picture need what pip installs with fastgan.
# What it cannot do it says, and goes on. Exit code 1 if the build or a test failed.
#
#   bash benchmarks/gpu.sh
#   OUT=/tmp/results PYTHON=python3.12 bash benchmarks/gpu.sh
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
PYTHON=${PYTHON:-python3}
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
failed=0

if ! "$PYTHON" -c 'import torch' 2>/dev/null; then
  echo "gpu.sh: $PYTHON has no torch; name another by PYTHON=" >&2
  exit 1
fi
# The GPU's name and compute capability; nothing where torch sees none.
read -r machine arch < <("$PYTHON" - <<'PY'
import re, torch
if torch.cuda.is_available():
    major, minor = torch.cuda.get_device_capability()
    print(re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()), f"{major}{minor}")
PY
)
if [[ -z ${machine:-} ]]; then
  echo "gpu.sh: torch sees no GPU" >&2
  exit 1
fi
OUT=${OUT:-benchmarks/results/$machine}
mkdir -p "$OUT" || exit 1
: >"$OUT/log.txt"

cannot() {
  echo "COULD NOT: $*" | tee -a "$OUT/machine.txt"
}

# Seconds to the end of the nine minutes, less what stopping takes and what is to be kept for later parts; 20 at least.
left() {
  local rest=$((525 - SECONDS - $1))
  echo $((rest > 20 ? rest : 20))
}

least() {
  echo $(($1 < $2 ? $1 : $2))
}

# part SECONDS LOG COMMAND...: its output goes to the log's end, and its own end to the terminal.
part() {
  local limit=$1 log=$OUT/$2 begin=$SECONDS status
  shift 2
  echo "== $*"
  timeout -k 10 "$limit" "$@" >>"$log" 2>&1
  status=$?
  tail -n 15 "$log"
  [[ $status == 124 || $status == 137 ]] && echo "stopped after $limit s" | tee -a "$log"
  echo "== exit $status after $((SECONDS - begin)) s"
  return $status
}

{
  date -u +%FT%TZ
  git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem --format=csv
  nvcc --version | tail -n 2
  "$PYTHON" --version
  "$PYTHON" - <<'PY'
from importlib.metadata import PackageNotFoundError, version
for name in ("torch", "triton", "numpy", "pytest", "pybind11", "setuptools", "rich", "torchmetrics", "kornia", "piq",
             "pytorch-msssim", "fused-ssim", "scikit-image"):
    try:
        print(name, version(name))
    except PackageNotFoundError:
        print(name, "missing")
PY
} >"$OUT/machine.txt" 2>&1
cat "$OUT/machine.txt"

if ! "$PYTHON" -c 'import setuptools, pybind11' 2>/dev/null; then
  cannot "build the extension: $PYTHON lacks setuptools or pybind11"
elif ! { command -v "${FASTGAN_NVCC:-nvcc}" || command -v "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc"; } >/dev/null; then
  cannot "build the extension: no nvcc"
elif ! FASTGAN_CUDA=1 FASTGAN_CUDA_ARCHS=${FASTGAN_CUDA_ARCHS:-$arch} \
  part 130 log.txt "$PYTHON" setup.py build_ext --inplace --force; then
  cannot "build the extension: see log.txt"
  failed=1
fi

if ! "$PYTHON" -c 'import pytest' 2>/dev/null; then
  cannot "run the tests: $PYTHON lacks pytest"
else
  options=(-q -ra -p no:cacheprovider)
  "$PYTHON" -c 'import xdist' 2>/dev/null && options+=(-n 4)
  # A file whose tests need a package that is not here is no failed test.
  while IFS=$'\t' read -r file reason; do
    cannot "run $file: $reason"
    options+=(--ignore "$file")
  done < <(timeout 60 "$PYTHON" - <<'PY' | sed -n 's/^MISSING\t//p'
import pytest

class Missing:
    def pytest_collectreport(self, report):
        if report.failed and "No module named" in report.longreprtext:
            print("MISSING", report.nodeid, report.longreprtext.splitlines()[-1].lstrip("E "), sep="\t")

pytest.main(["tests/ops", "--collect-only", "-q", "-p", "no:cacheprovider"], plugins=[Missing()])
PY
  )
  : >"$OUT/tests.txt"
  part 110 tests.txt "$PYTHON" -m pytest tests/ops "${options[@]}" || failed=1
fi

if ! part 70 log.txt env FASTGAN_CACHE="$OUT" "$PYTHON" - <<'PY'; then
from fastgan.bench.ops.op_benchmarks import cases, op_names
from fastgan.bench.triton.tune import tune
tune((case for op in op_names() for case in cases(op, "cuda")), log=lambda line: print(line, flush=True))
PY
  cannot "tune the Triton kernels: see log.txt"
fi
export FASTGAN_CACHE=$OUT

# Results are written after each op, so a run that is stopped leaves what it had.
if ! part "$(least 190 "$(left 170)")" log.txt "$PYTHON" -m fastgan.bench ops --device cuda --report "$OUT"; then
  cannot "finish the benchmark of the ops: see log.txt"
  [[ -f $OUT/bench.json ]] || failed=1
fi
part "$(least 110 "$(left 70)")" log.txt "$PYTHON" -m fastgan.bench train --device cuda --json "$OUT/train.json" ||
  cannot "finish the benchmark of the step: see log.txt"
part "$(least 90 "$(left 0)")" log.txt "$PYTHON" -m fastgan.bench infer --device cuda --json "$OUT/infer.json" ||
  cannot "finish the benchmark of a picture: see log.txt"

echo "results in $OUT: $(cd "$OUT" && echo *)"
exit $failed
