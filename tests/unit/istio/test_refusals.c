/* Every refusal of the field tables: the one wrong line of a resource, and where and how it is told. Rules of a VirtualService begin at line 7 and
 * column 3; "@" in a text stands for the place that the diagnostic must name. */
#include "tests/unit/istio/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VS "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: app}\nspec:\n  hosts: [a.test]\n"
#define DR "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d, namespace: app}\nspec:\n  host: a.test\n"
#define SE "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: s, namespace: app}\nspec:\n"
#define GW "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: app}\nspec:\n"
#define WE "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w, namespace: app}\nspec:\n"
#define WG "apiVersion: networking.istio.io/v1\nkind: WorkloadGroup\nmetadata: {name: g, namespace: app}\nspec:\n"
#define IN \
	"apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: i, namespace: app, annotations: {kubernetes.io/ingress.class: istio}}\nspec:\n"
#define PATHS "  rules:\n  - http:\n      paths:\n      - "
#define SHOP "backend: {service: {name: shop, port: {number: 80}}}"
#define TO "route: [{destination: {host: a.test}}]"
#define PORTS "  ports: [{number: 80, name: http}]\n"
#define DPORTS "  ports: [{number: 80, name: http, protocol: HTTP}]\n"

static const struct refusal {
	const char *text, *code, *field, *part;
} refusals[] = {
	/* types and ranges, whatever the kind */
	{VS "  http: @5\n", "IST0106", "spec.http", "must be a list, not an integer (5)"},
	{VS "  http:\n  - @5\n", "IST0106", "spec.http[0]", "must be a map"},
	{VS "  http:\n  - name: @80\n    " TO "\n", "IST0106", "spec.http[0].name", "must be a string, not an integer (80)"},
	{VS "  http:\n  - name: @yes\n    " TO "\n", "IST0106", "spec.http[0].name", "put it in quotes"},
	{VS "  http:\n  - match: [{port: @'80'}]\n    " TO "\n", "IST0106", "spec.http[0].match[0].port", "must be an integer, not a string (80)"},
	{VS "  http:\n  - match: [{port: @70000}]\n    " TO "\n", "IST0106", "spec.http[0].match[0].port", "from 0 to 65535"},
	{VS "  http:\n  - match: [{port: @99999999999999999999}]\n    " TO "\n", "IST0106", "spec.http[0].match[0].port", "64 bits"},
	{VS "  http:\n  - match: [{uri: {prefix: /}, ignoreUriCase: @'true'}]\n    " TO "\n", "IST0106", "spec.http[0].match[0].ignoreUriCase",
	 "must be a boolean"},
	{VS "  http:\n  - timeout: @5\n    " TO "\n", "IST0106", "spec.http[0].timeout", "a duration like"},
	{VS "  http:\n  - timeout: @5\n    " TO "\n", "IST0106", "spec.http[0].timeout", "a duration like"},
	{VS "  http:\n  - timeout: @soon\n    " TO "\n", "IST0106", "spec.http[0].timeout", "not a duration"},
	{VS "  http:\n  - timeout: @-1s\n    " TO "\n", "IST0106", "spec.http[0].timeout", "negative"},
	{VS "  http:\n  - timeout: @100000000h\n    " TO "\n", "IST0106", "spec.http[0].timeout", "must be from"},
	{VS "  http:\n  - name: @\"a\\tb\"\n    " TO "\n", "IST0106", "spec.http[0].name", "control character"},
	{VS "  http:\n  - @nmae: x\n    " TO "\n", "IST0106", "spec.http[0]", "unknown field \"nmae\" of HTTPRoute: did you mean \"name\"?"},
	{VS "  http:\n  - @frobnicate: x\n    " TO "\n", "IST0106", "spec.http[0]", "unknown field \"frobnicate\" of HTTPRoute: remove it"},
	{VS "  http:\n  - headers: {request: {set: @[a]}}\n    " TO "\n", "IST0106", "spec.http[0].headers.request.set", "must be a map"},
	{VS "  http:\n  - headers: {request: {set: {a: @1}}}\n    " TO "\n", "IST0106", "spec.http[0].headers.request.set.a", "must be a string"},
	{VS "  http:\n  - match: [{headers: @[x]}]\n    " TO "\n", "IST0106", "spec.http[0].match[0].headers", "must be a map"},
	{VS "  http:\n  - match: [{gateways: [@1]}]\n    " TO "\n", "IST0106", "spec.http[0].match[0].gateways[0]", "must be a string"},

	/* VirtualService */
	{VS "  http: []\n", "IST0106", "spec", "at least one rule"},
	{"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec:\n  hosts: @['a_/b']\n  http: [{" TO "}]\n", "IST0106",
	 "spec.hosts",
	 "is not a host"},
	{"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec:\n  @gateways: [g]\n  http: [{" TO "}]\n", "IST0106",
	 "spec.hosts",
	 "this is a delegate"},
	{"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec:\n  http: @[{delegate: {name: d}}]\n", "IST0106", "spec.http",
	 "cannot delegate further"},
	{VS "  http:\n  - @{name: x}\n", "IST0106", "spec.http[0]", "needs one of route"},
	{VS "  http:\n  - @{redirect: {uri: /}, " TO "}\n", "IST0106", "spec.http[0]", "only one of route"},
	{VS "  http:\n  - {redirect: {uri: /}, rewrite: @{uri: /}}\n", "IST0106", "spec.http[0].rewrite", "with route only"},
	{VS "  http:\n  - {mirror: {host: b.test}, mirrors: @[{destination: {host: b.test}}], " TO "}\n", "IST0106", "spec.http[0].mirrors",
	 "exclude each other"},
	{VS "  http:\n  - {mirrors: [@{percentage: {value: 1}}], " TO "}\n", "IST0106", "spec.http[0].mirrors[0].destination", "needs a destination"},
	{VS "  http:\n  - route: @[{destination: {host: a.test}}, {destination: {host: b.test}}]\n", "IST0106", "spec.http[0].route",
	 "total destination weight = 0"},
	{VS "  http:\n  - route: [{destination: {host: a.test}, weight: @-1}]\n", "IST0106", "spec.http[0].route[0].weight", "from 0 to"},
	{VS "  http:\n  - route: [@{weight: 1}]\n", "IST0106", "spec.http[0].route[0].destination", "needs a destination"},
	{VS "  http:\n  - route: [{destination: @{subset: v1}}]\n", "IST0106", "spec.http[0].route[0].destination.host", "needs a host"},
	{VS "  http:\n  - route: [{destination: {host: @'*'}}]\n", "IST0106", "spec.http[0].route[0].destination.host", "is not a host"},
	{VS "  http:\n  - route: [{destination: {host: a.test, subset: @'a|b'}}]\n", "IST0106", "spec.http[0].route[0].destination.subset",
	 "not a subset's name"},
	{VS "  http:\n  - route: [{destination: {host: a.test, port: {number: @0}}}]\n", "IST0106", "spec.http[0].route[0].destination.port.number",
	 "from 1 to"},
	{VS "  http:\n  - match: [@{}]\n    " TO "\n", "IST0106", "spec.http[0].match[0]", "an empty match"},
	{VS "  http:\n  - match: [{uri: @{exact: /, prefix: /}}]\n    " TO "\n", "IST0106", "spec.http[0].match[0].uri", "only one of exact"},
	{VS "  http:\n  - match: [{uri: {regex: @'(a'}}]\n    " TO "\n", "IST0106", "spec.http[0].match[0].uri.regex", ""},
	{VS "  http:\n  - match: [{uri: {prefix: /}, port: @0}]\n    " TO "\n", "IST0106", "spec.http[0].match[0].port", "from 1 to"},
	{VS "  http:\n  - match: [{headers: @{'a b': {}}}]\n    " TO "\n", "IST0106", "spec.http[0].match[0].headers", "not a header name"},
	{VS "  http:\n  - match: [{withoutHeaders: @{'': {}}}]\n    " TO "\n", "IST0106", "spec.http[0].match[0].withoutHeaders", "not a header name"},
	{VS "  http:\n  - match: [{headers: @{'@request.auth.claims.sub': {}}}]\n    " TO "\n", "HF0005", "spec.http[0].match[0].headers",
	 "RequestAuthentication"},
	{VS "  http:\n  - redirect: @{}\n", "IST0106", "spec.http[0].redirect", "must change something"},
	{VS "  http:\n  - redirect: {uri: /, redirectCode: @305}\n", "IST0106", "spec.http[0].redirect.redirectCode", "not 305"},
	{VS "  http:\n  - redirect: {scheme: @ftp}\n", "IST0106", "spec.http[0].redirect.scheme", "http or https"},
	{VS "  http:\n  - redirect: {port: 1, derivePort: @FROM_REQUEST_PORT}\n", "IST0106", "spec.http[0].redirect.derivePort", "exclude each other"},
	{VS "  http:\n  - redirect: {derivePort: @FROM_NOWHERE}\n", "IST0106", "spec.http[0].redirect.derivePort",
	 "is not one of FROM_PROTOCOL_DEFAULT, FROM_REQUEST_PORT"},
	{VS "  http:\n  - redirect: {uri: /a, prefixRewrite: @/b}\n", "IST0106", "spec.http[0].redirect.prefixRewrite", "exclude each other"},
	{VS "  http:\n  - directResponse: @{body: {string: x}}\n", "IST0106", "spec.http[0].directResponse.status", "needs a status"},
	{VS "  http:\n  - directResponse: {status: @199}\n", "IST0106", "spec.http[0].directResponse.status", "from 200 to 599"},
	{VS "  http:\n  - directResponse: {status: 200, body: {string: x, bytes: @eA==}}\n", "IST0106", "spec.http[0].directResponse.body.bytes",
	 "exclude each other"},
	{VS "  http:\n  - directResponse: {status: 200, body: {bytes: @'eA='}}\n", "IST0106", "spec.http[0].directResponse.body.bytes", "not base64"},
	{VS "  http:\n  - delegate: {name: @''}\n", "IST0106", "spec.http[0].delegate.name", "from 1 to 253"},
	{VS "  http:\n  - {rewrite: @{}, " TO "}\n", "IST0106", "spec.http[0].rewrite", "must change something"},
	{VS "  http:\n  - {rewrite: {uri: /, uriRegexRewrite: @{match: a, rewrite: b}}, " TO "}\n", "IST0106", "spec.http[0].rewrite.uriRegexRewrite",
	 "exclude each other"},
	{VS "  http:\n  - {rewrite: {uriRegexRewrite: @{rewrite: b}}, " TO "}\n", "IST0106", "spec.http[0].rewrite.uriRegexRewrite.match",
	 "needs a regular expression"},
	{VS "  http:\n  - {rewrite: {uriRegexRewrite: {match: @'[', rewrite: b}}, " TO "}\n", "IST0106", "spec.http[0].rewrite.uriRegexRewrite.match", ""},
	{VS "  http:\n  - {rewrite: {uriRegexRewrite: {match: a, rewrite: @'\\x'}}, " TO "}\n", "IST0106", "spec.http[0].rewrite.uriRegexRewrite.rewrite",
	 "backslash"},
	{VS "  http:\n  - {retries: {attempts: 1, retryOn: @'5xx,whenever'}, " TO "}\n", "IST0106", "spec.http[0].retries.retryOn", "\"whenever\" is neither"},
	{VS "  http:\n  - {retries: {attempts: 1, retryOn: @'5xx, 999'}, " TO "}\n", "IST0106", "spec.http[0].retries.retryOn", "is neither"},
	{VS "  http:\n  - {retries: {attempts: @-1}, " TO "}\n", "IST0106", "spec.http[0].retries.attempts", "from 0 to"},
	{VS "  http:\n  - {fault: @{}, " TO "}\n", "IST0106", "spec.http[0].fault", "needs delay, abort or both"},
	{VS "  http:\n  - {fault: {delay: @{percentage: {value: 1}}}, " TO "}\n", "IST0106", "spec.http[0].fault.delay.fixedDelay", "needs fixedDelay"},
	{VS "  http:\n  - {fault: {delay: {exponentialDelay: @1s}}, " TO "}\n", "HF0005", "spec.http[0].fault.delay.exponentialDelay", "not supported"},
	{VS "  http:\n  - {fault: {abort: @{httpStatus: 500, grpcStatus: OK}}, " TO "}\n", "IST0106", "spec.http[0].fault.abort", "one of httpStatus"},
	{VS "  http:\n  - {fault: {abort: {httpStatus: 500, percentage: {value: @101}}}, " TO "}\n", "IST0106", "spec.http[0].fault.abort.percentage.value",
	 "from 0 to 100"},
	{VS "  http:\n  - {fault: {abort: {httpStatus: 500, percentage: {value: @half}}}, " TO "}\n", "IST0106", "spec.http[0].fault.abort.percentage.value",
	 "a number"},
	{VS "  http:\n  - {headers: {request: {set: @{'a b': c}}}, " TO "}\n", "IST0106", "spec.http[0].headers.request.set", "not a header name"},
	{VS "  http:\n  - {headers: {request: {set: @{x-a: '%NO_SUCH%'}}}, " TO "}\n", "IST0106", "spec.http[0].headers.request.set", "NO_SUCH"},
	{VS "  http:\n  - {headers: {request: {add: @{x-a: '50%'}}}, " TO "}\n", "IST0106", "spec.http[0].headers.request.add", "%%"},
	{VS "  http:\n  - {headers: {request: {add: @{x-a: \"a\\nb\"}}}, " TO "}\n", "IST0106", "spec.http[0].headers.request.add", "control character"},
	{VS "  http:\n  - {headers: {request: {set: @{x-a: b, X-A: c}}}, " TO "}\n", "IST0106", "spec.http[0].headers.request.set", "stands twice"},
	{VS "  http:\n  - {headers: {response: {remove: @['a b']}}, " TO "}\n", "IST0106", "spec.http[0].headers.response.remove", "not a header name"},
	{VS "  tcp:\n  - @{match: [{port: 1}]}\n", "IST0106", "spec.tcp[0].route", "at least one destination"},
	{VS "  tcp:\n  - {match: [{destinationSubnets: @[nowhere]}], " TO "}\n", "IST0106", "spec.tcp[0].match[0].destinationSubnets", "not an address"},
	{VS "  tcp:\n  - {match: [{destinationSubnets: @[10.0.0.0/33]}], " TO "}\n", "IST0106", "spec.tcp[0].match[0].destinationSubnets", "not an address"},
	{VS "  tcp:\n  - {match: [{sourceSubnet: @10.0.0.0/8}], " TO "}\n", "HF0005", "spec.tcp[0].match[0].sourceSubnet", "not supported"},
	{VS "  tls:\n  - @{" TO "}\n", "IST0106", "spec.tls[0].match", "needs a match"},
	{VS "  tls:\n  - {match: [@{port: 443}], " TO "}\n", "IST0106", "spec.tls[0].match[0].sniHosts", "needs sniHosts"},
	{VS "  tls:\n  - {match: [{sniHosts: @['a/b']}], " TO "}\n", "IST0106", "spec.tls[0].match[0].sniHosts", "is not a host"},

	/* DestinationRule */
	{"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d}\nspec:\n  @subsets: []\n", "IST0106", "spec.host", "needs a host"},
	{DR "  trafficPolicy: {loadBalancer: {simple: @FASTEST}}\n", "IST0106", "spec.trafficPolicy.loadBalancer.simple", "is not one of"},
	{DR "  trafficPolicy: {tunnel: @{targetHost: x}}\n", "HF0005", "spec.trafficPolicy.tunnel", "not supported"},
	{DR "  trafficPolicy: {connectionPool: {tcp: {connectTimeout: @1us}}}\n", "IST0106", "spec.trafficPolicy.connectionPool.tcp.connectTimeout",
	 "must be from"},
	{DR "  trafficPolicy: {outlierDetection: {maxEjectionPercent: @101}}\n", "IST0106", "spec.trafficPolicy.outlierDetection.maxEjectionPercent",
	 "from 0 to 100"},
	{DR "  trafficPolicy: {outlierDetection: {outlierDetectionHttpErrorCodes: [@99]}}\n", "IST0106",
	 "spec.trafficPolicy.outlierDetection.outlierDetectionHttpErrorCodes[0]", "from 100 to 599"},
	{DR "  trafficPolicy: {portLevelSettings: [@{tls: {mode: DISABLE}}]}\n", "IST0106", "spec.trafficPolicy.portLevelSettings[0].port", "needs port"},
	{DR "  subsets: [@{labels: {a: b}}]\n", "IST0106", "spec.subsets[0].name", "needs a name"},
	{DR "  subsets: [{name: @a.b}]\n", "IST0106", "spec.subsets[0].name", "is not a name"},
	{DR "  subsets: [{name: a}, {name: @a}]\n", "IST0106", "spec.subsets[1].name", "a second subset"},
	{DR "  workloadSelector: {matchLabels: {a: b}}\n  exportTo: @[\"*\"]\n", "IST0106", "spec.exportTo", "clients of its own namespace"},
	{DR "  workloadSelector: {@labels: {a: b}}\n", "IST0106", "spec.workloadSelector", "unknown field"},

	/* ServiceEntry, WorkloadEntry */
	{SE "  @resolution: STATIC\n" PORTS, "IST0106", "spec.hosts", "needs hosts"},
	{SE "  hosts: @['*']\n  resolution: STATIC\n" PORTS, "IST0106", "spec.hosts", "cannot be \"*\""},
	{SE "  @hosts: [a.test]\n  resolution: STATIC\n", "IST0106", "spec.ports", "needs ports"},
	{SE "  hosts: [a.test]\n  resolution: STATIC\n  ports: [@{name: http}]\n", "IST0106", "spec.ports[0].number", "needs a number"},
	{SE "  hosts: [a.test]\n  resolution: STATIC\n  ports: [@{number: 80}]\n", "IST0106", "spec.ports[0].name", "needs a name"},
	{SE "  hosts: [a.test]\n  resolution: STATIC\n  ports: [{number: 80, name: a}, {number: @80, name: b}]\n", "IST0106", "spec.ports[1].number",
	 "a second port 80"},
	{SE "  hosts: [a.test]\n  resolution: STATIC\n  ports: [{number: 80, name: a}, {number: 81, name: @a}]\n", "IST0106", "spec.ports[1].name",
	 "a second port named"},
	{SE "  hosts: [a.test]\n  resolution: STATIC\n  addresses: @[1.2.3]\n" PORTS, "IST0106", "spec.addresses", "not an address"},
	{SE "  hosts: [a.test]\n  resolution: NONE\n  endpoints: @[{address: 1.2.3.4}]\n" PORTS, "IST0106", "spec.endpoints", "NONE takes no endpoints"},
	{SE "  hosts: [a.test]\n  resolution: STATIC\n  endpoints: [{address: 1.2.3.4}]\n  workloadSelector: @{labels: {a: b}}\n" PORTS, "IST0106",
	 "spec.workloadSelector", "exclude each other"},
	{SE "  hosts: [a.test]\n  resolution: STATIC\n  endpoints: [{address: @b.test}]\n" PORTS, "IST0106", "spec.endpoints[0].address",
	 "is not an IP address"},
	{SE "  hosts: @['*.a.test']\n  resolution: DNS\n" PORTS, "IST0106", "spec.hosts", "must be a whole name"},
	{SE "  hosts: @['*.a.test']\n  resolution: DNS_ROUND_ROBIN\n" PORTS, "IST0106", "spec.hosts", "must be a whole name"},
	{SE "  hosts: [a.test]\n  addresses: @[10.0.0.0/8]\n  resolution: DNS\n" PORTS, "IST0106", "spec.addresses", "ranges go with"},
	{SE "  hosts: [a.test]\n  resolution: DNS_ROUND_ROBIN\n  endpoints: @[{address: b.test}, {address: c.test}]\n" PORTS, "IST0106", "spec.endpoints",
	 "one endpoint at most"},
	{SE "  hosts: [a.test]\n  resolution: DNS\n  endpoints: [{address: @b..test}]\n" PORTS, "IST0106", "spec.endpoints[0].address",
	 "neither an IP address nor"},
	{SE "  hosts: @[a.test]\n  resolution: DYNAMIC_DNS\n" DPORTS, "IST0106", "spec.hosts", "for wildcards; use DNS"},
	{SE "  hosts: ['*.a.test']\n  addresses: @[10.0.0.1]\n  resolution: DYNAMIC_DNS\n" DPORTS, "IST0106", "spec.addresses", "takes no addresses"},
	{SE "  hosts: ['*.a.test']\n  endpoints: @[{address: b.test}]\n  resolution: DYNAMIC_DNS\n" DPORTS, "IST0106", "spec.endpoints", "takes no endpoints"},
	{SE "  hosts: ['*.a.test']\n  resolution: DYNAMIC_DNS\n  ports: [{number: 443, name: a, protocol: @HTTPS}]\n", "IST0106", "spec.ports[0].protocol",
	 "knows HTTP, HTTP2, GRPC and TLS"},
	{WG "  @metadata: {labels: {a: b}}\n", "IST0106", "spec.template", "needs a template"},
	{WG "  template: {address: @10.0.0.1}\n", "IST0106", "spec.template.address", "write it in each WorkloadEntry"},
	{WG "  template: {}\n  probe: @{periodSeconds: 5}\n", "IST0106", "spec.probe", "exactly one of httpGet"},
	{WG "  template: {}\n  probe: {exec: @{command: [true]}}\n", "HF0005", "spec.probe.exec", "cannot be run from here"},
	{WG "  template: {}\n  probe: {httpGet: @{path: /}}\n", "IST0106", "spec.probe.httpGet.port", "needs a port"},
	{WG "  template: {}\n  probe: {httpGet: {port: 80, path: @ready}}\n", "IST0106", "spec.probe.httpGet.path", "does not begin with"},
	{WG "  template: {}\n  probe: {httpGet: {port: 80, scheme: @HTTPS}}\n", "HF0005", "spec.probe.httpGet.scheme", "use tcpSocket"},
	{WG "  template: {}\n  probe: {httpGet: {port: 80, scheme: @ftp}}\n", "IST0106", "spec.probe.httpGet.scheme", "neither HTTP nor HTTPS"},
	{WG "  template: {}\n  probe: {httpGet: {port: 80, httpHeaders: [{name: @'a b'}]}}\n", "IST0106", "spec.probe.httpGet.httpHeaders[0].name",
	 "not a header name"},
	{WG "  template: {}\n  probe: {httpGet: {port: 80, httpHeaders: [{name: Host, value: @'a b'}]}}\n", "IST0106",
	 "spec.probe.httpGet.httpHeaders[0].value", "not a host"},
	{WG "  template: {}\n  probe: {tcpSocket: @{host: a}}\n", "IST0106", "spec.probe.tcpSocket.port", "needs a port"},
	{WG "  template: {}\n  probe: {grpc: @{service: a}}\n", "IST0106", "spec.probe.grpc.port", "needs a port"},

	/* Ingress, IngressClass */
	{IN "  @tls: []\n", "IST0106", "spec.rules", "needs rules"},
	{IN "  @rulez: []\n", "IST0106", "spec", "did you mean \"rules\"?"},
	{IN "  ingressClassName: @5\n" PATHS "{path: /, pathType: Prefix, " SHOP "}\n", "IST0106", "spec.ingressClassName", "must be a string"},
	{IN "  defaultBackend: {resource: @{kind: Bucket, name: b}}\n", "HF0005", "spec.defaultBackend.resource", "a backend is a Service here"},
	{IN "  rules:\n  - {host: @'a_.test/', http: {paths: [{path: /, pathType: Prefix, " SHOP "}]}}\n", "IST0106", "spec.rules[0].host", "is not a host"},
	{IN "  rules:\n  - {host: @198.18.0.1, http: {paths: [{path: /, pathType: Prefix, " SHOP "}]}}\n", "IST0106", "spec.rules[0].host", "is not a host"},
	{IN "  rules:\n  - {host: a.test, http: @{}}\n", "IST0106", "spec.rules[0].http.paths", "needs paths"},
	{IN "  rules:\n  - {host: a.test, http: {paths: @[]}}\n", "IST0106", "spec.rules[0].http.paths", "from 1 to"},
	{IN PATHS "@{path: /, " SHOP "}\n", "IST0106", "spec.rules[0].http.paths[0].pathType", "needs a pathType"},
	{IN PATHS "{path: /, pathType: @Regex, " SHOP "}\n", "IST0106", "spec.rules[0].http.paths[0].pathType", "Exact, Prefix, Implementation"},
	{IN PATHS "@{pathType: Prefix, " SHOP "}\n", "IST0106", "spec.rules[0].http.paths[0].path", "begins with a slash"},
	{IN PATHS "{path: @foo, pathType: Exact, " SHOP "}\n", "IST0106", "spec.rules[0].http.paths[0].path", "begins with a slash"},
	{IN PATHS "{path: @'*', pathType: ImplementationSpecific, " SHOP "}\n", "IST0106", "spec.rules[0].http.paths[0].path", "begins with a slash"},
	{IN PATHS "{path: @/a//b, pathType: Prefix, " SHOP "}\n", "IST0106", "spec.rules[0].http.paths[0].path", "\"//\""},
	{IN PATHS "{path: @/a/.., pathType: Exact, " SHOP "}\n", "IST0106", "spec.rules[0].http.paths[0].path", "\"/..\""},
	{IN PATHS "{path: @/a//*, pathType: ImplementationSpecific, " SHOP "}\n", "IST0106", "spec.rules[0].http.paths[0].path", "\"//\""},
	{IN PATHS "{path: @'/a?b', pathType: Prefix, " SHOP "}\n", "IST0106", "spec.rules[0].http.paths[0].path", "without its query"},
	{IN PATHS "@{path: /, pathType: Prefix}\n", "IST0106", "spec.rules[0].http.paths[0].backend", "needs a backend"},
	{IN PATHS "{path: /, pathType: Prefix, backend: @{}}\n", "IST0106", "spec.rules[0].http.paths[0].backend.service", "needs a service"},
	{IN PATHS "{path: /, pathType: Prefix, backend: {resource: @{kind: Bucket, name: b}}}\n", "HF0005", "spec.rules[0].http.paths[0].backend.resource",
	 "a backend is a Service here"},
	{IN PATHS "{path: /, pathType: Prefix, backend: {service: @{port: {number: 80}}}}\n", "IST0106",
	 "spec.rules[0].http.paths[0].backend.service.name", "needs the name of a Service"},
	{IN PATHS "{path: /, pathType: Prefix, backend: {service: @{name: shop}}}\n", "IST0106", "spec.rules[0].http.paths[0].backend.service.port",
	 "one of both"},
	{IN PATHS "{path: /, pathType: Prefix, backend: {service: {name: shop, port: @{number: 80, name: http}}}}\n", "IST0106",
	 "spec.rules[0].http.paths[0].backend.service.port", "one of both"},
	{IN PATHS "{path: /, pathType: Prefix, backend: {service: {name: shop, port: {number: @0}}}}\n", "IST0106",
	 "spec.rules[0].http.paths[0].backend.service.port.number", "from 1 to"},
	{IN "  tls: [{hosts: [a.test, '*'], secretName: @a/b}]\n" PATHS "{path: /, pathType: Prefix, " SHOP "}\n", "IST0106", "spec.tls[0].secretName",
	 "is not the name of a Secret"},
	{IN "  tls: [{hosts: @['a b']}]\n" PATHS "{path: /, pathType: Prefix, " SHOP "}\n", "IST0106", "spec.tls[0].hosts", "is not a host"},
	{"apiVersion: @networking.k8s.io/v1beta1\nkind: Ingress\nmetadata: {name: i}\nspec: {}\n", "IST0106", "apiVersion", "unknown version"},
	{"apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: i}\nspec: @{}\n", "IST0106", "spec.controller", "needs a controller"},
	{WE "  @labels: {a: b}\n", "IST0106", "spec.address", "needs an address"},
	{WE "  address: @'*.b.test'\n", "IST0106", "spec.address", "neither an IP address nor"},
	{WE "  address: @unix:///x\n", "HF0005", "spec.address", "Unix socket"},
	{WE "  address: 1.2.3.4\n  ports: {http: @0}\n", "IST0106", "spec.ports.http", "from 1 to 65535"},

	/* Gateway */
	{GW "  @selector: {a: b}\n", "IST0106", "spec.servers", "at least one server"},
	{GW "  servers: [@{hosts: [a.test]}]\n", "IST0106", "spec.servers[0].port", "needs a port"},
	{GW "  servers: [{port: @{number: 80, name: a}, hosts: [a.test]}]\n", "IST0106", "spec.servers[0].port.protocol", "needs a protocol"},
	{GW "  servers: [@{port: {number: 80, name: a, protocol: HTTP}}]\n", "IST0106", "spec.servers[0].hosts", "needs hosts"},
	{GW "  servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: @['a/b/c']}]\n", "IST0106", "spec.servers[0].hosts", "is not a host"},
	{GW "  servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: ['*'], bind: @here}]\n", "IST0106", "spec.servers[0].bind", "not an IP address"},
};

