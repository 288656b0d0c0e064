# Sourced by scripts/demo and scripts/test: a virtual environment for this checkout and for nothing else, outside of it.
# It is made anew when what is installed into it has changed, and used again as long as it has not.
#
#   PYTHON                  the Python to use, instead of the first one of 3.11 to 3.13 that is found
#   BERTCONV_ENVIRONMENTS   the folder that environments are made in, instead of bertconv/ in the user's cache

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

# On standard error: the output is that of the command, which may be JSON.
say() {
  printf '%s\n' "$1" >&2
}

fail() {
  printf 'Error: %s\n%s\n' "$1" "$2" >&2
  exit 1
}

# Sets python and version.
find_python() {
  local candidate candidates=(python3 python3.13 python3.12 python3.11 python) found=""
  if [ -n "${PYTHON:-}" ]; then
    candidates=("$PYTHON")
  fi
  for candidate in "${candidates[@]}"; do
    version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    case $version in
      3.11 | 3.12 | 3.13) python=$candidate && return ;;
    esac
    found+="${found:+, }$candidate is $version"
  done
  fail "there is no Python 3.11 to 3.13 here${found:+ ($found)}." \
    "Install one, or say where it is: PYTHON=/path/to/python3.12 $0"
}

# Sets environments, a folder that can be written.
find_place() {
  environments=${BERTCONV_ENVIRONMENTS:-${XDG_CACHE_HOME:-${HOME:-/nowhere}/.cache}/bertconv}
  if ! mkdir -p "$environments" 2>/dev/null || [ ! -w "$environments" ]; then
    environments=$(mktemp -d)
  fi
}

# Makes the environment $1 where there is none yet that pip was told the same for.
# $2 is a fingerprint of what is installed; the function `install` installs it. Sets environment.
make_environment() {
  find_python
  find_place
  environment=$environments/$1-$version-$(printf %s "$root" | cksum | cut -d ' ' -f 1)
  exec 9>"$environment.lock"
  if command -v flock >/dev/null; then
    flock 9 # another run may be making it right now
  fi
  if [ "$(cat "$environment/made-for" 2>/dev/null)" = "$2" ] && "$environment/bin/python" -c '' 2>/dev/null; then
    say "Environment: $environment"
  else
    say "Making a virtual environment, once: $environment"
    make_venv
    say "Installing into it with pip, which takes some minutes and about 3 GB ..."
    install || fail "pip could not install what is needed." "Its own lines above say why; then run $0 again."
    printf '%s\n' "$2" >"$environment/made-for"
  fi
  exec 9>&-
}

make_venv() {
  local site
  if "$python" -m venv --clear "$environment" >"$environment.log" 2>&1; then
    return
  fi
  # Debian's Python has no ensurepip until python3-venv is installed: its own pip can put a pip into the environment
  if "$python" -m pip --version >/dev/null 2>&1 &&
    "$python" -m venv --clear --without-pip "$environment" >"$environment.log" 2>&1; then
    site=$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    "$python" -m pip install -q --target "$site" pip && return
  fi
  cat "$environment.log" >&2
  fail "$python cannot make virtual environments, or has no pip." \
    "Install what it lacks (Debian: apt-get install python3-venv python3-pip)."
}

# Of the contents of files and folders, by their paths in the repository.
fingerprint() {
  (cd "$root" && find "$@" -type f ! -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 cat | cksum)
}

pip_install() {
  PIP_USER=0 "$environment/bin/python" -m pip install -q --disable-pip-version-check -c "$root/constraints.txt" "$@"
}
