/* What the tests of ctrl/istio start from: YAML text to a snapshot for a node like the lab's, and words to look into it. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ctrl/istio/istio.h"
#include "snapshot.pb-c.h"

struct t_mesh {
	struct istio_diags diags;
	struct istio_model *model;
	struct istio_snapshot *snapshot;
	struct doc_file *file;
};

/* The lab's node: ingressgateway at 198.18.0.1 and fd00:f011:0::1, egressgateway at 198.19.0.1, services in 198.18.10.0/24. */
extern const struct istio_node t_node;
/* Compiles; the parts are put together with "---" between them. NULL ends. Fails the test when memory does. */
struct t_mesh *t_mesh_new(const char *first, ...) __attribute__((sentinel));
/* The same for another node. */
struct t_mesh *t_mesh_at(const struct istio_node *node, const char *first, ...) __attribute__((sentinel));
struct t_mesh *t_mesh_after(const struct t_mesh *before, const char *text);
void t_mesh_free(struct t_mesh *own_m);

/* Unpacked: the test frees it by the message's own function. NULL when there is none of that name. */
Foil__Conf__RouteConfig *t_routes(const struct t_mesh *m, const char *name);
Foil__Conf__Listener *t_listener(const struct t_mesh *m, const char *name);
Foil__Conf__Cluster *t_cluster(const struct t_mesh *m, const char *name);
Foil__Conf__Endpoints *t_endpoints(const struct t_mesh *m, const char *name);
bool t_has(const struct t_mesh *m, uint32_t type, const char *name);
/* The virtual host with this domain, or NULL. */
Foil__Conf__VirtualHost *t_vhost(const Foil__Conf__RouteConfig *r, const char *domain);

/* The diagnostic with this code whose text holds the part; fails the test when there is none. */
const struct istio_diag *t_diag(const struct t_mesh *m, const char *code, const char *part);
void t_assert_no_diags(const struct t_mesh *m); /* prints them */
void t_assert_at(const struct istio_diag *d, uint32_t line, uint32_t column, const char *field);

#define T_GATEWAY \
	"apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: main, namespace: istio-system}\n" \
	"spec:\n  selector: {istio: ingressgateway}\n  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [\"*\"]}]\n"
#define T_WEB \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: web, namespace: app}\nspec:\n" \
	"  {addresses: [240.240.0.1], hosts: [web.test],\n" \
	"  resolution: STATIC,\n  location: MESH_INTERNAL,\n" \
	"  ports: [{number: 8080, name: http, protocol: HTTP}, {number: 9000, name: tcp, protocol: TCP}],\n" \
	"  endpoints: [{address: 198.19.0.10, labels: {version: v1}}, {address: 198.19.0.12, labels: {version: v2}}]}\n"
#define T_ONE \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: one, namespace: app}\nspec:\n  hosts: [one.test]\n" \
	"  resolution: STATIC\n  ports: [{number: 8080, name: http, protocol: HTTP}]\n  endpoints: [{address: 198.19.0.10}]\n"
#define T_SUBSETS \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web, namespace: app}\n" \
	"spec:\n  host: web.test\n  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]\n"
/* A VirtualService web of app at the gateway; rules begin at line 7 and column 3. */
#define T_VS(rules) \
	"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web, namespace: app}\n" \
	"spec:\n  hosts: [web.example.com]\n  gateways: [istio-system/main]\n" rules
#define T_TO_ONE "route: [{destination: {host: one.test, port: {number: 8080}}}]"
