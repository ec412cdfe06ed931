/* One hydrofoil a kernel interface: packet sockets would let two share one, and both would answer. A name in the network namespace's abstract sockets is
 * held while the process lives, and says who holds it. PCI functions need none: vfio gives them to one process. */
#pragma once

#include "programs/node_file.h"

struct port_locks {
	int fds[NODE_PORTS_MAX];
	uint16_t n;
};

/* 0, or -EADDRINUSE with a sentence that names the process, or -errno. */
int port_locks_take(struct port_locks *l, const struct node_conf *conf, struct foil_error *err) FOIL_MUST_USE;
void port_locks_drop(struct port_locks *l);
