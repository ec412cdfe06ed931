/* What DPDK's crypto device costs beside the library under it: AES-128-GCM over n records in place, tag and 5 bytes beside included, by a device's queue
 * (crypto_aesni_gcm and crypto_aesni_mb, whole bursts there and back on one thread) and by direct calls. Cycles a record, the middle of nine.
 * docs/decisions/0008-records-by-ipsec-mb.md has what came of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINUX /* else its structures are not aligned as its code is told they are */
#include <intel-ipsec-mb.h>
#include <rte_cryptodev.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_mbuf.h>

#define RECORDS_MAX 32
#define TURNS 9
#define IV_OFFSET (sizeof(struct rte_crypto_op) + sizeof(struct rte_crypto_sym_op))
#define BESIDE_OFFSET (IV_OFFSET + 16)

struct work {
	struct rte_mbuf *m[RECORDS_MAX];
	struct rte_crypto_op *ops[RECORDS_MAX];
	uint8_t device;
	void *session;
	IMB_MGR *mb;
	struct gcm_key_data key;
	uint32_t n, bytes;
};

static void die(const char *what)
{
	fprintf(stderr, "bench: %s\n", what);
	exit(2);
}

static int less(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* ---- the device ---- */
static void device_start(struct work *k, const char *name, struct rte_mempool *ops)
{
	static uint8_t bytes[16] = {1};
	struct rte_crypto_sym_xform x = {
		.type = RTE_CRYPTO_SYM_XFORM_AEAD,
		.aead = {.op = RTE_CRYPTO_AEAD_OP_ENCRYPT, .algo = RTE_CRYPTO_AEAD_AES_GCM, .key = {bytes, 16}, .iv = {IV_OFFSET, 12},
			 .digest_length = 16, .aad_length = 5},
	};
	int id = rte_cryptodev_get_dev_id(name);
	struct rte_cryptodev_config c = {.socket_id = SOCKET_ID_ANY, .nb_queue_pairs = 1};
	struct rte_cryptodev_qp_conf q = {.nb_descriptors = 256};
	char pool[32];

	if (id < 0)
		die("no such device");
	k->device = (uint8_t)id;
	(void)snprintf(pool, sizeof(pool), "s%d", id); /* fits */
	uint32_t bytes_each = rte_cryptodev_sym_get_private_session_size(k->device);
	struct rte_mempool *sessions = rte_cryptodev_sym_session_pool_create(pool, 16, bytes_each, 0, 0, SOCKET_ID_ANY);
	q.mp_session = sessions;
	if (!sessions || rte_cryptodev_configure(k->device, &c) != 0 || rte_cryptodev_queue_pair_setup(k->device, 0, &q, SOCKET_ID_ANY) != 0 ||
	    rte_cryptodev_start(k->device) != 0)
		die("the device does not start");
	k->session = rte_cryptodev_sym_session_create(k->device, &x, sessions);
	if (!k->session || rte_crypto_op_bulk_alloc(ops, RTE_CRYPTO_OP_TYPE_SYMMETRIC, k->ops, RECORDS_MAX) == 0)
		die("no session, or no operations");
}

/* What every record needs told: its buffer, its nonce, what is beside it, where the tag goes. */
static void by_device(struct work *k)
{
	struct rte_crypto_op *back[RECORDS_MAX];
	uint32_t n_there = 0, n_back = 0;

	for (uint32_t i = 0; i < k->n; i++) {
		struct rte_crypto_op *o = k->ops[i];
		struct rte_crypto_sym_op *s = o->sym;
		o->status = RTE_CRYPTO_OP_STATUS_NOT_PROCESSED;
		(void)rte_crypto_op_attach_sym_session(o, k->session); /* of a symmetric operation: cannot fail */
		s->m_src = k->m[i];
		s->aead.data.offset = 0;
		s->aead.data.length = k->bytes;
		s->aead.digest.data = rte_pktmbuf_mtod_offset(k->m[i], uint8_t *, k->bytes);
		s->aead.digest.phys_addr = rte_pktmbuf_iova_offset(k->m[i], k->bytes);
		s->aead.aad.data = rte_crypto_op_ctod_offset(o, uint8_t *, BESIDE_OFFSET);
		s->aead.aad.phys_addr = rte_crypto_op_ctophys_offset(o, BESIDE_OFFSET);
		memset(rte_crypto_op_ctod_offset(o, uint8_t *, IV_OFFSET), (int)i, 12);
		memset(s->aead.aad.data, 23, 5);
	}
	while (n_there < k->n)
		n_there += rte_cryptodev_enqueue_burst(k->device, 0, k->ops + n_there, (uint16_t)(k->n - n_there));
	while (n_back < k->n)
		n_back += rte_cryptodev_dequeue_burst(k->device, 0, back + n_back, (uint16_t)(k->n - n_back));
	for (uint32_t i = 0; i < k->n; i++)
		if (back[i]->status != RTE_CRYPTO_OP_STATUS_SUCCESS)
			die("an operation failed");
}

/* ---- the library ---- */
static void directly(struct work *k)
{
	for (uint32_t i = 0; i < k->n; i++) {
		struct gcm_context_data run;
		uint8_t nonce[12], beside[5], *bytes = rte_pktmbuf_mtod(k->m[i], uint8_t *);
		memset(nonce, (int)i, sizeof(nonce));
		memset(beside, 23, sizeof(beside));
		IMB_AES128_GCM_ENC(k->mb, &k->key, &run, bytes, bytes, k->bytes, nonce, beside, sizeof(beside), bytes + k->bytes, 16);
	}
}

static uint64_t timed(struct work *k, void (*run)(struct work *k))
{
	uint64_t took[TURNS];
	uint32_t times = k->bytes > 4096 ? 64 : 1024;

	for (int t = 0; t < TURNS; t++) {
		uint64_t before = rte_rdtsc();
		for (uint32_t i = 0; i < times; i++)
			run(k);
		took[t] = (rte_rdtsc() - before) / (times * k->n);
	}
	qsort(took, TURNS, sizeof(took[0]), less);
	return took[TURNS / 2];
}

/* Both give the same, or the figures are of two things. */
static void agree(struct work *k)
{
	uint8_t *bytes = rte_pktmbuf_mtod(k->m[0], uint8_t *), kept[256 + 16];

	k->n = 1;
	k->bytes = 256;
	memset(bytes, 7, 256);
	directly(k);
	memcpy(kept, bytes, sizeof(kept));
	memset(bytes, 7, 256);
	by_device(k);
	if (memcmp(kept, bytes, sizeof(kept)) != 0)
		die("the device and the library do not agree");
}

int main(void)
{
	static const char *const names[] = {"crypto_aesni_gcm", "crypto_aesni_mb"};
	static struct work works[2];
	static const uint8_t key[16] = {1};
	char *words[] = {(char[]){"bench"}, (char[]){"--no-huge"}, (char[]){"--no-pci"}, (char[]){"--no-shconf"}, (char[]){"--no-telemetry"},
			 (char[]){"-m"}, (char[]){"64"}, (char[]){"--vdev=crypto_aesni_gcm"}, (char[]){"--vdev=crypto_aesni_mb"},
			 (char[]){"--log-level=4"}, NULL};

	if (rte_eal_init(sizeof(words) / sizeof(words[0]) - 1, words) < 0)
		die("no EAL");
	struct rte_mempool *bufs = rte_pktmbuf_pool_create("bufs", 2 * RECORDS_MAX, 0, 0, 17000, SOCKET_ID_ANY);
	struct rte_mempool *ops = rte_crypto_op_pool_create("ops", RTE_CRYPTO_OP_TYPE_SYMMETRIC, 4 * RECORDS_MAX, 0, 64, SOCKET_ID_ANY);
	if (!bufs || !ops)
		die("no pools");
	for (int d = 0; d < 2; d++) {
		struct work *k = &works[d];
		device_start(k, names[d], ops);
		for (int i = 0; i < RECORDS_MAX; i++) {
			k->m[i] = rte_pktmbuf_alloc(bufs);
			if (!k->m[i] || !rte_pktmbuf_append(k->m[i], 16384 + 16))
				die("no buffer");
		}
		k->mb = alloc_mb_mgr(0);
		if (!k->mb)
			die("no library");
		init_mb_mgr_auto(k->mb, NULL);
		IMB_AES128_GCM_PRE(k->mb, key, &k->key);
		agree(k);
	}
	printf("%8s %8s %20s %20s %20s\n", "bytes", "records", "directly", names[0], names[1]);
	static const uint32_t sizes[] = {256, 16384}, counts[] = {1, 8, 32};
	for (int s = 0; s < 2; s++) {
		for (int c = 0; c < 3; c++) {
			for (int d = 0; d < 2; d++) {
				works[d].bytes = sizes[s];
				works[d].n = counts[c];
			}
			printf("%8u %8u %20lu %20lu %20lu\n", sizes[s], counts[c], timed(&works[0], directly), timed(&works[0], by_device),
			       timed(&works[1], by_device));
		}
	}
	return 0;
}
