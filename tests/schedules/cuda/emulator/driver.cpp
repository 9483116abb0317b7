// A CUDA driver and runtime without a GPU: what TVM's CUDA runtime calls, on the CPU's memory.
//
// "Machine code" is a shared library that was made with kernels.h. Launches run at once; while a
// stream is captured they are written down, and a graph's launch repeats them.

#include <dlfcn.h>
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <string>
#include <vector>

namespace {

struct Function {
  void (*run)(const unsigned*, void**, int);
  int parameters;
};
struct Launch {
  Function* function;
  unsigned sizes[6];
  std::vector<unsigned long> values;
};
using Graph = std::vector<Launch>;

Graph* capturing = nullptr;
size_t allocated = 0;
long launches = 0, graphs = 0;

int order() { return getenv("HYQ_EMULATOR_REVERSED") ? -1 : 1; }

void run(Launch& launch) {
  std::vector<void*> passed;
  for (auto& value : launch.values) passed.push_back(&value);
  launch.function->run(launch.sizes, passed.data(), order());
}

int setting(const char* name, int fallback) {
  const char* text = getenv(name);
  return text ? atoi(text) : fallback;
}

}  // namespace

extern "C" {

// --- driver ---

int cuDeviceGetName(char* name, int size, int) {
  snprintf(name, size, "emulated GPU");
  return 0;
}
int cuFuncSetAttribute(void*, int, int) { return 0; }
int cuGetErrorName(int, const char** text) {
  *text = "EMULATED_ERROR";
  return 0;
}
int cuGetErrorString(int, const char** text) { return cuGetErrorName(0, text); }

int cuModuleLoadData(void** module, const void* image) {
  auto* header = static_cast<const Elf64_Ehdr*>(image);
  if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return 209;  // no binary for this GPU
  size_t size = header->e_shoff + static_cast<size_t>(header->e_shnum) * header->e_shentsize;
  char path[] = "/tmp/hyq_emulated_XXXXXX";
  int file = mkstemp(path);
  bool written = file >= 0 && write(file, image, size) == static_cast<ssize_t>(size);
  close(file);
  *module = written ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
  unlink(path);
  return *module ? 0 : 209;
}
int cuModuleUnload(void*) { return 0; }
int cuModuleGetFunction(void** function, void* module, const char* name) {
  std::string base = name;
  auto run = reinterpret_cast<void (*)(const unsigned*, void**, int)>(
      dlsym(module, (base + "_run").c_str()));
  auto count = reinterpret_cast<int (*)()>(dlsym(module, (base + "_count").c_str()));
  if (!run || !count) return 500;
  *function = new Function{run, count()};
  return 0;
}

struct Config {
  unsigned sizes[6];
  unsigned shared;
  void* stream;
  void* attributes;
  unsigned count;
};
int cuLaunchKernelEx(const Config* config, void* function, void** parameters, void**) {
  Launch launch{static_cast<Function*>(function), {}, {}};
  memcpy(launch.sizes, config->sizes, sizeof launch.sizes);
  if (launch.sizes[3] * launch.sizes[4] * launch.sizes[5] > 1024) return 1;
  for (int i = 0; i < launch.function->parameters; ++i) {
    launch.values.push_back(*static_cast<unsigned long*>(parameters[i]));
  }
  ++launches;
  if (capturing) {
    capturing->push_back(launch);
  } else {
    run(launch);
  }
  return 0;
}
int cuTensorMapEncodeTiled(...) { return 801; }

// --- runtime ---

int cudaDeviceGetAttribute(int* value, int attribute, int) {
  switch (attribute) {
    case 75: *value = setting("HYQ_EMULATOR_MAJOR", 9); return 0;
    case 76: *value = setting("HYQ_EMULATOR_MINOR", 0); return 0;
    case 10: *value = 32; return 0;
    case 1: *value = 1024; return 0;
    case 8: *value = 49152; return 0;
    default: *value = 1; return 0;
  }
}
int cudaGetDeviceCount(int* count) {
  *count = getenv("HYQ_EMULATOR") ? 1 : 0;
  return *count ? 0 : 100;
}
int cudaGetDevice(int* device) {
  *device = 0;
  return 0;
}
int cudaSetDevice(int) { return 0; }
int cudaGetDeviceProperties(void*, int) { return 801; }
const char* cudaGetErrorName(int code) { return code == 2 ? "cudaErrorMemoryAllocation" : "cudaErrorEmulated"; }
const char* cudaGetErrorString(int code) { return code == 2 ? "out of memory" : "emulated error"; }
int cudaGetLastError() { return 0; }
int cudaPeekAtLastError() { return 0; }

int cudaMalloc(void** pointer, size_t size) {
  size_t limit = static_cast<size_t>(setting("HYQ_EMULATOR_MIB", 4096)) << 20;
  if (allocated + size > limit) return 2;
  allocated += size;
  *pointer = aligned_alloc(256, (size + 255) / 256 * 256);
  if (*pointer) memset(*pointer, 0xa5, size);  // nothing may count on fresh memory being zero
  return *pointer ? 0 : 2;
}
int cudaFree(void* pointer) {
  free(pointer);
  return 0;
}
int cudaMallocHost(void** pointer, size_t size) { return cudaMalloc(pointer, size); }
int cudaFreeHost(void* pointer) { return cudaFree(pointer); }
int cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  *free_bytes = *total = 4096ul << 20;
  return 0;
}
int cudaMemcpyAsync(void* target, const void* source, size_t size, int, void*) {
  if (capturing) return 900;
  memcpy(target, source, size);
  return 0;
}
int cudaMemcpyPeerAsync(void* target, int, const void* source, int, size_t size, void*) {
  return cudaMemcpyAsync(target, source, size, 0, nullptr);
}

