#!/usr/bin/env bash
# Runs the test suite of the last commit on the machines that this one can stand for: `tools/matrix.sh [LINE ...]`,
# all lines without one, `--list` for their names. Lines joined by "+" are one run under all of their conditions.
# Prints a row of CONTRIBUTING.md's table for each line that ran.
#
# MATRIX_DIR (default ~/.cache/fastgan-matrix) keeps virtual environments, wheels and a log for each line.
set -uo pipefail

all=(default level-baseline level-avx2 level-avx512 level-avx512_bf16 libraries-sse4 libraries-avx2 libraries-avx512
    threads-1 threads-2 threads-4 torch-2.11 torch-newest user locale order-1 order-2 order-3 alone workers-1 workers-4)

root=$(cd "$(dirname "$0")/.." && pwd)
dir=${MATRIX_DIR:-${HOME:-/tmp}/.cache/fastgan-matrix}
commit=$(git -C "$root" rev-parse --short HEAD)
checkout=$dir/checkout
# What a build is made of: tests may change without another one.
build=$(git -C "$root" rev-parse HEAD:fastgan HEAD:csrc HEAD:setup.py HEAD:pyproject.toml | sha1sum | cut -c1-12)

die() {
    echo "matrix.sh: $1" >&2
    exit 2
}

# check_line LINE: refuses names that there are not, and what cannot be combined.
check_line() {
    local part parts torch=0
    IFS=+ read -ra parts <<<"$1"
    [[ +$1+ != *++* ]] || die "a line without a name"
    for part in "${parts[@]}"; do
        case " ${all[*]} " in *" $part "*) ;; *) die "no line $part; the lines are ${all[*]}" ;; esac
        [ "$part" != alone ] || [ "$1" = alone ] || die "alone cannot be combined"
        [[ $part != torch-* ]] || torch=$((torch + 1))
    done
    [ "$torch" -le 1 ] || die "$1: one torch at a time"
}

# The commit, and the development data beside it, in a folder that the tests may not write to.
make_checkout() {
    [ "$(cat "$checkout/.commit" 2>/dev/null)" = "$commit" ] && return
    chmod -R u+w "$checkout" 2>/dev/null
    rm -rf "$checkout"
    mkdir -p "$checkout"
    git -C "$root" archive HEAD | tar x -C "$checkout" || die "no commit to test"
    [ -d "$root/../shared" ] && ln -sfn "$(realpath "$root/../shared")" "$dir/shared"
    echo "$commit" >"$checkout/.commit"
    chmod -R a-w "$checkout"
}

