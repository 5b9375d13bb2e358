/* A CUDA runtime, driver and cuBLAS without a GPU, preloaded under PyTorch's own CUDA build.
 *
 * Memory is the computer's own, copies copy (what comes back is made finite), and kernels do nothing but are counted. So PyTorch allocates, checks
 * devices and types, launches and waits as it does on a GPU, and all of that can be counted; values and times cannot.
 * What stands here is what PyTorch calls; other functions are the real libraries', which say that there is no device.
 *
 * The environment says what is pretended: PRETENDED_GPUS (how many), PRETENDED_GB (memory of each), and
 * PRETENDED_CAPABILITY ("9.0"). A program asks and sets by the functions pretended_*.
 */
#define _GNU_SOURCE
#include <driver_types.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MOST_DEVICES = 8, ILLEGAL_DEVICE = 101, NOT_SUPPORTED = 801, CAPTURE_FAILS = 900 };
enum { HOST_TO_DEVICE = 1, DEVICE_TO_HOST = 2, DEVICE_TO_DEVICE = 3 };

static struct {
    long launches, waits, copies_in, copies_out, copies_within, pageable_in, pageable_out, pinned, refused;
} counted;
static size_t used[MOST_DEVICES], memory = (size_t)80 << 30;
static int devices = 1, major = 9, minor = 0;
static long refuse_pinned = 0; /* how many of the next requests for pinned memory are refused */
static _Thread_local int last_error = 0, current = 0;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define COUNT(what) __atomic_fetch_add(&counted.what, 1, __ATOMIC_RELAXED)

__attribute__((constructor)) static void begin(void) {
    const char *text;
    if ((text = getenv("PRETENDED_GB"))) memory = (size_t)(atof(text) * (double)(1 << 30));
    if ((text = getenv("PRETENDED_GPUS"))) devices = atoi(text);
    if ((text = getenv("PRETENDED_CAPABILITY"))) sscanf(text, "%d.%d", &major, &minor);
    if (devices > MOST_DEVICES) devices = MOST_DEVICES;
}

/* ---- what a program asks and sets ---- */

long pretended_count(const char *what) {
    if (!strcmp(what, "launches")) return counted.launches;
    if (!strcmp(what, "waits")) return counted.waits;
    if (!strcmp(what, "copies_in")) return counted.copies_in;
    if (!strcmp(what, "copies_out")) return counted.copies_out;
    if (!strcmp(what, "copies_within")) return counted.copies_within;
    if (!strcmp(what, "pageable_in")) return counted.pageable_in;
    if (!strcmp(what, "pageable_out")) return counted.pageable_out;
    if (!strcmp(what, "pinned")) return counted.pinned;
    if (!strcmp(what, "refused")) return counted.refused;
    return -1;
}
long pretended_used(int device) { return (long)used[device]; }
void pretended_launches(long more) { __atomic_fetch_add(&counted.launches, more, __ATOMIC_RELAXED); }
void pretended_memory(double gib) { memory = (size_t)(gib * (double)(1 << 30)); }
void pretended_refuse_pinned(long requests) { refuse_pinned = requests; }
void pretended_begin_count(void) { memset(&counted, 0, sizeof counted); }

/* ---- which memory is whose: a sorted list of blocks ---- */

typedef struct {
    uintptr_t start;
    size_t size;
    int pinned, device;
} Block;
static Block *blocks;
static int block_count, block_room;

static int block_at(uintptr_t place) { /* the block that holds this address, or -1; with the lock held */
    int low = 0, high = block_count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (blocks[middle].start <= place) low = middle + 1;
        else high = middle;
    }
    return low > 0 && place < blocks[low - 1].start + blocks[low - 1].size ? low - 1 : -1;
}
static void add_block(void *start, size_t size, int pinned) {
    pthread_mutex_lock(&lock);
    if (block_count == block_room) {
        block_room = block_room ? 2 * block_room : 256;
        blocks = realloc(blocks, block_room * sizeof(Block));
    }
    int at = block_count++;
    for (; at > 0 && blocks[at - 1].start > (uintptr_t)start; at--) blocks[at] = blocks[at - 1];
    blocks[at] = (Block){(uintptr_t)start, size, pinned, current};
    if (!pinned) used[current] += size;
    pthread_mutex_unlock(&lock);
}
static size_t drop_block(void *start) {
    size_t size = 0;
    pthread_mutex_lock(&lock);
    int at = block_at((uintptr_t)start);
    if (at >= 0 && blocks[at].start == (uintptr_t)start) {
        size = blocks[at].size;
        if (!blocks[at].pinned) used[blocks[at].device] -= size;
        memmove(blocks + at, blocks + at + 1, (--block_count - at) * sizeof(Block));
    }
    pthread_mutex_unlock(&lock);
    return size;
}
static Block owner(const void *place) { /* size 0: ordinary memory of the program */
    Block found = {0};
    pthread_mutex_lock(&lock);
    int at = block_at((uintptr_t)place);
    if (at >= 0) found = blocks[at];
    pthread_mutex_unlock(&lock);
    return found;
}

