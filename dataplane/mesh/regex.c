/* Patterns of a resource, compiled once for each worker (config.h). Set-up only: programs live outside the blob, so they are freed by
 * mesh_regexes_free before the resource's blob is. The same pattern twice in one resource is one program. */
#include <errno.h>

#include "dataplane/core/error.h"
#include "dataplane/mesh/config.h"

static const struct mesh_regex *find(const struct mesh_res *res, struct foil_slice pattern, bool ignore_case, uint16_t n_workers)
{
	for (const struct mesh_regex *re = res->regexes; re; re = re->next)
		if (re->ignore_case == ignore_case && re->n_workers == n_workers && foil_slice_eq(re->pattern, pattern))
			return re;
	return NULL;
}

static void free_programs(struct mesh_regex *re)
{
	for (uint16_t i = 0; i < re->n_workers; i++) {
		foil_regex_free(re->by_worker[i]);
		re->by_worker[i] = NULL;
	}
}

/* RE2 builds its automaton at the first texts: two matches here, and no worker pays for it. */
static void warm(const struct foil_regex *re, struct foil_slice pattern)
{
	(void)foil_regex_full_match(re, pattern);
	(void)foil_regex_full_match(re, FOIL_SLICE("/"));
}

int mesh_regex_compile(struct mesh_res *res, struct foil_slice pattern, bool ignore_case, uint16_t n_workers, const struct mesh_regex **out,
		       struct foil_error *err)
{
	const struct mesh_regex *same = find(res, pattern, ignore_case, n_workers);

	if (same) {
		*out = same;
		return 0;
	}
	struct mesh_regex *re = foil_blob_alloc(&res->blob, sizeof(*re) + n_workers * sizeof(re->by_worker[0]));
	if (!re)
		return foil_error_set(err, -ENOMEM, "no memory left for a regular expression: the resource is larger than its budget");
	re->pattern = foil_blob_copy(&res->blob, pattern.data, pattern.n_bytes);
	if (!re->pattern.data)
		return foil_error_set(err, -ENOMEM, "no memory left for a regular expression: the resource is larger than its budget");
	re->ignore_case = ignore_case;
	re->n_workers = n_workers;
	for (uint16_t i = 0; i < n_workers; i++) {
		re->by_worker[i] = foil_regex_new(pattern, ignore_case, err);
		if (!re->by_worker[i]) {
			free_programs(re);
			return -EINVAL;
		}
		warm(re->by_worker[i], pattern);
	}
	re->next = res->regexes;
	res->regexes = re;
	*out = re;
	return 0;
}

void mesh_regexes_free(struct mesh_res *res)
{
	for (struct mesh_regex *re = res->regexes; re; re = re->next)
		free_programs(re);
	res->regexes = NULL;
}
