#!/usr/bin/env bash
# Tests the installed wheel, outside the source tree, against several Pythons and TensorFlows.
#
#     scripts/matrix.sh [ROW...]      rows: oldest newest py313 prerelease; none named means all
#
# Each row has its environment in .matrix/ROW, made anew. An interpreter that is not found fails the run, unless
# MATRIX_ALLOW_MISSING=1. MATRIX_TESTS names other tests than tests/contract and tests/unit.
set -uo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
work=$root/.matrix
read -r -a tests <<<"${MATRIX_TESTS:-tests/contract tests/unit}"
pip_install=(-m pip install -q --disable-pip-version-check)

# row, Python, TensorFlow (`pre`: the newest release or pre-release that pip finds)
known_rows="
oldest 3.10 tensorflow-cpu==2.18.0
newest 3.12 tensorflow-cpu==2.21.0
py313 3.13 tensorflow-cpu==2.20.0
prerelease 3.13 pre
"

find_python() { # 3.X -> path of an interpreter that starts; a pyenv shim may exist and not start
    local version=$1 candidate pyenv_root
    candidate=$(command -v "python$version") && "$candidate" -c '' 2>/dev/null && { echo "$candidate"; return 0; }
    pyenv_root=${PYENV_ROOT:-$(pyenv root 2>/dev/null)}
    [ -n "$pyenv_root" ] || return 1
    while read -r candidate; do
        "$candidate" -c '' 2>/dev/null && { echo "$candidate"; return 0; }
    done < <(printf '%s\n' "$pyenv_root/versions/$version".*/bin/python | sort -rV)
    return 1
}

make_environment() { # folder, interpreter, TensorFlow
    local folder=$1 python=$1/bin/python tensorflow=$3
    rm -rf "$folder" && "$2" -m venv "$folder" || return 1
    if [ "$tensorflow" = pre ]; then
        # --pre holds for all that one pip call installs; alone with --no-deps it touches TensorFlow only.
        "$python" "${pip_install[@]}" --pre --no-deps tensorflow || return 1
        tensorflow=tensorflow==$("$python" -c 'import importlib.metadata as m; print(m.version("tensorflow"))')
    fi
    "$python" "${pip_install[@]}" "$tensorflow" "$root[convert,test]"
}

read_versions() { # "TensorFlow onnx openvino" as installed
    "$1" - <<'PYTHON'
import importlib.metadata as metadata

found = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in metadata.distributions()}
print(found.get("tensorflow-cpu") or found.get("tensorflow"), found.get("onnx"), found.get("openvino"))
PYTHON
}

read_counts() { # "passed failed skipped" from pytest's XML; "0 1 0" where there is none
    "$1" - "$2" <<'PYTHON'
import sys
import xml.etree.ElementTree as ElementTree

try:
    suite = ElementTree.parse(sys.argv[1]).getroot().find("testsuite")
    total, failed, errors, skipped = (int(suite.get(k)) for k in ("tests", "failures", "errors", "skipped"))
    print(total - failed - errors - skipped, failed + errors, skipped)
except (OSError, ElementTree.ParseError):
    print(0, 1, 0)
PYTHON
}

add_row() { printf -v line '%-11s %-7s %-14s %-8s %-9s %s' "$@"; table+=("$line"); }

run_row() { # row, Python, TensorFlow; adds a line to the table; 1 if the row failed
    local row=$1 version=$2 tensorflow=$3 interpreter status=0 folder=$work/$1 counts passed failed skipped
    if ! interpreter=$(find_python "$version"); then
        add_row "$row" "$version" "$tensorflow" - - "not run: no python$version"
        [ "${MATRIX_ALLOW_MISSING:-0}" = 1 ]
        return
    fi
    echo "== $row: $("$interpreter" -V), $tensorflow"
    if ! make_environment "$folder" "$interpreter" "$tensorflow"; then
        add_row "$row" "$version" "$tensorflow" - - "not installed"
        return 1
    fi
    # From the row's own folder: the source tree must not be what is imported.
    (cd "$folder" && bin/python -m pytest -q -p no:cacheprovider -c "$root/pyproject.toml" --rootdir "$root" \
        --junitxml="$folder/results.xml" "${tests[@]/#/$root/}") || status=$?
    read -r tensorflow onnx openvino < <(read_versions "$folder/bin/python")
    counts=$(read_counts "$folder/bin/python" "$folder/results.xml")
    read -r passed failed skipped <<<"$counts"
    [ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || failed="pytest exit $status"
    add_row "$row" "$version" "$tensorflow" "$onnx" "$openvino" "$passed passed, $failed failed, $skipped skipped"
    [ "$status" -eq 0 ]
}

main() {
    local result=0 wanted="$*" row version tensorflow name
    for name in "$@"; do
        grep -q "^$name " <<<"$known_rows" || { echo "no row '$name'; rows: oldest newest py313 prerelease" >&2; exit 2; }
    done
    mkdir -p "$work"
    table=()
    add_row row python tensorflow onnx openvino tests
    while read -r row version tensorflow <&3; do
        [ -n "$row" ] || continue
        [ -z "$wanted" ] || [[ " $wanted " == *" $row "* ]] || continue
        run_row "$row" "$version" "$tensorflow" || result=1
    done 3<<<"$known_rows"
    printf '\n'
    printf '%s\n' "${table[@]}"
    exit "$result"
}

main "$@"