/* ---- memory ---- */

int cudaMalloc(void **place, size_t size) {
    void *found = MAP_FAILED;
    if (used[current] + size <= memory) found = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found == MAP_FAILED) {
        COUNT(refused);
        *place = 0;
        return last_error = cudaErrorMemoryAllocation;
    }
    add_block(found, size, 0);
    *place = found;
    return 0;
}
int cudaFree(void *place) {
    if (!place) return 0;
    COUNT(waits);
    size_t size = drop_block(place);
    if (size) munmap(place, size);
    return 0;
}
int cudaMallocAsync(void **place, size_t size, void *stream) { return cudaMalloc(place, size); }
int cudaFreeAsync(void *place, void *stream) { return cudaFree(place); }
int cudaHostAlloc(void **place, size_t size, unsigned flags) {
    if (refuse_pinned > 0 && refuse_pinned-- > 0) return last_error = cudaErrorMemoryAllocation;
    if (posix_memalign(place, 4096, size)) return last_error = cudaErrorMemoryAllocation;
    COUNT(pinned);
    add_block(*place, size, 1);
    return 0;
}
int cudaFreeHost(void *place) {
    drop_block(place);
    free(place);
    return 0;
}
int cudaHostRegister(void *place, size_t size, unsigned flags) {
    add_block(place, size, 1);
    return 0;
}
int cudaHostUnregister(void *place) {
    drop_block(place);
    return 0;
}
int cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    *total = memory;
    *free_bytes = memory > used[current] ? memory - used[current] : 0;
    return 0;
}
int cudaPointerGetAttributes(struct cudaPointerAttributes *found, const void *place) {
    Block block = owner(place);
    memset(found, 0, sizeof *found);
    found->type = !block.size ? cudaMemoryTypeUnregistered : block.pinned ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
    found->device = block.size ? block.device : -2;
    if (block.size && !block.pinned) found->devicePointer = (void *)place;
    if (block.pinned) found->hostPointer = (void *)place;
    return 0;
}

/* Kernels do nothing: what comes from the device is of the memory's earlier owners. Where it would be no number, or a
 * huge one (2^64 and more, in any type with the exponent of float32), it becomes 0. */
static void make_numbers(uint16_t *halves, size_t size) {
    for (size_t i = 0; i < size / 2; i++)
        if ((halves[i] & 0x7F80) >= 0x5F80) halves[i] = 0;
}
static void copy(void *to, const void *from, size_t size) {
    Block target = owner(to), source = owner(from);
    int in = target.size && !target.pinned, out = source.size && !source.pinned;
    if (in && out) COUNT(copies_within);
    else if (in) COUNT(copies_in);
    else if (out) COUNT(copies_out);
    if (in && !source.size) COUNT(pageable_in);
    if (out && !target.size) COUNT(pageable_out);
    memcpy(to, from, size);
    if (out && !in) make_numbers(to, size);
}
int cudaMemcpy(void *to, const void *from, size_t size, int kind) {
    COUNT(waits);
    copy(to, from, size);
    return 0;
}
int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) {
    copy(to, from, size);
    return 0;
}
int cudaMemcpyPeerAsync(void *to, int there, const void *from, int here, size_t size, void *stream) {
    copy(to, from, size);
    return 0;
}
int cudaMemcpyToSymbol(const void *symbol, const void *from, size_t size, size_t offset, int kind) { return 0; }
int cudaMemset(void *place, int value, size_t size) {
    uintptr_t first = ((uintptr_t)place + 4095) & ~4095ul, last = ((uintptr_t)place + size) & ~4095ul;
    if (value == 0 && size > (1 << 20)) { /* whole pages are given back: they come again as zeros, and take no memory */
        memset(place, 0, first - (uintptr_t)place);
        madvise((void *)first, last - first, MADV_DONTNEED);
        memset((void *)last, 0, (uintptr_t)place + size - last);
    } else memset(place, value, size);
    return 0;
}
int cudaMemsetAsync(void *place, int value, size_t size, void *stream) { return cudaMemset(place, value, size); }
int cudaGetSymbolAddress(void **place, const void *symbol) {
    *place = (void *)symbol;
    return 0;
}
int cudaDeviceGetDefaultMemPool(void **pool, int device) {
    *pool = (void *)1;
    return 0;
}
int cudaMemPoolGetAttribute(void *pool, int attribute, void *value) {
    *(uint64_t *)value = 0;
    return 0;
}
int cudaMemPoolSetAttribute(void *pool, int attribute, void *value) { return 0; }
int cudaMemPoolSetAccess(void *pool, const void *access, size_t count) { return 0; }
int cudaMemPoolTrimTo(void *pool, size_t size) { return 0; }