# environment NAME PYTHON PACKAGE...: a virtual environment with these packages and the commit's own.
environment() {
    local name=$1 python=$2
    shift 2
    venv=$dir/venv-$name
    "$python" -c "" 2>/dev/null || die "this line needs $python, which does not run here"
    local version wheel copy packages
    version=$("$python" -c 'import sys; print("{}{}".format(*sys.version_info))')
    wheel=$dir/wheels/$build
    if ! ls "$wheel"/*-cp"$version"-*.whl >/dev/null 2>&1; then
        # In a copy: a build writes beside its sources.
        copy=$(mktemp -d "$dir/build.XXXXXX")
        cp -r "$checkout/." "$copy" && chmod -R u+w "$copy" &&
            "$python" -m pip wheel -q --no-deps "$copy" -w "$wheel"
        rm -rf "$copy"
        ls "$wheel"/*-cp"$version"-*.whl >/dev/null 2>&1 || die "the wheel does not build"
    fi
    if [ ! -x "$venv/bin/python" ]; then
        "$python" -m venv "$venv" || die "no virtual environment with $python"
    fi
    packages="$* $(git -C "$root" rev-parse HEAD:pyproject.toml)"
    if [ "$name" = newest ] || [ "$(cat "$venv/.packages" 2>/dev/null)" != "$packages" ]; then
        "$venv/bin/pip" install -q "$@" "$(ls "$wheel"/*-cp"$version"-*.whl)[dev]" pytest-randomly ||
            die "cannot install $*"
        echo "$packages" >"$venv/.packages"
    fi
    if [ "$(cat "$venv/.build" 2>/dev/null)" != "$build" ]; then
        "$venv/bin/pip" install -q --no-deps --force-reinstall "$wheel"/*-cp"$version"-*.whl || die "cannot install"
        echo "$build" >"$venv/.build"
    fi
}

# has_level LEVEL: whether this processor runs this instruction set of the extension.
has_level() {
    local levels
    levels=$(cd / && "$venv/bin/python" -c 'from fastgan.ops import _native as n; print(*n.build_info()["cpu_levels"])') ||
        die "the extension does not load"
    [[ " $levels " == *" $1 "* ]]
}

# row LINE RESULT...: a row of the table.
row() {
    local machine versions cell line=$1
    shift
    machine=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
    versions=$("$venv/bin/python" -c 'import sys, torch; print("{}.{}".format(*sys.version_info), torch.__version__, sep=", ")')
    printf '|'
    for cell in "\`$line\`" "$(date +%F)" "$commit" "$machine" "$versions" "$@"; do printf ' %s |' "$cell"; done
    echo
}

# run_line LINE: the suite as this line has it, or all of its parts; its log and the last line of pytest's summary.
run_line() {
    local line=$1 log=$dir/logs/$1.log workers=2 venv="" order="-p no:randomly" part parts
    local user=() unset=() set=() run=()
    IFS=+ read -ra parts <<<"$line"
    case +$line+ in
    *+torch-2.11+*) environment 2.11 python3.12 torch==2.11.0 "numpy<2.4" ;;
    *+torch-newest+*) XDG_CONFIG_DIRS=/nonexistent environment newest python3 --upgrade torch ;;
    *) environment default python3 ;;
    esac
    for part in "${parts[@]}"; do
        case $part in
        level-*)
            if ! has_level "${part#level-}"; then
                row "$line" "not on this machine" "" "" ""
                return 0
            fi
            set+=("FASTGAN_CPU_LEVEL=${part#level-}")
            ;;
        libraries-sse4)
            set+=(FASTGAN_CPU_LEVEL=baseline ATEN_CPU_CAPABILITY=default MKL_ENABLE_INSTRUCTIONS=SSE4_2
                ONEDNN_MAX_CPU_ISA=SSE41)
            ;;
        libraries-avx2) set+=(ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX2) ;;
        libraries-avx512)
            set+=(ATEN_CPU_CAPABILITY=avx512 MKL_ENABLE_INSTRUCTIONS=AVX512 ONEDNN_MAX_CPU_ISA=AVX512_CORE)
            ;;
        threads-*) set+=("OMP_NUM_THREADS=${part#threads-}" "MKL_NUM_THREADS=${part#threads-}") ;;
        user)
            # Another user than root, whom file modes hold: root is mapped to one, and loses what overrides them.
            [ "$(id -u)" = 0 ] && user=(unshare --user --map-user=1000 --map-group=1000)
            umask 077
            ;;
        locale) unset=(-u HOME -u USER) set+=(LANG=C LC_ALL=C TZ=XXX-14) ;;
        order-*) order="--randomly-seed=${part#order-}" ;;
        workers-*) workers=${part#workers-} ;;
        esac
    done
    # The order reaches the processes that tests start, too. All lines share the kernels that Triton compiled: the
    # compilation for four architectures takes minutes.
    run=("${user[@]}" env "${unset[@]}" "PATH=$venv/bin:$PATH" OMP_WAIT_POLICY=PASSIVE "TRITON_CACHE_DIR=$dir/triton"
        FASTGAN_TESTS_COMPLETE=1 "PYTEST_ADDOPTS=$order" "${set[@]}" "$venv/bin/pytest" -q -p no:cacheprovider)
    local begin=$SECONDS code=0
    cd "$checkout" || die "no checkout"
    if [ "$line" = alone ]; then
        local file each="$dir/logs/alone.d"
        rm -rf "$each" && mkdir -p "$each"
        for file in $(find tests -name 'test_*.py' | sort); do
            [[ $file == tests/interpreted/* ]] && continue # tests/ops/test_triton.py runs these
            while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n || code=1; done
            "${run[@]}" "$file" >"$each/${file//\//.}.log" 2>&1 &
        done
        while [ "$(jobs -p | wc -l)" -gt 0 ]; do wait -n || code=1; done
        cat "$each"/*.log >"$log"
    else
        "${run[@]}" -n "$workers" --dist loadfile >"$log" 2>&1 || code=$?
    fi
    local counts seconds=$((SECONDS - begin))
    counts=$(awk '{ while (match($0, /[0-9]+ (passed|failed|skipped|error)/)) {
            split(substr($0, RSTART, RLENGTH), part, " "); n[part[2]] += part[1]; $0 = substr($0, RSTART + RLENGTH) } }
        END { printf "%d | %d | %d", n["passed"], n["failed"] + n["error"], n["skipped"] }' <(grep -E '^[0-9]+ (passed|failed|skipped|error).* in [0-9.]+s' "$log"))
    row "$line" "$counts" "$((seconds / 60)):$(printf %02d $((seconds % 60)))"
    return "$code"
}

if [ "${1:-}" = --list ]; then
    printf '%s\n' "${all[@]}"
    exit 0
fi
for line in "$@"; do check_line "$line"; done
# A line has its own variables alone, whatever the caller's shell has.
for name in $(compgen -e); do
    case $name in OMP_* | MKL_* | ONEDNN_* | DNNL_* | ATEN_* | FASTGAN_* | PYTEST_*) unset "$name" ;; esac
done
mkdir -p "$dir/logs" "$dir/wheels"
dir=$(realpath "$dir")
checkout=$dir/checkout
make_checkout
failed=()
echo "| line | date | commit | processor | Python, torch | passed | failed | skipped | minutes |"
echo "|---|---|---|---|---|---|---|---|---|"
[ $# -gt 0 ] || set -- "${all[@]}"
for line in "$@"; do
    (run_line "$line") || failed+=("$line")
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}; logs in $dir/logs" >&2
    exit 1
fi