/* Takes the "@" out and says where it stood; 0 when there is none. */
static char *without_mark(const char *text, uint32_t *line, uint32_t *column)
{
	char *copy = strdup(text), *mark = NULL;

	for (char *p = strchr(copy, '@'); p && !mark; p = strchr(p + 1, '@'))
		if (strncmp(p, "@request", 8) != 0)
			mark = p;
	*line = mark ? 1 : 0;
	*column = 1;
	for (char *p = copy; mark && p < mark; p++) {
		*column = *p == '\n' ? 1 : *column + 1;
		*line += *p == '\n';
	}
	if (mark)
		memmove(mark, mark + 1, strlen(mark));
	return copy;
}

static void test_every_refusal_names_line_column_and_field(void **state)
{
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		const struct refusal *r = &refusals[i];
		uint32_t line, column;
		char *text = without_mark(r->text, &line, &column);
		struct t_mesh *m = t_mesh_new(text, NULL);
		const struct istio_diag *found = NULL;
		for (size_t j = 0; j < m->diags.n && !found; j++)
			if (m->diags.list[j].severity == ISTIO_ERROR && strcmp(m->diags.list[j].code, r->code) == 0 && strstr(m->diags.list[j].text, r->part))
				found = &m->diags.list[j];
		if (!found)
			fail_msg("case %zu: not refused by \"%s\", but by \"%s\":\n%s", i, r->part, m->diags.n ? m->diags.list[0].text : "nothing", text);
		if (line && (found->at.line != line || found->at.column != column))
			fail_msg("case %zu: at %u:%u, not %u:%u: %s\n%s", i, found->at.line, found->at.column, line, column, found->text, text);
		if (strcmp(found->field, r->field) != 0)
			fail_msg("case %zu: field \"%s\", not \"%s\"", i, found->field, r->field);
		assert_int_equal(istio_model_stats(m->model).n_refused, 1);
		t_mesh_free(m);
		free(text);
	}
	(void)state;
}

