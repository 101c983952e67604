/* Load for published ports: a server for the container, and a client that counts.
 *
 *     traffic serve PORT                            on all addresses, IPv4
 *     traffic load ADDRESS PORT KIND PARALLEL MS    KIND: send | receive | connect; prints one number:
 *                                                   bytes a second, or requests a second on connections of their own
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SERVERS = 4, ANSWER = 128, CHUNK = 1 << 20 };
static char buffer[CHUNK];

static long long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void answer(int link) {
    char kind;
    if (read(link, &kind, 1) != 1) return;
    if (kind == 'c') {
        if (write(link, buffer, ANSWER) < 0) return;
    } else if (kind == 's') {
        while (read(link, buffer, sizeof buffer) > 0) { }
    } else {
        while (write(link, buffer, sizeof buffer) > 0) { }
    }
}

static int serve(int port) {
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((unsigned short)port) };
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) die("listen");
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN);
    for (int i = 1; i < SERVERS; i++)
        if (fork() == 0) break;
    for (;;) {
        int link = accept(listener, NULL, NULL);
        char kind;
        if (link < 0) continue;
        /* A stream gets a process of its own, so that short requests find a server. */
        if (recv(link, &kind, 1, MSG_PEEK) == 1 && kind != 'c') {
            if (fork() == 0) {
                close(listener);
                answer(link);
                _exit(0);
            }
        } else {
            answer(link);
        }
        close(link);
    }
}

static int dial(const struct sockaddr_in *to) {
    int on = 1, link = socket(AF_INET, SOCK_STREAM, 0);
    if (link < 0) die("socket");
    if (connect(link, (const struct sockaddr *)to, sizeof *to)) die("connect");
    setsockopt(link, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return link;
}

static double load(const struct sockaddr_in *to, char kind, long long until_ms) {
    double done = 0;
    if (kind == 'c') {
        while (now_ms() < until_ms) {
            int link = dial(to), got = 0;
            if (write(link, &kind, 1) != 1) die("write");
            while (got < ANSWER) {
                ssize_t n = read(link, buffer, sizeof buffer);
                if (n <= 0) die("answer");
                got += (int)n;
            }
            close(link);
            done++;
        }
        return done;
    }
    int link = dial(to);
    if (write(link, &kind, 1) != 1) die("write");
    while (now_ms() < until_ms) {
        ssize_t n = kind == 's' ? write(link, buffer, sizeof buffer) : read(link, buffer, sizeof buffer);
        if (n <= 0) die("stream");
        done += (double)n;
    }
    return done;
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "serve")) return serve(atoi(argv[2]));
    if (argc != 7 || strcmp(argv[1], "load")) return 2;
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[3])) };
    if (inet_pton(AF_INET, argv[2], &to.sin_addr) != 1) return 2;
    int parallel = atoi(argv[5]), failed = 0, status;
    long long took_ms = atoll(argv[6]), until_ms = now_ms() + took_ms;
    double *done = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), sum = 0;
    if (done == MAP_FAILED || parallel < 1 || parallel > 256) return 2;
    for (int i = 0; i < parallel; i++)
        if (fork() == 0) {
            done[i] = load(&to, argv[4][0], until_ms);
            _exit(0);
        }
    while (wait(&status) > 0) failed |= status;
    for (int i = 0; i < parallel; i++) sum += done[i];
    printf("%.0f\n", sum * 1000 / (double)took_ms);
    return failed != 0;
}
