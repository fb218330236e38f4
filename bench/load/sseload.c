/* sseload - Server-Sent Events load client.  One thread, epoll, no dependencies.
 *
 *   gcc -O2 -Wall -Wextra -o sseload sseload.c
 *
 * Opens N HTTP/1.1 connections to one server, keeps them all open, and parses
 * the event stream of each (Content-Length-less raw bodies and chunked bodies).
 * An event is a block ended by a blank line that holds at least one `data:`
 * line; comments (`: ping`) and blocks without data are not counted.  Lines may
 * end in LF or CRLF (a lone CR is not recognised).
 *
 * When all connections have got their response header, "READY" goes to stderr
 * (so that a driver can start its publisher) and the clock starts.  After -t
 * seconds (and not before) one JSON object is printed on stdout.
 *
 * Options
 *   -H ADDR     server address, IPv4 (127.0.0.1)
 *   -p PORT     server port (8000)
 *   -c N        connections (100)
 *   -P PATH     request path, may be given often: connections take them in turn
 *               (/).  "%d" in a path is replaced by the connection's number.
 *   -F FILE     request paths, one a line, in addition
 *   -h HEADER   extra request header "Name: value", may be given often
 *   -S K        spread the connections over K source addresses 127.0.0.1 ..
 *               127.0.0.K (0 = do not bind).  Each gives some 28,000 ports.
 *   -k K        at most K connections pending (SYN sent .. header read) (64)
 *   -r RATE     at most RATE new connections a second (0 = no limit)
 *   -t SECS     measuring time after all are connected (5)
 *   -w SECS     give up waiting for connections after SECS (60); the run then
 *               goes on with those that are there, the others count as failed
 *   -l MARK     integer after MARK in the data is the CLOCK_REALTIME time in ns
 *               at which the event was made: latency percentiles.  May be given
 *               often: the first of them that the data contains counts
 *   -q MARK     integer after MARK in the data is a sequence number that goes
 *               up by one for each event of a path: gaps, duplicates, disorder
 *   -m MARK     latency, sequence and the field "matched" are only of events
 *               whose data contains MARK, e.g. -m '"e":"depth"'
 *   -C          the data is Sluice's envelope: each update's "previous" must be
 *               the "position" before it on its channel (field "chain_breaks"),
 *               and no channel may have a second snapshot ("resyncs")
 *   -s K        the first K connections stop reading once connected (slow
 *               consumers); they are left out of all event statistics
 *   -b BYTES    SO_RCVBUF of each socket (0 = kernel default)
 *   -x          stop when every connection was closed by the server
 *   -D          one line a second on stderr: events/s, connections open
 *   -L TEXT     copied to the field "label"
 *
 * Output fields: connected, failed, closed (by the server while running),
 * connect_s, seconds, events, events_per_s, bytes, comments, p50_ms .. max_ms,
 * lat_n, per-connection ev_min/ev_max/ev_mean, seq_gaps (events missing),
 * seq_dup, seq_ooo, last_min/last_max (lowest and highest final sequence number
 * over the connections: differ = someone lost the tail), conns_with_loss, chain_breaks, resyncs,
 * cpu_user_s, cpu_sys_s (of this process while measuring), http_errors,
 * first_bad_status.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAXLIST 16384
#define MAXMARKS 4
#define RBUF (256 * 1024)
#define MAXLINE (1024 * 1024)

enum { ST_IDLE, ST_CONNECTING, ST_HEADER, ST_STREAM, ST_DEAD };
enum { CH_RAW, CH_SIZE, CH_EXT, CH_DATA, CH_CRLF, CH_END };

struct link { uint64_t channel, position; };    /* the last position on a channel */

struct conn {
    int fd;
    uint8_t st, ch, has_data, slow, loss;
    uint32_t chunk_left;            /* bytes left of the current chunk */
    uint32_t clen, ccap;            /* carry: an unfinished line or header */
    char *carry;
    uint64_t events, last_seq;
    int have_seq, nlinks;
    struct link *links;
};