static void test_what_differs_is_accepted_with_a_note(void **state)
{
	static const struct {
		const char *text, *part;
	} notes[] = {
		{VS "  http: [{mirror: {host: b.test}, mirrorPercent: 50, " TO "}]\n", "write mirrorPercentage"},
		{VS "  http: [{fault: {abort: {httpStatus: 500}}, " TO "}]\n", "no request is aborted"},
		{VS "  http: [{retries: {retryOn: 5xx}, " TO "}]\n", "there will be no retries"},
		{VS "  http: [{match: [{uri: {prefix: /}, statPrefix: x}], " TO "}]\n", "no counters of its own"},
		{GW "  servers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: ['*'], tls: {mode: PASSTHROUGH, "
		 "insecureSkipVerify: true}}]\n", "has no effect in mode PASSTHROUGH"},
		{GW "  servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: ['*']}, {port: {number: 81, name: a, protocol: HTTP}, hosts: "
		 "['*']}]\n", "a second port named \"a\""},
		{GW "  servers: [{port: {number: 80, name: a, protocol: HTTP, targetPort: 8080}, hosts: ['*']}]\n", "has no effect on a Gateway"},
		{"apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s}\nspec: {egress: [{hosts: ['*/*']}]}\n", "not this node's"},
	};

	for (size_t i = 0; i < sizeof(notes) / sizeof(notes[0]); i++) {
		struct t_mesh *m = t_mesh_new(notes[i].text, NULL);
		bool found = false;
		assert_int_equal(m->diags.n_errors, 0);
		for (size_t j = 0; j < m->diags.n; j++)
			found |= m->diags.list[j].severity == ISTIO_WARNING && strstr(m->diags.list[j].text, notes[i].part);
		if (!found)
			fail_msg("case %zu has no note \"%s\"", i, notes[i].part);
		t_mesh_free(m);
	}
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_refusal_names_line_column_and_field),
		cmocka_unit_test(test_what_differs_is_accepted_with_a_note),
	};
	return cmocka_run_group_tests_name("istio.refusals", tests, NULL, NULL);
}
