/* Hosts that requests name and no configuration does (features.md SE-3, DYNAMIC_DNS): each worker's table of their addresses, and the questions that go to
 * the agent, which has the resolver. The rules are those of Envoy's DNS cache as istiod configures it: a name is kept while it is used and five minutes
 * longer, asked again when its TTL is over (not sooner than after 5 s), keeps its last good addresses whatever comes after, and who waits for the first
 * answer waits 5 s. Unlike Envoy's, a name without addresses is asked again after seconds and not after a minute, and a full table gives up its
 * oldest name, those without addresses first.
 *
 * A worker asks through a bounded ring of its own and gets answers through another; housekeeping stands at the other ends. What an answer says of a
 * name that was not asked for changes nothing. Clients choose the names: everything here is bounded by the table's size and MESH_NAMES_ASKED_MAX. */
#pragma once

#include "dataplane/mesh/config.h"

#define MESH_NAME_BYTES 256u         /* with the NUL at its end */
#define MESH_NAME_ADDRESSES_MAX 8u
#define MESH_NAMES_DEFAULT 1024u     /* of one worker, as Envoy's max_hosts */
#define MESH_NAMES_ASKED_MAX 256u    /* of one worker at once */

/* ---- housekeeping ---- */
struct mesh_shared;
enum mesh_name_outcome {
	MESH_NAME_FOUND,
	MESH_NAME_NONE,   /* the authority's word: no such name, or no address */
	MESH_NAME_FAILED, /* nobody could say */
	MESH_NAME_OUTCOMES
};
struct mesh_name_answer {
	char name[MESH_NAME_BYTES];
	enum mesh_name_outcome outcome;
	uint32_t ttl_s;
	uint8_t n_addresses;
	uint8_t ip[MESH_NAME_ADDRESSES_MAX][16];
};
/* The next name that a worker asks for; false: there is none. */
bool mesh_names_question(struct mesh_shared *sh, char name[MESH_NAME_BYTES]);
/* Tells the workers, who have to be woken. A worker whose ring is full does not hear it, and asks again. */
void mesh_names_answer(struct mesh_shared *sh, const struct mesh_name_answer *a);
/* The published configuration has clusters that need this: housekeeping should look for questions often. */
bool mesh_names_are_wanted(const struct mesh_shared *sh);

/* What goes between one worker and housekeeping, zeroed memory of mesh_shared. */
struct mesh_name_post;
size_t mesh_name_post_bytes(void);

/* ---- workers ---- */
enum mesh_name_result {
	MESH_NAME_READY,
	MESH_NAME_WAITING,        /* resolved of the waiter will be called */
	MESH_NAME_BAD,            /* no name that can be asked for */
	MESH_NAME_UNKNOWN,        /* it has no address */
	MESH_NAME_TIMED_OUT,
	MESH_NAME_REFUSED,        /* its addresses are none that a client's word may lead to */
	MESH_NAME_CACHE_OVERFLOW,
	MESH_NAME_QUEUE_OVERFLOW, /* too many are being asked */
};