/* ---- kernels ---- */

typedef struct {
    unsigned x, y, z;
} Size3;
static _Thread_local struct {
    Size3 grid, block;
    size_t shared;
    void *stream;
} configured[16];
static _Thread_local int depth = 0;

static int launched(void) {
    COUNT(launches);
    return 0;
}
void **__cudaRegisterFatBinary(void *binary) {
    static void *handle[4];
    return handle;
}
void __cudaRegisterFatBinaryEnd(void **handle) {}
void __cudaUnregisterFatBinary(void **handle) {}
void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name, int limit, void *a, void *b, void *c, void *d, int *e) {}
void __cudaRegisterVar(void **handle, char *host, char *device, const char *name, int external, size_t size, int constant, int global) {}
unsigned __cudaPushCallConfiguration(Size3 grid, Size3 block, size_t shared, void *stream) {
    configured[depth & 15].grid = grid, configured[depth & 15].block = block;
    configured[depth & 15].shared = shared, configured[depth & 15].stream = stream;
    depth++;
    return 0;
}
int __cudaPopCallConfiguration(Size3 *grid, Size3 *block, size_t *shared, void *stream) {
    depth--;
    *grid = configured[depth & 15].grid, *block = configured[depth & 15].block;
    *shared = configured[depth & 15].shared, *(void **)stream = configured[depth & 15].stream;
    return 0;
}
int __cudaGetKernel(void **kernel, const void *function) {
    *kernel = (void *)function;
    return 0;
}
int __cudaLaunchKernel(void *kernel, Size3 grid, Size3 block, void **arguments, size_t shared, void *stream) { return launched(); }
int cudaLaunchKernel(const void *function, Size3 grid, Size3 block, void **arguments, size_t shared, void *stream) { return launched(); }
int cudaLaunchKernelExC(const void *configuration, const void *function, void **arguments) { return launched(); }
int cudaLaunchCooperativeKernel(const void *function, Size3 grid, Size3 block, void **arguments, size_t shared, void *stream) { return launched(); }
int cudaGetFuncBySymbol(void **function, const void *symbol) {
    *function = (void *)symbol;
    return 0;
}
int cudaFuncGetAttributes(struct cudaFuncAttributes *found, const void *function) {
    memset(found, 0, sizeof *found);
    found->maxThreadsPerBlock = 1024, found->numRegs = 32, found->binaryVersion = found->ptxVersion = 90;
    found->maxDynamicSharedSizeBytes = 49152;
    return 0;
}
int cudaFuncSetAttribute(const void *function, int attribute, int value) { return 0; }
int cudaKernelSetAttributeForDevice(void *kernel, int attribute, int value, int device) { return 0; }
int cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks_found, const void *function, int block, size_t shared) {
    *blocks_found = block > 64 ? 2048 / block : 32;
    return 0;
}
int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks_found, const void *function, int block, size_t shared, unsigned flags) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks_found, function, block, shared);
}

/* ---- devices ---- */

