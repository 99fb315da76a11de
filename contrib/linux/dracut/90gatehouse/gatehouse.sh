#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# dracut, pre-udev: takes over what Gatehouse handed over, before udev loads the
# drivers of the devices. A machine that Gatehouse did not boot is left alone.
# Sourced: nothing here may leave the shell.

if [ -d /proc/device-tree/chosen/gatehouse ]; then
    # shellcheck source=/dev/null
    . /usr/lib/gatehouse/handoff.sh
    # Without the devices that the policy let in, nothing good can start.
    gh_handoff || die "gatehouse: the devices cannot be taken over"
fi
