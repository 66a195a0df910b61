/* See merino_edge_client.h, and PROTOCOL.md for what goes over the socket.
 *
 * A line is read into the buffer and its strings are unescaped where they stand: text only becomes
 * shorter. What does not fit into the buffer, which no server of this protocol sends, is dropped. */
#define _POSIX_C_SOURCE 200809L
#include "merino_edge_client.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int fail(mec_client *c, int status, const char *what, int error) {
    snprintf(c->why, sizeof c->why, "%s%s%s", what, error ? ": " : "", error ? strerror(error) : "");
    return status;
}

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Waits for the socket, until a moment (negative: as long as it takes). */
static int wait_for(mec_client *c, short events, int64_t until_ms) {
    for (;;) {
        int64_t left = until_ms < 0 ? -1 : until_ms - now_ms();
        struct pollfd one = {c->fd, events, 0};
        int n = poll(&one, 1, until_ms < 0 ? -1 : left < 0 ? 0 : (int)left);
        if (n > 0) return MEC_OK;
        if (n == 0) return fail(c, MEC_TIMEOUT, "nothing came in time", 0);
        if (errno != EINTR) return fail(c, MEC_CLOSED, "poll", errno);
    }
}

static int64_t deadline(int timeout_ms) { return timeout_ms < 0 ? -1 : now_ms() + timeout_ms; }

/* --- Asking: a line goes out through a small buffer, escaped on its way. --- */

typedef struct {
    mec_client *client;
    int status;
    int64_t until_ms;
    size_t n;
    char bytes[512];
} outgoing;

static void flush(outgoing *o) {
    mec_client *c = o->client;
    for (size_t sent = 0; sent < o->n && o->status == MEC_OK;) {
        ssize_t n = send(c->fd, o->bytes + sent, o->n - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0)
            sent += (size_t)n;
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            o->status = wait_for(c, POLLOUT, o->until_ms);
        else if (errno != EINTR)
            o->status = fail(c, MEC_CLOSED, "the server is gone", errno);
    }
    o->n = 0;
}

static void put(outgoing *o, const char *bytes, size_t n) {
    while (n && o->status == MEC_OK) {
        size_t fits = sizeof o->bytes - o->n < n ? sizeof o->bytes - o->n : n;
        memcpy(o->bytes + o->n, bytes, fits);
        o->n += fits;
        bytes += fits;
        n -= fits;
        if (o->n == sizeof o->bytes) flush(o);
    }
}

static void put_raw(outgoing *o, const char *text) { put(o, text, strlen(text)); }

static void put_text(outgoing *o, const char *text) {
    char escaped[8];
    put_raw(o, "\"");
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte >= 0x20 && byte != '"' && byte != '\\') {
            put(o, text, 1);
            continue;
        }
        snprintf(escaped, sizeof escaped, "\\u%04x", byte);
        put_raw(o, escaped);
    }
    put_raw(o, "\"");
}

static void put_whole(outgoing *o, const char *before, int64_t value) {
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, value);
    put_raw(o, before);
    put_raw(o, text);
}

/* As millionths, since printf writes a comma in some places of the world. */
static void put_real(outgoing *o, const char *before, double value) {
    char text[48];
    if (!(value < 1e12)) value = 1e12; /* NaN, too: the server says that it is out of range */
    uint64_t millionths = (uint64_t)(value * 1e6 + 0.5);
    snprintf(text, sizeof text, "%" PRIu64 ".%06" PRIu64, millionths / 1000000,
             millionths % 1000000);
    put_raw(o, before);
    put_raw(o, text);
}

static void put_options(outgoing *o, const mec_options *options) {
    if (!options) return;
    if (options->max_new_tokens >= 0) put_whole(o, ",\"max_new_tokens\":", options->max_new_tokens);
    if (options->top_k >= 0) put_whole(o, ",\"top_k\":", options->top_k);
    if (options->seed >= 0) put_whole(o, ",\"seed\":", options->seed);
    if (options->temperature >= 0) put_real(o, ",\"temperature\":", options->temperature);
    if (options->top_p >= 0) put_real(o, ",\"top_p\":", options->top_p);
    if (options->repetition_penalty >= 0)
        put_real(o, ",\"repetition_penalty\":", options->repetition_penalty);
    if (options->limit_ms >= 0) put_real(o, ",\"limit_ms\":", options->limit_ms);
    if (options->stop) {
        put_raw(o, ",\"stop\":");
        put_text(o, options->stop);
    }
}

