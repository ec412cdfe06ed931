/* The node file: what one machine gives to hydrofoil (docs/node-file.md). Read once at start, by hydrofoil and by `foilctl check`; the mesh itself
 * is the agent's business. Every key is known or refused with file, line and column; nothing is clamped in silence. */
#pragma once

#include "dataplane/core/error.h"
#include "dataplane/core/overload.h"
#include "dataplane/net/net.h"

#define NODE_PORTS_MAX NET_PORTS_MAX
#define NODE_ADDRS_MAX 16     /* of one port or gateway */
#define NODE_ROUTES_MAX 256
#define NODE_SERVICES_MAX 64
#define NODE_GATEWAYS_MAX 64
#define NODE_WORKERS_MAX 64
#define NODE_LABELS_MAX 16

enum node_idle { NODE_IDLE_AUTO, NODE_IDLE_PAUSE, NODE_IDLE_POLL, NODE_IDLE_INTERRUPT };
enum node_hugepages { NODE_HUGEPAGES_AUTO, NODE_HUGEPAGES_ON, NODE_HUGEPAGES_OFF };

struct node_port {
	char uri[256];
	struct net_prefix addresses[NODE_ADDRS_MAX];
	uint16_t n_addresses;
	uint16_t vlan; /* 0 = untagged */
	uint16_t mtu;  /* 0 = the device's */
	unsigned int line, column;
};

struct node_route {
	struct net_prefix to;
	struct net_addr via;
	uint16_t port; /* as given, else found by via's on-link prefix */
	bool has_port;
};

struct node_gateway {
	char label_keys[NODE_LABELS_MAX][128], label_values[NODE_LABELS_MAX][128];
	uint16_t n_labels;
	struct net_addr addresses[NODE_ADDRS_MAX];
	uint16_t n_addresses;
};

struct node_conf {
	char node_name[128];      /* default: the host's name */
	struct node_port ports[NODE_PORTS_MAX];
	uint16_t n_ports;
	struct node_route routes[NODE_ROUTES_MAX];
	uint16_t n_routes;
	struct net_prefix services[NODE_SERVICES_MAX];
	uint16_t n_services;
	struct net_prefix captured[NODE_SERVICES_MAX];
	uint16_t n_captured;
	struct net_prefix names_refused[NODE_SERVICES_MAX]; /* addresses that hosts which requests name may not have; default: links' own, clouds' own */
	uint16_t n_names_refused;
	uint32_t names_max;       /* 1024: such hosts, of a worker */
	struct node_gateway gateways[NODE_GATEWAYS_MAX];
	uint16_t n_gateways;
	char service_account[256]; /* namespace/name: whose identity the node has; "" = istio-system/hydrofoil */
	char locality[256];       /* region/zone/subzone; "" = none */
	char label_keys[NODE_LABELS_MAX][128], label_values[NODE_LABELS_MAX][128]; /* the node's own */
	uint16_t n_labels;
	uint16_t n_workers;       /* 1 */
	uint16_t cores[NODE_WORKERS_MAX]; /* default: the last allowed cores of this process */
	uint16_t housekeeping_core; /* default: the first allowed core */
	uint16_t n_cores;
	bool has_cores, has_housekeeping_core;
	uint32_t memory_megabytes;  /* 512 */
	uint32_t connections_max;   /* 16384: all workers, both sides */
	uint32_t requests_max;      /* 4096: in flight, all workers */
	enum node_hugepages hugepages;
	struct foil_overload_conf overload; /* 95, 95, 98, 98 percent */
	const char *tcp_congestion; /* "cubic"; a word of dataplane/tcp/cc.def, static */
	uint32_t tcp_user_timeout_s; /* 0: tcp's own, 120 */
	uint16_t n_crypto_workers;  /* 0: handshakes on the workers */
	uint32_t tls_handshakes_max; /* 8192: of clients, in flight in all */
	uint32_t tls_handshakes_network_max; /* 2048: of one network, a quarter of the former */
	bool tls_openssl;           /* OpenSSL does all ciphers, whatever the processor has */
	bool tcp_ecn;               /* off: our own SYNs ask for ECN */
	enum node_idle idle;
	char agent_socket[108];     /* required */
	char stats_socket[108];     /* agent_socket + ".stats" */
	char inspect_socket[108];   /* agent_socket + ".inspect" */
	char state_dir[256];        /* required */
	char access_log[256];       /* "" = none, "-" = stdout */
	char log[256];              /* "-" = stderr */
	uint32_t drain_s;           /* 30 */
	bool exception_path;        /* off */
	enum net_address_check address_check; /* optimistic */
	bool has_seed;
	uint64_t seed;              /* for replays; default from the system's randomness */
};

/* 0, or -errno with a sentence that carries file, line and column. path is read whole, at most NODE_FILE_BYTES_MAX. */
#define NODE_FILE_BYTES_MAX (1024u * 1024u)
int node_file_read(const char *path, struct node_conf *out, struct foil_error *err) FOIL_MUST_USE;
/* The same from memory; name is for sentences. */
int node_file_parse(const char *name, const void *text, size_t n_bytes, struct node_conf *out, struct foil_error *err) FOIL_MUST_USE;
