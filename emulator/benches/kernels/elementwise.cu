// The everyday memory-bound kernels: a vector addition, and a row softmax with warp and block reductions.

extern "C" __global__ void vector_add(const float *a, const float *b, float *c, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) c[i] = a[i] + b[i];
}

// One block per row; x, y: (rows, cols).
extern "C" __global__ void __launch_bounds__(256) softmax(const float *x, float *y, int cols) {
    __shared__ float part[8];
    const float *row = x + (size_t)blockIdx.x * cols;
    float *out = y + (size_t)blockIdx.x * cols;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    float top = -INFINITY;
    for (int i = threadIdx.x; i < cols; i += 256) top = fmaxf(top, row[i]);
    for (int s = 16; s; s >>= 1) top = fmaxf(top, __shfl_xor_sync(~0u, top, s));
    if (lane == 0) part[warp] = top;
    __syncthreads();
    top = part[lane & 7];
    for (int s = 4; s; s >>= 1) top = fmaxf(top, __shfl_xor_sync(~0u, top, s));
    __syncthreads();
    float sum = 0;
    for (int i = threadIdx.x; i < cols; i += 256) sum += __expf(row[i] - top);
    for (int s = 16; s; s >>= 1) sum += __shfl_xor_sync(~0u, sum, s);
    if (lane == 0) part[warp] = sum;
    __syncthreads();
    sum = part[lane & 7];
    for (int s = 4; s; s >>= 1) sum += __shfl_xor_sync(~0u, sum, s);
    const float scale = 1 / sum;
    for (int i = threadIdx.x; i < cols; i += 256) out[i] = __expf(row[i] - top) * scale;
}
