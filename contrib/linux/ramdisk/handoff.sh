#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# What an initramfs does with what Gatehouse handed over (docs/handoff.md): loads
# the OS half, prints one line for each device, and checks that the nodes are
# complete and that the bus has what they name. Run it, or source it and call
# gh_handoff: 0, or 1 and the reason on standard error.
#
# Any POSIX shell, with od, sort and wc. The tree is the firmware's and measured;
# the checks catch an OS half that is missing, too old or refused a device.
GH_TREE=${GH_TREE:-/proc/device-tree}
GH_PCI=${GH_PCI:-/sys/bus/pci/devices}
GH_LOAD=${GH_LOAD:-modprobe gatehouse-guest} # command that loads the OS half

gh_text() { # FILE: its text, without NUL; nothing when there is none
    _gh_text=
    [ ! -f "$1" ] || IFS= read -r _gh_text <"$1" || :
    printf '%s' "$_gh_text"
}
gh_bytes() { # FILE: its bytes; 0 when there is none
    if [ -f "$1" ]; then echo $(($(wc -c <"$1"))); else echo 0; fi
}
# shellcheck disable=SC2046 # one word for each byte
gh_cell() { # FILE: its first u32
    set -- $(od -An -v -tx1 -N4 "$1")
    echo $((0x$1$2$3$4))
}

# --- the tree --------------------------------------------------------------

gh_host() { # COMPATIBLE: the node of the PCI host bridge, if it is such a one
    for _gh_d in "$GH_TREE"/*; do
        [ -f "$_gh_d/compatible" ] || continue
        [ "$(gh_text "$_gh_d/compatible")" != "$1" ] || echo "$_gh_d"
    done
}
# shellcheck disable=SC2046 # one word for each byte
_gh_line() { # NODE PATH
    _gh_mode=bridge _gh_rule=
    if [ -f "$1/gatehouse,mode" ]; then
        _gh_mode=$(gh_text "$1/gatehouse,mode") _gh_rule=$(gh_text "$1/gatehouse,rule")
    fi
    _gh_tail="$2 $1 $_gh_rule"
    set -- $(for _gh_p in reg vendor-id device-id class-code; do
        od -An -v -tx1 -N4 "$1/$_gh_p"
    done)
    printf '0000:%02x:%02x.%x %s %s:%s %s %s\n' "0x$2" $((0x$3 >> 3)) $((0x$3 & 7)) \
        "${_gh_mode:-none}" "$7$8" "${11}${12}" "${14}${15}${16}" "$_gh_tail"
}
_gh_walk() { # NODE PATH: the nodes below; only $1 and $2 outlive the recursion
    for _gh_d in "$1"/*@*; do
        [ -f "$_gh_d/reg" ] || continue
        _gh_unit=${_gh_d##*@}
        set -- "$1" "$2" "$2${2:+/}$(printf '%02x' "0x${_gh_unit%,*}").${_gh_unit#*,}"
        _gh_line "$_gh_d" "$3"
        _gh_walk "$_gh_d" "$3"
    done
}
# One line for each node below the PCI host bridge, by address:
#   ADDRESS MODE VENDOR:DEVICE CLASS SLOT-PATH NODE RULE
# Mode "bridge" and no rule for bridges.
gh_nodes() {
    for _gh_host in $(gh_host gatehouse,pci-host-ecam) $(gh_host pci-host-ecam-generic); do
        _gh_walk "$_gh_host" ''
    done | sort
}
# One line for each device besides PCI: NAME MODE RULE
gh_emulated() {
    for _gh_d in "$GH_TREE"/*@*; do
        [ -f "$_gh_d/gatehouse,mode" ] || continue
        echo "${_gh_d##*/} $(gh_text "$_gh_d/gatehouse,mode") $(gh_text "$_gh_d/gatehouse,rule")"
    done
}
gh_of() { # MODE...: addresses, of the lines of gh_nodes on standard input
    while read -r _gh_a _gh_m _; do
        case " $* " in *" $_gh_m "*) echo "$_gh_a" ;; esac
    done
}

