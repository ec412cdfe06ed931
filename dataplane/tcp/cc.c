/* The congestion control algorithms by name (cc.def). */
#include "dataplane/tcp/tcp_priv.h"

#define X(ID, algorithm) extern const struct tcp_cc algorithm;
#include "dataplane/tcp/cc.def"
#undef X

static const struct tcp_cc *const algorithms[] = {
#define X(ID, algorithm) &algorithm,
#include "dataplane/tcp/cc.def"
#undef X
};

const struct tcp_cc *tcp_cc_find(const char *name)
{
	for (size_t i = 0; i < FOIL_COUNT_OF(algorithms); i++)
		if (strcmp(algorithms[i]->name, name) == 0)
			return algorithms[i];
	return NULL;
}
