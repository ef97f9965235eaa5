#!/usr/bin/env bash
# Make `cargo build --target wasm32-unknown-unknown` work, without touching the system.
#
#   eval "$(scripts/wasm-toolchain.sh)"      # stdout: export lines; stderr: log
#
# 1. the active rustup toolchain already has the target     -> nothing to do
# 2. `rustup target add` works                              -> nothing more to do
# 3. otherwise a complete rustc + wasm std from a newer Debian suite is unpacked
#    (never installed) under $WASM_TOOLCHAIN_DIR and run through that tree's own
#    dynamic loader, so the system's libc is neither used nor changed.
#
# With 3, cargo must be given a --target-dir of its own: the other rustc would rebuild everything in the usual one.
#
# Knobs: WASM_TOOLCHAIN_DIR     cache folder (default: $XDG_CACHE_HOME/wasm-toolchain)
#        WASM_TOOLCHAIN_SUITES  Debian suites to try, in order (default: "forky sid")
#        WASM_TOOLCHAIN_MIN     least rustc minor version wanted (default: 90)
#        WASM_TOOLCHAIN_FORCE=debian   skip steps 1 and 2
set -euo pipefail
target=wasm32-unknown-unknown
cache=${WASM_TOOLCHAIN_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/wasm-toolchain}
suites=${WASM_TOOLCHAIN_SUITES:-forky sid}
min=${WASM_TOOLCHAIN_MIN:-90}
log() { printf 'wasm-toolchain: %s\n' "$*" >&2; }
die() { log "$*"; exit 1; }

has_target() { # $1: rustc
  local d; d=$("$1" --print target-libdir --target $target 2>/dev/null) && compgen -G "$d/libcore-*.rlib" >/dev/null
}

# ---- 1, 2: rustup ---------------------------------------------------------
if [ "${WASM_TOOLCHAIN_FORCE:-}" != debian ]; then
  if has_target rustc; then log "target present in $(rustc -V)"; exit 0; fi
  if command -v rustup >/dev/null && RUSTUP_MAX_RETRIES=0 timeout 90 rustup target add $target >&2 && has_target rustc; then
    log "target added to $(rustc -V)"; exit 0
  fi
  log "rustup cannot supply $target; falling back to Debian packages"
fi

# ---- 3: Debian packages ---------------------------------------------------
[ "$(uname -m)" = x86_64 ] || die "the Debian fallback is written for x86_64 only"
mkdir -p "$cache"; cache=$(cd "$cache" && pwd)
exec 9>"$cache/lock"; flock 9                       # two builds at once: the second waits
tree=$cache/tree wrapper=$cache/bin/rustc

if ! { [ -x "$wrapper" ] && [ -e "$cache/complete" ] && has_target "$wrapper"; }; then
  for t in apt-get dpkg-deb; do command -v $t >/dev/null || die "$t not found"; done
  rm -rf "$tree" "$cache/apt" "$cache/bin" "$cache/complete"
  mkdir -p "$tree" "$cache/bin" "$cache/apt"/{lists,archives}/partial
  # the mirror this machine already uses (deb822 file, else the one-line format)
  mirror=$(sed -n 's/^URIs:[[:space:]]*\([^[:space:]]*\).*/\1/p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n1)
  [ -n "$mirror" ] || mirror=$(sed -n 's/^deb[[:space:]]\+\(\[[^]]*\][[:space:]]*\)\?\([^[:space:]]*\).*/\2/p' /etc/apt/sources.list 2>/dev/null | head -n1)
  [ -n "$mirror" ] || die "no Debian mirror configured"
  : >"$cache/apt/status"                            # pretend nothing is installed: full closure
  apt() {
    apt-get -qq -o Dir::Etc::sourcelist="$cache/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
      -o Dir::State::Lists="$cache/apt/lists" -o Dir::State::status="$cache/apt/status" \
      -o Dir::Cache="$cache/apt" -o Dir::Cache::archives="$cache/apt/archives" \
      -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null -o APT::Sandbox::User="$(id -un)" \
      -o Acquire::Languages=none -o Acquire::Retries=2 -o APT::Get::AllowUnauthenticated=false \
      -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
      -o Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled=false \
      -o Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled=false \
      -o APT::Install-Recommends=false "$@" >&2
  }
  ok=
  for suite in $suites; do
    echo "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$cache/apt/sources.list"
    rm -rf "$cache/apt/archives"/*.deb
    log "trying $suite"
    # std + driver with all their libraries; of rustc itself only the package, not gcc and libc-dev
    if apt update && apt --download-only -y install libstd-rust-dev libstd-rust-dev-wasm32 \
       && (cd "$cache/apt/archives" && apt download rustc); then
      minor=$(cd "$cache/apt/archives" && ls rustc_*.deb | sed -n 's/^rustc_1\.\([0-9]*\)\..*/\1/p')
      [ "${minor:-0}" -ge "$min" ] && { ok=1; break; }
      log "$suite has rustc 1.${minor:-?}, wanted 1.$min or newer"
    fi
  done
  [ -n "$ok" ] || die "no suite of ($suites) could supply rustc and the wasm std"
  log "unpacking $(du -shc "$cache/apt/archives"/*.deb | tail -n1 | cut -f1) of packages"
  for d in "$cache/apt/archives"/*.deb; do
    # documentation is dropped; wasm std: only the one target out of several
    dpkg-deb --fsys-tarfile "$d" | tar -x -C "$tree" --exclude='./usr/share/*' --exclude='./etc/*' \
      --exclude='*/rustlib/wasm32-wasi*' --exclude='*/gconv/*' --exclude='*/locale/*'
  done
  ld=$(find "$tree" -name ld-linux-x86-64.so.2 \( -type f -o -type l \) -print -quit)
  bin=$(find "$tree/usr" -path '*/bin/rustc' \( -type f -o -type l \) -print -quit)
  core=$(find "$tree/usr" -path "*/rustlib/$target/lib/libcore-*.rlib" -print -quit)
  [ -n "$ld" ] && [ -n "$bin" ] && [ -n "$core" ] || die "unexpected package layout (ld=$ld rustc=$bin core=$core)"
  sysroot=${core%%/lib/rustlib/*}
  libs=$(find "$tree" -name '*.so*' -not -path '*/rustlib/*' -printf '%h\n' | sort -u | paste -sd: -)
  printf '#!/bin/sh\nexec %s --library-path %s --argv0 "$0" %s --sysroot %s "$@"\n' "$ld" "$libs" "$bin" "$sysroot" >"$wrapper"
  chmod +x "$wrapper"
  has_target "$wrapper" || die "the unpacked rustc does not run"
  rm -rf "$cache/apt"; "$wrapper" -V >"$cache/complete"
fi
log "using $(cat "$cache/complete") in $cache"

# linker: rustup's own rust-lld, else any wasm-ld on the path
host_lib=$(rustc --print sysroot 2>/dev/null)/lib/rustlib/x86_64-unknown-linux-gnu
if [ -x "$host_lib/bin/rust-lld" ]; then lld=$host_lib/bin/rust-lld
else lld=$(command -v rust-lld || command -v wasm-ld || compgen -c wasm-ld- | head -n1) || die "no wasm linker (rust-lld or wasm-ld)"; fi
cat <<EOF
export RUSTC='$wrapper'
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER='$lld'
EOF
