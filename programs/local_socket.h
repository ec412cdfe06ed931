/* A Unix socket to listen on, for one user of this machine and his group. */
#pragma once

#include "dataplane/core/base.h"
#include "dataplane/core/error.h"

/* A non-blocking listening socket at path, mode 0660; its folder is made, 0700, when missing; a file that a dead process left is replaced. key: the node
 * file's key that names path, for sentences. The descriptor, or -errno with a sentence. */
int local_socket_listen(const char *path, const char *key, struct foil_error *err) FOIL_MUST_USE;