int cudaGetDeviceCount(int *count) {
    *count = devices;
    return 0;
}
int cudaGetDevice(int *device) {
    *device = current;
    return 0;
}
int cudaSetDevice(int device) {
    if (device < 0 || device >= devices) return last_error = ILLEGAL_DEVICE;
    current = device;
    return 0;
}
int cudaDriverGetVersion(int *version) {
    *version = 13000;
    return 0;
}
int cudaRuntimeGetVersion(int *version) {
    *version = 13000;
    return 0;
}
int cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) { /* of an H100, nearly */
    memset(p, 0, sizeof *p);
    strcpy(p->name, "Pretended GPU");
    p->totalGlobalMem = memory, p->major = major, p->minor = minor, p->multiProcessorCount = 132, p->warpSize = 32;
    p->sharedMemPerBlock = 49152, p->sharedMemPerMultiprocessor = 233472, p->sharedMemPerBlockOptin = 232448;
    p->regsPerBlock = p->regsPerMultiprocessor = 65536, p->totalConstMem = 65536, p->reservedSharedMemPerBlock = 1024;
    p->maxThreadsPerBlock = 1024, p->maxThreadsPerMultiProcessor = 2048, p->maxBlocksPerMultiProcessor = 32;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024, p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = p->memPitch = 2147483647, p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->memoryBusWidth = 5120, p->l2CacheSize = 50 << 20, p->textureAlignment = 512, p->asyncEngineCount = 3;
    p->canMapHostMemory = p->concurrentKernels = p->unifiedAddressing = p->streamPrioritiesSupported = 1;
    p->managedMemory = p->cooperativeLaunch = p->hostRegisterSupported = p->memoryPoolsSupported = 1;
    return 0;
}
static int attribute_of(int which) {
    switch (which) {
        case 1: return 1024;   /* threads of a block */
        case 8: return 49152;  /* shared memory of a block */
        case 10: return 32;    /* threads of a warp */
        case 12: return 65536; /* registers of a block */
        case 13: return 1755000;
        case 16: return 132; /* multiprocessors */
        case 36: return 2619000;
        case 37: return 5120;
        case 39: return 2048; /* threads of a multiprocessor */
        case 75: return major;
        case 76: return minor;
        case 81: return 233472; /* shared memory of a multiprocessor */
        case 82: return 65536;
        case 97: return 232448; /* shared memory of a block that asks for it */
        case 106: return 32;
        case 111: return 1024;
        default: return 1;
    }
}
int cudaDeviceGetAttribute(int *value, int which, int device) {
    *value = attribute_of(which);
    return 0;
}
int cudaDeviceCanAccessPeer(int *can, int one, int other) {
    *can = 0;
    return 0;
}
int cudaDeviceEnablePeerAccess(int device, unsigned flags) { return 0; }
int cudaDeviceGetPCIBusId(char *text, int room, int device) {
    snprintf(text, room, "0000:0%d:00.0", device);
    return 0;
}
int cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0, *greatest = -5;
    return 0;
}
int cudaDeviceSynchronize(void) {
    COUNT(waits);
    return 0;
}
int cudaGetLastError(void) {
    int error = last_error;
    last_error = 0;
    return error;
}
int cudaPeekAtLastError(void) { return last_error; }
const char *cudaGetErrorString(int error) {
    return error == cudaErrorMemoryAllocation ? "out of memory" : error == ILLEGAL_DEVICE ? "invalid device ordinal" : "not pretended";
}
const char *cudaGetErrorName(int error) { return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaErrorNotPretended"; }
int cudaProfilerStart(void) { return 0; }
int cudaProfilerStop(void) { return 0; }

/* ---- streams and events: everything is done as soon as it is asked for ---- */

int cudaStreamCreateWithFlags(void **stream, unsigned flags) {
    static long number = 16;
    *stream = (void *)(number += 16);
    return 0;
}
int cudaStreamCreate(void **stream) { return cudaStreamCreateWithFlags(stream, 0); }
int cudaStreamCreateWithPriority(void **stream, unsigned flags, int priority) { return cudaStreamCreateWithFlags(stream, flags); }
int cudaStreamDestroy(void *stream) { return 0; }
int cudaStreamSynchronize(void *stream) { return cudaDeviceSynchronize(); }
int cudaStreamQuery(void *stream) { return 0; }
int cudaStreamWaitEvent(void *stream, void *event, unsigned flags) { return 0; }
int cudaStreamGetPriority(void *stream, int *priority) {
    *priority = 0;
    return 0;
}
int cudaStreamIsCapturing(void *stream, int *state) {
    *state = 0;
    return 0;
}
int cudaStreamGetCaptureInfo(void *stream, int *state, void *a, void *b, void *c, void *d, void *e) {
    *state = 0;
    return 0;
}
int cudaStreamBeginCapture(void *stream, int mode) { return last_error = CAPTURE_FAILS; }
int cudaStreamEndCapture(void *stream, void **graph) { return last_error = CAPTURE_FAILS; }
int cudaThreadExchangeStreamCaptureMode(int *mode) { return 0; }
int cudaStreamAddCallback(void *stream, void *function, void *data, unsigned flags) { return 0; }
int cudaLaunchHostFunc(void *stream, void (*function)(void *), void *data) {
    function(data);
    return 0;
}
int cudaEventCreateWithFlags(void **event, unsigned flags) {
    *event = malloc(1);
    return 0;
}
int cudaEventCreate(void **event) { return cudaEventCreateWithFlags(event, 0); }
int cudaEventDestroy(void *event) {
    free(event);
    return 0;
}
int cudaEventRecord(void *event, void *stream) { return 0; }
int cudaEventRecordWithFlags(void *event, void *stream, unsigned flags) { return 0; }
int cudaEventQuery(void *event) { return 0; }
int cudaEventSynchronize(void *event) { return cudaDeviceSynchronize(); }
int cudaEventElapsedTime(float *ms, void *one, void *other) {
    *ms = 0;
    return 0;
}

/* ---- what is not pretended ---- */

static int nothing(void) { return 0; }
int cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version, unsigned long long flags, int *state) {
    *function = (void *)nothing;
    if (state) *state = 0;
    return 0;
}
#define MISSING(name) \
    int name(void) { return last_error = NOT_SUPPORTED; }
