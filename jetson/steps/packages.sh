# shellcheck shell=sh
# merino-edge and its pinned wheels, in an environment of their own that sees JetPack's TensorRT.
#
# The environment is named for what is in it (env-...: of its requirements' SHA-256) and made beside
# the one in use; then the link "env" is turned, in one step. So an update that fails leaves what
# worked. The one before stays, because a server that runs may still load modules from it. The system's
# own pip is never asked to change: pip 21.3.1 installs itself out of its wheel.

HOME_FOLDER=$ROOT/opt/merino-edge
COMMAND=$ROOT/usr/local/bin/merino-edge
WHEELHOUSE=$HERE/wheelhouse
CHECKOUT=$(dirname "$HERE")

packages_wanted() { true; }

env_id() { # twelve digits that change with whatever would be installed
    {
        "$PYTHON" -c 'import sys; print(sys.executable, sys.version)'
        if [ -d "$WHEELHOUSE" ]; then
            cat "$WHEELHOUSE/requirements.txt"
        else
            cat "$HERE/requirements-py36.txt"
            find "$CHECKOUT/merino_edge" "$CHECKOUT/setup.py" -name '*.py' -exec sha256sum {} + | sort
        fi
    } | sha256sum | cut -c 1-12
}

packages_found() {
    env=env-$(env_id)
    now=$(readlink "$HOME_FOLDER/env" || true)
    say "environment: ${now:-none} in /opt/merino-edge; wanted: $env"
    [ "$now" = "$env" ] && [ -e "$HOME_FOLDER/$env/complete" ] && [ -L "$COMMAND" ]
}

packages_do() {
    env=$HOME_FOLDER/env-$(env_id)
    now=$(readlink "$HOME_FOLDER/env" || true)
    if [ ! -e "$env/complete" ]; then
        [ "$(free_mb "$HOME_FOLDER")" -gt "$FREE_MB_WANTED" ] ||
            refuse "$(free_mb "$HOME_FOLDER") MB are free; the packages want $FREE_MB_WANTED" ""
        check_wheelhouse
        need_distutils
        make_folder "$HOME_FOLDER"
        run rm -rf "$env"
        run "$PYTHON" -m venv --system-site-packages --without-pip "$env"
        install_packages "$env"
        run sync -f "$env" # a power cut must not leave the mark without what it stands for
        run touch "$env/complete"
    fi
    put_link "$HOME_FOLDER/env" "$(basename "$env")"
    put_link "$COMMAND" "/opt/merino-edge/env/bin/merino-edge"
    remove_older "$(basename "$env")" "$now"
}

check_wheelhouse() {
    [ -d "$WHEELHOUSE" ] || return 0
    say "check: the SHA-256 of every file of the kit"
    (cd "$HERE" && sha256sum --check --strict --quiet SHA256SUMS) ||
        refuse "the kit is damaged or not complete" "copy it again, or make it again"
}

need_distutils() { # a part of Python that Ubuntu has in a package of its own; every pip needs it
    "$PYTHON" -c 'import distutils.util' 2>/dev/null || {
        remember apt python3-distutils
        run apt-get install -y python3-distutils
    }
}

# --ignore-installed: what the system has of the same name must not stand in for what is pinned.
# --no-deps: the file names everything, and what JetPack has is not asked.
install_packages() { # ENVIRONMENT
    set -- "$1/bin/python" -m pip install --quiet --disable-pip-version-check \
        --ignore-installed --no-deps
    if [ -d "$WHEELHOUSE" ]; then
        with_pip "$WHEELHOUSE" "$@" --no-index --find-links "$WHEELHOUSE" \
            --require-hashes -r "$WHEELHOUSE/requirements.txt"
    else
        [ -e "$CHECKOUT/native_build.py" ] ||
            refuse "there is no wheelhouse beside setup.sh, and no checkout around it" \
                "on a workstation: make wheelhouse; then copy dist/board-kit here"
        fetch_pip "$env.pip"
        with_pip "$env.pip" "$@" --require-hashes -r "$HERE/requirements-py36.txt"
        with_pip "$env.pip" "$@" setuptools==59.6.0 wheel==0.37.1 # the system's cannot build us
        with_pip "$env.pip" "$@" --no-build-isolation "$CHECKOUT"
        run rm -rf "$env.pip"
    fi
}

with_pip() { # FOLDER COMMAND...: pip runs out of its wheel, as Python's own ensurepip does it
    folder=$1
    shift
    run env PYTHONPATH="$folder/pip-21.3.1-py3-none-any.whl" PIP_REQUIRE_VIRTUALENV=0 "$@"
}

fetch_pip() { # FOLDER: with the system's pip, whatever its age
    if ! "$PYTHON" -m pip --version >/dev/null 2>&1; then
        say "no pip for $PYTHON"
        remember apt python3-pip # which brings distutils along
        run apt-get install -y python3-pip
    fi
    run "$PYTHON" -m pip download --quiet --no-deps --dest "$1" pip==21.3.1
}

remove_older() { # KEEP KEEP
    for each in "$HOME_FOLDER"/env-*; do
        [ -d "$each" ] || continue
        case $(basename "$each") in
            "$1" | "$2") ;;
            *) run rm -rf "$each" ;;
        esac
    done
}

packages_undo() {
    put_back_files
    for each in "$HOME_FOLDER"/env-*; do
        [ ! -d "$each" ] || run rm -rf "$each"
    done
    ! recall apt >/dev/null || say "left: $(recall apt) (sudo apt-get remove $(recall apt))"
}
