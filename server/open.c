/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/open.h"

#include <errno.h>
#include <unistd.h>

/* What is no regular file is EINVAL: a socket, a device without a driver (ENXIO), a device where none may be opened. */
static int explain(const struct os_dir *dir, const char *path, bool cached, int err)
{
	mode_t type;

	if (err == ENXIO)
		return EINVAL;
	if (err != EACCES)
		return err;
	type = os_type_beneath(dir, path, cached);
	return type == S_IFCHR || type == S_IFBLK ? EINVAL : EACCES;
}

static int look_at(struct opened *file)
{
	if (fstat(file->fd, &file->st) < 0)
		return errno;
	return S_ISREG(file->st.st_mode) ? 0 : EINVAL;
}

int open_file(struct opened *out, const struct os_dir *dir, const char *path, bool cached)
{
	int err;

	out->fd = cached ? os_open_cached(dir, path) : os_open_beneath(dir, path);
	if (out->fd < 0)
		return explain(dir, path, cached, errno);
	err = look_at(out);
	if (err != 0) {
		close(out->fd);
		out->fd = -1;
	}
	return err;
}

void open_range(struct opened *file, int64_t offset, uint64_t length)
{
	uint64_t rest = offset < file->st.st_size ? (uint64_t)(file->st.st_size - offset) : 0;

	file->offset = offset;
	file->size = length == 0 || length > rest ? rest : length;
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
