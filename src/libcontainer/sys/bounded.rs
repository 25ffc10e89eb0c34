//! A list with a fixed capacity. It is allocated before the clone, because a child does not use the heap.

use std::ops::Deref;

/// A list that never grows beyond the capacity that it was made with.
#[derive(Debug, Default)]
pub struct Bounded<T>(Vec<T>);

impl<T> Bounded<T> {
    /// Allocates room for `most` elements.
    pub fn with_capacity(most: usize) -> Bounded<T> {
        Bounded(Vec::with_capacity(most))
    }

    /// Adds one. Returns false, and adds nothing, if the list is full.
    pub fn push(&mut self, one: T) -> bool {
        let fits = self.0.len() < self.0.capacity();
        if fits {
            self.0.push(one);
        }
        fits
    }

    /// Keeps the first `length` elements.
    pub fn truncate(&mut self, length: usize)
    where
        T: Copy,
    {
        self.0.truncate(length);
    }
}

impl<T> Deref for Bounded<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Bounded;

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut room = Bounded::with_capacity(2);
        let most = room.0.capacity();
        assert!((0..most).all(|n| room.push(n)));
        assert!(!room.push(most));
        room.truncate(1);
        assert!(room.push(7) && *room == [0, 7]);
    }
}