MISSING(cudaGraphAddNode) MISSING(cudaGraphConditionalHandleCreate) MISSING(cudaGraphDebugDotPrint) MISSING(cudaGraphDestroy)
MISSING(cudaGraphExecDestroy) MISSING(cudaGraphGetNodes) MISSING(cudaGraphInstantiateWithFlags) MISSING(cudaGraphLaunch)
MISSING(cudaGraphNodeGetDependencies) MISSING(cudaIpcCloseMemHandle) MISSING(cudaIpcGetEventHandle)
MISSING(cudaIpcGetMemHandle) MISSING(cudaIpcOpenEventHandle) MISSING(cudaIpcOpenMemHandle) MISSING(cudaLibraryGetKernel)
MISSING(cudaLibraryLoadData) MISSING(cudaLibraryUnload) MISSING(cudaStreamBeginCaptureToGraph)
MISSING(cudaStreamUpdateCaptureDependencies)

/* ---- cuBLAS: a product is a launch ---- */

#define PRODUCT(name) \
    int name(void) { return launched(); }
#define DONE(name) \
    int name(void) { return 0; }
#define MADE(name) \
    int name(void **made) { *made = (void *)1; return 0; }
PRODUCT(cublasSgemm_v2) PRODUCT(cublasDgemm_v2) PRODUCT(cublasGemmEx) PRODUCT(cublasSgemmStridedBatched)
PRODUCT(cublasDgemmStridedBatched) PRODUCT(cublasGemmStridedBatchedEx) PRODUCT(cublasSgemmEx) PRODUCT(cublasSgemv_v2)
PRODUCT(cublasSdot_v2) PRODUCT(cublasDotEx) PRODUCT(cublasLtMatmul)
MADE(cublasCreate_v2) MADE(cublasLtMatmulDescCreate) MADE(cublasLtMatrixLayoutCreate) MADE(cublasLtMatmulPreferenceCreate)
DONE(cublasDestroy_v2) DONE(cublasSetStream_v2) DONE(cublasSetWorkspace_v2) DONE(cublasSetMathMode)
DONE(cublasSetPointerMode_v2) DONE(cublasSetSmCountTarget) DONE(cublasSetEmulationStrategy)
DONE(cublasLtMatmulDescDestroy) DONE(cublasLtMatmulDescSetAttribute) DONE(cublasLtMatrixLayoutDestroy)
DONE(cublasLtMatrixLayoutSetAttribute) DONE(cublasLtMatmulPreferenceDestroy) DONE(cublasLtMatmulPreferenceSetAttribute)
int cublasGetMathMode(void *handle, int *mode) {
    *mode = 0;
    return 0;
}
int cublasGetPointerMode_v2(void *handle, int *mode) {
    *mode = 0;
    return 0;
}

