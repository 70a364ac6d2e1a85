/* SPDX-License-Identifier: BSD-2-Clause */
/* Frames in, structs out; and what status codes mean. */
#include <sendfiled/sendfiled.h>

#include <string.h>

int sfd_get_cmd(const void *frame)
{
	int cmd;

	memcpy(&cmd, frame, sizeof cmd);
	return cmd == SFD_FILE_INFO || cmd == SFD_XFER_STAT ? cmd : -1;
}

int sfd_get_stat(const void *frame)
{
	int stat;

	/* Both structs begin alike: cmd, stat. */
	memcpy(&stat, (const char *)frame + offsetof(struct sfd_file_info, stat), sizeof stat);
	return stat;
}

bool sfd_unmarshal_file_info(struct sfd_file_info *info, const void *frame)
{
	if (sfd_get_cmd(frame) != SFD_FILE_INFO)
		return false;
	memcpy(info, frame, sizeof *info);
	return info->stat == SFD_STAT_OK;
}

bool sfd_unmarshal_xfer_stat(struct sfd_xfer_stat *stat, const void *frame)
{
	if (sfd_get_cmd(frame) != SFD_XFER_STAT)
		return false;
	memcpy(stat, frame, sizeof *stat);
	return stat->stat == SFD_STAT_OK;
}

bool sfd_xfer_complete(const struct sfd_xfer_stat *stat)
{
	return stat->stat == SFD_STAT_OK && stat->complete == 1;
}

const char *sfd_strstat(int stat)
{
	const char *text;

	switch (stat) {
	case SFD_STAT_OK:
		return "Success";
	case SFD_STAT_TRUNCATED:
		return "File became shorter while it was being sent";
	case SFD_STAT_WORKER_DIED:
		return "Daemon process that held the transfer died";
	case SFD_STAT_CHANGED:
		return "File has changed";
	default:
		/* Unlike strerror(3): never translated, never in a buffer that another thread may overwrite. */
		text = strerrordesc_np(stat);
		return text ? text : "Unknown status";
	}
}
