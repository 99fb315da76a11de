#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# dracut: puts the OS half and handoff.sh into the initramfs.

check() {
    require_binaries od sort wc || return 1
}

depends() {
    return 0
}

installkernel() {
    # The machine that builds need not be the realm.
    hostonly='' instmods gatehouse-guest
}

install() {
    inst_multiple od sort wc
    inst_simple /usr/lib/gatehouse/handoff.sh
    # shellcheck disable=SC2154 # dracut sets it
    inst_hook pre-udev 30 "$moddir/gatehouse.sh"
}
