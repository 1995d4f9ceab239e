// The functions of cuBLAS that benchmarks/gpu.py calls through ctypes, with the prototypes of NVIDIA's cublas_api.h,
// computing on the processor: C = α op(A) op(B) + β C, all matrices column by column.
#ifdef WITH_HEADER  // checks the prototypes: g++ -fsyntax-only -DWITH_HEADER -I<cublas>/include -I<cuda>/include
#include <cublas_v2.h>
#else
extern "C" {
typedef struct cublasContext* cublasHandle_t;
typedef struct CUstream_st* cudaStream_t;
typedef int cublasStatus_t, cublasOperation_t, cublasMath_t;
}
#define CUBLAS_STATUS_SUCCESS 0
#define CUBLAS_STATUS_NOT_INITIALIZED 1
#define CUBLAS_OP_N 0
#include <stddef.h>
#endif

static char context;
static cublasHandle_t here() { return (cublasHandle_t)&context; }
static cudaStream_t stream;
static void* workspace;
static size_t workspace_size;
static int calls;

template <class T>
static cublasStatus_t gemm(cublasHandle_t handle, int transa, int transb, int m, int n, int k, const T* alpha, const T* a,
                           int lda, long long step_a, const T* b, int ldb, long long step_b, const T* beta, T* c, int ldc,
                           long long step_c, int count) {
    if (handle != here() || !workspace || !workspace_size) return CUBLAS_STATUS_NOT_INITIALIZED;
    calls++;
    for (int s = 0; s < count; s++, a += step_a, b += step_b, c += step_c)
        for (int i = 0; i < m; i++)
            for (int j = 0; j < n; j++) {
                T sum = 0;
                for (int p = 0; p < k; p++)
                    sum += (transa == CUBLAS_OP_N ? a[i + (long long)p * lda] : a[p + (long long)i * lda]) *
                           (transb == CUBLAS_OP_N ? b[p + (long long)j * ldb] : b[j + (long long)p * ldb]);
                T& out = c[i + (long long)j * ldc];
                out = *alpha * sum + (*beta == 0 ? 0 : *beta * out);
            }
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" {
int products_done() { return calls; }

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
    *handle = here();
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
    return handle == here() ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_INITIALIZED;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t streamId) {
    stream = streamId;
    workspace = nullptr;  // as NVIDIA documents
    return handle == here() ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_INITIALIZED;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void* given, size_t workspaceSizeInBytes) {
    workspace = given;
    workspace_size = workspaceSizeInBytes;
    return handle == here() ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_INITIALIZED;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
    return handle == here() && mode == 3 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_INITIALIZED;
}

cublasStatus_t cublasSgemm_v2(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n, int k,
                              const float* alpha, const float* A, int lda, const float* B, int ldb, const float* beta,
                              float* C, int ldc) {
    return gemm(handle, transa, transb, m, n, k, alpha, A, lda, 0, B, ldb, 0, beta, C, ldc, 0, 1);
}

cublasStatus_t cublasDgemm_v2(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n, int k,
                              const double* alpha, const double* A, int lda, const double* B, int ldb, const double* beta,
                              double* C, int ldc) {
    return gemm(handle, transa, transb, m, n, k, alpha, A, lda, 0, B, ldb, 0, beta, C, ldc, 0, 1);
}

cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m,
                                         int n, int k, const float* alpha, const float* A, int lda, long long strideA,
                                         const float* B, int ldb, long long strideB, const float* beta, float* C, int ldc,
                                         long long strideC, int batchCount) {
    return gemm(handle, transa, transb, m, n, k, alpha, A, lda, strideA, B, ldb, strideB, beta, C, ldc, strideC, batchCount);
}

cublasStatus_t cublasDgemmStridedBatched(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m,
                                         int n, int k, const double* alpha, const double* A, int lda, long long strideA,
                                         const double* B, int ldb, long long strideB, const double* beta, double* C,
                                         int ldc, long long strideC, int batchCount) {
    return gemm(handle, transa, transb, m, n, k, alpha, A, lda, strideA, B, ldb, strideB, beta, C, ldc, strideC, batchCount);
}
}
