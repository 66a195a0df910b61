# shellcheck shell=sh
# JetPack's swap in memory: takes up to half of it, where a model's weights could be.

zram_wanted() { [ "$NO_ZRAM" = yes ]; }

zram_mb() { awk '$1 ~ /zram/ { sum += $3 } END { print int(sum / 1024) }' "$ROOT/proc/swaps"; }

zram_is_enabled() { [ "$(systemctl is-enabled nvzramconfig 2>/dev/null || true)" = enabled ]; }

zram_found() {
    if zram_is_enabled; then
        say "the service nvzramconfig makes $(zram_mb) MB of it at every start"
        return 1
    fi
    say "the service nvzramconfig is off"
}

zram_do() {
    remember service enabled
    run systemctl disable nvzramconfig
    say "from the next start on"
}

zram_undo() {
    ! recall service >/dev/null || run systemctl enable nvzramconfig
}