static int begin(outgoing *o, mec_client *c, const char *op, int64_t id) {
    memset(o, 0, sizeof *o);
    o->client = c;
    if (!c || id < 0) return MEC_ERROR_ARGUMENT;
    if (c->fd < 0) return fail(c, MEC_CLOSED, "not connected", 0);
    o->until_ms = deadline(c->send_timeout_ms);
    put_raw(o, "{\"op\":\"");
    put_raw(o, op);
    put_whole(o, "\",\"id\":", id);
    return MEC_OK;
}

/* A line of which only a part went out would spoil the next one: then the client is closed. */
static int finish(outgoing *o) {
    put_raw(o, "\n");
    flush(o);
    if (o->status != MEC_OK) {
        mec_close(o->client);
        o->status = MEC_CLOSED;
    }
    return o->status;
}

int mec_generate(mec_client *c, int64_t id, const char *prompt, const mec_options *options) {
    outgoing o;
    int status = prompt ? begin(&o, c, "generate", id) : MEC_ERROR_ARGUMENT;
    if (status != MEC_OK) return status;
    put_raw(&o, ",\"prompt\":");
    put_text(&o, prompt);
    put_options(&o, options);
    put_raw(&o, "}");
    return finish(&o);
}

int mec_generate_ids(mec_client *c, int64_t id, const int32_t *ids, size_t n,
                     const mec_options *options) {
    outgoing o;
    int status = ids || !n ? begin(&o, c, "generate", id) : MEC_ERROR_ARGUMENT;
    if (status != MEC_OK) return status;
    put_raw(&o, ",\"ids\":[");
    for (size_t i = 0; i < n; i++) put_whole(&o, i ? "," : "", ids[i]);
    put_raw(&o, "]");
    put_options(&o, options);
    put_raw(&o, "}");
    return finish(&o);
}

int mec_chat(mec_client *c, int64_t id, const char *system, const char *user,
             const mec_options *options) {
    outgoing o;
    int status = user ? begin(&o, c, "chat", id) : MEC_ERROR_ARGUMENT;
    if (status != MEC_OK) return status;
    put_raw(&o, ",\"messages\":[");
    if (system) {
        put_raw(&o, "{\"role\":\"system\",\"content\":");
        put_text(&o, system);
        put_raw(&o, "},");
    }
    put_raw(&o, "{\"role\":\"user\",\"content\":");
    put_text(&o, user);
    put_raw(&o, "}]");
    put_options(&o, options);
    put_raw(&o, "}");
    return finish(&o);
}

int mec_cancel(mec_client *c, int64_t id) {
    outgoing o;
    int status = begin(&o, c, "cancel", id);
    if (status != MEC_OK) return status;
    put_raw(&o, "}");
    return finish(&o);
}

int mec_send_line(mec_client *c, const char *line) {
    outgoing o;
    if (!c || !line || strchr(line, '\n')) return MEC_ERROR_ARGUMENT;
    if (c->fd < 0) return fail(c, MEC_CLOSED, "not connected", 0);
    memset(&o, 0, sizeof o);
    o.client = c;
    o.until_ms = deadline(c->send_timeout_ms);
    put_raw(&o, line);
    return finish(&o);
}

/* --- Reading JSON: an object's fields one after the other, whatever they hold. --- */

static char *skip_space(char *p) {
    while (*p == ' ' || *p == '\t' || *p == '\r') p++;
    return p;
}

static int hex4(const char *p, unsigned *value) {
    *value = 0;
    for (int i = 0; i < 4; i++) {
        int c = p[i], digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
        if (digit < 0 || digit > 15) return 0;
        *value = *value * 16 + (unsigned)digit;
    }
    return 1;
}

static char *write_utf8(char *to, unsigned c) {
    int n = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const unsigned char FIRST[] = {0, 0xc0, 0xe0, 0xf0};
    *to++ = (char)(FIRST[n] | (c >> (6 * n)));
    while (n--) *to++ = (char)(0x80 | ((c >> (6 * n)) & 0x3f));
    return to;
}

/* \uXXXX behind p, also as a pair; where it goes on, or NULL. */
static char *unescape_unicode(char *p, char **to) {
    unsigned c, low;
    if (!hex4(p, &c)) return NULL;
    p += 4;
    if (c >= 0xd800 && c < 0xdc00 && p[0] == '\\' && p[1] == 'u' && hex4(p + 2, &low) &&
        low >= 0xdc00 && low < 0xe000) {
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        p += 6;
    }
    *to = write_utf8(*to, c >= 0xd800 && c < 0xe000 ? 0xfffd : c);
    return p;
}

