/* libnetfilter_conntrack, doing what the other contenders do, and timing itself.
 *
 *   rival dump                        the table
 *   rival events COUNT BUFFER         events; says "listening", then waits for a line
 *   rival create COUNT                new flows, each with its answer: it has no other way
 *
 * With "check" as the last argument the callbacks look at each flow instead of being empty. It
 * prints what it counted, the sum of what it looked at, and nanoseconds by the wall and on the
 * processor.
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

static uint64_t seen, sum, wanted;

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

/* As contenders/ours.py makes it. */
static uint64_t digest(const struct nf_conntrack *ct)
{
	uint64_t value;

	if (nfct_get_attr_u8(ct, ATTR_ORIG_L3PROTO) == AF_INET6) {
		const uint32_t *words = nfct_get_attr(ct, ATTR_ORIG_IPV6_SRC);
		value = (uint64_t)ntohl(words[2]) << 32 | ntohl(words[3]);
	} else {
		value = ntohl(nfct_get_attr_u32(ct, ATTR_ORIG_IPV4_SRC));
	}
	value = value * 1000003 + ntohs(nfct_get_attr_u16(ct, ATTR_ORIG_PORT_DST));
	value = value * 1000003 + nfct_get_attr_u32(ct, ATTR_MARK);
	return value * 1000003 + nfct_get_attr_u32(ct, ATTR_STATUS);
}

static int look(enum nf_conntrack_msg_type type, struct nf_conntrack *ct, void *data)
{
	(void)type;
	(void)data;
	sum += digest(ct);
	return ++seen == wanted ? NFCT_CB_STOP : NFCT_CB_CONTINUE;
}

static int pass(enum nf_conntrack_msg_type type, struct nf_conntrack *ct, void *data)
{
	(void)type;
	(void)ct;
	(void)data;
	return ++seen == wanted ? NFCT_CB_STOP : NFCT_CB_CONTINUE;
}

static struct nfct_handle *subscribe(int buffer)
{
	struct timeval patience = {.tv_sec = 5};
	struct nfct_handle *handle = nfct_open(CONNTRACK, NF_NETLINK_CONNTRACK_NEW);
	char line[16];

	if (!handle)
		fail("nfct_open");
	if (setsockopt(nfct_fd(handle), SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer)) < 0)
		setsockopt(nfct_fd(handle), SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
	setsockopt(nfct_fd(handle), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	printf("listening\n");
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		fail("nobody says when");
	return handle;
}

static void create(struct nfct_handle *handle)
{
	for (uint32_t number = 0; number < wanted; number++) {
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
		seen++;
	}
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	int checking = !strcmp(argv[argc - 1], "check");
	uint32_t family = AF_UNSPEC;
	struct nfct_handle *handle;
	uint64_t wall, cpu;

	wanted = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
	handle = strcmp(what, "events") ? nfct_open(CONNTRACK, 0) : subscribe(atoi(argv[3]));
	if (!handle)
		fail("nfct_open");
	nfct_callback_register(handle, NFCT_T_ALL, checking ? look : pass, NULL);
	wall = now(CLOCK_MONOTONIC);
	cpu = now(CLOCK_PROCESS_CPUTIME_ID);
	if (!strcmp(what, "create"))
		create(handle);
	else if (!strcmp(what, "events") ? nfct_catch(handle) < 0
					 : nfct_query(handle, NFCT_Q_DUMP, &family) < 0)
		fail(what);
	wall = now(CLOCK_MONOTONIC) - wall;
	cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", seen, sum, wall, cpu);
	nfct_close(handle);
	return 0;
}
