# shellcheck shell=bash
# Functions shared by all scripts. Source it, do not run it:
#
#   . "$(dirname "${BASH_SOURCE[0]}")/common.sh"
#   ensure_setup              # everything (or: ensure_setup toolchain)
#   gh_need GH_QEMU GH_KERNEL # die, with setup's reason, when one is missing
#
# Sourcing sets GH_ROOT (the repository) and GH_TARGET (its target/), adds
# ~/.cargo/bin to PATH when cargo is not found otherwise, and nothing else.

# Raise this when target/env.sh gets other variables or another meaning: every
# env.sh written before then counts as stale and setup runs again.
GH_ENV_VERSION=1

GH_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
GH_TARGET=$GH_ROOT/target
GH_ENV_FILE=$GH_TARGET/env.sh
export GH_ROOT

if ! command -v cargo >/dev/null 2>&1 && [ -x "${HOME:-/}/.cargo/bin/cargo" ]; then
    PATH=$HOME/.cargo/bin:$PATH
fi

# --- messages: always to stderr, so that stdout stays usable as data ---------

GH_PREFIX=${GH_PREFIX:-$(basename -- "$0")}

say() { printf '%s: %s\n' "$GH_PREFIX" "$*" >&2; }
warn() { printf '%s: warning: %s\n' "$GH_PREFIX" "$*" >&2; }
die() {
    printf '%s: error: %s\n' "$GH_PREFIX" "$*" >&2
    exit 1
}

# --- setup ---------------------------------------------------------------

# True when target/env.sh was written by this version of setup, for this
# place of the repository (its paths are absolute), for this compiler (the
# private core library fits exactly one), and holds what is asked for.
gh_env_current() (
    want=$1
    [ -r "$GH_ENV_FILE" ] || exit 1
    GH_ENV_FOR='' GH_ENV_SETUP='' GH_PARTS='' GH_RUSTC=''
    GH_QEMU='' GH_KERNEL='' GH_BUSYBOX=''
    # shellcheck source=/dev/null
    . "$GH_ENV_FILE"
    [ "$GH_ENV_FOR" = "$GH_ROOT" ] && [ "$GH_ENV_SETUP" = "$GH_ENV_VERSION" ] || exit 1
    [ "$GH_RUSTC" = "$(cd "$GH_ROOT" && rustc --version 2>/dev/null)" ] || exit 1
    [ "$want" = toolchain ] && exit 0
    [ "$GH_PARTS" = all ] || exit 1
    # Someone may have removed parts of target/ by hand. An empty value is a
    # part that setup found impossible; gh_need reports that.
    for f in "$GH_QEMU" "$GH_KERNEL" "$GH_BUSYBOX"; do
        [ -z "$f" ] || [ -e "$f" ] || exit 1
    done
)

# ensure_setup [toolchain|all]: runs scripts/setup when target/env.sh is
# missing or stale, then sources target/env.sh.
ensure_setup() {
    local want=${1:-all} rc=0 args=()
    if ! gh_env_current "$want"; then
        [ "$want" = toolchain ] && args=(--toolchain)
        "$GH_ROOT/scripts/setup" ${args[@]+"${args[@]}"} >&2 || rc=$?
        # 3: something is missing, the rest works; gh_need names what.
        [ "$rc" = 0 ] || [ "$rc" = 3 ] || die "scripts/setup failed (exit status $rc)"
    fi
    # shellcheck source=/dev/null
    . "$GH_ENV_FILE"
    gh_hide_paths
}