int cudaEventCreate(void** event) {
  *event = calloc(1, sizeof(timespec));
  return 0;
}
int cudaEventDestroy(void* event) {
  free(event);
  return 0;
}
int cudaEventRecord(void* event, void*) { return clock_gettime(CLOCK_MONOTONIC, static_cast<timespec*>(event)); }
int cudaEventSynchronize(void*) { return 0; }
int cudaEventElapsedTime(float* milliseconds, void* from, void* to) {
  auto* a = static_cast<timespec*>(from);
  auto* b = static_cast<timespec*>(to);
  *milliseconds = (b->tv_sec - a->tv_sec) * 1e3f + (b->tv_nsec - a->tv_nsec) / 1e6f;
  return 0;
}

int cudaStreamCreate(void** stream) {
  *stream = malloc(1);
  return 0;
}
int cudaStreamCreateWithFlags(void** stream, unsigned) { return cudaStreamCreate(stream); }
int cudaStreamDestroy(void* stream) {
  free(stream);
  return 0;
}
int cudaStreamSynchronize(void*) { return capturing ? 900 : 0; }
int cudaStreamWaitEvent(void*, void*, unsigned) { return 0; }
int cudaStreamBeginCapture(void*, int) {
  capturing = new Graph;
  return 0;
}
int cudaStreamEndCapture(void*, void** graph) {
  *graph = capturing;
  capturing = nullptr;
  return 0;
}
int cudaGraphInstantiate(void** made, void* graph, unsigned long long) {
  *made = new Graph(*static_cast<Graph*>(graph));
  return 0;
}
int cudaGraphLaunch(void* graph, void*) {
  ++graphs;
  for (auto& launch : *static_cast<Graph*>(graph)) run(launch);
  return 0;
}
int cudaGraphDestroy(void*) { return 0; }
int cudaGraphExecDestroy(void*) { return 0; }

long hyq_emulator_launches() { return launches; }
long hyq_emulator_graphs() { return graphs; }
}