_gh_pins() { # NODE: those that go together are together, and digests
    gh_why=pin-report
    [ "$(gh_bytes "$1/gatehouse,pin-report")" = 48 ] || return 1
    _gh_pinned=
    for _gh_p in leaf-key chain measurements; do
        [ -e "$1/gatehouse,pin-$_gh_p" ] || continue
        gh_why=pin-$_gh_p _gh_pinned="$_gh_pinned $_gh_p"
        [ "$(gh_bytes "$1/gatehouse,pin-$_gh_p")" = 48 ] || return 1
    done
    gh_why=pin-algorithms
    case $_gh_pinned in
        '') [ ! -e "$1/gatehouse,pin-algorithms" ] ;;
        ' leaf-key chain'* | ' measurements') [ "$(gh_bytes "$1/gatehouse,pin-algorithms")" -gt 1 ] ;;
        *) gh_why="pin-leaf-key or pin-chain"; return 1 ;;
    esac
}
gh_node_ok() { # NODE MODE; gh_why: the property that is wrong
    gh_why=rule
    [ "$(gh_bytes "$1/gatehouse,rule")" -gt 1 ] || return 1
    gh_why=vdev-id
    case $2 in
        run | pin) [ "$(gh_bytes "$1/gatehouse,vdev-id")" = 8 ] || return 1 ;;
        shared) [ ! -e "$1/gatehouse,vdev-id" ]; return ;;
        *) gh_why=mode; return 1 ;;
    esac
    gh_why=nonces
    if [ "$2" = pin ]; then
        [ ! -e "$1/gatehouse,nonces" ] && _gh_pins "$1"
        return
    fi
    [ "$(gh_bytes "$1/gatehouse,nonces")" = 24 ] || return 1
    gh_why=digest-algorithm
    case $(gh_text "$1/gatehouse,digest-algorithm") in
        sha256) _gh_n=32 ;; sha384) _gh_n=48 ;; sha512) _gh_n=64 ;;
        *) return 1 ;;
    esac
    for _gh_p in vca certificate measurement report; do
        gh_why=$_gh_p-digest
        [ "$(gh_bytes "$1/gatehouse,$_gh_p-digest")" = $_gh_n ] || return 1
    done
}
_gh_counted() { # NAME LINE...: /chosen/gatehouse says as many
    _gh_p=$GH_TREE/chosen/gatehouse/$1 _gh_n=$(($# - 1))
    gh_why="$gh_why $1"
    [ "$(gh_bytes "$_gh_p")" = 4 ] || return 1
    gh_why="$gh_why $(gh_cell "$_gh_p")"
    [ "$(gh_cell "$_gh_p")" = $_gh_n ] || { gh_why="$gh_why, nodes $_gh_n"; return 1; }
}
# The contract is the one of this script, each node is complete, and there are as
# many as the firmware says. gh_why: what is wrong, or the numbers. Sets gh_list:
# the lines of gh_nodes.
# shellcheck disable=SC2046 # one word for each device
gh_check_tree() {
    gh_list=$(gh_nodes)
    gh_why="no /chosen/gatehouse of gatehouse,handoff-v1"
    _gh_c=$GH_TREE/chosen/gatehouse
    [ "$(gh_text "$_gh_c/compatible")" = gatehouse,handoff-v1 ] || return 1
    gh_why="version or verdict of /chosen/gatehouse"
    [ "$(gh_bytes "$_gh_c/version")" = 4 ] && [ "$(gh_cell "$_gh_c/version")" = 1 ] || return 1
    [ "$(gh_bytes "$_gh_c/verdict")" -gt 1 ] || return 1
    while read -r _gh_a _gh_m _ _ _ _gh_node _; do
        case $_gh_m in
            '' | bridge) continue ;;
        esac
        gh_node_ok "$_gh_node" "$_gh_m" || { gh_why="$_gh_a, mode $_gh_m: $gh_why"; return 1; }
    done <<EOF
$gh_list
EOF
    gh_why=numbers:
    _gh_counted accepted $(echo "$gh_list" | gh_of run) || return 1
    _gh_counted pinned $(echo "$gh_list" | gh_of pin) || return 1
    _gh_counted shared $(echo "$gh_list" | gh_of shared) || return 1
    _gh_counted emulated $(gh_emulated | while read -r _gh_a _; do echo "$_gh_a"; done)
}

# --- the bus ---------------------------------------------------------------

# After gh_check_tree: the bus has what the nodes name, no more and no less:
# functions in mode run and shared, and bridges. Under our bridge only: a kernel
# that drives the standard one by itself shows whatever the host answers.
# shellcheck disable=SC2005,SC2046 # spaces between them, not lines
gh_check_bus() {
    gh_why="the kernel drives the bridge by itself"
    [ -n "$(gh_host gatehouse,pci-host-ecam)" ] || return 0
    _gh_want=$(echo $(echo "$gh_list" | gh_of run shared bridge))
    _gh_have=
    for _gh_d in "$GH_PCI"/*; do
        [ ! -e "$_gh_d" ] || _gh_have="$_gh_have${_gh_have:+ }${_gh_d##*/}"
    done
    gh_why="nodes $_gh_want, bus $_gh_have"
    [ "$_gh_want" = "$_gh_have" ]
}

# --- all of it -------------------------------------------------------------

gh_print() { # after gh_check_tree: one line for each device
    echo "$gh_list" | while read -r _gh_a _gh_m _gh_ids _gh_class _gh_path _ _gh_rule; do
        case $_gh_m in
            '' | bridge) ;;
            *) echo "gatehouse: $_gh_a at $_gh_path, $_gh_ids class $_gh_class: mode $_gh_m, rule $_gh_rule" ;;
        esac
    done
    gh_emulated | while read -r _gh_a _gh_m _gh_rule; do
        echo "gatehouse: $_gh_a: mode $_gh_m, rule $_gh_rule"
    done
}
gh_handoff() {
    if ! gh_check_tree; then
        echo "gatehouse: bad hand-off: $gh_why" >&2
        return 1
    fi
    # Without a bridge of ours it has nothing to do but to show the event log.
    if ! $GH_LOAD && [ -n "$(gh_host gatehouse,pci-host-ecam)" ]; then
        echo "gatehouse: the OS half cannot be loaded: $GH_LOAD" >&2
        return 1
    fi
    gh_print
    if ! gh_check_bus; then
        echo "gatehouse: the bus is not what was handed over: $gh_why" >&2
        return 1
    fi
}

case ${0##*/} in handoff.sh) gh_handoff ;; esac
