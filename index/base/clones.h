/*
 * clones.h - loops over many numbers, compiled for processors with AVX2 and for all others. Which
 * of the two runs is chosen when the program starts.
 */
#ifndef CKPT_BASE_CLONES_H
#define CKPT_BASE_CLONES_H

/*
 * In front of a function whose loops shall be turned into vector instructions. Not with sanitizers:
 * they are not ready yet when the choice is made.
 */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
	!defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CKPT_FOR_THIS_PROCESSOR __attribute__((target_clones("avx2", "default"), optimize("O3")))
#else
#define CKPT_FOR_THIS_PROCESSOR
#endif

#endif
