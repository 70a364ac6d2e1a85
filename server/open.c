/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/open.h"

#include "lib/wire.h"
#include "server/os/files.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int open_file(struct opened *out, int root_fd, const char *path, uint32_t path_len, int64_t offset, uint64_t length)
{
	char name[WIRE_PATH_MAX + 1];
	uint64_t rest;

	memcpy(name, path, path_len);
	name[path_len] = '\0';
	out->fd = os_open_beneath(root_fd, name);
	if (out->fd < 0)
		return errno == ENXIO ? EINVAL : errno; /* ENXIO: a socket, or a device without a driver */
	if (fstat(out->fd, &out->st) < 0) {
		int err = errno;

		close(out->fd);
		return err;
	}
	if (!S_ISREG(out->st.st_mode)) {
		close(out->fd);
		return EINVAL;
	}
	rest = offset < out->st.st_size ? (uint64_t)(out->st.st_size - offset) : 0;
	out->offset = offset;
	out->size = length == 0 || length > rest ? rest : length;
	return 0;
}

void open_describe(const struct opened *file, struct sfd_file_info *info)
{
	const struct stat *st = &file->st;

	*info = (struct sfd_file_info){
		.cmd = SFD_FILE_INFO,
		.size = file->size,
		.atime = st->st_atim.tv_sec,
		.mtime = st->st_mtim.tv_sec,
		.ctime = st->st_ctim.tv_sec,
		.file_size = (uint64_t)st->st_size,
		.offset = file->offset,
		.atime_nsec = (uint32_t)st->st_atim.tv_nsec,
		.mtime_nsec = (uint32_t)st->st_mtim.tv_nsec,
		.ctime_nsec = (uint32_t)st->st_ctim.tv_nsec,
		.dev = st->st_dev,
		.ino = st->st_ino,
	};
}
