//! Eight 32-bit lanes compared at once, with what every x86-64 processor has (SSE2). The one instruction set that is
//! used by name; elsewhere the same is done word by word, where it is needed.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    _mm_and_si128, _mm_castsi128_ps, _mm_cmpeq_epi32, _mm_movemask_ps, _mm_set_epi64x,
    _mm_set1_epi32,
};

/// One bit for each half of a word, the lower first, that is `wanted` where `mask` is set.
#[inline(always)]
pub fn matching([a, b, c, d]: [u64; 4], wanted: u32, mask: u32) -> u32 {
    // SAFETY: the functions ask for SSE and SSE2, which x86-64 always has; they take and give values alone.
    unsafe {
        let (wanted, mask) = (_mm_set1_epi32(wanted as i32), _mm_set1_epi32(mask as i32));
        let low = _mm_and_si128(_mm_set_epi64x(b as i64, a as i64), mask);
        let high = _mm_and_si128(_mm_set_epi64x(d as i64, c as i64), mask);
        let equal = |entries| _mm_castsi128_ps(_mm_cmpeq_epi32(entries, wanted));
        (_mm_movemask_ps(equal(low)) | _mm_movemask_ps(equal(high)) << 4) as u32
    }
}
