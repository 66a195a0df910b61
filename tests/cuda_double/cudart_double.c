/* A libcudart whose device memory is host memory, and which forgives nothing.
 *
 * It stands for NVIDIA's libcudart (and the two calls of libcuda that the package uses) on a machine
 * without a GPU. Every pointer must lie inside a live allocation of its kind with enough bytes left,
 * every stream, event and graph must be alive and belong to the thread's context, and work is done
 * late: copies, memsets, events and graphs wait until the stream is synchronised (or a launch needs
 * them), so that a forgotten synchronisation shows as stale numbers. Memory nobody wrote is 0xFF: a
 * NaN in float16 and float32. Addresses and handles are above 4 GiB and never used twice, so one
 * that was cut to 32 bits, or that is stale, is noticed. Mapped host memory has two addresses, one
 * for each side: the host's one is refused where only the device would look.
 *
 * It is stricter than the original where the original's freedom is of no use to us: no pageable
 * memory in asynchronous copies, no default stream, no allocation or synchronisation of any kind while
 * a stream is being captured.
 *
 * It does not prove: any speed, kernels, caches and their coherence on a real board, true
 * concurrency (streams here run one after the other), peer devices, or what the driver does after a
 * sticky error.
 *
 * Build: cc -std=c99 -Wall -Wextra -Werror -shared -fPIC -pthread
 *   -DDOUBLE_CUDART_VERSION=10020   as cudaRuntimeGetVersion says it; decides which graph calls exist
 *   -DDOUBLE_WITHOUT_DRIVER         leaves the cuCtx calls out
 */
#define _DEFAULT_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef DOUBLE_CUDART_VERSION
#define DOUBLE_CUDART_VERSION 10020
#endif

enum {
    OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_PITCH = 12, INVALID_DIRECTION = 21,
    NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_CONTEXT = 201, INVALID_HANDLE = 400,
    NOT_READY = 600, LAUNCH_FAILURE = 719, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901,
    CAPTURE_UNMATCHED = 903, CAPTURE_IMPLICIT = 906
};

