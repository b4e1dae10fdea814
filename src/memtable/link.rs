//! Typed atomic pointers into the arena.
//!
//! Invariant: a link points to nothing or to initialised memory of an arena that outlives the link. Setting
//! one is the only unsafe step; following one is safe, and gives a reference that lives no longer than
//! the borrow of the link.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Points to nothing or to one `T` in the arena.
#[derive(Debug)]
pub struct Link<T>(AtomicPtr<T>);

impl<T: Sync> Link<T> {
    /// Points to nothing.
    pub const fn empty() -> Self {
        Link(AtomicPtr::new(ptr::null_mut()))
    }

    /// Follows the link; sees all that was written before it was set.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // SAFETY: the module's invariant: null, or set by `set`, whose caller vouches for the target's life; targets
        // are only ever shared, never borrowed exclusively.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// Points the link to `target`.
    ///
    /// # Safety
    /// `target` lies in an arena that is not dropped while this link can be borrowed.
    #[inline]
    pub unsafe fn set(&self, target: &T) {
        self.0.store(ptr::from_ref(target).cast_mut(), Ordering::Release);
    }
}

/// What an [`EitherLink`] points to.
#[derive(Debug)]
pub enum Either<'a, A, B> {
    /// One kind.
    Left(&'a A),
    /// The other kind.
    Right(&'a B),
}

impl<A, B> Clone for Either<'_, A, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A, B> Copy for Either<'_, A, B> {}

/// Points to nothing, to an `A` or to a `B` in the arena. The lowest bit of the address tells which.
#[derive(Debug)]
pub struct EitherLink<A, B>(AtomicPtr<u8>, PhantomData<(*const A, *const B)>);

// SAFETY: following a link yields only shared references to `A` and `B`, which are `Sync`; the link
// itself is one atomic.
unsafe impl<A: Sync, B: Sync> Sync for EitherLink<A, B> {}
// SAFETY: as above.
unsafe impl<A: Sync, B: Sync> Send for EitherLink<A, B> {}

impl<A: Sync, B: Sync> EitherLink<A, B> {
    /// Points to nothing.
    pub const fn empty() -> Self {
        const { assert!(align_of::<A>() > 1 && align_of::<B>() > 1) };
        EitherLink(AtomicPtr::new(ptr::null_mut()), PhantomData)
    }

    /// Follows the link; sees all that was written before it was set.
    #[inline]
    pub fn get(&self) -> Option<Either<'_, A, B>> {
        let tagged = self.0.load(Ordering::Acquire);
        if tagged.is_null() {
            return None;
        }
        // SAFETY: the module's invariant, and `set` tags exactly the addresses of `B`; both types are aligned to
        // more than one byte, so that the bit is free.
        Some(unsafe {
            match tagged.addr() & 1 {
                0 => Either::Left(&*tagged.cast::<A>()),
                _ => Either::Right(&*tagged.wrapping_sub(1).cast::<B>()),
            }
        })
    }

    /// Points the link to `target`.
    ///
    /// # Safety
    /// As for [`Link::set`].
    #[inline]
    pub unsafe fn set(&self, target: Either<'_, A, B>) {
        let tagged = match target {
            Either::Left(left) => ptr::from_ref(left).cast::<u8>(),
            Either::Right(right) => ptr::from_ref(right).cast::<u8>().wrapping_add(1),
        };
        self.0.store(tagged.cast_mut(), Ordering::Release);
    }
}
