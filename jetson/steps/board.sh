# shellcheck shell=sh
# What machine this is; nothing is changed here, and on a machine of another kind nothing later is.

PYTHON_WANTED=3.6 # the one that JetPack's TensorRT is for; the pinned wheels are for it as well
FREE_MB_WANTED=700 # of the packages, unpacked, with some room

text_of() { # FILE: without the zero bytes that device trees end with; empty if there is none
    [ ! -e "$1" ] || tr -d '\0' <"$1"
}

l4t_version() { # 32.7.1, from "# R32 (release), REVISION: 7.1, ..."
    sed -n '1s/^# R\([0-9]*\) (release), REVISION: \([0-9.]*\).*/\1.\2/p' \
        "$ROOT/etc/nv_tegra_release" 2>/dev/null || true
}

memory_mb() { # KEY of /proc/meminfo
    awk -v key="$1:" '$1 == key { print int($2 / 1024) }' "$ROOT/proc/meminfo"
}

free_mb() { # where FOLDER will be
    folder=$1
    while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
    df -Pk "$folder" | awk 'NR == 2 { print int($4 / 1024) }'
}

board_check() {
    printf '%s\n' "== board"
    model=$(text_of "$ROOT/proc/device-tree/model")
    l4t=$(l4t_version)
    version=$("$PYTHON" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])') ||
        refuse "'$PYTHON' does not run" "--python says where Python $PYTHON_WANTED is"
    say "${model:-no name}; L4T ${l4t:-none}; Python $version"
    say "memory: $(memory_mb MemTotal) MB, $(memory_mb MemAvailable) MB available"
    say "disk: $(free_mb "$ROOT/opt") MB free"
    tensorrt=$ROOT/usr/lib/python3.6/dist-packages/tensorrt
    if [ -d "$tensorrt" ]; then
        say "TensorRT's Python module is there"
    else
        say "no TensorRT for Python 3.6: sudo apt-get install nvidia-jetpack brings it"
    fi
    case $l4t in
        32.*) ;;
        *) [ "$ANY_BOARD" = yes ] ||
            refuse "this is no board of JetPack 4.6 (L4T 32.7): L4T ${l4t:-none}" \
                "on other machines 'pip install' is enough; --any-board goes on all the same" ;;
    esac
    case $version in
        "$PYTHON_WANTED".*) ;;
        *) refuse "the wheels are for Python $PYTHON_WANTED; $PYTHON is $version" \
            "--python says where Python $PYTHON_WANTED is" ;;
    esac
}

options_check() {
    swap_mb >/dev/null || refuse "--swap $SWAP: not a size" "such as 4G or 2048M" 2
    case $POWER in
        '' | maxn | 5w | [0-9]) ;;
        *) refuse "--power $POWER: no such mode" "maxn, 5w, or a number of nvpmodel's" 2 ;;
    esac
}

after_all() {
    [ "$DRY_RUN" = no ] || { printf 'nothing was changed\n'; return; }
    printf 'done. Next:\n'
    say "merino-edge doctor              what is still to be mended (log in anew first)"
    say "merino-edge build BUNDLE        the engine, built and tried on this board"
    say "merino-edge run BUNDLE --prompt 'The sheep'"
}
