/* Uses a GPU as CUDA programs do, with the driver alone: compiles a kernel, runs it, and
 * reads its results back. Prints the number of GPUs. */
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

/* The driver compiles this for whatever GPU there is. */
static const char kernel[] =
    ".version 6.0\n"
    ".target sm_50\n"
    ".address_size 64\n"
    ".visible .entry answer(.param .u64 where)\n"
    "{\n"
    "    .reg .u64 %address;\n"
    "    .reg .u32 %value;\n"
    "    ld.param.u64 %address, [where];\n"
    "    cvta.to.global.u64 %address, %address;\n"
    "    ld.global.u32 %value, [%address];\n"
    "    add.u32 %value, %value, 2;\n"
    "    st.global.u32 [%address], %value;\n"
    "    ret;\n"
    "}\n";

static void *driver;

/* CALL(name, types, arguments): ends the program if it fails. */
#define CALL(name, types, arguments) \
    check(#name, ((int(*) types)find(#name)) arguments)

static void *find(const char *name)
{
    void *function = dlsym(driver, name);
    if (!function) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    return function;
}

static void check(const char *name, int error)
{
    if (error) {
        fprintf(stderr, "%s: error %d of CUDA\n", name, error);
        exit(1);
    }
}

int main(void)
{
    int count, device;
    unsigned int value = 40;
    void *context, *module, *function;
    unsigned long long memory;
    void *parameters[] = {&memory};

    driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (!driver) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    CALL(cuInit, (unsigned int), (0));
    CALL(cuDeviceGetCount, (int *), (&count));
    CALL(cuDeviceGet, (int *, int), (&device, 0));
    CALL(cuCtxCreate_v2, (void **, unsigned int, int), (&context, 0, device));
    CALL(cuMemAlloc_v2, (unsigned long long *, size_t), (&memory, sizeof value));
    CALL(cuMemcpyHtoD_v2, (unsigned long long, const void *, size_t), (memory, &value, sizeof value));
    CALL(cuModuleLoadData, (void **, const void *), (&module, kernel));
    CALL(cuModuleGetFunction, (void **, void *, const char *), (&function, module, "answer"));
    CALL(cuLaunchKernel,
         (void *, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int,
          unsigned int, void *, void **, void **),
         (function, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
    CALL(cuMemcpyDtoH_v2, (void *, unsigned long long, size_t), (&value, memory, sizeof value));
    if (value != 42) {
        fprintf(stderr, "the kernel made %u of 40 + 2\n", value);
        return 1;
    }
    printf("GPUs: %d\n", count);
    return 0;
}