static const char *host = "127.0.0.1", *label = "";
static const char *paths[MAXLIST], *hdrs[MAXLIST];
static int npaths, nhdrs, port = 8000, nconn = 100, nsrc, maxpend = 64, nslow, rcvbuf, exit_all_closed, verbose;
static double run_s = 5, wait_s = 60, rate;
static struct mark { const char *text; size_t len, at; } lat_marks[MAXMARKS], seq_mark, match_mark;
static int nlat, check_chain;

static struct conn *conns;
static int ep, pending, ready_n, failed_n, closed_n, started, http_errors, first_bad;
static int measuring;
static uint64_t t_recv;             /* CLOCK_REALTIME ns at the latest recv() */
static uint64_t n_events, n_bytes, n_comments, n_matched, gaps, dups, ooo, breaks, resyncs;
static volatile sig_atomic_t stop;

/* ---- latency histogram: microseconds, 64 buckets for each power of two ---- */
#define SUB 6
static uint64_t hist[64 << SUB], lat_n, lat_max;
static unsigned bucket(uint64_t v) {
    if (v < (1u << SUB)) return (unsigned)v;
    unsigned e = 63 - __builtin_clzll(v) - SUB;
    return ((e + 1) << SUB) + (unsigned)((v >> e) & ((1u << SUB) - 1));
}
static double bucket_mid(unsigned b) {
    if (b < (1u << SUB)) return b;
    unsigned e = (b >> SUB) - 1;
    uint64_t lo = ((uint64_t)(1u << SUB) + (b & ((1u << SUB) - 1))) << e;
    return lo + ((1ull << e) - 1) / 2.0;
}
static double pct_ms(double q) {
    uint64_t want = (uint64_t)(q * lat_n + 0.5), sum = 0;
    if (!lat_n) return -1;
    if (want < 1) want = 1;
    for (unsigned b = 0; b < sizeof hist / sizeof *hist; b++)
        if ((sum += hist[b]) >= want) return bucket_mid(b) / 1000.0;
    return lat_max / 1000.0;
}

static struct mark mark(const char *text) { return (struct mark){text, strlen(text), 0}; }

static double mono(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}
static uint64_t real_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + t.tv_nsec;
}
static void die(const char *what) { perror(what); exit(2); }

/* ------------------------------ SSE parser -------------------------------- */
/* What follows a mark, NULL if it is not there.  Events of one make have it at the same place. */
static const char *after(const char *p, size_t n, struct mark *m) {
    if (m->at + m->len > n || memcmp(p + m->at, m->text, m->len)) {
        const char *q = memmem(p, n, m->text, m->len);
        if (!q) return NULL;
        m->at = (size_t)(q - p);
    }
    return p + m->at + m->len;
}

static int int_after(const char *p, size_t n, struct mark *mark, uint64_t *out) {
    const char *q = after(p, n, mark), *e = p + n;
    if (!q) return 0;
    while (q < e && (*q == ' ' || *q == '"')) q++;
    if (q >= e || *q < '0' || *q > '9') return 0;
    uint64_t v = 0;
    while (q < e && *q >= '0' && *q <= '9') v = v * 10 + (uint64_t)(*q++ - '0');
    *out = v;
    return 1;
}

/* The string after MARK as a number that stands for it (FNV-1a); 0 = no string there. */
static uint64_t text_after(const char *p, size_t n, struct mark *mark) {
    const char *q = after(p, n, mark), *e = p + n;
    if (!q || q >= e || *q++ != '"') return 0;
    uint64_t v = 14695981039346656037ull;
    while (q < e && *q != '"') v = (v ^ (uint64_t)(unsigned char)*q++) * 1099511628211ull;
    return v;
}