# The firmware is measured, and the places of its panics are in it: without
# this, where a builder keeps cargo's files would change the measurement. Cargo
# joins the variable with the rustflags of .cargo/config.toml.
gh_hide_paths() {
    local registry=${CARGO_HOME:-$HOME/.cargo}/registry/src dir flag
    # Unpacks what Cargo.lock names, so that the directories below are there.
    [ -d "$registry" ] || (cd "$GH_ROOT" && cargo fetch --quiet --locked) || return 0
    for dir in "$registry"/*; do
        flag=--remap-path-prefix=$dir=
        case " ${CARGO_TARGET_AARCH64_UNKNOWN_NONE_RUSTFLAGS-} " in
            *" $flag "*) continue ;; # a calling script did it
        esac
        case $dir in
            *[[:space:]]*) warn "the firmware will contain the path $dir: cargo takes no flag with a space" ;;
            *) CARGO_TARGET_AARCH64_UNKNOWN_NONE_RUSTFLAGS+=${CARGO_TARGET_AARCH64_UNKNOWN_NONE_RUSTFLAGS:+ }$flag ;;
        esac
    done
    export CARGO_TARGET_AARCH64_UNKNOWN_NONE_RUSTFLAGS
}

# gh_need VARIABLE...: dies when one of setup's variables is empty.
gh_need() {
    local v
    for v in "$@"; do
        [ -n "${!v:-}" ] && continue
        die "$v is not available${GH_MISSING:+ (scripts/setup could not get: $GH_MISSING)}; run scripts/setup"
    done
}

# --- kernel modules --------------------------------------------------------

# gh_build_module SRC_DIR OUT_DIR: builds an out-of-tree module (SRC_DIR has
# the usual kbuild `obj-m += ...` in Makefile or Kbuild) against the headers
# of GH_KERNEL and leaves the .ko files in OUT_DIR. Kbuild writes beside the
# sources, so they are copied: SRC_DIR is never written to.
gh_build_module() {
    local src out log
    [ $# = 2 ] || die "usage: gh_build_module SRC_DIR OUT_DIR"
    gh_need GH_KERNEL_HEADERS GH_CROSS_BIN GH_KERNEL_VERSION
    [ -d "$1" ] || die "gh_build_module: no directory $1"
    src=$(cd "$1" && pwd -P) || return
    mkdir -p "$2" || return
    out=$(cd "$2" && pwd -P) || return
    case $out/ in
        "$src"/*) die "gh_build_module: OUT_DIR must lie outside SRC_DIR" ;;
        *[[:space:]]*) die "gh_build_module: kbuild cannot work in a path with spaces: $out" ;;
    esac
    # -u keeps times, so an unchanged module is not compiled again.
    cp -Rpu "$src/." "$out/" || return
    # Objects of another kernel must not be reused.
    if [ "$(cat "$out/.gh-kernel" 2>/dev/null)" != "$GH_KERNEL_VERSION" ]; then
        find "$out" \( -name '*.o' -o -name '*.ko' -o -name '.*.cmd' -o -name '*.mod' \) \
            -type f -delete
        printf '%s\n' "$GH_KERNEL_VERSION" >"$out/.gh-kernel"
    fi
    log=$out/build.log
    # The headers' own make file asks for aarch64-linux-gnu-gcc-N by name, so
    # the private compiler comes in through PATH. BTF is left out: it would
    # need pahole and the kernel's vmlinux, and no module of ours uses it.
    # MAKEFLAGS: a calling make's job server is none of kbuild's business.
    if ! env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u KBUILD_OUTPUT \
        PATH="$GH_CROSS_BIN:$PATH" LC_ALL=C \
        make -C "$GH_KERNEL_HEADERS" M="$out" ARCH=arm64 \
        CROSS_COMPILE=aarch64-linux-gnu- CONFIG_DEBUG_INFO_BTF_MODULES= \
        modules >"$log" 2>&1; then
        cat "$log" >&2
        die "gh_build_module: $1 does not build for $GH_KERNEL_VERSION (see above)"
    fi
    grep -E 'warning:|WARNING:' "$log" | grep -v 'pahole version differs' >&2 || true
}

# gh_kernel_modules OUT_DIR NAME...: puts the stock kernel's modules NAME and
# all they depend on, decompressed, into OUT_DIR and prints their file names
# in the order in which to insmod them. What is built into the kernel is left
# out silently; a name that the kernel does not have is an error.
gh_kernel_modules() {
    local out=$1 name plain line path base seen=' '
    shift
    gh_need GH_KERNEL_MODULES
    mkdir -p "$out" || return
    for name in "$@"; do
        # Dash and underscore are the same in module names.
        plain=${name%.ko}
        plain=${plain//[-_]/[-_]}
        # No line is no failure, also where the caller has pipefail.
        line=$(sed -nE "\#(^|/)$plain\.ko[.a-z0-9]*:#{p;q}" "$GH_KERNEL_MODULES/modules.dep")
        if [ -z "$line" ]; then
            grep -qE "(^|/)$plain\.ko$" "$GH_KERNEL_MODULES/modules.builtin" && continue
            die "kernel $GH_KERNEL_VERSION has no module $name"
        fi
        # "a.ko: b.ko c.ko" means: load c, b, a.
        local -a order=()
        for path in ${line%%:*} ${line#*:}; do order=("$path" "${order[@]}"); done
        for path in "${order[@]}"; do
            base=$(basename "$path")
            base=${base%.ko*}.ko
            case $seen in *" $base "*) continue ;; esac
            seen="$seen$base "
            if [ ! "$out/$base" -nt "$GH_KERNEL_MODULES/$path" ]; then
                case $path in
                    *.xz) xz -dc "$GH_KERNEL_MODULES/$path" >"$out/$base" ;;
                    *.zst) zstd -qdc "$GH_KERNEL_MODULES/$path" >"$out/$base" ;;
                    *.gz) gzip -dc "$GH_KERNEL_MODULES/$path" >"$out/$base" ;;
                    *) cat "$GH_KERNEL_MODULES/$path" >"$out/$base" ;;
                esac || die "cannot unpack $path"
            fi
            printf '%s\n' "$base"
        done
    done
}
