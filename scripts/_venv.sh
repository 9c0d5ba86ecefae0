# shellcheck shell=bash
# Sourced by the scripts beside it, with the repository's root as working folder: gives them a
# Python environment in .venv that holds this project. Knows no package index; pip does.

# The first Python on PATH that is new enough and can make environments. It is run, not only looked
# up: version switchers put commands on PATH for versions that are not installed.
_find_python() {
    local python
    for python in python3.13 python3.12 python3.11 python3; do
        if "$python" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    echo "No Python 3.11 or newer with its venv module was found; please install one." >&2
    return 1
}

# ensure_venv [EXTRAS]: make .venv where there is none, and install the project (editable) with the
# comma-separated extras when setup.cfg, pyproject.toml or the repository's place have changed.
ensure_venv() {
    local extras=${1:-} python wanted stamp
    wanted="$PWD $(cat setup.cfg pyproject.toml | cksum)"
    stamp=.venv/.installed-${extras:-runtime}
    if ! .venv/bin/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$(_find_python) || return
        echo "making .venv with $("$python" --version)" >&2
        "$python" -m venv --clear .venv || return
    fi
    if [[ ! -f $stamp || $(<"$stamp") != "$wanted" ]]; then
        echo "installing kademlia-node${extras:+ with $extras} into .venv" >&2
        .venv/bin/python -m pip install -qq --disable-pip-version-check \
            --editable ".${extras:+[$extras]}" || return
        echo "$wanted" >.venv/.installed-runtime # whatever the extras, this much is there now
        echo "$wanted" >"$stamp"
    fi
}