static void chain(struct conn *c, const char *p, size_t n) {
    static struct mark channel_mark = {"\"channel\":", 10, 0}, position_mark = {"\"position\":", 11, 0},
        previous_mark = {"\"previous\":", 11, 0};
    uint64_t channel = text_after(p, n, &channel_mark), position = text_after(p, n, &position_mark),
        previous = text_after(p, n, &previous_mark);
    int i = 0, known;
    if (!channel) return;           /* a control event */
    while (i < c->nlinks && c->links[i].channel != channel) i++;
    known = i < c->nlinks;
    if (!known) {
        c->links = realloc(c->links, (size_t)++c->nlinks * sizeof *c->links);
        if (!c->links) die("realloc");
        c->links[i] = (struct link){.channel = channel};
    }
    if (measuring && previous != c->links[i].position) {
        if (known && !previous) resyncs++;
        else breaks++;
        c->loss = 1;
    }
    c->links[i].position = position;
}

static void data_line(struct conn *c, const char *p, size_t n) {
    uint64_t v;
    c->has_data = 1;
    if (check_chain && !c->slow) chain(c, p, n);
    if (!measuring || c->slow) return;
    if (match_mark.text) {
        if (!after(p, n, &match_mark)) return;
        n_matched++;
    }
    for (int i = 0; i < nlat; i++) {
        if (!int_after(p, n, &lat_marks[i], &v)) continue;
        uint64_t us = t_recv > v ? (t_recv - v) / 1000 : 0;
        hist[bucket(us)]++;
        lat_n++;
        if (us > lat_max) lat_max = us;
        break;
    }
    if (seq_mark.text && int_after(p, n, &seq_mark, &v)) {
        if (!c->have_seq) {
            c->have_seq = 1;
            c->last_seq = v;
        } else if (v == c->last_seq + 1) {
            c->last_seq = v;
        } else if (v > c->last_seq) {
            gaps += v - c->last_seq - 1;
            c->loss = 1;
            c->last_seq = v;
        } else if (v == c->last_seq) {
            dups++;
        } else {
            ooo++;
        }
    }
}

static void line(struct conn *c, const char *p, size_t n) {
    if (n && p[n - 1] == '\r') n--;
    if (n == 0) {
        if (c->has_data) {
            c->has_data = 0;
            if (measuring && !c->slow) { c->events++; n_events++; }
        }
    } else if (p[0] == ':') {
        if (measuring) n_comments++;
    } else if (n >= 5 && memcmp(p, "data:", 5) == 0) {
        data_line(c, p + 5, n - 5);
    } else if (n == 4 && memcmp(p, "data", 4) == 0) {
        c->has_data = 1;
    }
}

static void carry(struct conn *c, const char *p, size_t n) {
    if (c->clen + n > c->ccap) {
        size_t cap = c->ccap ? c->ccap : 256;
        while (cap < c->clen + n) cap *= 2;
        if (cap > MAXLINE * 2) { fprintf(stderr, "line too long\n"); exit(2); }
        c->carry = realloc(c->carry, cap);
        if (!c->carry) die("realloc");
        c->ccap = (uint32_t)cap;
    }
    memcpy(c->carry + c->clen, p, n);
    c->clen += (uint32_t)n;
}

static void feed_sse(struct conn *c, const char *p, size_t n) {
    const char *e = p + n, *nl;
    while (p < e && (nl = memchr(p, '\n', (size_t)(e - p)))) {
        if (c->clen) {
            carry(c, p, (size_t)(nl - p));
            line(c, c->carry, c->clen);
            c->clen = 0;
        } else {
            line(c, p, (size_t)(nl - p));
        }
        p = nl + 1;
    }
    if (p < e) carry(c, p, (size_t)(e - p));
}

