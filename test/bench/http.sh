#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# make deps-bench-http bench-http: sfd-httpd beside nginx, one with `aio threads` and one that sends inline, measured in turn with
# wrk, 64 connections: requests a second for two sizes, of files that the daemon's user owns and of files of others, of which
# Linux does not tell it what is in memory; then the latency of hot files while eight clients wait for a file whose
# disk never answers.
#
#	test/bench/http.sh BUILD		ROUNDS (7) and SECONDS_EACH (3) in the environment
set -eu

export SFD_DAEMON="${SFD_DAEMON:-$1/sendfiled}"
build=$1 rounds=${ROUNDS:-7} seconds=${SECONDS_EACH:-3}
for program in wrk nginx curl; do
	command -v $program >/dev/null || { echo "$program is missing: 'make deps-bench-http' installs it" >&2; exit 1; }
done

work=$(mktemp -d /tmp/sfd-bench.XXXXXX)
site=$work/site
tries=0 children= slow= clients='1 2 3 4 5 6 7 8'

cleanup() {
	trap - EXIT INT TERM
	for pid in $children; do
		kill "$pid" 2>/dev/null || :
	done
	if [ -n "$slow" ]; then
		echo abort >&3 # whoever hangs on it ends with that
		exec 3>&-
		wait "$slow" || :
	fi
	wait
	rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

chmod 755 "$work"
mkdir -p "$site/slow"
head -c 4096 /dev/urandom >"$site/4k"
head -c 65536 /dev/urandom >"$site/64k"
cases='4k 64k'
if [ "$(id -u)" = 0 ]; then
	cases='4k 64k 4k-root 64k-root'
	cp "$site/4k" "$site/4k-root"
	cp "$site/64k" "$site/64k-root"
	chown nobody "$site/4k" "$site/64k"
fi

# Each file of the slow disk hangs at its first read, and its opening does not.
mkfifo "$work/commands" "$work/answers"
"$build/test/support/slowfs" "$site/slow" $([ "$(id -u)" != 0 ] || echo --allow-other) <"$work/commands" >"$work/answers" &
slow=$!
exec 3>"$work/commands" 4<"$work/answers"
tell() {
	echo "$1" >&3
	read -r answer <&4
}
read -r answer <&4 || answer=
if [ "$answer" = ready ]; then
	# One for each client and server: to open a file that is just being read hangs as well, and nginx has no thread for that.
	for i in $clients; do
		for server in ours threads inline; do
			tell "add $server$i 100000000 1"
		done
	done
	tell 'hold read'
else
	echo "nothing can be mounted here: no figures of a disk that hangs"
fi

# nginx as it comes, two processes, as many as the daemon has; no log, as with us.
nginx_conf() {
	cat <<END
worker_processes 2; daemon off; pid $work/$1.pid; error_log $work/$1.log;
$([ "$(id -u)" != 0 ] || echo 'user root;')
events { worker_connections 1024; }
http {
	access_log off; sendfile on; $2 keepalive_requests 1000000000; default_type application/octet-stream;
	client_body_temp_path $work/$1.body; proxy_temp_path $work/$1.proxy; fastcgi_temp_path $work/$1.fcgi;
	uwsgi_temp_path $work/$1.uwsgi; scgi_temp_path $work/$1.scgi;
	server { listen 127.0.0.1:$3; root $site; }
}
END
}

"$build/examples/sfd-httpd" -p 0 -l none "$site" >"$work/ours" 2>/dev/null 3>&- 4<&- &
children="$children $!"
while ! grep -q serving "$work/ours"; do
	sleep 0.05
done
ours=$(sed -n 's/.*:\([0-9]*\)\/$/\1/p' "$work/ours")

# nginx takes no port of the system's choice: one that nobody has is tried for, outside the range of those.
start_nginx() {
	while [ $((tries += 1)) -le 20 ]; do
		port=$((20000 + ($$ * 31 + tries * 977) % 10000))
		nginx_conf "$1" "$2" $port >"$work/$1.conf"
		nginx -c "$work/$1.conf" 2>/dev/null 3>&- 4<&- &
		pid=$!
		while kill -0 $pid 2>/dev/null; do
			if curl -s -o "$work/got" "http://127.0.0.1:$port/4k" && cmp -s "$work/got" "$site/4k"; then
				children="$children $pid"
				return
			fi
			sleep 0.05
		done
	done
	echo "nginx does not start" >&2
	exit 1
}
start_nginx threads 'aio threads;'
threads=$port
start_nginx inline ''
inline=$port

# One measurement: "requests-per-second p99-in-microseconds".
measure() {
	wrk -t 1 -c 64 -d "$seconds" --latency "http://127.0.0.1:$1/$2" | awk '
		$1 == "99%" { p = $2; u = p; sub(/[0-9.]*/, "", u); sub(/[a-z]*$/, "", p)
			p *= u == "us" ? 1 : u == "ms" ? 1000 : 1000000 }
		$1 == "Requests/sec:" { r = $2 }
		END { print r + 0, p + 0 }'
}

# In turn, so that what disturbs the machine disturbs all: one file per server and case.
round() {
	for server in ours threads inline; do
		eval "port=\$$server"
		measure "$port" "$1" >>"$work/$2.$server"
	done
}

median() {
	cut -d ' ' -f "$2" "$1" | sort -n | sed -n "$((rounds / 2 + 1))p"
}

echo "medians of $rounds rounds of $seconds s each, in turn; wrk, 64 connections; nginx $(nginx -v 2>&1 | sed 's/.*\///')"
for i in $(seq "$rounds"); do
	for case in $cases; do
		round "$case" "$case"
	done
done
printf '%-10s %12s %16s %16s %10s %10s\n' file sfd-httpd nginx/threads nginx/inline ratio ratio
for case in $cases; do
	printf '%s %s %s %s\n' "$case" "$(median "$work/$case.ours" 1)" "$(median "$work/$case.threads" 1)" \
		"$(median "$work/$case.inline" 1)"
done | awk '{ printf "%-10s %10.0f/s %14.0f/s %14.0f/s %10.2f %10.2f\n", $1, $2, $3, $4, $2 / $3, $2 / $4 }'

[ "$answer" = ok ] || exit 0
for i in $(seq "$rounds"); do
	round 4k without
done
for server in ours threads inline; do
	eval "port=\$$server"
	for i in $clients; do
		curl -s -m 600 -o /dev/null "http://127.0.0.1:$port/slow/$server$i" 3>&- 4<&- &
		children="$children $!"
		sleep 0.1 # so that not one process of nginx accepts them all before it reads the first
	done
done
for i in $(seq "$rounds"); do
	round 4k with
done
printf '\n%-16s %14s %14s %10s %14s\n' 'a disk hangs' 'p99 without' 'p99 with' ratio 'requests with'
for server in ours threads inline; do
	printf '%s %s %s %s\n' $server "$(median "$work/without.$server" 2)" "$(median "$work/with.$server" 2)" \
		"$(median "$work/with.$server" 1)"
done | awk '{
	name = ($1 == "ours" ? "sfd-httpd" : "nginx/" $1)
	ratio = ($4 > 0 ? sprintf("%.2f", $3 / $2) : "stopped")
	printf "%-16s %11.2f ms %11.2f ms %10s %12.0f/s\n", name, $2 / 1000, $3 / 1000, ratio, $4
}'
