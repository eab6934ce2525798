/* Compiles HLSL with FXC as wgpu's DX12 backend does, on Windows or Wine: fxc.exe TARGET SECONDS LIST.
 *
 * TARGET is a profile such as cs_5_1. A line of LIST: the file's name, the entry point's, and a word. Loads
 * d3dcompiler_47.dll from beside it. Exits with 1 if a file does not compile, or takes longer than so many seconds. */
#include <windows.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct Blob Blob;
struct Table {
    HRESULT(WINAPI *query)(Blob *, const void *, void **);
    ULONG(WINAPI *add)(Blob *);
    ULONG(WINAPI *release)(Blob *);
    void *(WINAPI *begin)(Blob *);
    SIZE_T(WINAPI *bytes)(Blob *);
};
struct Blob {
    struct Table *table;
};
typedef HRESULT(WINAPI *Compile)(const void *, SIZE_T, const char *, const void *, void *, const char *, const char *,
                                 UINT, UINT, Blob **, Blob **);
enum { ENABLE_STRICTNESS = 1 << 11 };

static char *contents(const char *name, SIZE_T *bytes) {
    FILE *file = fopen(name, "rb");
    if (!file) {
        fprintf(stderr, "fxc: no file %s\n", name);
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

static void release(Blob *blob) {
    if (blob) blob->table->release(blob);
}

int main(int count, char **arguments) {
    if (count != 4) {
        fprintf(stderr, "usage: fxc TARGET SECONDS LIST\n");
        return 2;
    }
    HMODULE library = LoadLibraryA("d3dcompiler_47.dll");
    Compile compile = library ? (Compile)(void *)GetProcAddress(library, "D3DCompile") : 0;
    if (!compile) {
        fprintf(stderr, "fxc: no d3dcompiler_47.dll: %lu\n", GetLastError());
        return 2;
    }
    char path[MAX_PATH] = "";
    GetModuleFileNameA(library, path, MAX_PATH);
    double limit = atof(arguments[2]), longest = 0;
    FILE *list = fopen(arguments[3], "r");
    char file[512], entry[256], word[8];
    int good = 0, bad = 0;
    LARGE_INTEGER frequency, begin, end;
    QueryPerformanceFrequency(&frequency);
    while (list && fscanf(list, "%511s %255s %7s", file, entry, word) == 3) {
        SIZE_T bytes;
        char *text = contents(file, &bytes);
        Blob *code = 0, *errors = 0;
        QueryPerformanceCounter(&begin);
        HRESULT status =
            compile(text, bytes, 0, 0, 0, entry, arguments[1], ENABLE_STRICTNESS, 0, &code, &errors);
        QueryPerformanceCounter(&end);
        double seconds = (double)(end.QuadPart - begin.QuadPart) / frequency.QuadPart;
        if (seconds > longest) longest = seconds;
        if (FAILED(status) || !code) {
            printf("%s does not compile as %s: %08lx\n%.200s\n", file, arguments[1], (unsigned long)status, text);
            if (errors) printf("%.*s\n", (int)errors->table->bytes(errors), (char *)errors->table->begin(errors));
            bad++;
        } else if (seconds > limit) {
            printf("%s took %.1f s to compile as %s\n%.200s\n", file, seconds, arguments[1], text);
            bad++;
        } else {
            good++;
        }
        fflush(stdout);
        release(code);
        release(errors);
        free(text);
    }
    printf("FXC (%s): %d of %d compile as %s, the longest in %.1f s\n", path, good, good + bad, arguments[1], longest);
    return bad || !good;
}