/* 0 = go on, 1 = the body has ended */
static int feed_body(struct conn *c, const char *p, size_t n) {
    const char *e = p + n;
    if (c->ch == CH_RAW) { feed_sse(c, p, n); return 0; }
    while (p < e) {
        switch (c->ch) {
        case CH_SIZE: {
            char x = *p++;
            if (x >= '0' && x <= '9') c->chunk_left = c->chunk_left * 16 + (uint32_t)(x - '0');
            else if ((x | 32) >= 'a' && (x | 32) <= 'f') c->chunk_left = c->chunk_left * 16 + (uint32_t)((x | 32) - 'a' + 10);
            else if (x == '\n') c->ch = c->chunk_left ? CH_DATA : CH_END;
            else if (x != '\r') c->ch = CH_EXT;
            break;
        }
        case CH_EXT: {
            const char *nl = memchr(p, '\n', (size_t)(e - p));
            if (!nl) return 0;
            p = nl + 1;
            c->ch = c->chunk_left ? CH_DATA : CH_END;
            break;
        }
        case CH_DATA: {
            size_t k = (size_t)(e - p);
            if (k > c->chunk_left) k = c->chunk_left;
            feed_sse(c, p, k);
            p += k;
            c->chunk_left -= (uint32_t)k;
            if (!c->chunk_left) c->ch = CH_CRLF;
            break;
        }
        case CH_CRLF:
            if (*p++ == '\n') { c->ch = CH_SIZE; c->chunk_left = 0; }
            break;
        default:
            return 1;
        }
    }
    return c->ch == CH_END;
}

/* ------------------------------ connections ------------------------------- */
static void drop(struct conn *c) {
    if (c->st == ST_CONNECTING || c->st == ST_HEADER) { pending--; failed_n++; }
    else if (c->st == ST_STREAM) closed_n++;
    c->st = ST_DEAD;
    close(c->fd);
    c->fd = -1;
}

static void open_conn(int i) {
    struct conn *c = &conns[i];
    int one = 1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &a.sin_addr) != 1) { fprintf(stderr, "bad address %s\n", host); exit(2); }
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (rcvbuf) setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf);
    if (nsrc) {
        struct sockaddr_in s = {.sin_family = AF_INET};
        s.sin_addr.s_addr = htonl(0x7f000001u + (uint32_t)(i % nsrc));
#ifdef IP_BIND_ADDRESS_NO_PORT
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
#endif
        if (bind(c->fd, (struct sockaddr *)&s, sizeof s) < 0) die("bind");
    }
    c->slow = i < nslow;
    c->st = ST_CONNECTING;
    pending++;
    if (connect(c->fd, (struct sockaddr *)&a, sizeof a) < 0 && errno != EINPROGRESS) { drop(c); return; }
    struct epoll_event ev = {.events = EPOLLOUT, .data.u32 = (uint32_t)i};
    if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev) < 0) die("epoll_ctl");
}

static void send_request(int i) {
    struct conn *c = &conns[i];
    char req[8192], path[1024];
    const char *p = paths[i % npaths], *d = strstr(p, "%d");
    if (d) snprintf(path, sizeof path, "%.*s%d%s", (int)(d - p), p, i, d + 2);
    else snprintf(path, sizeof path, "%s", p);
    int n = snprintf(req, sizeof req, "GET %s HTTP/1.1\r\nHost: %s:%d\r\nAccept: text/event-stream\r\n", path, host, port);
    for (int h = 0; h < nhdrs; h++) n += snprintf(req + n, sizeof req - (size_t)n, "%s\r\n", hdrs[h]);
    n += snprintf(req + n, sizeof req - (size_t)n, "\r\n");
    if (send(c->fd, req, (size_t)n, MSG_NOSIGNAL) != n) { drop(c); return; }
    c->st = ST_HEADER;
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
}

static void on_header(struct conn *c) {
    char *end = memmem(c->carry, c->clen, "\r\n\r\n", 4);
    if (!end) return;
    int status = 0;
    *end = 0;
    if (sscanf(c->carry, "HTTP/1.%*d %d", &status) != 1 || status != 200) {
        http_errors++;
        if (!first_bad) first_bad = status ? status : -1;
        drop(c);
        return;
    }
    c->ch = strcasestr(c->carry, "\ntransfer-encoding: chunked") ? CH_SIZE : CH_RAW;
    c->chunk_left = 0;
    c->st = ST_STREAM;
    pending--;
    ready_n++;
    size_t hl = (size_t)(end + 4 - c->carry), rest = c->clen - hl;
    char *tmp = NULL;
    if (rest) { tmp = malloc(rest); memcpy(tmp, c->carry + hl, rest); }
    c->clen = 0;
    if (rest && feed_body(c, tmp, rest)) drop(c);
    free(tmp);
    if (c->slow && c->fd >= 0) epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, NULL);
}

