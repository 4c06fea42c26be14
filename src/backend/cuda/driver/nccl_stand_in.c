// A library with the functions of NCCL's that this program calls, between threads of one process and
// on the host's memory: what its documentation and nccl.h demand of a caller is an error here. Built
// against nccl.h where it is at hand (-DNCCL_HEADER=...), so that the compiler compares declarations and numbers.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef NCCL_HEADER
#include NCCL_HEADER
_Static_assert(ncclSuccess == 0 && ncclInvalidArgument == 4 && ncclInvalidUsage == 5 && ncclRemoteError == 6 && ncclInProgress == 7, "ncclResult_t");
_Static_assert(ncclUint32 == 3 && sizeof(ncclDataType_t) == 4 && sizeof(ncclResult_t) == 4, "ncclDataType_t");
_Static_assert(sizeof(ncclUniqueId) == 128 && _Alignof(ncclUniqueId) == 1, "ncclUniqueId");
#else
typedef struct ncclComm* ncclComm_t;
typedef struct { char internal[128]; } ncclUniqueId;
typedef int ncclResult_t;
typedef int ncclDataType_t;
typedef void* cudaStream_t;
enum { ncclSuccess = 0, ncclInvalidArgument = 4, ncclInvalidUsage = 5, ncclRemoteError = 6, ncclInProgress = 7, ncclUint32 = 3 };
#endif

#define RANKS 8
#define CALLS 32

struct call { int sends, peer; size_t count; char* at; };
struct mail { char* bytes; size_t count; struct mail* next; };
struct ncclComm {
    int rank, size;
    cudaStream_t stream;
    ncclResult_t error;
    struct world* world;
};
struct world {
    char id[128];
    int size, came, gone, aborted;
    struct mail* mail[RANKS][RANKS];
    struct world* next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct world* worlds;
static int ids, alive;
static __thread int depth, calls;
static __thread struct call group[CALLS];
static __thread ncclComm_t grouped;

// Communicators that nobody has given back.
int stand_in_alive(void) { return alive; }

ncclResult_t ncclGetVersion(int* version) { *version = 22809; return ncclSuccess; }

const char* ncclGetErrorString(ncclResult_t code) {
    return code == ncclInvalidUsage ? "invalid usage" : code == ncclInvalidArgument ? "invalid argument" : "remote process exited";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
    pthread_mutex_lock(&lock);
    memset(id->internal, ++ids, sizeof id->internal);
    // The last byte tells whether all of it has passed by value.
    id->internal[127] = 77;
    pthread_mutex_unlock(&lock);
    return ncclSuccess;
}

// Waits for a change, for a second at most.
static int waits(int* left) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 1;
    pthread_cond_timedwait(&changed, &lock, &until);
    return --*left > 0;
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int size, ncclUniqueId id, int rank) {
    if (size < 1 || size > RANKS || rank < 0 || rank >= size || id.internal[127] != 77 || id.internal[0] == 0) return ncclInvalidArgument;
    pthread_mutex_lock(&lock);
    struct world* world = worlds;
    while (world && memcmp(world->id, id.internal, 128)) world = world->next;
    if (!world) {
        world = calloc(1, sizeof *world);
        memcpy(world->id, id.internal, 128);
        world->size = size;
        world->next = worlds;
        worlds = world;
    }
    world->came++, alive++;
    pthread_cond_broadcast(&changed);
    int left = 60;
    while (world->came < size && waits(&left)) {}
    int all = world->size == size && world->came == size;
    pthread_mutex_unlock(&lock);
    if (!all) return ncclRemoteError;
    *comm = calloc(1, sizeof **comm);
    (*comm)->rank = rank, (*comm)->size = size, (*comm)->world = world;
    return ncclSuccess;
}

static ncclResult_t leave(ncclComm_t comm, int aborts) {
    if (depth) return ncclInvalidUsage;
    pthread_mutex_lock(&lock);
    struct world* world = comm->world;
    if (aborts) world->aborted = 1;
    alive--;
    int left = 0;
    if (++world->gone == world->size)
        for (int a = 0; a < RANKS; a++) for (int b = 0; b < RANKS; b++) left += world->mail[a][b] != NULL;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    // What was sent and never received.
    if (left && !world->aborted) abort();
    free(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) { return leave(comm, 0); }
ncclResult_t ncclCommAbort(ncclComm_t comm) { return leave(comm, 1); }

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
    pthread_mutex_lock(&lock);
    *error = comm->world->aborted ? ncclRemoteError : comm->error;
    pthread_mutex_unlock(&lock);
    return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
    // A caller of ours has no group within another one.
    if (depth++) return ncclInvalidUsage;
    calls = 0, grouped = NULL;
    return ncclSuccess;
}

static ncclResult_t ask(int sends, void* at, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
    if (!depth || calls == CALLS || (grouped && grouped != comm)) return ncclInvalidUsage;
    if (!at || !count || type != ncclUint32 || peer < 0 || peer >= comm->size || peer == comm->rank || stream != (cudaStream_t)0x5717) return ncclInvalidArgument;
    grouped = comm;
    group[calls++] = (struct call){sends, peer, count, at};
    return ncclSuccess;
}

ncclResult_t ncclSend(const void* at, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
    return ask(1, (void*)at, count, type, peer, comm, stream);
}

ncclResult_t ncclRecv(void* at, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
    return ask(0, at, count, type, peer, comm, stream);
}

ncclResult_t ncclGroupEnd() {
    if (depth != 1) return ncclInvalidUsage;
    depth = 0;
    if (!calls) return ncclSuccess;
    struct world* world = grouped->world;
    pthread_mutex_lock(&lock);
    for (int k = 0; k < calls; k++) {
        if (!group[k].sends) continue;
        struct mail** end = &world->mail[grouped->rank][group[k].peer];
        while (*end) end = &(*end)->next;
        *end = calloc(1, sizeof **end);
        (*end)->count = group[k].count;
        (*end)->bytes = malloc(4 * group[k].count);
        memcpy((*end)->bytes, group[k].at, 4 * group[k].count);
    }
    pthread_cond_broadcast(&changed);
    for (int k = 0; k < calls && !grouped->error; k++) {
        if (group[k].sends) continue;
        struct mail** first = &world->mail[group[k].peer][grouped->rank];
        int left = 60;
        while (!*first && !world->aborted && waits(&left)) {}
        struct mail* mail = *first;
        if (!mail || mail->count != group[k].count) {
            grouped->error = ncclRemoteError;
            break;
        }
        memcpy(group[k].at, mail->bytes, 4 * mail->count);
        *first = mail->next;
        free(mail->bytes);
        free(mail);
    }
    pthread_mutex_unlock(&lock);
    return ncclSuccess;
}
