//! A mutable slice that several tasks write at disjoint places.
//!
//! Tiles of a matrix interleave in memory, so `chunks_mut` cannot hand them out. This is the only place that splits one
//! exclusive borrow into several; bounds are always checked, disjointness is the caller's promise.

use std::marker::PhantomData;

/// See the module documentation. A copy refers to the same elements.
pub struct Shared<'a, T = f32> {
    ptr: *mut T,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for an exclusive borrow of plain numbers, and `slice` makes its callers promise that no two threads
// touch the same element.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { ptr: slice.as_mut_ptr(), len: slice.len(), life: PhantomData }
    }

    /// Elements `start..start + len`.
    ///
    /// # Safety
    /// While the returned slice lives, no other slice or pointer from this object or a copy reaches its elements.
    // One `&self` yields several `&mut`: that is the purpose, and why the contract above exists.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, start: usize, len: usize) -> &'a mut [T] {
        assert!(start <= self.len && len <= self.len - start, "tile out of bounds");
        // SAFETY: in bounds by the assertion; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(start), len) }
    }

    /// The address of element `start`, from which `len` elements are in bounds.
    ///
    /// # Safety
    /// Reads and writes through it follow the contract of [`slice`](Self::slice).
    pub unsafe fn pointer(&self, start: usize, len: usize) -> *mut T {
        assert!(start <= self.len && len <= self.len - start, "tile out of bounds");
        // SAFETY: in bounds by the assertion.
        unsafe { self.ptr.add(start) }
    }
}
