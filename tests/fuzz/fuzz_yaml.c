/* Text to document trees (ctrl/istio/doc.h): any bytes are read or refused within the limits, and every node that comes out is well formed. */
#include <stdlib.h>
#include <string.h>

#include "ctrl/istio/istio.h"

static void check(const struct doc_node *top)
{
	/* Depth is bounded, and so is this stack of what is still to look at. */
	const struct doc_node *todo[ISTIO_DOC_DEPTH_MAX + 1];
	uint32_t next[ISTIO_DOC_DEPTH_MAX + 1];
	unsigned int n = 1, n_seen = 0;

	todo[0] = top;
	next[0] = 0;
	while (n && n_seen++ < 100000) {
		const struct doc_node *node = todo[n - 1];
		uint32_t n_slots = node->type == DOC_MAP ? 2 * node->n_children : node->type == DOC_LIST ? node->n_children : 0;
		if (node->text && strlen(node->text) != node->n_text)
			abort();
		if (next[n - 1] == n_slots) {
			n--;
			continue;
		}
		const struct doc_node *child = node->children[next[n - 1]++];
		if (node->type == DOC_MAP && next[n - 1] % 2 == 1 && child->type != DOC_STRING)
			abort();
		if (n > ISTIO_DOC_DEPTH_MAX)
			return; /* aliases may make it deeper */
		todo[n] = child;
		next[n++] = 0;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct istio_diags diags;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = 0;
	istio_diags_init(&diags);
	struct doc_file *f = istio_doc_read("fuzz", text, size, (struct istio_pos){1, 1}, &diags);
	for (uint32_t i = 0; f && i < f->n_documents; i++)
		check(f->documents[i]);
	if (!f && diags.n_errors == 0)
		abort();
	istio_doc_put_ref(f);
	istio_diags_fini(&diags);
	free(text);
	return 0;
}
