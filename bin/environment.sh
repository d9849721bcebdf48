# Sourced by bin/asr and bin/check, which have set $root: sets $venv and makes sure that it can run.
# POSIX sh. The usual case starts no program at all: bin/asr is not to be slower than what it runs.

venv=${ASR_VENV:-$root/.venv}
case $venv in /*) ;; *) venv=$PWD/$venv ;; esac

# need_environment NAME [EXTRAS]: returns when $venv holds this clone, its dependencies and EXTRAS;
# otherwise NAME has said on stderr why not, and the shell exits.
need_environment() {
    environment_is_ready "${2-}" && return
    find_python "$1"
    # Standard input is the user's audio, not an answer to an installer.
    "$python" -I "$root/bin/environment.py" "$1" "$root" "$venv" "${2-}" </dev/null || exit $?
}

# The stamp is written last by environment.py: the clone's path, the extras, a checksum. It has the
# time of the newest file that it depends on.
environment_is_ready() {
    stamp=$venv/asr-installed
    [ -f "$stamp" ] && [ -x "$venv/bin/python" ] || return 1
    for file in setup.cfg pyproject.toml setup.py asr/decoding/kernel.c; do
        [ "$root/$file" -nt "$stamp" ] && return 1
    done
    { IFS= read -r stamped_root && IFS= read -r stamped_extras; } <"$stamp" || return 1
    [ "$stamped_root" = "$root" ] || return 1
    case ",$stamped_extras," in *",${1:-$stamped_extras},"*) ;; *) return 1 ;; esac
}

# Sets $python to a suitable interpreter that can make virtual environments.
find_python() {
    # Run, not only looked up: a version manager's python3.13 may be a name with nothing behind it.
    probe='
import sys
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit(2)
try:
    import ensurepip, fcntl, hashlib, subprocess, venv
except ImportError:
    sys.exit(3)
'
    incomplete=
    for python in python3.13 python3.12 python3.11 python3; do
        status=0
        "$python" -I -c "$probe" </dev/null >/dev/null 2>&1 || status=$?
        [ "$status" -eq 0 ] && return
        [ "$status" -eq 3 ] && [ -z "$incomplete" ] && incomplete=$python
    done
    if [ -z "$incomplete" ]; then
        echo "$1: found no Python 3.11, 3.12 or 3.13 (looked for python3.13, python3.12, python3.11" \
            "and python3 in PATH); install one and try again" >&2
        exit 1
    fi

    # Debian and Ubuntu keep a part of the standard library (venv, ensurepip) in a package of its own.
    python=$incomplete
    package=$("$python" -I -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "$1: $python cannot make virtual environments; on Debian or Ubuntu run" \
            "'sudo apt-get install $package', then try again" >&2
        exit 1
    fi
    echo "$1: first use: installing Debian's $package, which $python needs for virtual environments" >&2
    if ! apt_install "$package" || ! "$python" -I -c "$probe"; then
        echo "$output" >&2
        echo "$1: could not install $package; see above" >&2
        exit 1
    fi
}

# apt_install PACKAGE...: sets $output to what apt-get said.
apt_install() {
    # Its list of packages may be old or missing. Another bin/asr may be doing the same: wait for it.
    output=$(
        DEBIAN_FRONTEND=noninteractive
        export DEBIAN_FRONTEND
        apt-get update -qq </dev/null 2>&1
        apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=600 "$@" </dev/null 2>&1
    )
}

# want_packages NAME FILE: installs the Debian packages that FILE lists, where that is possible.
# Where it is not, NAME says so and goes on: the tests that need them are skipped.
want_packages() {
    missing=
    for package in $(sed 's/#.*//' "$2"); do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
            missing="$missing $package"
    done
    [ -z "$missing" ] && return
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "$1: without$missing some tests are skipped; on Debian or Ubuntu run" \
            "'sudo apt-get install$missing'" >&2
        return
    fi
    echo "$1: first use: installing Debian's$missing, which some tests need" >&2
    # shellcheck disable=SC2086  # a list of names
    if ! apt_install $missing; then
        echo "$output" >&2
        echo "$1: could not install them; the tests that need them are skipped" >&2
    fi
}