/* A string, whose quote is at p: unescaped in place, ended with a zero; behind it, or NULL. */
static char *read_string(char *p, char **text, size_t *n) {
    static const char ESCAPES[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
    char *to = ++p;
    *text = p;
    while (*p != '"') {
        if (!*p) return NULL;
        if (*p != '\\') {
            *to++ = *p++;
            continue;
        }
        p++;
        if (*p == 'u') {
            p = unescape_unicode(p + 1, &to);
            if (!p) return NULL;
            continue;
        }
        size_t i = 0;
        while (i < sizeof ESCAPES - 1 && ESCAPES[i] != *p) i += 2;
        if (i >= sizeof ESCAPES - 1) return NULL;
        *to++ = ESCAPES[i + 1];
        p++;
    }
    *n = (size_t)(to - *text);
    *to = 0;
    return p + 1;
}

/* Passes a number, a word, an array or an object; behind it, or NULL. */
static char *skip_value(char *p) {
    int depth = 0, in_string = 0;
    for (; *p; p++) {
        if (in_string) {
            if (*p == '\\' && p[1])
                p++;
            else if (*p == '"')
                in_string = 0;
        } else if (*p == '"') {
            in_string = 1;
        } else if (*p == '[' || *p == '{') {
            depth++;
        } else if (depth == 0 && (*p == ',' || *p == '}' || *p == ']')) {
            return p;
        } else if (*p == ']' || *p == '}') {
            depth--;
        }
    }
    return NULL;
}

/* A number as JSON writes it, whatever the locale thinks of decimal points. */
static double read_real(const char *p) {
    double value = 0, place = 1;
    int negative = *p == '-';
    for (p += negative; *p >= '0' && *p <= '9'; p++) value = value * 10 + (*p - '0');
    if (*p == '.')
        for (p++; *p >= '0' && *p <= '9'; p++) value += (*p - '0') * (place /= 10);
    if (*p == 'e' || *p == 'E') {
        int exponent = atoi(p + 1);
        for (; exponent > 0 && value > 0 && value < 1e300; exponent--) value *= 10;
        for (; exponent < 0 && value > 0; exponent++) value /= 10;
    }
    return negative ? -value : value;
}

static mec_kind kind_of(const char *name) {
    static const char *const NAMES[] = {"hello", "accepted", "token", "done", "error",
                                        "pong",  "reset",    "stats"};
    for (int i = 0; i < 8; i++)
        if (!strcmp(NAMES[i], name)) return (mec_kind)(MEC_HELLO + i);
    return MEC_OTHER;
}

static void take_string(mec_event *e, const char *name, const char *value, size_t n,
                        const char **protocol) {
    if (!strcmp(name, "event")) e->kind = kind_of(value);
    if (!strcmp(name, "text")) e->text = value, e->text_bytes = n;
    if (!strcmp(name, "finish_reason")) e->finish_reason = value;
    if (!strcmp(name, "code")) e->code = value;
    if (!strcmp(name, "message")) e->message = value;
    if (!strcmp(name, "protocol")) *protocol = value;
}

static void take_other(mec_event *e, const char *name, const char *value) {
    if (!strcmp(name, "ids") && value[0] == '[' && value[1] != ']')
        e->token_id = (int32_t)strtol(value + 1, NULL, 10);
    if (*value != '-' && (*value < '0' || *value > '9')) return; /* null, true, a list */
    if (!strcmp(name, "id")) e->id = strtoll(value, NULL, 10);
    if (!strcmp(name, "n_prompt")) e->n_prompt = strtoll(value, NULL, 10);
    if (!strcmp(name, "n_generated")) e->n_generated = strtoll(value, NULL, 10);
    if (!strcmp(name, "context_len")) e->context_len = strtoll(value, NULL, 10);
    if (!strcmp(name, "ttft_ms")) e->ttft_ms = read_real(value);
    if (!strcmp(name, "decode_ms")) e->decode_ms = read_real(value);
}

/* One line, which ends with a zero; 0 if it is no object. */
static int parse(char *p, mec_event *e, const char **protocol) {
    static const mec_event NOTHING = {MEC_OTHER, -1, "", 0, -1, "", "", "", -1, -1, -1, -1.0, -1.0};
    char *name, *value;
    size_t n;
    *e = NOTHING;
    *protocol = "";
    if (*(p = skip_space(p)) != '{') return 0;
    for (p = skip_space(p + 1); *p != '}'; p = skip_space(p)) {
        if (*p != '"' || !(p = read_string(p, &name, &n))) return 0;
        p = skip_space(p);
        if (*p != ':') return 0;
        p = skip_space(p + 1);
        if (*p == '"') {
            if (!(p = read_string(p, &value, &n))) return 0;
            take_string(e, name, value, n, protocol);
        } else {
            value = p;
            if (!(p = skip_value(p))) return 0;
            take_other(e, name, value);
        }
        p = skip_space(p);
        if (*p == ',')
            p++;
        else if (*p != '}')
            return 0;
    }
    return 1;
}

/* --- Lines. --- */

/* The end of the first line in the buffer; NULL while it is not there. */
static char *line_end(mec_client *c) {
    if (c->n_taken) { /* what was given out is over now */
        c->n_held -= c->n_taken;
        memmove(c->held, c->held + c->n_taken, c->n_held);
        c->n_taken = 0;
    }
    char *end = memchr(c->held, '\n', c->n_held);
    if (!end && c->n_held == MEC_MAX_EVENT_BYTES) {
        c->n_held = 0;
        c->is_dropping = 1;
    }
    return end;
}

static int receive(mec_client *c) {
    ssize_t n = recv(c->fd, c->held + c->n_held, MEC_MAX_EVENT_BYTES - c->n_held, MSG_DONTWAIT);
    if (n > 0)
        c->n_held += (size_t)n;
    else if (n == 0)
        return fail(c, MEC_CLOSED, "the server has closed the connection", 0);
    else if (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK)
        return fail(c, MEC_CLOSED, "the server is gone", errno);
    return MEC_OK;
}

static int next_line(mec_client *c, char **line, int64_t until_ms) {
    for (;;) {
        char *end = line_end(c);
        if (end) {
            c->n_taken = (size_t)(end - c->held) + 1;
            *end = 0;
            *line = c->held;
            if (!c->is_dropping) return MEC_OK;
            c->is_dropping = 0;
            continue;
        }
        int status = wait_for(c, POLLIN, until_ms);
        if (status == MEC_OK) status = receive(c);
        if (status != MEC_OK) return status;
    }
}

static int next_event(mec_client *c, mec_event *e, int64_t until_ms, const char **protocol) {
    char *line;
    int status = next_line(c, &line, until_ms);
    if (status != MEC_OK) return status;
    if (parse(line, e, protocol)) return MEC_OK;
    return fail(c, MEC_ERROR_PROTOCOL, "the server sent something that is no event", 0);
}

int mec_next(mec_client *c, mec_event *event, int timeout_ms) {
    const char *protocol;
    if (!c || !event) return MEC_ERROR_ARGUMENT;
    if (c->fd < 0) return fail(c, MEC_CLOSED, "not connected", 0);
    return next_event(c, event, deadline(timeout_ms), &protocol);
}

int mec_is_last(const mec_event *e) {
    return e->kind == MEC_DONE || (e->kind == MEC_ERROR && e->id >= 0);
}

int mec_fd(const mec_client *c) { return c->fd; }

/* --- Connecting. --- */

static int greet(mec_client *c, int timeout_ms) {
    mec_event event;
    const char *protocol;
    int status = next_event(c, &event, deadline(timeout_ms), &protocol);
    if (status != MEC_OK) return status;
    if (event.kind == MEC_ERROR) return fail(c, MEC_CLOSED, event.message, 0);
    if (event.kind != MEC_HELLO || strcmp(protocol, MEC_PROTOCOL))
        return fail(c, MEC_ERROR_PROTOCOL, "the server does not speak " MEC_PROTOCOL, 0);
    c->context_len = event.context_len;
    return MEC_OK;
}

int mec_open(mec_client *c, const char *path, int timeout_ms) {
    struct sockaddr_un address;
    if (!c) return MEC_ERROR_ARGUMENT;
    memset(c, 0, sizeof *c);
    c->fd = -1;
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    if (!path || strlen(path) >= sizeof address.sun_path)
        return fail(c, MEC_ERROR_ARGUMENT, "no path, or one that is too long for a socket", 0);
    memcpy(address.sun_path, path, strlen(path));
    c->send_timeout_ms = timeout_ms;
    c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (c->fd < 0) return fail(c, MEC_CLOSED, "socket", errno);
    fcntl(c->fd, F_SETFD, FD_CLOEXEC);
    int status = MEC_OK;
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address))
        status = fail(c, MEC_CLOSED, path, errno);
    if (status == MEC_OK) status = greet(c, timeout_ms);
    if (status != MEC_OK) mec_close(c);
    return status;
}

void mec_close(mec_client *c) {
    if (!c || c->fd < 0) return;
    close(c->fd);
    c->fd = -1;
}