static const struct { int code; const char *name, *text; } ERRORS[] = {
    {OK, "cudaSuccess", "no error"},
    {INVALID_VALUE, "cudaErrorInvalidValue", "invalid argument"},
    {OUT_OF_MEMORY, "cudaErrorMemoryAllocation", "out of memory"},
    {INVALID_PITCH, "cudaErrorInvalidPitchValue", "invalid pitch argument"},
    {INVALID_DIRECTION, "cudaErrorInvalidMemcpyDirection", "invalid copy direction"},
    {35, "cudaErrorInsufficientDriver", "the driver is older than the runtime"},
    {NO_DEVICE, "cudaErrorNoDevice", "no device was found"},
    {INVALID_DEVICE, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {INVALID_CONTEXT, "cudaErrorDeviceUninitialized", "invalid device context"},
    {INVALID_HANDLE, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {NOT_READY, "cudaErrorNotReady", "device not ready"},
    {LAUNCH_FAILURE, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {CAPTURE_UNSUPPORTED, "cudaErrorStreamCaptureUnsupported", "not permitted while capturing"},
    {CAPTURE_INVALIDATED, "cudaErrorStreamCaptureInvalidated", "the capture was invalidated"},
    {CAPTURE_UNMATCHED, "cudaErrorStreamCaptureUnmatched", "the capture was not begun here"},
    {CAPTURE_IMPLICIT, "cudaErrorStreamCaptureImplicit", "would depend on an uncaptured stream"},
};

enum Kind { DEVICE, HOST, STREAM, EVENT, GRAPH, EXEC, CONTEXT };

/* The order of double_counters(); tests/cuda_double/__init__.py gives them the same names. */
enum Counter {
    DEVICE_ALIVE, HOST_ALIVE, STREAMS_ALIVE, EVENTS_ALIVE, GRAPHS_ALIVE, BYTES_ALIVE,
    ALLOCATIONS, COPIES, COPIED_BYTES, COPIES_2D, COPIED_2D_BYTES, LARGEST_COPY, BYTES_TO_HOST,
    BYTES_TO_DEVICE, MEMSETS, SYNCHRONISATIONS, LAUNCHES, GRAPH_LAUNCHES, CAPTURES, OVERRUNS,
    N_COUNTERS
};
enum { FIRST_RESET = ALLOCATIONS };

typedef int (*Kernel)(void *);

typedef struct Op {
    enum { COPY, COPY_2D, MEMSET, KERNEL, RECORD, LAUNCH } what;
    char *dst;
    const char *src;
    size_t dst_pitch, src_pitch, width, height;
    int value;
    Kernel kernel;
    void *arg; /* of a kernel; else the event or the executable graph */
    struct Op *next;
} Op;

typedef struct Thing {
    enum Kind kind;
    char *address; /* the handle, or where memory begins for the device */
    char *host;    /* of mapped host memory */
    size_t size, mapped;
    struct Thing *context; /* that it belongs to */
    Op *ops;               /* waiting in a stream, captured by it, or held by a graph */
    int capturing, broken; /* a stream */
    struct Thing *stream;  /* that an event was recorded in */
    int recorded;          /* an event: 0 never, 1 waiting, 2 done */
    double time_ms;
    struct Thing *next;
} Thing;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Thing *things;
static Thing *primary;
static __thread Thing *current; /* this thread's context */
static __thread int last_error;
static uint64_t counters[N_COUNTERS];
#define DEFAULT_CAP ((uint64_t)4 << 30) /* a Jetson Nano has 4 GB */
static uint64_t cap_bytes = DEFAULT_CAP;
static struct { char function[64]; int code, nth; } planned;

/* ---- things: memory and handles ----------------------------------------------------------- */

enum { ALIGN = 512, GUARD = 512, GUARD_BYTE = 0xA5, PAGE = 65536 };

static size_t rounded(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

/* mmap, not malloc: its addresses do not fit in 32 bits, whatever the program's heap does. */
static char *fresh_pages(size_t n, int fd) {
    int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    void *pages = mmap(NULL, n, PROT_READ | PROT_WRITE, flags, fd, 0);
    return pages == MAP_FAILED ? NULL : pages;
}

/* The range stays reserved and unreadable, so that no later allocation gets a stale address. */
static void retire_pages(char *address, size_t n) {
    mmap(address, n, PROT_NONE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static Thing *new_thing(enum Kind kind, char *address) {
    Thing *thing = calloc(1, sizeof *thing);
    thing->kind = kind;
    thing->address = address;
    thing->context = current;
    thing->next = things;
    things = thing;
    return thing;
}

static Thing *new_handle(enum Kind kind) {
    Thing *thing = new_thing(kind, fresh_pages(1, -1));
    thing->mapped = 1;
    return thing;
}

static void drop_ops(Thing *thing) {
    while (thing->ops) {
        Op *next = thing->ops->next;
        free(thing->ops);
        thing->ops = next;
    }
}

static void forget(Thing *thing) {
    Thing **link = &things;
    while (*link != thing) link = &(*link)->next;
    *link = thing->next;
    drop_ops(thing);
    retire_pages(thing->address, thing->mapped);
    if (thing->host) retire_pages(thing->host, thing->mapped);
    free(thing);
}

static Thing *find(enum Kind kind, const void *address) {
    Thing *thing = things;
    while (thing && !(thing->kind == kind && thing->address == address)) thing = thing->next;
    return thing;
}

/* A handle of this kind, alive, and of the thread's context. */
static Thing *find_mine(enum Kind kind, const void *address) {
    Thing *thing = find(kind, address);
    return thing && thing->context == current ? thing : NULL;
}

/* The allocation around an address. side: 0 as the device sees it, 1 as the host sees it. */
static Thing *around(const char *address, int side, size_t *left) {
    for (Thing *t = things; t; t = t->next) {
        const char *begin = side ? t->host : t->address;
        if (t->kind > HOST || !begin || address < begin || address >= begin + t->size) continue;
        *left = (size_t)(begin + t->size - address);
        return t;
    }
    *left = 0;
    return NULL;
}

static uint64_t bytes_alive(void) {
    uint64_t sum = 0;
    for (Thing *t = things; t; t = t->next) sum += t->kind <= HOST ? t->size : 0;
    return sum;
}

static uint64_t alive(enum Kind kind) {
    uint64_t n = 0;
    for (Thing *t = things; t; t = t->next) n += t->kind == kind;
    return n;
}

/* ---- entering and leaving a call ---------------------------------------------------------- */

static int leave(int code) {
    pthread_mutex_unlock(&lock);
    if (code) last_error = code;
    return code;
}

static Thing *primary_context(void) {
    if (!primary) primary = new_handle(CONTEXT);
    return primary;
}

/* Locks; says whether this call was told to fail. */
static int enter(const char *function) {
    pthread_mutex_lock(&lock);
    if (planned.nth == 0 || strcmp(planned.function, function)) return OK;
    return --planned.nth == 0 ? planned.code : OK;
}

/* The same for a call that works on the device: a thread without a context gets the primary one. */
static int enter_device(const char *function) {
    int code = enter(function);
    if (!current) current = primary_context();
    return code;
}

#define BEGIN(enter_as)                         \
    do {                                        \
        int planned_code = enter_as(__func__);  \
        if (planned_code) return leave(planned_code); \
    } while (0)

/* What the driver forbids while a stream of this context is captured; it spoils the capture too. */
static int refuse_while_capturing(void) {
    int found = 0;
    for (Thing *t = things; t; t = t->next)
        if (t->kind == STREAM && t->capturing && t->context == current) found = t->broken = 1;
    return found ? CAPTURE_UNSUPPORTED : OK;
}

/* ---- doing the work ----------------------------------------------------------------------- */

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

/* A pointer of a copy: memory of this context from either side, with enough bytes behind it. */
static int reaches(const char *address, size_t n, int *on_host) {
    size_t left;
    Thing *t = around(address, 0, &left);
    *on_host = 0;
    if (!t && (t = around(address, 1, &left))) *on_host = 1;
    return t && t->context == current && n <= left;
}

static int on_device(const char *address, size_t n) {
    int on_host;
    return reaches(address, n, &on_host) && !on_host;
}

static size_t span(size_t pitch, const Op *op) { return pitch * (op->height - 1) + op->width; }

/* What an operation touches is checked when it is given, and again when it is done. */
static int check(const Op *op) {
    int dst_on_host, src_on_host;
    if (op->what == COPY)
        return reaches(op->dst, op->width, &dst_on_host) && reaches(op->src, op->width, &src_on_host);
    if (op->what == COPY_2D)
        return on_device(op->dst, span(op->dst_pitch, op)) &&
               on_device(op->src, span(op->src_pitch, op));
    if (op->what == MEMSET) return on_device(op->dst, op->width);
    if (op->what == RECORD) return find_mine(EVENT, op->arg) != NULL;
    if (op->what == LAUNCH) return find_mine(EXEC, op->arg) != NULL;
    return 1;
}

static void count_copy(const Op *op) {
    int dst_on_host, src_on_host;
    size_t n = op->width * op->height;
    reaches(op->dst, 1, &dst_on_host);
    reaches(op->src, 1, &src_on_host);
    counters[op->what == COPY ? COPIES : COPIES_2D] += 1;
    counters[op->what == COPY ? COPIED_BYTES : COPIED_2D_BYTES] += n;
    if (dst_on_host && !src_on_host) counters[BYTES_TO_HOST] += n;
    if (src_on_host && !dst_on_host) counters[BYTES_TO_DEVICE] += n;
    if (n > counters[LARGEST_COPY]) counters[LARGEST_COPY] = n;
}

/* The kernel may come back and ask for ranges, so it runs without the lock. */
static int run_kernel(Kernel kernel, void *arg) {
    counters[LAUNCHES] += 1;
    pthread_mutex_unlock(&lock);
    int failed = kernel(arg);
    pthread_mutex_lock(&lock);
    return failed ? LAUNCH_FAILURE : OK;
}

static int run_all(const Op *ops);

static int run(const Op *op) {
    if (!check(op)) return INVALID_VALUE;
    if (op->what == KERNEL) return run_kernel(op->kernel, op->arg);
    if (op->what == LAUNCH) return run_all(find(EXEC, op->arg)->ops);
    if (op->what == RECORD) {
        Thing *event = find(EVENT, op->arg);
        event->recorded = 2;
        event->time_ms = now_ms();
    } else if (op->what == MEMSET) {
        counters[MEMSETS] += 1;
        memset(op->dst, op->value, op->width);
    } else {
        count_copy(op);
        for (size_t row = 0; row < op->height; row++)
            memmove(op->dst + row * op->dst_pitch, op->src + row * op->src_pitch, op->width);
    }
    return OK;
}

static int run_all(const Op *ops) {
    int code = OK;
    for (; ops && !code; ops = ops->next) code = run(ops);
    return code;
}

/* Does what waits in a stream. Taken off first: a kernel may call back into this library. */
static int drain(Thing *stream) {
    int code = OK;
    while (!stream->capturing && stream->ops && !code) {
        Op *op = stream->ops;
        stream->ops = op->next;
        code = run(op);
        free(op);
    }
    return code;
}

static Thing *waiting_stream(void) {
    Thing *t = things;
    while (t && !(t->kind == STREAM && t->context == current && t->ops && !t->capturing)) t = t->next;
    return t;
}

static int drain_all(void) {
    int code = OK;
    for (Thing *t; !code && (t = waiting_stream());) code = drain(t);
    return code;
}

static void append(Thing *stream, Op op) {
    Op **link = &stream->ops;
    while (*link) link = &(*link)->next;
    *link = malloc(sizeof op);
    op.next = NULL;
    **link = op;
}

static int submit(void *stream_handle, Op op) {
    Thing *stream = find_mine(STREAM, stream_handle);
    if (!stream) return INVALID_HANDLE;
    if (!check(&op)) return INVALID_VALUE;
    append(stream, op);
    return OK;
}

/* ---- the device --------------------------------------------------------------------------- */

int cudaRuntimeGetVersion(int *version) {
    *version = DOUBLE_CUDART_VERSION;
    return OK;
}

int cudaGetDeviceCount(int *count) {
    BEGIN(enter);
    *count = 1;
    return leave(OK);
}

int cudaSetDevice(int device) {
    BEGIN(enter);
    if (device != 0) return leave(INVALID_DEVICE);
    current = primary_context();
    return leave(OK);
}

int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    BEGIN(enter);
    if (device != 0) return leave(INVALID_DEVICE);
    if (attribute == 75) *value = 5;
    else if (attribute == 76) *value = 3;
    else if (attribute == 18) *value = 1;
    else return leave(INVALID_VALUE);
    return leave(OK);
}

/* The structure has another size in each version; this is the one of 12, filled to its end. */
int cudaGetDeviceProperties(void *properties, int device) {
    BEGIN(enter);
    if (device != 0) return leave(INVALID_DEVICE);
    memset(properties, 0xEE, 1032);
    strcpy(properties, "a double of a Tegra X1");
    return leave(OK);
}

int cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
    BEGIN(enter_device);
    uint64_t used = bytes_alive();
    *total_bytes = cap_bytes;
    *free_bytes = used < cap_bytes ? cap_bytes - used : 0;
    return leave(OK);
}

int cudaGetLastError(void) {
    int code = last_error;
    last_error = OK;
    return code;
}

const char *cudaGetErrorName(int code) {
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
        if (ERRORS[i].code == code) return ERRORS[i].name;
    return "unrecognized error code";
}

const char *cudaGetErrorString(int code) {
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
        if (ERRORS[i].code == code) return ERRORS[i].text;
    return "unrecognized error code";
}

/* ---- memory ------------------------------------------------------------------------------- */

/* Pages for n bytes and a guard behind them; host memory is one file mapped at two addresses. */
static int allocate(enum Kind kind, size_t n, Thing **made) {
    size_t mapped = rounded(n + GUARD, PAGE);
    FILE *file = NULL;
    if (n == 0) return INVALID_VALUE;
    if (bytes_alive() + n > cap_bytes) return OUT_OF_MEMORY;
    if (kind == HOST) {
        file = tmpfile();
        if (!file || ftruncate(fileno(file), (off_t)mapped)) return OUT_OF_MEMORY;
    }
    Thing *thing = new_thing(kind, fresh_pages(mapped, file ? fileno(file) : -1));
    if (file) {
        thing->host = fresh_pages(mapped, fileno(file));
        fclose(file);
    }
    thing->size = n;
    thing->mapped = mapped;
    memset(thing->address, 0xFF, n);
    memset(thing->address + n, GUARD_BYTE, GUARD);
    counters[ALLOCATIONS] += 1;
    *made = thing;
    return OK;
}

static int release(Thing *thing) {
    int code = drain_all(); /* freeing waits for the device, as the original does */
    for (size_t i = 0; i < GUARD; i++)
        if ((unsigned char)thing->address[thing->size + i] != GUARD_BYTE) {
            counters[OVERRUNS] += 1;
            break;
        }
    forget(thing);
    return code;
}

int cudaMalloc(void **address, size_t n) {
    BEGIN(enter_device);
    Thing *thing;
    int code = refuse_while_capturing();
    if (!code) code = allocate(DEVICE, n, &thing);
    if (!code) *address = thing->address;
    return leave(code);
}

int cudaFree(void *address) {
    BEGIN(enter_device);
    if (!address) return leave(OK);
    int code = refuse_while_capturing();
    Thing *thing = find_mine(DEVICE, address);
    if (!code && !thing) code = INVALID_VALUE;
    return leave(code ? code : release(thing));
}

int cudaHostAlloc(void **address, size_t n, unsigned flags) {
    BEGIN(enter_device);
    Thing *thing;
    int code = refuse_while_capturing();
    if (!code && flags != 2) code = INVALID_VALUE; /* mapped is all that the package asks for */
    if (!code) code = allocate(HOST, n, &thing);
    if (!code) *address = thing->host;
    return leave(code);
}

static Thing *find_host(const char *host) {
    size_t left;
    Thing *thing = around(host, 1, &left);
    return thing && thing->host == host && thing->context == current ? thing : NULL;
}

int cudaHostGetDevicePointer(void **device, void *host, unsigned flags) {
    BEGIN(enter_device);
    Thing *thing = find_host(host);
    if (!thing || flags) return leave(INVALID_VALUE);
    *device = thing->address;
    return leave(OK);
}

int cudaFreeHost(void *host) {
    BEGIN(enter_device);
    int code = refuse_while_capturing();
    Thing *thing = find_host(host);
    if (!code && !thing) code = INVALID_VALUE;
    return leave(code ? code : release(thing));
}

int cudaMemsetAsync(void *address, int value, size_t n, void *stream) {
    BEGIN(enter_device);
    Op op = {.what = MEMSET, .dst = address, .value = value, .width = n, .height = 1};
    return leave(submit(stream, op));
}

int cudaMemcpyAsync(void *dst, const void *src, size_t n, int kind, void *stream) {
    BEGIN(enter_device);
    Op op = {.what = COPY, .dst = dst, .src = src, .width = n, .height = 1};
    if (kind != 4) return leave(INVALID_DIRECTION); /* cudaMemcpyDefault: the sides are known */
    return leave(submit(stream, op));
}

int cudaMemcpy2DAsync(void *dst, size_t dst_pitch, const void *src, size_t src_pitch, size_t width,
                      size_t height, int kind, void *stream) {
    BEGIN(enter_device);
    Op op = {.what = COPY_2D, .dst = dst, .src = src, .dst_pitch = dst_pitch,
             .src_pitch = src_pitch, .width = width, .height = height};
    if (kind != 3 && kind != 4) return leave(INVALID_DIRECTION);
    if (width > dst_pitch || width > src_pitch) return leave(INVALID_PITCH);
    if (width == 0 || height == 0) return leave(INVALID_VALUE);
    return leave(submit(stream, op));
}

/* ---- streams and events ------------------------------------------------------------------- */

static int new_of(enum Kind kind, void **handle) {
    *handle = new_handle(kind)->address;
    return OK;
}

int cudaStreamCreateWithFlags(void **stream, unsigned flags) {
    BEGIN(enter_device);
    return leave(flags > 1 ? INVALID_VALUE : new_of(STREAM, stream));
}

int cudaStreamSynchronize(void *handle) {
    BEGIN(enter_device);
    Thing *stream = find_mine(STREAM, handle);
    if (!stream) return leave(INVALID_HANDLE);
    int code = refuse_while_capturing();
    counters[SYNCHRONISATIONS] += 1;
    return leave(code ? code : drain(stream));
}

int cudaStreamDestroy(void *handle) {
    BEGIN(enter_device);
    Thing *stream = find_mine(STREAM, handle);
    if (!stream) return leave(INVALID_HANDLE);
    int code = drain(stream);
    for (Thing *t = things; t; t = t->next)
        if (t->stream == stream) t->stream = NULL;
    forget(stream);
    return leave(code);
}

int cudaEventCreate(void **event) {
    BEGIN(enter_device);
    return leave(new_of(EVENT, event));
}

int cudaEventRecord(void *handle, void *stream) {
    BEGIN(enter_device);
    Thing *event = find_mine(EVENT, handle);
    if (!event) return leave(INVALID_HANDLE);
    Op op = {.what = RECORD, .arg = handle};
    int code = submit(stream, op);
    if (!code) {
        event->recorded = 1;
        event->stream = find(STREAM, stream);
    }
    return leave(code);
}

int cudaEventSynchronize(void *handle) {
    BEGIN(enter_device);
    Thing *event = find_mine(EVENT, handle);
    if (!event) return leave(INVALID_HANDLE);
    counters[SYNCHRONISATIONS] += 1;
    return leave(event->recorded == 1 && event->stream ? drain(event->stream) : OK);
}

int cudaEventElapsedTime(float *ms, void *start_handle, void *end_handle) {
    BEGIN(enter_device);
    Thing *start = find_mine(EVENT, start_handle), *end = find_mine(EVENT, end_handle);
    if (!start || !end || !start->recorded || !end->recorded) return leave(INVALID_HANDLE);
    if (start->recorded != 2 || end->recorded != 2) return leave(NOT_READY);
    *ms = (float)(end->time_ms - start->time_ms);
    return leave(OK);
}

int cudaEventDestroy(void *handle) {
    BEGIN(enter_device);
    Thing *event = find_mine(EVENT, handle);
    if (!event) return leave(INVALID_HANDLE);
    if (event->recorded == 1 && event->stream) drain(event->stream);
    forget(event);
    return leave(OK);
}

/* ---- graphs ------------------------------------------------------------------------------- */

int cudaStreamBeginCapture(void *handle, int mode) {
    BEGIN(enter_device);
    Thing *stream = find_mine(STREAM, handle);
    if (!stream) return leave(INVALID_HANDLE);
    if (mode < 0 || mode > 2 || stream->capturing) return leave(INVALID_VALUE);
    int code = drain(stream); /* what was given before runs before; it is no part of the graph */
    stream->capturing = !code;
    stream->broken = 0;
    return leave(code);
}

int cudaStreamEndCapture(void *handle, void **graph) {
    BEGIN(enter_device);
    Thing *stream = find_mine(STREAM, handle);
    if (!stream) return leave(INVALID_HANDLE);
    if (!stream->capturing) return leave(CAPTURE_UNMATCHED);
    stream->capturing = 0;
    *graph = NULL;
    if (stream->broken) {
        drop_ops(stream);
        return leave(CAPTURE_INVALIDATED);
    }
    Thing *made = new_handle(GRAPH);
    made->ops = stream->ops;
    stream->ops = NULL;
    counters[CAPTURES] += 1;
    *graph = made->address;
    return leave(OK);
}

static int instantiate(void **exec, void *handle) {
    Thing *graph = find_mine(GRAPH, handle);
    if (!graph) return INVALID_VALUE;
    Thing *made = new_handle(EXEC);
    for (Op *op = graph->ops; op; op = op->next) append(made, *op);
    *exec = made->address;
    return OK;
}

#if DOUBLE_CUDART_VERSION < 12000
int cudaGraphInstantiate(void **exec, void *graph, void **node, char *log, size_t log_bytes) {
    BEGIN(enter_device);
    if (node || log || log_bytes) return leave(INVALID_VALUE);
    return leave(instantiate(exec, graph));
}
#else
int cudaGraphInstantiate(void **exec, void *graph, unsigned long long flags) {
    BEGIN(enter_device);
    return leave(flags ? INVALID_VALUE : instantiate(exec, graph));
}
#endif

#if DOUBLE_CUDART_VERSION >= 11040
int cudaGraphInstantiateWithFlags(void **exec, void *graph, unsigned long long flags) {
    BEGIN(enter_device);
    return leave(flags ? INVALID_VALUE : instantiate(exec, graph));
}
#endif

int cudaGraphLaunch(void *exec, void *stream) {
    BEGIN(enter_device);
    Op op = {.what = LAUNCH, .arg = exec};
    int code = submit(stream, op);
    if (!code) counters[GRAPH_LAUNCHES] += 1;
    return leave(code);
}

int cudaGraphDestroy(void *handle) {
    BEGIN(enter_device);
    Thing *graph = find_mine(GRAPH, handle);
    if (graph) forget(graph);
    return leave(graph ? OK : INVALID_VALUE);
}

int cudaGraphExecDestroy(void *handle) {
    BEGIN(enter_device);
    Thing *exec = find_mine(EXEC, handle);
    if (!exec) return leave(INVALID_VALUE);
    int code = drain_all();
    forget(exec);
    return leave(code);
}

/* ---- contexts, as libcuda has them -------------------------------------------------------- */

#ifndef DOUBLE_WITHOUT_DRIVER
int cuCtxGetCurrent(void **context) {
    *context = current ? current->address : NULL;
    return OK;
}

int cuCtxSetCurrent(void *context) {
    BEGIN(enter);
    Thing *thing = find(CONTEXT, context);
    if (context && !thing) return leave(INVALID_CONTEXT);
    current = thing;
    return leave(OK);
}
#endif

/* ---- for tests ---------------------------------------------------------------------------- */

/* A context beside the primary one, as cuCtxCreate makes it; not made current. */
void *double_create_context(void) {
    pthread_mutex_lock(&lock);
    void *address = new_handle(CONTEXT)->address;
    pthread_mutex_unlock(&lock);
    return address;
}

/* The primary context, made if need be; not made current. */
void *double_primary_context(void) {
    pthread_mutex_lock(&lock);
    void *address = primary_context()->address;
    pthread_mutex_unlock(&lock);
    return address;
}

/* What the enqueue of an inference library does: the kernel runs now, after what waits in the
 * stream, or is recorded if the stream is being captured. A result other than 0 is a failure. */
int double_launch(void *handle, Kernel kernel, void *arg) {
    BEGIN(enter_device);
    Thing *stream = find_mine(STREAM, handle);
    if (!stream) return leave(INVALID_HANDLE);
    if (stream->capturing) {
        Op op = {.what = KERNEL, .kernel = kernel, .arg = arg};
        append(stream, op);
        return leave(OK);
    }
    int code = drain(stream);
    return leave(code ? code : run_kernel(kernel, arg));
}

/* Bytes from a device address to the end of its allocation; 0 where the device cannot look. */
size_t double_range(const void *address) {
    size_t left;
    pthread_mutex_lock(&lock);
    around(address, 0, &left);
    pthread_mutex_unlock(&lock);
    return left;
}

/* 1 if the stream is being captured. */
int double_is_capturing(void *handle) {
    pthread_mutex_lock(&lock);
    Thing *stream = find(STREAM, handle);
    int capturing = stream && stream->capturing;
    pthread_mutex_unlock(&lock);
    return capturing;
}

int double_counters(uint64_t *out, int n) {
    pthread_mutex_lock(&lock);
    counters[DEVICE_ALIVE] = alive(DEVICE);
    counters[HOST_ALIVE] = alive(HOST);
    counters[STREAMS_ALIVE] = alive(STREAM);
    counters[EVENTS_ALIVE] = alive(EVENT);
    counters[GRAPHS_ALIVE] = alive(GRAPH) + alive(EXEC);
    counters[BYTES_ALIVE] = bytes_alive();
    for (int i = 0; i < n && i < N_COUNTERS; i++) out[i] = counters[i];
    pthread_mutex_unlock(&lock);
    return N_COUNTERS;
}

void double_reset_counters(void) {
    pthread_mutex_lock(&lock);
    for (int i = FIRST_RESET; i < N_COUNTERS; i++) counters[i] = 0;
    pthread_mutex_unlock(&lock);
}

/* The nth call of a function from now on returns code; an empty name takes the plan back. */
void double_fail(const char *function, int code, int nth) {
    pthread_mutex_lock(&lock);
    snprintf(planned.function, sizeof planned.function, "%s", function);
    planned.code = code;
    planned.nth = *function ? nth : 0;
    pthread_mutex_unlock(&lock);
}

/* Forgets everything alive but the contexts, the counts, the plan and the cap: a new machine. */
void double_reset(void) {
    pthread_mutex_lock(&lock);
    Thing *next;
    for (Thing *t = things; t; t = next) {
        next = t->next;
        if (t->kind != CONTEXT) forget(t);
    }
    for (int i = 0; i < N_COUNTERS; i++) counters[i] = 0;
    planned.nth = 0;
    cap_bytes = DEFAULT_CAP;
    last_error = OK;
    pthread_mutex_unlock(&lock);
}

void double_cap(uint64_t n_bytes) {
    pthread_mutex_lock(&lock);
    cap_bytes = n_bytes;
    pthread_mutex_unlock(&lock);
}
