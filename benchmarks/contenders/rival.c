/* Do what the other contenders do with libnetfilter_conntrack, and measure the time.
 *
 *   rival dump                        Dump the table.
 *   rival events COUNT BUFFER         Subscribe to events with a receive buffer of BUFFER bytes,
 *                                     print "listening", wait for a line of input, and then read
 *                                     COUNT events.
 *   rival create COUNT                Create flows. Each waits for its reply, because the library
 *                                     cannot send several requests at once.
 *
 * Without "check" as the last argument the callback only counts. With it, the callback also adds
 * up the digests of the flows. The program prints the count, the sum of the digests, the elapsed
 * time and the processor time, both in nanoseconds.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#include <libnetfilter_conntrack/libnetfilter_conntrack.h>
#include <libnetfilter_conntrack/libnetfilter_conntrack_tcp.h>

static uint64_t count, sum, expected;

static void fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

/* The same digest as digest() in contenders/ours.py. */
static uint64_t digest(const struct nf_conntrack *ct)
{
	uint64_t value;

	if (nfct_get_attr_u8(ct, ATTR_ORIG_L3PROTO) == AF_INET6) {
		const uint32_t *parts = nfct_get_attr(ct, ATTR_ORIG_IPV6_SRC);
		value = (uint64_t)ntohl(parts[2]) << 32 | ntohl(parts[3]);
	} else {
		value = ntohl(nfct_get_attr_u32(ct, ATTR_ORIG_IPV4_SRC));
	}
	value = value * 1000003 + ntohs(nfct_get_attr_u16(ct, ATTR_ORIG_PORT_DST));
	value = value * 1000003 + nfct_get_attr_u32(ct, ATTR_MARK);
	return value * 1000003 + nfct_get_attr_u32(ct, ATTR_STATUS);
}

static int add_digest(enum nf_conntrack_msg_type type, struct nf_conntrack *ct, void *data)
{
	(void)type;
	(void)data;
	sum += digest(ct);
	return ++count == expected ? NFCT_CB_STOP : NFCT_CB_CONTINUE;
}

static int count_only(enum nf_conntrack_msg_type type, struct nf_conntrack *ct, void *data)
{
	(void)type;
	(void)ct;
	(void)data;
	return ++count == expected ? NFCT_CB_STOP : NFCT_CB_CONTINUE;
}

static struct nfct_handle *subscribe(int buffer)
{
	struct timeval timeout = {.tv_sec = 5};
	struct nfct_handle *handle = nfct_open(CONNTRACK, NF_NETLINK_CONNTRACK_NEW);
	char line[16];

	if (!handle)
		fail("nfct_open");
	if (setsockopt(nfct_fd(handle), SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer)) < 0)
		setsockopt(nfct_fd(handle), SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
	setsockopt(nfct_fd(handle), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	printf("listening\n");
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		fail("no line on standard input");
	return handle;
}

static void create(struct nfct_handle *handle)
{
	for (uint32_t number = 0; number < expected; number++) {
		struct nf_conntrack *ct = nfct_new();

		if (!ct)
			fail("nfct_new");
		nfct_set_attr_u8(ct, ATTR_L3PROTO, AF_INET);
		nfct_set_attr_u32(ct, ATTR_IPV4_SRC, htonl(0x0a000001 + number));
		nfct_set_attr_u32(ct, ATTR_IPV4_DST, inet_addr("198.51.100.1"));
		nfct_set_attr_u8(ct, ATTR_L4PROTO, IPPROTO_TCP);
		nfct_set_attr_u16(ct, ATTR_PORT_SRC, htons(1024 + number % 64000));
		nfct_set_attr_u16(ct, ATTR_PORT_DST, htons(443));
		nfct_setobjopt(ct, NFCT_SOPT_SETUP_REPLY);
		nfct_set_attr_u8(ct, ATTR_TCP_STATE, TCP_CONNTRACK_ESTABLISHED);
		nfct_set_attr_u32(ct, ATTR_TIMEOUT, 3600);
		nfct_set_attr_u32(ct, ATTR_MARK, number & 0xff);
		if (nfct_query(handle, NFCT_Q_CREATE, ct) < 0)
			fail("NFCT_Q_CREATE");
		nfct_destroy(ct);
		count++;
	}
}

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";
	int checking = !strcmp(argv[argc - 1], "check");
	uint32_t family = AF_UNSPEC;
	struct nfct_handle *handle;
	uint64_t wall, cpu;

	expected = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
	handle = strcmp(command, "events") ? nfct_open(CONNTRACK, 0) : subscribe(atoi(argv[3]));
	if (!handle)
		fail("nfct_open");
	nfct_callback_register(handle, NFCT_T_ALL, checking ? add_digest : count_only, NULL);
	wall = now(CLOCK_MONOTONIC);
	cpu = now(CLOCK_PROCESS_CPUTIME_ID);
	if (!strcmp(command, "create"))
		create(handle);
	else if (!strcmp(command, "events") ? nfct_catch(handle) < 0
					 : nfct_query(handle, NFCT_Q_DUMP, &family) < 0)
		fail(command);
	wall = now(CLOCK_MONOTONIC) - wall;
	cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", count, sum, wall, cpu);
	nfct_close(handle);
	return 0;
}
