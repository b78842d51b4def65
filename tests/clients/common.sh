# What the clients' `run` scripts share. `run install` only fetches what the client needs.
set -uo pipefail
CACHE="${EIDER_CLIENTS_CACHE:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/target/clients}"
mkdir -p "$CACHE"

# again COMMAND…: up to three times, for downloads
again() {
    local try
    for try in 1 2 3; do
        timeout 600 "$@" && return 0
        echo "failed (try $try of 3): $*" >&2
        sleep $((try * 5))
    done
    return 1
}

# venv NAME PACKAGE…: a Python environment with these packages
venv() {
    local dir="$CACHE/$1"
    shift
    if [ "$(cat "$dir/packages" 2>/dev/null)" != "$*" ]; then
        rm -rf "$dir"
        /usr/bin/python3 -m venv "$dir" && again "$dir/bin/pip" install -q "$@" &&
            echo "$*" >"$dir/packages"
    fi
}

# needs COMMAND…: ends here where one is missing
needs() {
    local command
    for command in "$@"; do
        command -v "$command" >/dev/null || { echo "no $command here" >&2; exit 1; }
    done
}