static char rbuf[RBUF];
static void on_readable(int i) {
    struct conn *c = &conns[i];
    ssize_t n = recv(c->fd, rbuf, sizeof rbuf, 0);
    if (n <= 0) {
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        drop(c);
        return;
    }
    t_recv = real_ns();
    if (measuring) n_bytes += (uint64_t)n;
    if (c->st == ST_HEADER) {
        carry(c, rbuf, (size_t)n);
        on_header(c);
    } else if (feed_body(c, rbuf, (size_t)n)) {
        drop(c);
    }
}

static void loop_once(int ms) {
    static struct epoll_event evs[1024];
    int n = epoll_wait(ep, evs, 1024, ms);
    for (int k = 0; k < n; k++) {
        int i = (int)evs[k].data.u32;
        struct conn *c = &conns[i];
        if (c->st == ST_CONNECTING) {
            int err = 0;
            socklen_t l = sizeof err;
            getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &l);
            if (err) drop(c);
            else send_request(i);
        } else if (c->st == ST_HEADER || c->st == ST_STREAM) {
            on_readable(i);
        }
    }
}

static void on_sig(int s) { (void)s; stop = 1; }
static double tv(struct timeval t) { return t.tv_sec + t.tv_usec / 1e6; }

static void read_paths(const char *name) {
    FILE *f = fopen(name, "r");
    char *text = NULL;
    size_t cap = 0;
    if (!f) die(name);
    while (npaths < MAXLIST && getline(&text, &cap, f) > 0) {
        text[strcspn(text, "\n")] = 0;
        paths[npaths++] = strdup(text);
    }
    free(text);
    fclose(f);
}

