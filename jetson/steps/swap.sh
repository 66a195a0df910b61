# shellcheck shell=sh
# A swap file, because an engine's builder wants more than 4 GB.
#
# Swap cannot hold what the GPU uses, but what else lies in memory can make room for it. JetPack's own
# swap is zram, compressed memory, and does not count here: it is full when memory is.

SWAP_FILE=$ROOT/var/merino-edge.swap
SWAP_LINE='/var/merino-edge.swap none swap sw 0 0'

swap_wanted() { [ "$(swap_mb)" != 0 ]; }

swap_mb() { # the size that was asked for, in MiB
    case $SWAP in
        0) echo 0 ;;
        0?* | *[!0-9]*[GM] | [GM] | *[!0-9GM]*) return 1 ;;
        *G) echo $((${SWAP%G} * 1024)) ;;
        *M) echo "${SWAP%M}" ;;
        *) return 1 ;;
    esac
}

swap_on_disk_mb() {
    awk '$1 ~ /^\// && $1 !~ /zram/ { sum += $3 } END { print int((sum + 1023) / 1024) }' \
        "$ROOT/proc/swaps"
}

is_swapping() { awk -v file="$SWAP_FILE" '$1 == file { on = 1 } END { exit !on }' "$ROOT/proc/swaps"; }

swap_found() {
    on_disk=$(swap_on_disk_mb)
    say "swap on disk: $on_disk MB of $(swap_mb) MB; in memory (zram): $(zram_mb) MB"
    if is_swapping; then
        has_line "$ROOT/etc/fstab" "$SWAP_LINE"
    else
        # mkswap keeps a page for itself, so what was asked for is never quite there
        [ $((on_disk + 1)) -ge "$(swap_mb)" ]
    fi
}

swap_do() {
    if ! is_swapping; then
        if [ -e "$SWAP_FILE" ] && ! recall file >/dev/null; then
            refuse "$SWAP_FILE is there, and not from here" "take it away, or --swap 0"
        fi
        [ "$(free_mb "$ROOT/var")" -gt "$(swap_mb)" ] ||
            refuse "no room for $(swap_mb) MB of swap: $(free_mb "$ROOT/var") MB are free" \
                "--swap 2G, or --swap 0"
        make_folder "$(dirname "$SWAP_FILE")"
        remember file made
        run rm -f "$SWAP_FILE"
        run fallocate -l "$(swap_mb)M" "$SWAP_FILE"
        run chmod 600 "$SWAP_FILE"
        run mkswap "$SWAP_FILE"
        run swapon "$SWAP_FILE"
    fi
    add_line "$ROOT/etc/fstab" "$SWAP_LINE"
}

swap_undo() {
    ! is_swapping || run swapoff "$SWAP_FILE"
    remove_line "$ROOT/etc/fstab" "$SWAP_LINE"
    run rm -f "$SWAP_FILE"
}
