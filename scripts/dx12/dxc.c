/* Compiles HLSL with DXC as wgpu's DX12 backend does, on Linux, Windows or Wine: dxc LIBRARY TARGET LIST.
 *
 * LIBRARY is libdxcompiler.so or dxcompiler.dll, TARGET a profile such as cs_6_2. A line of LIST: the file's name, the entry point's, and
 * f16 where the device has 16-bit types. DXC validates what it makes. Exits with 1 if a file does not compile. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

typedef struct {
    uint32_t a;
    uint16_t b, c;
    uint8_t d[8];
} Guid;

/* A COM object. Outside Windows, this DXC's IUnknown has a virtual destructor, which takes two places after the
 * first three. */
typedef struct {
    void **table;
} Object;
#ifdef _WIN32
/* wgpu takes any complaint for a failure. The Linux library complains of every file that nothing signs it. */
enum { DESTRUCTORS = 0, COMPLAINTS_COUNT = 1 };
#else
enum { DESTRUCTORS = 2, COMPLAINTS_COUNT = 0 };
#endif
#define METHOD(object, k) ((object)->table[(k) < 3 ? (k) : (k) + DESTRUCTORS])

typedef struct {
    const void *begin;
    size_t bytes;
    uint32_t encoding;
} Source;

static const Guid CLSID_COMPILER = {
    0x73e22d93, 0xe6ce, 0x47f3, {0xb5, 0xbf, 0xf0, 0x66, 0x4f, 0x39, 0xc1, 0xb0}};
static const Guid IID_COMPILER3 = {
    0x228b4687, 0x5a6a, 0x4730, {0x90, 0x0c, 0x97, 0x02, 0xb2, 0x20, 0x3f, 0x54}};
static const Guid IID_RESULT = {
    0x58346cda, 0xdde7, 0x4497, {0x94, 0x61, 0x6f, 0x87, 0xaf, 0x5e, 0x06, 0x59}};
static const Guid IID_VERSION = {
    0xb04f5b50, 0x2059, 0x4f12, {0xa8, 0xff, 0xa1, 0xe0, 0xcd, 0xe1, 0xcc, 0x7e}};
enum { UTF8 = 65001 };

typedef int32_t (*Create)(const Guid *, const Guid *, void **);
typedef int32_t (*Query)(Object *, const Guid *, void **);
typedef unsigned long (*Release)(Object *);
typedef int32_t (*ReadVersion)(Object *, uint32_t *, uint32_t *);
typedef int32_t (*Compile)(Object *, const Source *, const wchar_t **, uint32_t, void *, const Guid *, void **);
typedef int32_t (*GetStatus)(Object *, int32_t *);
typedef int32_t (*GetBlob)(Object *, Object **);
typedef const char *(*BlobBegin)(Object *);
typedef size_t (*BlobBytes)(Object *);

static void release(Object *object) {
    if (object) ((Release)METHOD(object, 2))(object);
}

static void *symbol(const char *library, const char *name) {
#ifdef _WIN32
    HMODULE module = LoadLibraryA(library);
    return module ? (void *)GetProcAddress(module, name) : 0;
#else
    void *module = dlopen(library, RTLD_NOW);
    return module ? dlsym(module, name) : 0;
#endif
}

static char *contents(const char *name, size_t *bytes) {
    FILE *file = fopen(name, "rb");
    if (!file) {
        fprintf(stderr, "dxc: no file %s\n", name);
        exit(2);
    }
    fseek(file, 0, SEEK_END);
    *bytes = ftell(file);
    rewind(file);
    char *text = malloc(*bytes);
    *bytes = fread(text, 1, *bytes, file);
    fclose(file);
    return text;
}

/* Whether the file compiles; prints what is wrong. */
static int compiles(Object *compiler, const char *target, const char *file, const char *entry, int has_f16) {
    wchar_t wide_target[32], wide_entry[256];
    mbstowcs(wide_target, target, 32);
    mbstowcs(wide_entry, entry, 256);
    const wchar_t *arguments[] = {L"-E",           wide_entry, L"-T", wide_target, L"-HV", L"2018",
                                  L"-no-warnings", L"-Ges",    L"-enable-16bit-types"};
    Source source = {0, 0, UTF8};
    char *text = contents(file, &source.bytes);
    source.begin = text;
    Object *result = 0, *code = 0, *errors = 0;
    int32_t status =
        ((Compile)METHOD(compiler, 3))(compiler, &source, arguments, has_f16 ? 9 : 8, 0, &IID_RESULT, (void **)&result);
    if (status >= 0) ((GetStatus)METHOD(result, 3))(result, &status);
    if (status >= 0) ((GetBlob)METHOD(result, 4))(result, &code);
    if (result) ((GetBlob)METHOD(result, 5))(result, &errors);
    int complaints = errors ? (int)((BlobBytes)METHOD(errors, 4))(errors) : 0;
    int ok = code && ((BlobBytes)METHOD(code, 4))(code) > 0 && !(COMPLAINTS_COUNT && complaints);
    if (!ok) {
        printf("%s does not compile as %s: %08x\n%.200s\n", file, target, (unsigned)status, text);
        if (complaints) printf("%.*s\n", complaints, ((BlobBegin)METHOD(errors, 3))(errors));
    }
    release(errors);
    release(code);
    release(result);
    free(text);
    return ok;
}

int main(int count, char **arguments) {
    if (count != 4) {
        fprintf(stderr, "usage: dxc LIBRARY TARGET LIST\n");
        return 2;
    }
    Create create = (Create)symbol(arguments[1], "DxcCreateInstance");
    Object *compiler = 0, *version = 0;
    if (!create || create(&CLSID_COMPILER, &IID_COMPILER3, (void **)&compiler) < 0) {
        fprintf(stderr, "dxc: no compiler in %s\n", arguments[1]);
        return 2;
    }
    uint32_t major = 0, minor = 0;
    if (((Query)METHOD(compiler, 0))(compiler, &IID_VERSION, (void **)&version) >= 0 && version)
        ((ReadVersion)METHOD(version, 3))(version, &major, &minor);
    FILE *list = fopen(arguments[3], "r");
    char file[512], entry[256], type[8];
    int good = 0, bad = 0;
    double longest = 0;
    while (list && fscanf(list, "%511s %255s %7s", file, entry, type) == 3) {
        clock_t begin = clock();
        if (compiles(compiler, arguments[2], file, entry, !strcmp(type, "f16")))
            good++;
        else
            bad++;
        double took = (double)(clock() - begin) / CLOCKS_PER_SEC;
        if (took > longest) longest = took;
    }
    printf("DXC %u.%u: %d of %d compile as %s, the longest in %.1f s\n", major, minor, good, good + bad, arguments[2],
           longest);
    return bad || !good;
}
