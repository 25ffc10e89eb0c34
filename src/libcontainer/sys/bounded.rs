//! A list that has its room before the clone. After it nothing may come from the heap.

use std::ops::Deref;

/// What fits into the room that was made in the beginning. It never grows beyond that.
#[derive(Debug, Default)]
pub struct Bounded<T>(Vec<T>);

impl<T> Bounded<T> {
    /// Bounded for that many.
    pub fn of(most: usize) -> Bounded<T> {
        Bounded(Vec::with_capacity(most))
    }

    /// Adds one. What does not fit is left out, and false is returned.
    pub fn push(&mut self, one: T) -> bool {
        let fits = self.0.len() < self.0.capacity();
        if fits {
            self.0.push(one);
        }
        fits
    }

    /// Forgets all but the first so many.
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
        let mut room = Bounded::of(2);
        let most = room.0.capacity();
        assert!((0..most).all(|n| room.push(n)));
        assert!(!room.push(most));
        room.truncate(1);
        assert!(room.push(7) && *room == [0, 7]);
    }
}
