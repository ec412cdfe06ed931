/* What a node file says of its node to the agent: the NodeHello without what only a running data plane knows (versions). */
#pragma once

#include "programs/node_file.h"

#include "channel.pb-c.h"

/* conf is borrowed: it must stay. NULL: no memory. Freed by node_hello_free. */
Foil__Conf__NodeHello *node_hello_new(const struct node_conf *conf);
void node_hello_free(Foil__Conf__NodeHello *own_m); /* NULL is fine */
