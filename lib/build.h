/* SPDX-License-Identifier: BSD-2-Clause */
/* Building requests: everything that can be said to be wrong without asking the daemon. */
#ifndef SFD_LIB_BUILD_H
#define SFD_LIB_BUILD_H

#include "wire.h"

/* Sets path and range. 0, or the errno for the caller: EINVAL, ENOENT, ENAMETOOLONG. `path` is not copied. */
int build_path_request(struct wire_request *r, const char *path, off_t offset, size_t len);

/* Sets what `opts` (may be NULL) asks for. 0, or EINVAL, or EOPNOTSUPP for what this version does not serve. */
int build_options(struct wire_request *r, const struct sfd_opts *opts);

#endif
