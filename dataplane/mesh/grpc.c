/* See grpc_priv.h. */
#include "dataplane/mesh/grpc_priv.h"

#define HEAD_BYTES 5u

static void count_some(struct mesh_grpc_messages *g, const uint8_t *p, uint32_t n)
{
	while (n) {
		uint32_t used = 1;

		if (g->n_head == 0 && g->n_left) {
			used = FOIL_MIN(n, g->n_left);
			g->n_left -= used;
		} else if (g->n_head == 0) { /* the first byte tells of compression */
			g->n++;
			g->n_head = 1;
		} else {
			g->n_left = g->n_left << 8 | *p;
			g->n_head = (uint8_t)((g->n_head + 1) % HEAD_BYTES);
		}
		p += used;
		n -= used;
	}
}

void mesh_grpc_count(struct mesh_grpc_messages *g, const struct foil_chain *data)
{
	for (const struct rte_mbuf *m = data->head; m; m = m->next)
		count_some(g, rte_pktmbuf_mtod(m, const uint8_t *), m->data_len);
}