/* ---- the driver, as far as PyTorch and Triton's launcher ask it ---- */

DONE(cuInit) DONE(cuModuleUnload) DONE(cuFuncSetAttribute) DONE(cuFuncSetCacheConfig) DONE(cuCtxSetCurrent)
DONE(cuCtxPushCurrent_v2) DONE(cuCtxSetLimit) DONE(cuTensorMapEncodeTiled) DONE(cuTensorMapEncodeIm2col)
DONE(cuLinkCreate_v2) DONE(cuLibraryUnload)
MADE(cuCtxGetCurrent) MADE(cuCtxPopCurrent_v2) MADE(cuDevicePrimaryCtxRetain) MADE(cuModuleLoadData) MADE(cuModuleLoad)
MADE(cuModuleLoadDataEx) MADE(cuLibraryLoadData)
int cuDriverGetVersion(int *version) { return cudaDriverGetVersion(version); }
int cuDeviceGetCount(int *count) { return cudaGetDeviceCount(count); }
int cuDeviceGet(int *device, int number) {
    *device = number;
    return 0;
}
int cuCtxGetDevice(int *device) { return cudaGetDevice(device); }
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    *flags = 0, *active = 1;
    return 0;
}
int cuDeviceGetAttribute(int *value, int which, int device) { return cudaDeviceGetAttribute(value, which, device); }
int cuDeviceGetName(char *text, int room, int device) {
    snprintf(text, room, "Pretended GPU");
    return 0;
}
int cuDeviceComputeCapability(int *first, int *second, int device) {
    *first = major, *second = minor;
    return 0;
}
int cuDeviceTotalMem_v2(size_t *size, int device) {
    *size = memory;
    return 0;
}
int cuGetErrorString(int error, const char **text) {
    *text = "not pretended";
    return 0;
}
int cuGetErrorName(int error, const char **text) { return cuGetErrorString(error, text); }
int cuModuleGetFunction(void **function, void *module, const char *name) {
    *function = (void *)1;
    return 0;
}
int cuLibraryGetKernel(void **kernel, void *library, const char *name) {
    *kernel = (void *)1;
    return 0;
}
int cuKernelGetFunction(void **function, void *kernel) {
    *function = kernel;
    return 0;
}
int cuFuncGetAttribute(int *value, int which, void *function) {
    *value = which == 4 ? 32 : which == 0 ? 1024 : 0; /* registers, threads of a block */
    return 0;
}
PRODUCT(cuLaunchKernelEx) PRODUCT(cuLaunchKernel)
int cuCtxGetLimit(size_t *value, int which) {
    *value = 1 << 20;
    return 0;
}
int cuOccupancyMaxActiveClusters(int *count, void *function, const void *configuration) {
    *count = 1;
    return 0;
}
int cuPointerGetAttribute(void *value, int which, unsigned long long place) {
    Block block = owner((void *)place);
    if (which == 3) *(unsigned long long *)value = place;
    else *(int *)value = 2;
    return block.size && !block.pinned ? 0 : 1;
}
int cuMemcpyHtoD_v2(unsigned long long to, const void *from, size_t size) { return cudaMemcpy((void *)to, from, size, HOST_TO_DEVICE); }
int cuMemAlloc_v2(unsigned long long *place, size_t size) { return cudaMalloc((void **)place, size); }
int cuMemFree_v2(unsigned long long place) { return cudaFree((void *)place); }
int cuStreamSynchronize(void *stream) { return cudaDeviceSynchronize(); }
int cuEventCreate(void **event, unsigned flags) { return cudaEventCreate(event); }
int cuGetProcAddress_v2(const char *name, void **function, int version, unsigned long long flags, int *state) {
    extern void *dlsym(void *, const char *);
    *function = dlsym((void *)0, name);
    if (!*function) *function = (void *)nothing;
    if (state) *state = 0;
    return 0;
}
