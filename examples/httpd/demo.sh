#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# make demo-http: a folder with a page, a picture, a film, a large file and one that hangs, served until Control-C.
#
#	examples/httpd/demo.sh BUILD		PORT in the environment, 8080 if it is not
set -eu

build=$1
port=${PORT:-8080}
here=$(dirname "$0")/site
# Where the slow disk's commands go: on the files' own disk, since it is unmounted before that is removed.
work=$(mktemp -d /tmp/sfd-demo.XXXXXX)
site=$work/site
slow_pid= server_pid=

cleanup() {
	trap - EXIT INT TERM
	if [ -n "$server_pid" ]; then
		kill "$server_pid" 2>/dev/null || :
		wait "$server_pid" || :
	fi
	if [ -n "$slow_pid" ]; then
		exec 3>&-
		wait "$slow_pid" || :
	fi
	rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 0' INT TERM

chmod 755 "$work"
mkdir -p "$site/slow" "$site/files/more"
cp "$here/index.html" "$here/picture.svg" "$site"
# The end lies where the film's own index says it does.
cp "$here/film.begin" "$site/film.mp4"
truncate -s 25198637 "$site/film.mp4"
cat "$here/film.end" >>"$site/film.mp4"
truncate -s 1G "$site/large.bin"
for name in 'a&b' '<c>' 'd e'; do
	echo "$name" >"$site/files/$name.txt"
done

# A disk that never answers is a file system of our own: libfuse3, and the right to mount.
if [ ! -x "$build/test/support/slowfs" ]; then
	echo "No slow disk: that needs libfuse3 (make deps)."
else
	mkfifo "$work/commands" "$work/answers"
	"$build/test/support/slowfs" "$site/slow" $([ "$(id -u)" != 0 ] || echo --allow-other) \
		<"$work/commands" >"$work/answers" &
	slow_pid=$!
	exec 3>"$work/commands" 4<"$work/answers"
	read -r answer <&4 || answer=
	if [ "$answer" = ready ]; then
		echo 'add hangs.bin 100000000 1' >&3
		read -r answer <&4
		echo 'hold read' >&3
		read -r answer <&4
	else
		echo "No slow disk: it cannot be mounted here."
	fi
fi

"$build/examples/sfd-httpd" -p "$port" "$site" 3>&- 4<&- &
server_pid=$!
wait "$server_pid"
