/* An open-loop DNS client: questions leave when their time has come, whatever became of earlier ones.
 *
 *   dns_load SERVER RATE SECONDS PREFIX COUNT    asks SERVER for PREFIX1 … PREFIXCOUNT in turn, RATE times a second
 *
 * Prints one line: sent answered wrong, and in microseconds p50 p90 p99 p99.9 max of the time from the moment a question
 * was due to its answer (-1: never answered), and the p50 and p99 of how late this program itself was in sending, which
 * is what the machine does to any program. */
#define _GNU_SOURCE /* ppoll */
#include <arpa/inet.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { IDS = 65536, GRACE_MS = 1000 };
static int64_t due_ns[IDS]; /* by the question's number; 0: not waited for */

static int64_t now_ns(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int compare(const void *left, const void *right) {
	int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
	return (a > b) - (a < b);
}

static size_t question(unsigned char *packet, unsigned id, const char *name) {
	static const unsigned char header[12] = {0, 0, 1, 0, 0, 1}, tail[5] = {0, 0, 1, 0, 1};
	size_t length = strlen(name);
	memcpy(packet, header, 12);
	packet[0] = id >> 8, packet[1] = id & 255;
	packet[12] = length;
	memcpy(packet + 13, name, length);
	memcpy(packet + 13 + length, tail, 5);
	return 13 + length + 5;
}

/* Percentiles of all: what is not among those known took longest. */
static void report(int64_t *times, long known, long all, const double *parts) {
	qsort(times, known, sizeof *times, compare);
	for (; *parts; parts++) {
		long rank = (long)(*parts * all + .999999) - 1;
		printf(" %ld", rank < known ? (long)(times[rank] / 1000) : -1L);
	}
}

int main(int argc, char **argv) {
	if (argc != 6) return 2;
	long rate = atol(argv[2]), total = rate * atol(argv[3]), count = atol(argv[5]), sent = 0, answered = 0, wrong = 0;
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(53)};
	int link = socket(AF_INET, SOCK_DGRAM, 0), room = 1 << 22;
	int64_t *took = calloc(total + 1, sizeof *took), *late = calloc(total + 1, sizeof *late), start, last;
	setsockopt(link, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
	if (!took || !late || inet_pton(AF_INET, argv[1], &address.sin_addr) != 1) return 2;
	if (connect(link, (struct sockaddr *)&address, sizeof address)) return perror("connect"), 1;
	start = now_ns() + 10000000, last = start + total * 1000000000LL / rate;
	while (answered < sent || sent < total) {
		int64_t now = now_ns(), due = start + sent * 1000000000LL / rate, wait;
		unsigned char packet[1500];
		if (sent < total && now >= due) {
			char name[64];
			snprintf(name, sizeof name, "%s%ld", argv[4], sent % count + 1);
			due_ns[sent % IDS] = due;
			late[sent] = now - due;
			send(link, packet, question(packet, sent % IDS, name), 0); /* one that fails is one not answered */
			sent++;
			continue;
		}
		if (now > last + GRACE_MS * 1000000LL) break;
		wait = sent < total ? due - now : last + GRACE_MS * 1000000LL - now;
		struct timespec timeout = {wait / 1000000000LL, wait % 1000000000LL};
		struct pollfd ready = {.fd = link, .events = POLLIN};
		if (ppoll(&ready, 1, &timeout, NULL) <= 0) continue;
		ssize_t size = recv(link, packet, sizeof packet, MSG_DONTWAIT);
		unsigned id = packet[0] << 8 | packet[1];
		if (size < 12 || !due_ns[id]) continue;
		wrong += (packet[3] & 15) || packet[7] != 1;
		took[answered++] = now_ns() - due_ns[id];
		due_ns[id] = 0;
	}
	printf("%ld %ld %ld", sent, answered, wrong);
	report(took, answered, sent, (double[]){.5, .9, .99, .999, 1, 0});
	report(late, sent, sent, (double[]){.5, .99, 0});
	printf("\n");
	return 0;
}
