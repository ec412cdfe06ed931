/* nic/uri.c: what a person writes becomes a device and its driver's arguments, or one sentence. */
#include <errno.h>

#include "nic/nic_priv.h"
#include "tests/unit/support.h"

static struct nic_uri parse(const char *text)
{
	struct nic_uri u;
	struct foil_error err = {0};

	if (nic_uri_parse("p0", text, 3, &u, &err) != 0)
		fail_msg("%s: %s", text, err.text);
	return u;
}

static void test_every_kind_of_port_gets_its_driver(void **state)
{
	static const struct {
		const char *text, *device, *args;
		enum nic_scheme scheme;
	} want[] = {
		{"af_packet:iface=eth1", "net_af_packet3", "iface=eth1", NIC_SCHEME_AF_PACKET},
		{"af_xdp:iface=eth1,start_queue=1", "net_af_xdp3", "iface=eth1,start_queue=1", NIC_SCHEME_AF_XDP},
		{"tap:iface=tap0", "net_tap3", "iface=tap0", NIC_SCHEME_TAP},
		{"memif:role=client,id=0,socket=/run/x", "net_memif3", "role=client,id=0,socket=/run/x", NIC_SCHEME_MEMIF},
		{"virtio-user:path=/run/v", "net_virtio-user3", "path=/run/v", NIC_SCHEME_VIRTIO_USER},
		{"vhost:iface=/run/v", "net_vhost3", "iface=/run/v", NIC_SCHEME_VHOST},
		{"ring:", "net_ring3", "", NIC_SCHEME_RING},
		{"pci=0000:3b:02.0", "0000:3b:02.0", "", NIC_SCHEME_PCI},
		{"pci=0000:3b:02.0,iavf=1", "0000:3b:02.0", "iavf=1", NIC_SCHEME_PCI},
	};

	for (size_t i = 0; i < FOIL_COUNT_OF(want); i++) {
		struct nic_uri u = parse(want[i].text);
		assert_int_equal(u.scheme, want[i].scheme);
		assert_string_equal(u.args, want[i].args);
		if (u.scheme != NIC_SCHEME_VIRTIO_USER) /* DPDK's spelling of that one is its own */
			assert_string_equal(u.device, want[i].device);
	}
}

static void test_our_own_arguments_do_not_reach_the_driver(void **state)
{
	struct nic_uri u = parse("af_packet:checksums=trust,iface=eth1,offloads=off,framecnt=512");

	assert_true(u.checksums_trust && u.offloads_off);
	assert_string_equal(u.args, "iface=eth1,framecnt=512");
	assert_string_equal(u.iface, "eth1");
	u = parse("memif:socket=/x,checksums=none");
	assert_true(u.checksums_none && u.checksums_trust && !u.unsealed);
	assert_string_equal(u.args, "socket=/x");
	assert_false(nic_memif_is_server(u.args));
	u = parse("memif:role=server,unsealed=yes,socket=/x,id=12");
	assert_true(u.unsealed);
	assert_string_equal(u.args, "role=server,socket=/x,id=12");
	assert_true(nic_memif_is_server(u.args));
	struct foil_slice id = nic_args_get(u.args, "id");
	assert_int_equal(id.n_bytes, 2);
	assert_memory_equal(id.data, "12", 2);
	assert_null(nic_args_get(u.args, "i").data);
}

static void test_what_cannot_be_is_refused_with_a_sentence(void **state)
{
	static const char *const wrong[] = {
		"", "eth1", "af_packet", "af_packet:", "af_packet:iface=", "af_packet:ifac=eth1", "af_packet:iface=a-name-beyond-15-chars", "dpdk:x",
		"pci=3b:02", "pci=0000:3b:02", "pci=0000:3b:02.0x", "memif:role=client", "af_packet:iface=eth1,checksums=maybe",
		"af_packet:iface=eth1,checksums=none", "pci=0000:3b:02.0,checksums=none", "virtio-user:path=/x,checksums=none",
		"af_packet:iface=eth1,offloads=on", "memif:socket=/x,unsealed=maybe", "af_packet:iface=eth1,unsealed=yes", "vhost:", "virtio-user:queues=2",
	};
	char lengthy[1200] = "af_packet:iface=eth1,";

	memset(lengthy + 21, 'x', sizeof(lengthy) - 22);
	for (size_t i = 0; i <= FOIL_COUNT_OF(wrong); i++) {
		struct foil_error err = {0};
		struct nic_uri u = {.scheme = NIC_SCHEME_TAP};
		assert_true(nic_uri_parse("uplink", i < FOIL_COUNT_OF(wrong) ? wrong[i] : lengthy, 0, &u, &err) < 0);
		assert_non_null(strstr(err.text, "uplink")); /* says which port */
		assert_int_equal(u.scheme, NIC_SCHEME_TAP);  /* untouched */
	}
}

static void test_af_packet_gets_rings_that_hold_whole_packets(void **state)
{
	struct nic_uri u = parse("af_packet:iface=eth1");
	char out[600];

	assert_int_equal(nic_uri_devargs(&u, 2, 1500, 4096, out, sizeof(out)), 0);
	assert_string_equal(out, "iface=eth1,qpairs=2,blocksz=65536,framesz=2048,framecnt=4096,qdisc_bypass=1");
	assert_int_equal(nic_uri_devargs(&u, 1, 9000, 1000, out, sizeof(out)), 0);
	assert_non_null(strstr(out, "blocksz=147456,framesz=9216")); /* a whole number of frames, of pages */
	assert_int_equal(nic_uri_devargs(&u, 1, 2000, 1000, out, sizeof(out)), 0);
	assert_non_null(strstr(out, "blocksz=49152,framesz=3072"));
	u = parse("af_packet:iface=eth1,framecnt=64,qdisc_bypass=0");
	assert_int_equal(nic_uri_devargs(&u, 1, 1500, 1024, out, sizeof(out)), 0);
	assert_non_null(strstr(out, "framecnt=64,")); /* what the user says, stands */
	assert_null(strstr(out, "qdisc_bypass=1"));
	assert_int_equal(nic_uri_devargs(&u, 1, 1500, 1024, out, 20), -ENAMETOOLONG);
}

static void test_pcap_files_get_the_drivers_words(void **state)
{
	struct nic_uri u = parse("pcap:rx=/tmp/in.pcap,tx=/tmp/out.pcap");
	char out[600];

	assert_int_equal(nic_uri_devargs(&u, 1, 1500, 0, out, sizeof(out)), 0);
	assert_string_equal(out, "rx_pcap=/tmp/in.pcap,tx_pcap=/tmp/out.pcap");
}

static void test_arguments_are_found_whole(void **state)
{
	assert_true(nic_args_have("a=1,queues=2", "queues"));
	assert_false(nic_args_have("a=1,xqueues=2", "queues"));
	assert_false(nic_args_have("a=1,queues", "queues"));
	assert_false(nic_args_have("", "queues"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_kind_of_port_gets_its_driver),
		cmocka_unit_test(test_our_own_arguments_do_not_reach_the_driver),
		cmocka_unit_test(test_what_cannot_be_is_refused_with_a_sentence),
		cmocka_unit_test(test_af_packet_gets_rings_that_hold_whole_packets),
		cmocka_unit_test(test_pcap_files_get_the_drivers_words),
		cmocka_unit_test(test_arguments_are_found_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
