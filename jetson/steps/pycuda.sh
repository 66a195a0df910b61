# shellcheck shell=sh
# pycuda, compiled here against JetPack's CUDA: a second way to the GPU, for programs that want it.

CUDA=/usr/local/cuda
ENV_PYTHON=$HOME_FOLDER/env/bin/python

pycuda_wanted() { [ "$PYCUDA" = yes ]; }

pycuda_found() {
    if [ -x "$ENV_PYTHON" ] && "$ENV_PYTHON" -c 'import pycuda' 2>/dev/null; then
        say "pycuda is there"
    else
        say "no pycuda in /opt/merino-edge/env"
        return 1
    fi
}

pycuda_do() {
    [ -x "$ROOT$CUDA/bin/nvcc" ] ||
        refuse "there is no $CUDA/bin/nvcc" "sudo apt-get install cuda-toolkit-10-2, or leave out --with-pycuda"
    if ! command -v g++ >/dev/null || [ ! -e "$ROOT/usr/include/python3.6m/Python.h" ]; then
        remember apt "build-essential python3-dev"
        run apt-get install -y build-essential python3-dev
    fi
    remember package made
    pip_install setuptools==59.6.0 wheel==0.37.1 # what builds has to be there first
    pip_install --no-build-isolation -r "$HERE/requirements-pycuda-py36.txt"
}

pip_install() { # nvcc is found on PATH, cuda.h by CPATH, and sudo keeps neither
    run env PATH="$ROOT$CUDA/bin:$PATH" CPATH="$ROOT$CUDA/include" "$ENV_PYTHON" -m pip install \
        --quiet --disable-pip-version-check --no-deps "$@"
}

pycuda_undo() { # the environment itself goes with the step "packages"
    [ ! -x "$ENV_PYTHON" ] || run "$ENV_PYTHON" -m pip uninstall --quiet -y pycuda pytools
    ! recall apt >/dev/null || say "left: $(recall apt) (sudo apt-get remove ...)"
}
