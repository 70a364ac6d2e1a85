/* SPDX-License-Identifier: BSD-2-Clause */
/* What a request of each operation must and must not say. Pure. */
#ifndef SFD_REQUEST_H
#define SFD_REQUEST_H

#include "lib/wire.h"

/*
 * Judges one request of a well-formed datagram with the header `h`. 0, or the errno that is the client's answer:
 * ENOENT (no path), ENAMETOOLONG, EINVAL (a NUL in the path; a range outside what off_t can say; a field that the
 * operation does not have; a read or a registration that is not alone in its datagram), EOPNOTSUPP (an option this daemon has not got).
 */
int request_check(const struct wire_request *r, const struct wire_header *h);

#endif