int main(int argc, char **argv) {
    int o;
    while ((o = getopt(argc, argv, "H:p:c:P:F:h:S:k:r:t:w:l:q:m:Cs:b:xDL:")) != -1) switch (o) {
        case 'H': host = optarg; break;
        case 'p': port = atoi(optarg); break;
        case 'c': nconn = atoi(optarg); break;
        case 'P': if (npaths < MAXLIST) paths[npaths++] = optarg; break;
        case 'F': read_paths(optarg); break;
        case 'h': if (nhdrs < MAXLIST) hdrs[nhdrs++] = optarg; break;
        case 'S': nsrc = atoi(optarg); break;
        case 'k': maxpend = atoi(optarg); break;
        case 'r': rate = atof(optarg); break;
        case 't': run_s = atof(optarg); break;
        case 'w': wait_s = atof(optarg); break;
        case 'l': if (nlat < MAXMARKS) lat_marks[nlat++] = mark(optarg); break;
        case 'q': seq_mark = mark(optarg); break;
        case 'm': match_mark = mark(optarg); break;
        case 'C': check_chain = 1; break;
        case 's': nslow = atoi(optarg); break;
        case 'b': rcvbuf = atoi(optarg); break;
        case 'x': exit_all_closed = 1; break;
        case 'D': verbose = 1; break;
        case 'L': label = optarg; break;
        default: fprintf(stderr, "usage: see the head of sseload.c\n"); return 2;
        }
    if (!npaths) paths[npaths++] = "/";
    struct rlimit rl;
    getrlimit(RLIMIT_NOFILE, &rl);
    rl.rlim_cur = rl.rlim_max;
    setrlimit(RLIMIT_NOFILE, &rl);
    if (rl.rlim_cur != RLIM_INFINITY && (rlim_t)nconn + 16 > rl.rlim_cur) {
        fprintf(stderr, "only %lu file descriptors allowed\n", (unsigned long)rl.rlim_cur);
        return 2;
    }
    signal(SIGINT, on_sig);
    signal(SIGTERM, on_sig);
    signal(SIGPIPE, SIG_IGN);
    conns = calloc((size_t)nconn, sizeof *conns);
    ep = epoll_create1(0);
    if (!conns || ep < 0) die("setup");

    double t0 = mono();
    while (!stop && ready_n + failed_n + closed_n < nconn && mono() - t0 < wait_s) {
        while (started < nconn && pending < maxpend && (!rate || started < (mono() - t0) * rate)) open_conn(started++);
        loop_once(rate ? 2 : 20);
    }
    double connect_s = mono() - t0;
    int connected = ready_n;
    for (int i = 0; i < nconn; i++)
        if (conns[i].st == ST_CONNECTING || conns[i].st == ST_HEADER) drop(&conns[i]);
    failed_n += nconn - started;
    closed_n = 0;
    fprintf(stderr, "READY %d\n", connected);
    fflush(stderr);

    struct rusage r0, r1;
    getrusage(RUSAGE_SELF, &r0);
    measuring = 1;
    double m0 = mono(), tick = m0 + 1, now;
    uint64_t prev = 0;
    while (!stop && (now = mono()) - m0 < run_s) {
        double left = m0 + run_s - now;
        loop_once(left < 0.05 ? 1 : 50);
        if (verbose && mono() >= tick) {
            fprintf(stderr, "%.0f s: %lu events/s, %d open\n", tick - m0, (unsigned long)(n_events - prev), ready_n - closed_n);
            prev = n_events;
            tick += 1;
        }
        if (exit_all_closed && closed_n >= connected) break;
    }
    double secs = mono() - m0;
    getrusage(RUSAGE_SELF, &r1);

    uint64_t emin = UINT64_MAX, emax = 0, lmin = UINT64_MAX, lmax = 0;
    int loss = 0, live = 0;
    for (int i = nslow; i < nconn; i++) {
        struct conn *c = &conns[i];
        if (c->st == ST_IDLE || (c->st == ST_DEAD && !c->events)) continue;
        live++;
        if (c->events < emin) emin = c->events;
        if (c->events > emax) emax = c->events;
        if (c->have_seq) {
            if (c->last_seq < lmin) lmin = c->last_seq;
            if (c->last_seq > lmax) lmax = c->last_seq;
        }
        loss += c->loss;
    }
    if (!live) emin = 0;
    if (lmin == UINT64_MAX) lmin = 0;
    printf("{\"label\":\"%s\",\"connected\":%d,\"failed\":%d,\"closed\":%d,\"http_errors\":%d,\"first_bad_status\":%d,"
           "\"connect_s\":%.3f,\"seconds\":%.3f,\"events\":%lu,\"events_per_s\":%.0f,\"bytes\":%lu,\"comments\":%lu,\"matched\":%lu,"
           "\"lat_n\":%lu,\"p50_ms\":%.3f,\"p90_ms\":%.3f,\"p99_ms\":%.3f,\"p999_ms\":%.3f,\"max_ms\":%.3f,"
           "\"ev_min\":%lu,\"ev_max\":%lu,\"ev_mean\":%.1f,\"seq_gaps\":%lu,\"seq_dup\":%lu,\"seq_ooo\":%lu,"
           "\"chain_breaks\":%lu,\"resyncs\":%lu,\"conns_with_loss\":%d,\"last_min\":%lu,\"last_max\":%lu,\"cpu_user_s\":%.3f,\"cpu_sys_s\":%.3f}\n",
           label, connected, failed_n, closed_n, http_errors, first_bad, connect_s, secs, (unsigned long)n_events,
           n_events / secs, (unsigned long)n_bytes, (unsigned long)n_comments, (unsigned long)n_matched,
           (unsigned long)lat_n, pct_ms(.50), pct_ms(.90), pct_ms(.99), pct_ms(.999), lat_n ? lat_max / 1000.0 : -1,
           (unsigned long)emin, (unsigned long)emax, live ? (double)n_events / live : 0.0, (unsigned long)gaps,
           (unsigned long)dups, (unsigned long)ooo, (unsigned long)breaks, (unsigned long)resyncs, loss, (unsigned long)lmin, (unsigned long)lmax,
           tv(r1.ru_utime) - tv(r0.ru_utime), tv(r1.ru_stime) - tv(r0.ru_stime));
    return failed_n ? 1 : 0;
}
