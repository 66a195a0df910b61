#!/bin/sh
# Makes a Jetson Nano with JetPack 4.6 ready for merino-edge; says what it finds, does what lacks.
#
# The one idea: every step looks first, keeps what was there before it changes anything, and can be
# run again. So a second run changes nothing, a run that failed goes on where it stopped, --undo puts
# back what was kept, and --dry-run walks the same way without a single change. The steps are the
# files in steps/, each of which says what it is for. Plain sh, and nothing newer than Ubuntu 18.04.
set -eu

usage() {
    cat <<'END'
sudo ./setup.sh [options]         do what lacks; --dry-run needs no sudo

  --dry-run          say what would be done, and change nothing
  --undo             put back what was found, last step first
  --swap SIZE        swap there shall be, such as 4G (the default) or 2048M; 0 for none of ours
  --no-zram          also keep JetPack from putting swap into memory
  --power MODE       maxn (needs the 4 A barrel supply), 5w, or a number of nvpmodel's
  --clocks           pin the clocks to the highest of the mode, until the next start
  --headless         start without a desktop, which leaves about 1 GB more memory
  --service          the systemd units: the engine at the first start, the server at every one
  --with-pycuda      compile pycuda (not needed: JetPack's libcudart is used by itself)
  --with-jtop        install jetson-stats (AGPL; not needed: power is read from the kernel)
  --python PROGRAM   the Python 3.6 that TensorRT belongs to (python3)
  --any-board        go on although this is no board of JetPack 4.6

Without options: swap, environment and packages. The wheels come from wheelhouse/ beside this file
(make wheelhouse, on a workstation); without one, from a package index and the checkout around it.
END
}

HERE=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# Tests put a folder before every path, and doubles of the system's commands on PATH.
ROOT=${MERINO_SETUP_ROOT:-}
DRY_RUN=no UNDO=no ANY_BOARD=no PYTHON=python3
SWAP=4G NO_ZRAM=no POWER='' CLOCKS=no HEADLESS=no SERVICE=no PYCUDA=no JTOP_WANTED=no

refuse() { # WHAT HINT
    printf 'setup.sh: %s\n' "$1" >&2
    [ -z "${2:-}" ] || printf 'Hint: %s\n' "$2" >&2
    exit "${3:-1}"
}

while [ $# -gt 0 ]; do
    case $1 in
        --dry-run) DRY_RUN=yes ;;
        --undo) UNDO=yes ;;
        --no-zram) NO_ZRAM=yes ;;
        --clocks) CLOCKS=yes ;;
        --headless) HEADLESS=yes ;;
        --service) SERVICE=yes ;;
        --with-pycuda) PYCUDA=yes ;;
        --with-jtop) JTOP_WANTED=yes ;;
        --any-board) ANY_BOARD=yes ;;
        --swap | --power | --python)
            [ $# -gt 1 ] || refuse "$1 needs a value" "./setup.sh --help" 2
            case $1 in
                --swap) SWAP=$2 ;;
                --power) POWER=$2 ;;
                --python) PYTHON=$2 ;;
            esac
            shift
            ;;
        -h | --help) usage; exit 0 ;;
        *) refuse "there is no option $1" "./setup.sh --help" 2 ;;
    esac
    shift
done

# shellcheck source=steps/journal.sh
. "$HERE/steps/journal.sh"
# shellcheck source=steps/board.sh
. "$HERE/steps/board.sh"
# shellcheck source=steps/swap.sh
. "$HERE/steps/swap.sh"
# shellcheck source=steps/zram.sh
. "$HERE/steps/zram.sh"
# shellcheck source=steps/environment.sh
. "$HERE/steps/environment.sh"
# shellcheck source=steps/packages.sh
. "$HERE/steps/packages.sh"
# shellcheck source=steps/pycuda.sh
. "$HERE/steps/pycuda.sh"
# shellcheck source=steps/power.sh
. "$HERE/steps/power.sh"
# shellcheck source=steps/headless.sh
. "$HERE/steps/headless.sh"
# shellcheck source=steps/jtop.sh
. "$HERE/steps/jtop.sh"
# shellcheck source=steps/service.sh
. "$HERE/steps/service.sh"
STEPS='swap zram environment packages pycuda power headless jtop service'

if [ "$DRY_RUN" = no ] && [ "$(id -u)" != 0 ]; then
    refuse "this changes the system and needs root" "sudo $0, or --dry-run to see what it would do"
fi
options_check
if [ "$UNDO" = yes ]; then
    undo_all
else
    board_check
    do_all
fi
