#!/bin/bash
# Makes a Debian 12 machine ready: packages of tools/packages.txt, and hugepages where it may. Safe to run again.
#   setup.sh [--if-missing]    with --if-missing it says nothing when there is nothing to do
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
quiet=${1:-}
log=$root/.foil/logs/setup.log
HUGEPAGES_WANTED=512 # of 2 MiB: a gigabyte, for the lab's node file and a bench

say() { echo "setup: $*"; }

fail() {
	say "$*"
	if [ -s "$log" ]; then
		echo "---- end of $log"
		tail -n 15 "$log"
		echo "----"
	fi
	exit 1
}

missing_packages() {
	local wanted have
	wanted=$(grep -v '^#' "$root/tools/packages.txt" | sort -u)
	have=$(dpkg-query -W -f='${db:Status-Abbrev} ${Package}\n' 2>/dev/null | awk '$1 == "ii" {print $2}' | sort -u)
	comm -23 <(echo "$wanted") <(echo "$have") | tr '\n' ' '
}

install_packages() {
	local missing pid seconds=0
	missing=$(missing_packages)
	if [ -z "${missing// /}" ]; then
		[ "$quiet" = --if-missing ] || say "all packages of tools/packages.txt are installed"
		return
	fi
	[ "$(id -u)" = 0 ] || fail "missing packages: $missing: run sudo ./foil setup"
	mkdir -p "$(dirname "$log")"
	say "installing $(echo "$missing" | wc -w) packages (log: ${log#"$root"/}): $missing"
	(
		export DEBIAN_FRONTEND=noninteractive
		apt-get update -q
		# shellcheck disable=SC2086
		apt-get install -y -q --no-install-recommends $missing
	) >"$log" 2>&1 </dev/null &
	pid=$!
	while kill -0 $pid 2>/dev/null; do
		sleep 1
		seconds=$((seconds + 1))
		if [ $((seconds % 15)) = 0 ]; then
			say "  ${seconds} s, $(grep -c '^Setting up' "$log" || true) set up; now: $(tail -n 1 "$log" | cut -c1-80)"
		fi
	done
	wait $pid || fail "apt-get failed: look above; is there a network and a Debian 12 mirror in /etc/apt?"
	# Debian starts nginx and haproxy when they are installed; the tests start their own.
	say "packages installed in ${seconds} s"
}

reserve_hugepages() {
	local file=/proc/sys/vm/nr_hugepages now
	now=$(cat "$file" 2>/dev/null || echo 0)
	if [ "$now" -lt "$HUGEPAGES_WANTED" ] && [ "$(id -u)" = 0 ]; then
		# a quarter of what is free at most: tests and compilers want memory too
		local free_mb wanted
		free_mb=$(awk '/MemAvailable/ {print int($2 / 1024)}' /proc/meminfo)
		wanted=$((free_mb / 4 / 2))
		[ "$wanted" -gt "$HUGEPAGES_WANTED" ] && wanted=$HUGEPAGES_WANTED
		(echo "$wanted" >"$file") 2>/dev/null || true
		now=$(cat "$file" 2>/dev/null || echo 0)
	fi
	if [ "$now" -gt 0 ]; then
		[ "$quiet" = --if-missing ] || say "hugepages: $now of 2 MiB"
	elif [ "$quiet" != --if-missing ]; then
		say "hugepages: none (this machine or container does not let us reserve them);"
		say "           hydrofoil runs with plain pages then (--no-huge): right for the lab, slower on a real NIC"
	fi
}

[ -r /etc/debian_version ] || fail "this is not Debian: install what tools/packages.txt names by hand"
install_packages
reserve_hugepages
